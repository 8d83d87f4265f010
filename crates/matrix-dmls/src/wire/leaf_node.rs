//! `LeafNode` (RFC 9420 §7.2): a member's keys and credential.

use std::collections::BTreeSet;

use super::{
    extensions::{RequiredCapabilities, is_default_extension, read_extension_types, read_u16s},
    message::{CIPHER_SUITE, MLS_10, expect},
    tls::{Reader, Writer},
};
use crate::{
    credential::{CredentialError, Identity},
    crypto::{labelled, verify_with_label},
    ed25519::verify_strict,
    error::MalformedError,
    ids::EXTENSION_TYPE,
    roster::Member,
    schedule::Verified,
};

/// `CredentialType` basic (RFC 9420 §17.5).
const BASIC: u16 = 1;

/// The largest leaf node that we read, in bytes. Ours have about 500.
const MAX_LEAF_NODE_BYTES: usize = 16 * 1024;

/// The label of a leaf's signature (RFC 9420 §7.2).
const LEAF_NODE_TBS: &str = "LeafNodeTBS";

/// Why a leaf node is not valid. It then never becomes valid, for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// The leaf was made for something else: a key package's is in a commit's path, or the other
    /// way round, or it is one of an Update, which this protocol does not have.
    #[error("the leaf was made for another purpose")]
    Source,
    /// The leaf does not say that it supports MLS 1.0, the cipher suite, basic credentials, our
    /// extension, the extensions that it has itself, or what the group requires.
    #[error("the leaf does not support what the protocol needs")]
    Capabilities,
    /// The leaf's signature does not verify under its own key, in this group and at this index.
    #[error("the leaf's signature does not verify")]
    Signature,
    /// The credential is not valid for the leaf's signature key.
    #[error("the leaf's credential is not valid: {0}")]
    Credential(#[from] CredentialError),
}

/// What a leaf was made for, and what only such leaves have (RFC 9420 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafNodeSource {
    /// A key package, with its lifetime in seconds since 1970.
    KeyPackage {
        /// Not valid before.
        not_before: u64,
        /// Not valid after.
        not_after: u64,
    },
    /// An Update proposal; this protocol has none.
    Update,
    /// A commit's update path.
    Commit,
}

/// A leaf node as it stands on the wire, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafNode {
    /// The X25519 public key.
    pub encryption_key: [u8; 32],
    /// The Ed25519 public key.
    pub signature_key: [u8; 32],
    /// The basic credential's identity.
    pub identity: Identity,
    /// What the leaf was made for.
    pub source: LeafNodeSource,
    capabilities: Capabilities,
    extension_types: BTreeSet<u16>,
    /// Everything but the signature, as it was read.
    content: Vec<u8>,
    signature: [u8; 64],
}

/// `Capabilities` (RFC 9420 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Capabilities {
    versions: BTreeSet<u16>,
    cipher_suites: BTreeSet<u16>,
    extensions: BTreeSet<u16>,
    proposals: BTreeSet<u16>,
    credentials: BTreeSet<u16>,
}

impl LeafNode {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedError> {
        let start = *reader;
        let encryption_key = reader.opaque_array()?;
        let signature_key = reader.opaque_array()?;
        expect(reader.u16()?, BASIC)?;
        let identity = Identity::from_bytes(reader.opaque()?)?;
        let capabilities = Capabilities {
            versions: read_u16s(reader)?,
            cipher_suites: read_u16s(reader)?,
            extensions: read_u16s(reader)?,
            proposals: read_u16s(reader)?,
            credentials: read_u16s(reader)?,
        };
        let source = match reader.u8()? {
            1 => LeafNodeSource::KeyPackage { not_before: reader.u64()?, not_after: reader.u64()? },
            2 => LeafNodeSource::Update,
            3 => {
                // The parent hash: empty or 32 bytes. Only the tree can say which is right.
                match reader.opaque()?.len() {
                    0 | 32 => LeafNodeSource::Commit,
                    _ => return Err(MalformedError::Length),
                }
            }
            _ => return Err(MalformedError::Unsupported),
        };
        let extension_types = read_extension_types(reader)?;
        if reader.since(start).len() > MAX_LEAF_NODE_BYTES {
            return Err(MalformedError::TooLarge);
        }
        let content = reader.since(start).to_vec();
        let signature = reader.opaque_array()?;
        Ok(Self {
            encryption_key,
            signature_key,
            identity,
            source,
            capabilities,
            extension_types,
            content,
            signature,
        })
    }

    /// The roster's view of this leaf.
    pub fn member(&self) -> Member {
        Member { identity: self.identity.clone(), signature_key: self.signature_key }
    }

    /// Checks a leaf that came in a key package.
    pub(crate) fn check_for_key_package(&self) -> Result<(), LeafError> {
        if !matches!(self.source, LeafNodeSource::KeyPackage { .. }) {
            return Err(LeafError::Source);
        }
        self.check(&self.content)
    }

    /// Checks a leaf that a commit in the group `group_id` puts at index `leaf` by its path.
    pub(crate) fn check_for_commit(&self, group_id: &[u8], leaf: u32) -> Result<(), LeafError> {
        if self.source != LeafNodeSource::Commit {
            return Err(LeafError::Source);
        }
        self.check(&self.signed(group_id, leaf))
    }

    /// `LeafNodeTBS` (RFC 9420 §7.2) of a leaf at index `leaf` of the group `group_id`.
    fn signed(&self, group_id: &[u8], leaf: u32) -> Vec<u8> {
        let mut signed = Writer::new();
        signed.raw(&self.content);
        if !matches!(self.source, LeafNodeSource::KeyPackage { .. }) {
            signed.opaque(group_id);
            signed.u32(leaf);
        }
        signed.into_bytes()
    }

    /// Verifies the signature of a leaf in a tree, and takes note of it if it is valid.
    pub(crate) fn verify_in_tree(&self, group_id: &[u8], leaf: u32, verified: &Verified) {
        let message = labelled(LEAF_NODE_TBS, &self.signed(group_id, leaf));
        if verify_strict(&self.signature_key, &message, &self.signature) {
            verified.insert(&self.signature_key, &message, &self.signature);
        }
    }

    /// What RFC 9420 §7.3 and protocol §2 ask of every leaf, whatever tree it is for.
    fn check(&self, signed: &[u8]) -> Result<(), LeafError> {
        let capabilities = &self.capabilities;
        if !(capabilities.versions.contains(&MLS_10)
            && capabilities.cipher_suites.contains(&CIPHER_SUITE)
            && capabilities.credentials.contains(&BASIC)
            && capabilities.extensions.contains(&EXTENSION_TYPE)
            && self.supports_extensions(&self.extension_types))
        {
            return Err(LeafError::Capabilities);
        }
        if !verify_with_label(&self.signature_key, LEAF_NODE_TBS, signed, &self.signature) {
            return Err(LeafError::Signature);
        }
        self.identity.verify(&self.signature_key)?;
        Ok(())
    }

    /// Whether the leaf says that it supports these extensions, as it must for its own and for its
    /// key package's.
    pub(crate) fn supports_extensions(&self, types: &BTreeSet<u16>) -> bool {
        types.iter().all(|t| is_default_extension(*t) || self.capabilities.extensions.contains(t))
    }

    /// Whether the leaf says that it supports what the group requires.
    pub(crate) fn check_required(&self, required: &RequiredCapabilities) -> Result<(), LeafError> {
        let Capabilities { extensions, proposals, credentials, .. } = &self.capabilities;
        if required.are_met(extensions, proposals, credentials) {
            Ok(())
        } else {
            Err(LeafError::Capabilities)
        }
    }
}
