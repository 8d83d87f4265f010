//! The OpenMLS provider of one operation: the crypto of `openmls_rust_crypto` with the key schedule
//! intercepted, and one node's storage entries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    OpenMlsProvider,
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{
        AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
        HpkeKeyPair, KemOutput, SignatureScheme,
    },
};
use tls_codec::SecretVLBytes;

use super::{
    interception::{Fault, Interception},
    label,
    vault::Vault,
    verified::Verified,
};
use crate::{
    crypto::Secret,
    ed25519::verify_strict,
    storage::{Entries, Storage},
};

/// What an operation begins with.
#[derive(Default)]
pub(crate) struct Operation {
    /// The node's OpenMLS entries; none when founding or joining.
    pub(crate) entries: Entries,
    /// The node's vault; a copy, so that nothing is punctured when the operation fails.
    pub(crate) vault: Option<Vault>,
    /// The author is the only leaf after the commit that this operation makes.
    pub(crate) alone: bool,
    /// Signatures that others verify for it; none unless it is shared.
    pub(crate) verified: Arc<Verified>,
}

/// What an operation ended with.
pub(crate) struct Outcome {
    /// The child's OpenMLS entries.
    pub(crate) entries: Entries,
    /// The parent's vault, punctured.
    pub(crate) parent: Option<Vault>,
    /// The child's vault.
    pub(crate) vault: Vault,
    /// What the child's messages are encrypted with.
    pub(crate) encryption_secret: Secret,
    /// What the child's sender data is encrypted with.
    pub(crate) sender_data_secret: Secret,
}

/// See [`Operation`].
pub(crate) struct Provider {
    crypto: Crypto,
    storage: Storage,
}

impl Provider {
    pub(crate) fn new(operation: Operation) -> Self {
        Self {
            crypto: Crypto {
                inner: RustCrypto::default(),
                state: Mutex::new(Interception::new(operation.vault, operation.alone)),
                verified: operation.verified,
                #[cfg(any(test, feature = "testing"))]
                spoils: None,
            },
            storage: Storage::new(operation.entries),
        }
    }

    /// Has ciphertexts spoiled, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn set_spoils(&mut self, spoils: Option<crate::testing::Spoils>) {
        self.crypto.spoils = spoils;
    }

    /// Whether the operation failed because its commit had been processed on this node before.
    pub(crate) fn is_punctured(&self) -> bool {
        self.crypto.state().fault == Some(Fault::Punctured)
    }

    /// Ends an operation that made no epoch.
    pub(crate) fn into_entries(self) -> Entries {
        self.storage.into_entries()
    }

    /// Ends the operation at the epoch with this authenticator. What other epochs it derived (an
    /// external joiner's throw-away one) is erased. `None` if that epoch was not derived here.
    pub(crate) fn finish(self, epoch_authenticator: &[u8]) -> Option<Outcome> {
        let state = self.crypto.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (parent, epoch) = state.finish(epoch_authenticator);
        let epoch = epoch?;
        let (init_handle, parent_init) = epoch.init?;
        let (external_handle, external) = epoch.external?;
        Some(Outcome {
            entries: self.storage.into_entries(),
            parent,
            vault: Vault {
                init_handle,
                init: super::Pprf::new(parent_init),
                external_handle,
                external: Some(external),
            },
            encryption_secret: epoch.encryption_secret?,
            sender_data_secret: epoch.sender_data_secret?,
        })
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Storage;

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn crypto(&self) -> &Crypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto.inner
    }
}

/// The intercepted crypto provider.
pub(crate) struct Crypto {
    inner: RustCrypto,
    state: Mutex<Interception>,
    verified: Arc<Verified>,
    #[cfg(any(test, feature = "testing"))]
    spoils: Option<crate::testing::Spoils>,
}

impl Crypto {
    fn state(&self) -> MutexGuard<'_, Interception> {
        // A panic in OpenMLS ends the operation; there is nothing to be torn here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenMlsRand for Crypto {
    type Error = <RustCrypto as OpenMlsRand>::Error;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        self.inner.random_array()
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        self.inner.random_vec(len)
    }
}

fn to_openmls(secret: &Secret) -> SecretVLBytes {
    secret.as_bytes().to_vec().into()
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        // The handles are 32 bytes long, so one suite at a time.
        if ciphersuite == crate::group::CIPHERSUITE {
            self.inner.supports(ciphersuite)
        } else {
            Err(CryptoError::UnsupportedCiphersuite)
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![crate::group::CIPHERSUITE]
    }

    fn hkdf_extract(
        &self,
        hash_type: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        if let Some(ikm) = Secret::from_slice(ikm)
            && let Some(handle) = self.state().extract(salt, &ikm)
        {
            return Ok(to_openmls(&handle));
        }
        self.inner.hkdf_extract(hash_type, salt, ikm)
    }

    fn hkdf_expand(
        &self,
        hash_type: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        let ordinary = self.inner.hkdf_expand(hash_type, prk, info, okm_len)?;
        let Some((label, context)) = label::parse(info) else {
            return Ok(ordinary);
        };
        let (Some(prk), Some(output)) =
            (Secret::from_slice(prk), Secret::from_slice(ordinary.as_slice()))
        else {
            return Err(CryptoError::InvalidLength);
        };
        match self.state().expand(&prk, label, context, &output) {
            Ok(None) => Ok(ordinary),
            Ok(Some(instead)) => Ok(to_openmls(&instead)),
            Err(_) => Err(CryptoError::CryptoLibraryError),
        }
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        let external = self.state().external_secret(ikm);
        match external {
            Some(Some(secret)) => self.inner.derive_hpke_keypair(config, secret.as_bytes()),
            // The external secret is erased: this node takes no more external commits.
            Some(None) => Err(CryptoError::CryptoLibraryError),
            None => self.inner.derive_hpke_keypair(config, ikm),
        }
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        if alg != SignatureScheme::ED25519 {
            return self.inner.verify_signature(alg, data, pk, signature);
        }
        let is_valid =
            self.verified.or_verify(pk, data, signature, || verify_strict(pk, data, signature));
        is_valid.then_some(()).ok_or(CryptoError::InvalidSignature)
    }

    // From here on everything passes through.

    fn hmac(
        &self,
        hash_type: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hmac(hash_type, key, message)
    }

    fn hash(&self, hash_type: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.hash(hash_type, data)
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_decrypt(alg, key, ct_tag, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.inner.signature_key_gen(alg)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.sign(alg, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        #[cfg(any(test, feature = "testing"))]
        if self.spoils.as_ref().is_some_and(|spoils| spoils.hit(pk_r)) {
            let mut sealed = self.inner.hpke_seal(config, pk_r, info, aad, ptxt)?;
            sealed.ciphertext = vec![0; sealed.ciphertext.as_slice().len()].into();
            return Ok(sealed);
        }
        self.inner.hpke_seal(config, pk_r, info, aad, ptxt)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.hpke_open(config, input, sk_r, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.inner.hpke_setup_sender_and_export(
            config,
            pk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.inner.hpke_setup_receiver_and_export(
            config,
            enc,
            sk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }
}
