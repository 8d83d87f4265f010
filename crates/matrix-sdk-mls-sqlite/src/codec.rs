//! Values as bytes: MessagePack with field names, so that a later version can add fields.

use std::io::{self, Write};

use matrix_sdk_crypto_mls::store::StoreError;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

use crate::error::corrupt;

/// Encodes with field names.
pub(crate) fn encode(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut out = Buffer(Zeroizing::new(Vec::with_capacity(256)));
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| StoreError::Backend(error.into()))?;
    Ok(out.0)
}

/// Encodes without field names: for long lists of what never changes its form.
pub(crate) fn encode_compact(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut out = Buffer(Zeroizing::new(Vec::with_capacity(256)));
    let mut serializer = rmp_serde::Serializer::new(&mut out);
    value.serialize(&mut serializer).map_err(|error| StoreError::Backend(error.into()))?;
    Ok(out.0)
}

/// Decodes either form.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| corrupt(format!("a value does not decode: {error}")))
}

/// A buffer that leaves no copies behind when it grows.
struct Buffer(Zeroizing<Vec<u8>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = Zeroizing::new(larger);
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Byte strings as byte strings; serde would write sequences of integers.
pub(crate) mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_the_content() {
        let text = "x".repeat(10_000);
        assert_eq!(decode::<String>(&encode(&text).unwrap()).unwrap(), text);
        assert_eq!(decode::<String>(&encode_compact(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn garbage_is_reported() {
        assert!(matches!(decode::<String>(&[0xc1, 0]), Err(StoreError::Corrupt(_))));
    }
}
