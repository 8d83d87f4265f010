//! Epoch keys that members give one another (protocol §6, "Key request"): to a device that has a leaf
//! in an epoch which it cannot enter.
//!
//! An epoch key reads messages and can do nothing else. Who gets one was entitled to it by its leaf;
//! what is new is that it may be had later than by the commit. So that a thief of an old copy of the
//! device's store gets none, the asking device shows that it is in an epoch of now
//! ([`Group::key_request_tag`]), and so that nobody opens a recorded answer later, each request has
//! a key pair of its own.

use std::sync::Arc;

use openmls::prelude::OpenMlsCrypto as _;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{
    OpenMlsProvider as _,
    types::{HpkeCiphertext, HpkeKeyPair},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Group, GroupChanges, GroupError, hydrated, random};
use crate::{
    crypto::{Secret, labelled},
    epoch_key::EpochKey,
    error::MalformedError,
    graph::NodeStatus,
    ids::NodeId,
    wire::{
        group_context::GroupContext,
        tls::{Reader, Writer},
    },
};

/// The label of the tag, as RFC 9420 §8.5 has it.
const TAG_LABEL: &str = "dmls key request";

/// The label under which an epoch key is encrypted, as RFC 9420 §5.1.3 has it.
const SEAL_LABEL: &str = "dmls epoch key";

/// An epoch key, encrypted to the key of a request by HPKE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedEpochKey {
    /// The HPKE encapsulated key, 32 bytes.
    pub kem_output: Vec<u8>,
    /// The ciphertext: 81 to 84 bytes more than the epoch's GroupContext.
    pub ciphertext: Vec<u8>,
}

/// A key pair for a request: the private half, and the public one that goes into the request.
///
/// # Errors
///
/// When the machine has no randomness.
pub fn new_request_key() -> Result<(Secret, [u8; 32]), GroupError> {
    let ikm: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
    let config = hydrated::CIPHERSUITE.hpke_config();
    let HpkeKeyPair { private, public } =
        RustCrypto::default().derive_hpke_keypair(config, &*ikm).map_err(GroupError::openmls)?;
    let private = Secret::from_slice(&private);
    match (private, public.try_into()) {
        (Some(private), Ok(public)) => Ok((private, public)),
        _ => Err(MalformedError::Length.into()),
    }
}

impl Group {
    /// What shows that a request was made by a member of an epoch:
    /// `MLS-Exporter("dmls key request", request, 32)` of it (RFC 9420 §8.5).
    ///
    /// # Errors
    ///
    /// [`GroupError::NoState`] when the epoch's state is not held, else when it cannot be read.
    pub fn key_request_tag(&self, node: NodeId, request: &[u8]) -> Result<[u8; 32], GroupError> {
        let (state, vault, _, _) = self.parent(node)?;
        hydrated::guarded(|| {
            let (provider, group) =
                hydrated::hydrate(state, vault, self.room_id.as_bytes(), false)?;
            let tag = group
                .export_secret(provider.crypto(), TAG_LABEL, request, 32)
                .map_err(GroupError::openmls)?;
            tag.try_into().map_err(|_| MalformedError::Length.into())
        })
    }

    /// Whether a request has the tag that only members of the epoch can make.
    ///
    /// # Errors
    ///
    /// As [`Group::key_request_tag`].
    pub fn is_key_request_tag(
        &self,
        node: NodeId,
        request: &[u8],
        tag: &[u8],
    ) -> Result<bool, GroupError> {
        Ok(self.key_request_tag(node, request)?.ct_eq(tag).into())
    }

