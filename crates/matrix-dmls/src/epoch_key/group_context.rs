//! Reading the GroupContext of an epoch (RFC 9420 §8.1).

use crate::{error::MalformedError, wire::tls::Reader};

/// `ProtocolVersion mls10` (RFC 9420 §6).
pub(super) const MLS_10: u16 = 1;

/// MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 (RFC 9420 §17.1).
const CIPHER_SUITE: u16 = 0x0001;

/// The largest GroupContext that is looked at, in bytes. Ours have some hundreds.
const MAX_LENGTH: usize = 65_536;

/// What a message must agree with.
#[derive(Debug)]
pub(super) struct GroupContext<'a> {
    pub(super) group_id: &'a [u8],
    pub(super) epoch: u64,
}

impl<'a> GroupContext<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, MalformedError> {
        if bytes.len() > MAX_LENGTH {
            return Err(MalformedError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        if reader.u16()? != MLS_10 || reader.u16()? != CIPHER_SUITE {
            return Err(MalformedError::Unsupported);
        }
        let group_id = reader.opaque()?;
        let epoch = reader.u64()?;
        let _tree_hash = reader.opaque()?;
        let _confirmed_transcript_hash = reader.opaque()?;
        let _extensions = reader.opaque()?;
        reader.finish()?;
        Ok(Self { group_id, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] =
        &[0, 1, 0, 1, 2, b'!', b'r', 0, 0, 0, 0, 0, 0, 1, 2, 1, 0xaa, 2, 0xbb, 0xbb, 0];

    #[test]
    fn finds_group_and_epoch() {
        let context = GroupContext::from_bytes(GOOD).unwrap();
        assert_eq!((context.group_id, context.epoch), (&b"!r"[..], 258));
    }

    #[test]
    fn refuses_the_rest() {
        for end in 0..GOOD.len() {
            assert_eq!(
                GroupContext::from_bytes(&GOOD[..end]).err(),
                Some(MalformedError::Truncated)
            );
        }
        let mut long = GOOD.to_vec();
        long.push(0);
        assert_eq!(GroupContext::from_bytes(&long).err(), Some(MalformedError::TrailingBytes));
        for field in [1, 3] {
            let mut other = GOOD.to_vec();
            other[field] = 2;
            assert_eq!(GroupContext::from_bytes(&other).err(), Some(MalformedError::Unsupported));
        }
        let huge = vec![0; MAX_LENGTH + 1];
        assert_eq!(GroupContext::from_bytes(&huge).err(), Some(MalformedError::TooLarge));
    }
}
