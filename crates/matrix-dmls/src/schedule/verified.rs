//! Signatures that need not be verified again.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::crypto::sha256;

/// The signatures that were found valid in one operation, by its provider or by those who help it.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    valid: Mutex<HashSet<[u8; 32]>>,
    asked: AtomicUsize,
}

impl Verified {
    /// Whether a signature is valid: looked up, or else found out by `verify`.
    pub(crate) fn or_verify(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
        verify: impl FnOnce() -> bool,
    ) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(name) = name(public_key, message, signature) else { return verify() };
        if self.valid().contains(&name) {
            return true;
        }
        let is_valid = verify();
        if is_valid {
            self.valid().insert(name);
        }
        is_valid
    }

    /// Takes note of a signature that was verified, strictly, elsewhere.
    pub(crate) fn insert(&self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) {
        if let Some(name) = name(public_key, message, signature) {
            self.valid().insert(name);
        }
    }

    /// How many signatures the provider was asked for until now.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many signatures were found valid.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.valid().len()
    }

    fn valid(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        // An insertion leaves nothing half done.
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells Ed25519 signatures of messages apart: only keys and signatures of their fixed lengths
/// have a name.
fn name(public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<[u8; 32]> {
    (public_key.len() == 32 && signature.len() == 64)
        .then(|| sha256(&[public_key, signature, message]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(verified: &Verified, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        verified.or_verify(key, message, signature, || false)
    }

    #[test]
    fn knows_exactly_what_was_verified() {
        let verified = Verified::default();
        let (key, signature) = ([1; 32], [2; 64]);
        assert!(!is_valid(&verified, &key, b"message", &signature));
        verified.insert(&key, b"message", &signature);
        assert!(is_valid(&verified, &key, b"message", &signature));
        assert!(!is_valid(&verified, &[3; 32], b"message", &signature));
        assert!(!is_valid(&verified, &key, b"another", &signature));
        assert!(!is_valid(&verified, &key, b"message", &[3; 64]));
        assert_eq!(verified.asked(), 5);
    }

    #[test]
    fn remembers_what_the_provider_has_verified_and_nothing_that_failed() {
        let verified = Verified::default();
        let (key, signature) = ([1; 32], [2; 64]);
        assert!(!verified.or_verify(&key, b"message", &signature, || false));
        assert!(verified.or_verify(&key, b"message", &signature, || true));
        assert!(is_valid(&verified, &key, b"message", &signature));
    }

    #[test]
    fn remembers_nothing_of_another_length() {
        let verified = Verified::default();
        // The same bytes in a row, parted otherwise.
        assert!(verified.or_verify(&[1; 33], b"", &[1; 64], || true));
        assert!(verified.or_verify(&[1; 32], b"", &[1; 65], || true));
        assert!(!is_valid(&verified, &[1; 33], b"", &[1; 64]));
        assert!(!is_valid(&verified, &[1; 32], b"\x01", &[1; 64]));
    }
}