    /// Encrypts an epoch's key to the key of a request. Whether the other may have it is the
    /// caller's to check.
    ///
    /// # Errors
    ///
    /// [`GroupError::NoEpochKey`] when it is not held, or is for nobody else
    /// ([`Group::reads_once`]); when `to` is no public key.
    pub fn seal_epoch_key(
        &self,
        node: NodeId,
        to: &[u8; 32],
        request_id: &str,
    ) -> Result<SealedEpochKey, GroupError> {
        let key = self.epoch_keys.get(&node).filter(|_| !self.reads_once(&node));
        let (Some(key), Some(secret)) = (key, key.and_then(|key| key.encryption_secret())) else {
            return Err(GroupError::NoEpochKey(node));
        };
        let mut plaintext = Writer::new();
        plaintext.opaque(key.group_context());
        plaintext.raw(secret.as_bytes());
        plaintext.raw(key.sender_data_secret().as_bytes());
        let plaintext = Zeroizing::new(plaintext.into_bytes());
        let config = hydrated::CIPHERSUITE.hpke_config();
        let info = self.seal_info(node, request_id);
        let HpkeCiphertext { kem_output, ciphertext } = RustCrypto::default()
            .hpke_seal(config, to, &info, &[], &plaintext)
            .map_err(GroupError::openmls)?;
        Ok(SealedEpochKey { kem_output: kem_output.into(), ciphertext: ciphertext.into() })
    }

    /// Opens an epoch key that somebody has given us for a request of ours. Its GroupContext is that
    /// of the epoch, as far as the epoch's record tells. Whether the secrets are the epoch's shows
    /// when a message is read.
    ///
    /// # Errors
    ///
    /// When it does not open by this key, is not what it claims to be, is another epoch's, or the
    /// graph does not know who is in the epoch ([`GroupError::NoState`]).
    pub fn open_epoch_key(
        &self,
        node: NodeId,
        by: &Secret,
        request_id: &str,
        sealed: &SealedEpochKey,
    ) -> Result<EpochKey, GroupError> {
        let (Some(record), Some(roster)) = (self.graph.get(&node), self.graph.roster_of(&node))
        else {
            return Err(GroupError::NoState(node));
        };
        let config = hydrated::CIPHERSUITE.hpke_config();
        let input = HpkeCiphertext {
            kem_output: sealed.kem_output.clone().into(),
            ciphertext: sealed.ciphertext.clone().into(),
        };
        let info = self.seal_info(node, request_id);
        let plaintext = hydrated::guarded(|| {
            RustCrypto::default()
                .hpke_open(config, &input, by.as_bytes(), &info, &[])
                .map_err(GroupError::openmls)
        })?;
        let plaintext = Zeroizing::new(plaintext);
        let mut reader = Reader::new(&plaintext);
        let bytes = reader.opaque()?;
        let encryption_secret = Secret::from_bytes(reader.array()?);
        let sender_data_secret = Secret::from_bytes(reader.array()?);
        reader.finish()?;
        let context = GroupContext::parse(bytes)?;
        let fits = context.group_id == self.room_id.as_bytes()
            && context.epoch == record.epoch
            && context.confirmed_transcript_hash == Some(record.confirmed_transcript_hash)
            && context.extension == record.extension;
        if !fits {
            return Err(GroupError::WrongEpochKey(node));
        }
        let context = bytes.to_vec();
        Ok(EpochKey::new(node, context, encryption_secret, sender_data_secret, roster)?)
    }

    /// Holds an epoch key that somebody has given us, once a message has shown that it is the epoch's,
    /// in place of what was held. No change where we have entered the epoch: that key is the true one.
    pub fn take_epoch_key(&self, key: EpochKey) -> GroupChanges {
        let mut changes = GroupChanges::default();
        if self.graph.status(&key.node()) != Some(NodeStatus::Entered) {
            changes.epoch_keys.insert(key.node(), Some(Arc::new(key)));
        }
        changes
    }

    /// The epochs whose keys somebody has given us, and that we have not entered.
    pub fn given(&self) -> impl Iterator<Item = NodeId> {
        let is_seen = |node: &NodeId| self.graph.status(node) == Some(NodeStatus::Seen);
        self.epoch_keys.keys().copied().filter(is_seen)
    }

    /// `EncryptContext` of RFC 9420 §5.1.3.
    fn seal_info(&self, node: NodeId, request_id: &str) -> Vec<u8> {
        let mut context = Writer::new();
        context.opaque(self.room_id.as_bytes());
        context.opaque(request_id.as_bytes());
        context.raw(node.as_bytes());
        labelled(SEAL_LABEL, &context.into_bytes())
    }
}
