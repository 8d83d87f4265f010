//! The stored form of what was read: short, since there is a row for every message.
//!
//! The row's key says which message it is, and the value is sealed to it. The value is [`COMPACT`],
//! then for each event the length of its ID, the ID, and the hash. The IDs of today's rooms are hashes
//! in base64: of those the 32 bytes are stored, under the length 0, which no ID has.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use matrix_sdk_crypto_mls::store::{BoundMessage, LedgerEntry, MessageKey, StoreError};
use ruma::EventId;
use zeroize::Zeroizing;

use crate::{codec, error::corrupt};

/// The first byte. In stores of schema 1 the value is a list in MessagePack of the [`MessageKey`] and
/// the [`LedgerEntry`], which begins with a larger one.
const COMPACT: u8 = 2;

const HASH: usize = 32;

pub(crate) fn encode(entry: &LedgerEntry) -> Zeroizing<Vec<u8>> {
    let LedgerEntry { messages } = entry;
    let mut out = Zeroizing::new(Vec::with_capacity(1 + messages.len() * (1 + 2 * HASH)));
    out.push(COMPACT);
    for BoundMessage { event_id, ciphertext_hash } in messages {
        match hash_of(event_id) {
            Some(hash) => {
                out.push(0);
                out.extend_from_slice(&hash);
            }
            None => {
                // An ID has 1 to 255 bytes, as everywhere in Matrix.
                out.push(u8::try_from(event_id.as_bytes().len()).unwrap_or(u8::MAX));
                out.extend_from_slice(event_id.as_bytes());
            }
        }
        out.extend_from_slice(ciphertext_hash);
    }
    out
}

/// The hash that an event ID is, if it is one, and is written in the only way that gives it back.
fn hash_of(event_id: &EventId) -> Option<[u8; HASH]> {
    let text = event_id.as_str().strip_prefix('$')?;
    let hash: [u8; HASH] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    (URL_SAFE_NO_PAD.encode(hash) == text).then_some(hash)
}

/// What is known of a message; and which one it is, if the value says so.
pub(crate) fn decode(value: &[u8]) -> Result<(Option<MessageKey>, LedgerEntry), StoreError> {
    let Some((&COMPACT, mut rest)) = value.split_first() else {
        let (key, entry) = codec::decode(value)?;
        return Ok((Some(key), entry));
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message;
        (message, rest) = one(rest).ok_or_else(|| corrupt("a ledger entry"))?;
        messages.push(message);
    }
    Ok((None, LedgerEntry { messages }))
}

fn one(bytes: &[u8]) -> Option<(BoundMessage, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (event_id, rest) = if *length == 0 {
        let (hash, rest) = rest.split_at_checked(HASH)?;
        (format!("${}", URL_SAFE_NO_PAD.encode(hash)), rest)
    } else {
        let (id, rest) = rest.split_at_checked(usize::from(*length))?;
        (std::str::from_utf8(id).ok()?.to_owned(), rest)
    };
    let (hash, rest) = rest.split_at_checked(HASH)?;
    let event_id = EventId::parse(event_id).ok()?;
    Some((BoundMessage { event_id, ciphertext_hash: hash.try_into().ok()? }, rest))
}

#[cfg(test)]
mod tests {
    use matrix_dmls::NodeId;

    use super::*;

    fn entry(ids: &[&str]) -> LedgerEntry {
        let message = |id: &&str| BoundMessage {
            event_id: EventId::parse(*id).unwrap(),
            ciphertext_hash: [9; 32],
        };
        LedgerEntry { messages: ids.iter().map(message).collect() }
    }

    const HASHED: &str = "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg";

    #[test]
    fn every_kind_of_event_id_comes_back() {
        // The last character of a hash has two bits that do not count.
        let other_bits = HASHED.replace("5Zg", "5Zh");
        let ids = [HASHED, other_bits.as_str(), "$143273582443PhrSn:example.org", "$x"];
        for entry in [entry(&[]), entry(&ids[..1]), entry(&ids)] {
            assert_eq!(decode(&encode(&entry)).unwrap(), (None, entry));
        }
        assert_eq!(encode(&entry(&[HASHED])).len(), 1 + 1 + 32 + 32);
    }

    #[test]
    fn rows_of_schema_1_are_read() {
        let key = MessageKey { node: NodeId::from_bytes([1; 32]), leaf: 2, generation: 3 };
        let entry = entry(&[HASHED]);
        let old = codec::encode(&(key, &entry)).unwrap();
        assert_eq!(decode(&old).unwrap(), (Some(key), entry));
    }

    #[test]
    fn what_is_cut_off_is_reported() {
        let whole = encode(&entry(&[HASHED, "$x"]));
        let ends = [1, 1 + 65, whole.len()];
        for length in (0..whole.len()).filter(|length| !ends.contains(length)) {
            assert!(matches!(decode(&whole[..length]), Err(StoreError::Corrupt(_))), "{length}");
        }
    }
}
