//! Values that are compressed (raw deflate) before they are sealed.
//!
//! Only what is public in the group: ratchet trees, rosters, records. A compressor keeps copies of
//! what passes through it and wipes nothing, so secrets stay away from it.
//!
//! Compressing before encrypting tells by the length what is in a text. That needs somebody who can
//! put their own text beside a secret *in the same value*, and sees its length many times over. Here
//! the values have no secrets in them, each is compressed by itself, and lengths are seen only by who
//! holds the file, who can see how many members and epochs a room has anyway.

use matrix_sdk_crypto_mls::store::StoreError;
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use crate::error::corrupt;

/// Most of the gain is in the coding of single bytes, which a higher level does no better.
const LEVEL: u8 = 6;

/// The first byte of a row's value that is compressed. MessagePack's maps and lists, which are what
/// the others are, begin with larger bytes.
const PACKED: u8 = 1;

/// Longer rows are not compressed, so that what is read has a bound, in bytes.
const MAX_ROW: usize = 1 << 24;

/// Compressed, if that is shorter.
pub(crate) fn pack(plain: &[u8]) -> Option<Vec<u8>> {
    Some(compress_to_vec(plain, LEVEL)).filter(|packed| packed.len() < plain.len())
}

/// What [`pack`] was given. It may be `limit` bytes long.
pub(crate) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, StoreError> {
    decompress_to_vec_with_limit(packed, limit)
        .map_err(|error| corrupt(format!("a value does not decompress: {error}")))
}

/// Compresses a row's value, if that is worth it.
pub(crate) fn pack_row(plain: &[u8]) -> Option<Vec<u8>> {
    let packed = pack(plain).filter(|_| plain.len() <= MAX_ROW)?;
    Some([&[PACKED], packed.as_slice()].concat()).filter(|packed| packed.len() < plain.len())
}

/// A row's value that [`pack_row`] has compressed; `None` if it is not compressed.
pub(crate) fn unpack_row(value: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match value.split_first() {
        Some((&PACKED, packed)) => unpack(packed, MAX_ROW).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let text = "a text that says the same ".repeat(100);
        let packed = pack_row(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(unpack_row(&packed).unwrap().as_deref(), Some(text.as_bytes()));
    }

    #[test]
    fn what_would_grow_stays_as_it_is() {
        assert_eq!(pack(b""), None);
        assert_eq!(pack(&[7]), None);
        assert_eq!(unpack_row(&[]).unwrap(), None);
        assert_eq!(unpack_row(&[0x81, 1, 2]).unwrap(), None);
    }

    /// A megabyte of zeros is a kilobyte when it is compressed.
    #[test]
    fn nothing_grows_beyond_its_limit() {
        let bomb = pack(&vec![0; 1 << 20]).unwrap();
        assert!(bomb.len() < 2000);
        assert!(matches!(unpack(&bomb, 4096), Err(StoreError::Corrupt(_))));
        assert_eq!(unpack(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        let bomb = [&[PACKED], pack(&vec![0; MAX_ROW + 1]).unwrap().as_slice()].concat();
        assert!(matches!(unpack_row(&bomb), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn garbage_is_reported() {
        for garbage in [[PACKED, 0xff, 0xff].as_slice(), &[PACKED], &[PACKED, 0x4b, 0x4c]] {
            assert!(matches!(unpack_row(garbage), Err(StoreError::Corrupt(_))));
        }
    }
}
