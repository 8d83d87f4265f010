//! `KeyPackage` (RFC 9420 §10): what a device publishes so that others can add it.

use std::collections::BTreeSet;

use super::{
    extensions::read_extension_types,
    leaf_node::{LeafError, LeafNode, LeafNodeSource},
    message::{CIPHER_SUITE, MLS_10, expect},
    tls::{Reader, Writer},
};
use crate::{
    crypto::{sha256, verify_with_label},
    error::MalformedError,
    ids::KeyPackageRef,
    roster::Member,
};

/// The largest key package that we read, in bytes. Ours have about 700.
pub const MAX_KEY_PACKAGE_BYTES: usize = 16 * 1024;

/// Why a key package is not valid. It then never becomes valid, for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPackageError {
    /// The bytes are not a key package of this protocol.
    #[error("the key package cannot be read: {0}")]
    Malformed(#[from] MalformedError),
    /// The leaf is not valid.
    #[error("the key package's leaf is not valid: {0}")]
    Leaf(#[from] LeafError),
    /// The lifetime is bounded, so the package would be valid for some and not for others, by their
    /// clocks (protocol §2).
    #[error("the key package's lifetime is bounded")]
    Lifetime,
    /// The init key is also the leaf's encryption key (RFC 9420 §10.1).
    #[error("the key package uses one key twice")]
    InitKey,
    /// The signature does not verify under the leaf's key.
    #[error("the key package's signature does not verify")]
    Signature,
    /// OpenMLS does not take it, for something that we do not look at ourselves.
    #[error("the MLS library refuses the key package")]
    Refused,
}

/// A key package as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPackage {
    /// The X25519 key to which a Welcome is encrypted.
    pub init_key: [u8; 32],
    /// The leaf that the device gets.
    pub leaf: LeafNode,
    extension_types: BTreeSet<u16>,
    signature: [u8; 64],
    bytes: Vec<u8>,
    /// How many of the bytes are signed.
    signed: usize,
}

impl KeyPackage {
    /// Reads a key package and checks all that can be checked without a group: signatures, the
    /// credential, capabilities, the lifetime {0, 2^64 - 1}. What a claim gave is then fit to be
    /// added.
    ///
    /// # Errors
    ///
    /// What is wrong with it; [`KeyPackageError::Malformed`] with `TooLarge` above
    /// [`MAX_KEY_PACKAGE_BYTES`].
    pub fn parse_and_verify(bytes: &[u8]) -> Result<Self, KeyPackageError> {
        let mut reader = Reader::new(bytes);
        let key_package = Self::read(&mut reader)?;
        reader.finish()?;
        key_package.verify()?;
        // One that OpenMLS refuses would make every commit fail that adds it, with whatever else.
        if !crate::group::accepts_key_package(bytes) {
            return Err(KeyPackageError::Refused);
        }
        Ok(key_package)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedError> {
        let start = *reader;
        // A key package inside a commit has no length of its own: what is longer than the limit
        // ends in the middle of a value.
        let limited = start.rest();
        let limited = limited.get(..MAX_KEY_PACKAGE_BYTES).unwrap_or(limited);
        let mut inner = Reader::new(limited);
        let begin = inner;
        let result = Self::read_fields(&mut inner, begin);
        if result == Err(MalformedError::Truncated) && limited.len() < start.rest().len() {
            return Err(MalformedError::TooLarge);
        }
        let key_package = result?;
        reader.take(key_package.bytes.len())?;
        Ok(key_package)
    }

    fn read_fields<'a>(reader: &mut Reader<'a>, start: Reader<'a>) -> Result<Self, MalformedError> {
        expect(reader.u16()?, MLS_10)?;
        expect(reader.u16()?, CIPHER_SUITE)?;
        let init_key = reader.opaque_array()?;
        let leaf = LeafNode::read(reader)?;
        let extension_types = read_extension_types(reader)?;
        let signed = reader.since(start).len();
        let signature = reader.opaque_array()?;
        let bytes = reader.since(start).to_vec();
        Ok(Self { init_key, leaf, extension_types, signature, bytes, signed })
    }

    pub(crate) fn verify(&self) -> Result<(), KeyPackageError> {
        if self.init_key == self.leaf.encryption_key {
            return Err(KeyPackageError::InitKey);
        }
        match self.leaf.source {
            LeafNodeSource::KeyPackage { not_before: 0, not_after: u64::MAX } => {}
            LeafNodeSource::KeyPackage { .. } => return Err(KeyPackageError::Lifetime),
            LeafNodeSource::Update | LeafNodeSource::Commit => {
                return Err(LeafError::Source.into());
            }
        }
        if !self.leaf.supports_extensions(&self.extension_types) {
            return Err(LeafError::Capabilities.into());
        }
        let signed = self.bytes.get(..self.signed).unwrap_or_default();
        if !verify_with_label(&self.leaf.signature_key, "KeyPackageTBS", signed, &self.signature) {
            return Err(KeyPackageError::Signature);
        }
        self.leaf.check_for_key_package()?;
        Ok(())
    }

    /// Whom it would add.
    pub fn member(&self) -> Member {
        self.leaf.member()
    }

    /// Its name (RFC 9420 §5.2).
    pub fn reference(&self) -> KeyPackageRef {
        key_package_ref(&self.bytes)
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// `RefHash("MLS 1.0 KeyPackage Reference", key_package)` (RFC 9420 §5.2) of a KeyPackage's bytes,
/// which are not looked at.
pub fn key_package_ref(key_package: &[u8]) -> KeyPackageRef {
    let mut input = Writer::new();
    input.opaque(b"MLS 1.0 KeyPackage Reference");
    input.opaque(key_package);
    KeyPackageRef::from_bytes(sha256(&[&input.into_bytes()]))
}
