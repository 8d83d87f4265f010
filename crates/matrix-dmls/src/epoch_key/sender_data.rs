//! Who sent a message, encrypted (RFC 9420 §6.3.2).

use super::aead::{
    AeadError, KEY_LENGTH, KeyAndNonce, NONCE_LENGTH, REUSE_GUARD_LENGTH, TAG_LENGTH,
};
use crate::{
    crypto::{Secret, expand_with_label_array},
    error::MalformedError,
    ids::HASH_LENGTH,
    wire::tls::{Reader, Writer},
};

/// Bytes of the encrypted sender data: leaf, generation, reuse guard, tag.
pub(super) const ENCRYPTED_LENGTH: usize = 4 + 4 + REUSE_GUARD_LENGTH + TAG_LENGTH;

/// The `SenderData` struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderData {
    pub(super) leaf: u32,
    pub(super) generation: u32,
    pub(super) reuse_guard: [u8; REUSE_GUARD_LENGTH],
}

impl SenderData {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u32(self.leaf);
        out.u32(self.generation);
        out.raw(&self.reuse_guard);
        out.into_bytes()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        let leaf = reader.u32()?;
        let generation = reader.u32()?;
        let reuse_guard = reader.array()?;
        reader.finish()?;
        Ok(Self { leaf, generation, reuse_guard })
    }

    /// Encrypts it for the message whose content is encrypted to `ciphertext`.
    pub(super) fn seal(
        self,
        sender_data_secret: &Secret,
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, AeadError> {
        let mut buffer = self.to_bytes();
        sender_data_key(sender_data_secret, ciphertext).seal(aad, &mut buffer)?;
        Ok(buffer)
    }
}

/// What the sender data of the message with this ciphertext is encrypted with.
pub(super) fn sender_data_key(sender_data_secret: &Secret, ciphertext: &[u8]) -> KeyAndNonce {
    let sample = ciphertext.get(..HASH_LENGTH).unwrap_or(ciphertext);
    KeyAndNonce {
        key: expand_with_label_array::<KEY_LENGTH>(sender_data_secret, "key", sample),
        nonce: expand_with_label_array::<NONCE_LENGTH>(sender_data_secret, "nonce", sample),
    }
}
