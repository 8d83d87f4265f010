//! Values sealed to their place, and lookup keys that say nothing.
//!
//! The store key is a random `StoreCipher`, kept wrapped with the application's key or passphrase.
//! Its `hash_key` is a keyed hash per table: it makes the lookup keys, and from a name of its own the
//! key that values are encrypted with, since a `StoreCipher` itself has no associated data.

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use matrix_sdk_crypto_mls::store::StoreError;
use matrix_sdk_store_encryption::StoreCipher;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    config::Secret,
    error::{OpenStoreError, corrupt},
};

/// Changes when the form of sealed rows changes; part of what they are bound to.
const FORMAT: &[u8] = b"matrix-sdk-mls-sqlite 1";
const NONCE: usize = 24;

/// Seals and opens values. Without a key, values are as they are and lookup keys are plain hashes.
pub(crate) struct Cipher(Option<Keys>);

struct Keys {
    store: StoreCipher,
    values: XChaCha20Poly1305,
}

/// The place of a value, which it is bound to: `table.column`, and the row's lookup key.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a>(pub(crate) &'static str, pub(crate) &'a [u8]);

impl Cipher {
    /// For a new store. Also gives what is to be stored so that [`Cipher::open`] finds the key again.
    pub(crate) fn create(
        secret: Option<&Secret>,
    ) -> Result<(Self, Option<Vec<u8>>), OpenStoreError> {
        let backend = |error| OpenStoreError::Backend(Box::new(error));
        let Some(secret) = secret else { return Ok((Self(None), None)) };
        let store = StoreCipher::new().map_err(backend)?;
        let wrapped = match secret {
            Secret::Key(key) => store.export_with_key(key),
            Secret::Passphrase(passphrase) => store.export(passphrase),
        };
        Ok((Self::with(store), Some(wrapped.map_err(backend)?)))
    }

    /// For a store that has this wrapped key, or none.
    pub(crate) fn unlock(
        secret: Option<&Secret>,
        wrapped: Option<&[u8]>,
    ) -> Result<Self, OpenStoreError> {
        use matrix_sdk_store_encryption::Error;

        let store = match (secret, wrapped) {
            (None, None) => return Ok(Self(None)),
            (None, Some(_)) => return Err(OpenStoreError::KeyMissing),
            (Some(_), None) => return Err(OpenStoreError::NotEncrypted),
            (Some(Secret::Key(key)), Some(wrapped)) => StoreCipher::import_with_key(key, wrapped),
            (Some(Secret::Passphrase(passphrase)), Some(wrapped)) => {
                StoreCipher::import(passphrase, wrapped)
            }
        };
        store.map(Self::with).map_err(|error| match error {
            Error::Encryption(_) | Error::KdfMismatch => OpenStoreError::WrongKey,
            other => OpenStoreError::Corrupt(format!("the wrapped store key: {other}")),
        })
    }

    fn with(store: StoreCipher) -> Self {
        let mut key = store.hash_key("matrix-sdk-mls-sqlite value key", b"1");
        let values = XChaCha20Poly1305::new(Key::from_slice(&key));
        key.zeroize();
        Self(Some(Keys { store, values }))
    }

    pub(crate) const fn is_encrypted(&self) -> bool {
        self.0.is_some()
    }

    /// The lookup key of a row: a hash of what names it.
    pub(crate) fn lookup(&self, table: &'static str, name: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(name.iter().map(|part| part.len() + 8).sum());
        for part in name {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        match &self.0 {
            Some(keys) => {
                let key = keys.store.hash_key(table, &bytes);
                bytes.zeroize();
                key.to_vec()
            }
            None => Sha256::new().chain_update(table).chain_update(&bytes).finalize().to_vec(),
        }
    }

    pub(crate) fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some(keys) = &self.0 else { return Ok(value.to_vec()) };
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| StoreError::Backend(error.into()))?;
        let payload = Payload { msg: value, aad: &place.associated_data() };
        let sealed = keys
            .values
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| StoreError::Backend("a value is too long to be encrypted".into()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(crate) fn open(
        &self,
        place: Place<'_>,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let Some(keys) = &self.0 else { return Ok(Zeroizing::new(sealed)) };
        let wrong = || corrupt(format!("a value of {} is not the one stored there", place.0));
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE).ok_or_else(wrong)?;
        let payload = Payload { msg: ciphertext, aad: &place.associated_data() };
        keys.values
            .decrypt(XNonce::from_slice(nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| wrong())
    }
}

impl Place<'_> {
    fn associated_data(self) -> Vec<u8> {
        [FORMAT, b"\0", self.0.as_bytes(), b"\0", self.1].concat()
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cipher(encrypted: {})", self.is_encrypted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher() -> Cipher {
        Cipher::create(Some(&Secret::Key(Zeroizing::new([1; 32])))).unwrap().0
    }

    #[test]
    fn a_value_opens_only_in_its_place() {
        let cipher = cipher();
        let sealed = cipher.seal(Place("vault.value", b"a"), b"secret").unwrap();
        assert_eq!(&**cipher.open(Place("vault.value", b"a"), sealed.clone()).unwrap(), b"secret");
        for place in [Place("vault.value", b"b"), Place("view.value", b"a")] {
            assert!(matches!(cipher.open(place, sealed.clone()), Err(StoreError::Corrupt(_))));
        }
        for length in 0..sealed.len() {
            let cut = sealed[..length].to_vec();
            assert!(cipher.open(Place("vault.value", b"a"), cut).is_err());
        }
    }

    #[test]
    fn the_key_comes_back_only_with_its_secret() {
        let key = |byte| Secret::Key(Zeroizing::new([byte; 32]));
        let (cipher, wrapped) = Cipher::create(Some(&key(1))).unwrap();
        let again = Cipher::unlock(Some(&key(1)), wrapped.as_deref()).unwrap();
        assert_eq!(cipher.lookup("room", &[b"x"]), again.lookup("room", &[b"x"]));
        fn open(secret: Option<&Secret>, wrapped: Option<&[u8]>) -> OpenStoreError {
            Cipher::unlock(secret, wrapped).unwrap_err()
        }
        let passphrase = Secret::Passphrase(Zeroizing::new("no".to_owned()));
        for wrong in [key(2), passphrase] {
            assert!(matches!(open(Some(&wrong), wrapped.as_deref()), OpenStoreError::WrongKey));
        }
        assert!(matches!(open(None, wrapped.as_deref()), OpenStoreError::KeyMissing));
        assert!(matches!(open(Some(&key(1)), None), OpenStoreError::NotEncrypted));
        assert!(matches!(open(Some(&key(1)), Some(b"?")), OpenStoreError::Corrupt(_)));
    }

    #[test]
    fn names_do_not_run_together() {
        for cipher in [cipher(), Cipher(None)] {
            assert_ne!(cipher.lookup("t", &[b"ab", b"c"]), cipher.lookup("t", &[b"a", b"bc"]));
            assert_ne!(cipher.lookup("t", &[b"a"]), cipher.lookup("u", &[b"a"]));
        }
    }
}
