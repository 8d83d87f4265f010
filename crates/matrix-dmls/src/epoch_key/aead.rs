//! AES-128-GCM, the AEAD of cipher suite 0x0001 (RFC 9420 §5.1, §17.1).

use aes_gcm::{AeadInPlace, Aes128Gcm, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `AEAD.Nk`: bytes of a key.
pub(super) const KEY_LENGTH: usize = 16;

/// `AEAD.Nn`: bytes of a nonce.
pub(super) const NONCE_LENGTH: usize = 12;

/// Bytes that encryption adds.
pub(super) const TAG_LENGTH: usize = 16;

/// Bytes of the reuse guard (RFC 9420 §6.3.1).
pub(super) const REUSE_GUARD_LENGTH: usize = 4;

/// A key and the nonce that goes with it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct KeyAndNonce {
    pub(super) key: [u8; KEY_LENGTH],
    pub(super) nonce: [u8; NONCE_LENGTH],
}

/// The tag does not fit, or the input is longer than AES-GCM can take.
#[derive(Debug)]
pub(super) struct AeadError;

impl KeyAndNonce {
    /// Mixes the reuse guard into the nonce: one who went back to an old state, and uses a
    /// generation again, then does not use the nonce again.
    pub(super) fn guarded(mut self, reuse_guard: [u8; REUSE_GUARD_LENGTH]) -> Self {
        for (byte, guard) in self.nonce.iter_mut().zip(reuse_guard) {
            *byte ^= guard;
        }
        self
    }

    /// Encrypts in place and appends the tag.
    pub(super) fn seal(&self, aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), AeadError> {
        self.cipher()
            .encrypt_in_place(&self.nonce.into(), aad, buffer)
            .map_err(|aes_gcm::Error| AeadError)
    }

    /// Checks and takes off the tag, and decrypts in place.
    pub(super) fn open(&self, aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), AeadError> {
        self.cipher()
            .decrypt_in_place(&self.nonce.into(), aad, buffer)
            .map_err(|aes_gcm::Error| AeadError)
    }

    fn cipher(&self) -> Aes128Gcm {
        Aes128Gcm::new(&self.key.into())
    }
}
