//! Ourselves: the device that this state belongs to.

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::{BasicCredential, CredentialWithKey};
use openmls_traits::{
    signatures::{Signer, SignerError},
    types::SignatureScheme,
};

use crate::{
    credential::{CredentialError, Device, Identity},
    crypto::{Secret, sha256},
    ids::NodeId,
    roster::Member,
};

/// Our own device: its credential and its MLS signature key.
#[derive(Clone)]
pub struct LocalMember {
    identity: Identity,
    key: SigningKey,
}

impl LocalMember {
    /// Puts the credential and the secret half of its signature key (an Ed25519 seed, 32 bytes)
    /// together.
    ///
    /// # Errors
    ///
    /// When the credential is not valid for exactly this key.
    pub fn new(identity: Identity, seed: &Secret) -> Result<Self, CredentialError> {
        let key = SigningKey::from_bytes(seed.as_bytes());
        identity.verify(key.verifying_key().as_bytes())?;
        Ok(Self { identity, key })
    }

    /// The public half of the signature key with this seed, 32 bytes.
    pub fn public_key_of(seed: &Secret) -> [u8; 32] {
        SigningKey::from_bytes(seed.as_bytes()).verifying_key().to_bytes()
    }

    /// The credential's identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The Matrix device.
    pub const fn device(&self) -> &Device {
        &self.identity.device
    }

    /// What our leaves say of us.
    pub fn member(&self) -> Member {
        Member {
            identity: self.identity.clone(),
            signature_key: self.key.verifying_key().to_bytes(),
        }
    }

    /// A number below `bound` for a node: nobody else can foretell it, and it is the same whenever it
    /// is drawn, so it need not be kept.
    pub(crate) fn draw(&self, node: &NodeId, bound: u64) -> u64 {
        let hash = sha256(&[b"dmls draw", self.key.as_bytes(), node.as_bytes()]);
        let number = hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
        number % bound.max(1)
    }

    /// The key that signs our messages.
    pub(crate) const fn signing_key(&self) -> &SigningKey {
        &self.key
    }

    pub(super) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.identity.to_bytes()).into(),
            signature_key: self.key.verifying_key().to_bytes().to_vec().into(),
        }
    }
}

impl Signer for LocalMember {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.key.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl std::fmt::Debug for LocalMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalMember({:?})", self.identity)
    }
}
