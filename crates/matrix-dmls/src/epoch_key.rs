//! Messages: encryption and decryption with an epoch key (protocol §7; RFC 9420 §6.3, §9).
//!
//! An epoch key reads and writes the messages of one epoch, and can do nothing else. Reading
//! consumes nothing: any message of the epoch can be read at any time, again and again, in any
//! order, one's own too. Nothing is returned before its signature has been verified under the key
//! that the roster has for its sender.
//!
//! This replaces OpenMLS's own message protection, which erases keys as it reads.

mod aead;
mod decrypt;
mod encrypt;
mod error;
mod framing;
mod group_context;
mod padding;
mod ratchets;
mod secret_tree;
mod sender_data;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use self::{
    decrypt::DecryptedMessage,
    encrypt::MessageSender,
    error::{DecryptError, EncryptError},
    framing::{MAX_MESSAGE_LENGTH, MessageHeader, peek},
    secret_tree::GENERATION_LIMIT,
};
use self::{group_context::GroupContext, ratchets::Ratchets};
use crate::{
    authenticated_data::MessageAad, crypto::Secret, error::MalformedError, ids::NodeId,
    roster::Roster,
};

/// The largest leaf count of a group (protocol §12).
const MAX_LEAVES: u32 = 16_384;

/// What reads and writes the messages of one epoch.
///
/// Cheap to clone: clones share the secrets and what has been derived from them. All secrets are
/// erased when the last clone is dropped.
#[derive(Clone)]
pub struct EpochKey {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    group_context: Vec<u8>,
    group_id: Vec<u8>,
    epoch: u64,
    encryption_secret: Secret,
    sender_data_secret: Secret,
    roster: Arc<Roster>,
    ratchets: Ratchets,
}

/// What an epoch key is made of: the form in which stores, backups and bundles hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKeyParts {
    /// The node that is the epoch.
    pub node: NodeId,
    /// The epoch's GroupContext (RFC 9420 §8.1), TLS-encoded.
    pub group_context: Vec<u8>,
    /// The root of the secret tree (RFC 9420 §9).
    pub encryption_secret: Secret,
    /// What hides who sent a message (RFC 9420 §6.3.2).
    pub sender_data_secret: Secret,
    /// The members of the epoch.
    pub roster: Arc<Roster>,
}

impl EpochKey {
    /// Makes an epoch key of its parts. Whether they belong together shows when a message is read:
    /// with a wrong part none can be.
    ///
    /// # Errors
    ///
    /// When `group_context` is not exactly one TLS-encoded GroupContext of at most 65,536 bytes
    /// ([`MalformedError::Unsupported`] for another protocol version or cipher suite than MLS 1.0
    /// and 0x0001), or a leaf of the roster is beyond the 16,384 that a group may have
    /// ([`MalformedError::TooLarge`]).
    pub fn new(
        node: NodeId,
        group_context: Vec<u8>,
        encryption_secret: Secret,
        sender_data_secret: Secret,
        roster: Arc<Roster>,
    ) -> Result<Self, MalformedError> {
        let GroupContext { group_id, epoch } = GroupContext::from_bytes(&group_context)?;
        let group_id = group_id.to_vec();
        if roster.iter().any(|(leaf, _)| leaf >= MAX_LEAVES) {
            return Err(MalformedError::TooLarge);
        }
        let inner = Arc::new(Inner {
            node,
            group_context,
            group_id,
            epoch,
            encryption_secret,
            sender_data_secret,
            roster,
            ratchets: Ratchets::default(),
        });
        Ok(Self { inner })
    }

    /// Makes an epoch key of its parts, as [`EpochKey::new`] does.
    ///
    /// # Errors
    ///
    /// As [`EpochKey::new`].
    pub fn from_parts(parts: EpochKeyParts) -> Result<Self, MalformedError> {
        let EpochKeyParts { node, group_context, encryption_secret, sender_data_secret, roster } =
            parts;
        Self::new(node, group_context, encryption_secret, sender_data_secret, roster)
    }

    /// A copy of the parts, to be stored.
    pub fn to_parts(&self) -> EpochKeyParts {
        EpochKeyParts {
            node: self.inner.node,
            group_context: self.inner.group_context.clone(),
            encryption_secret: self.inner.encryption_secret.clone(),
            sender_data_secret: self.inner.sender_data_secret.clone(),
            roster: Arc::clone(&self.inner.roster),
        }
    }

    /// The node that is the epoch.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The MLS group ID: the room ID in UTF-8.
    pub fn group_id(&self) -> &[u8] {
        &self.inner.group_id
    }

    /// The MLS epoch number. Branches share numbers; only [`EpochKey::node`] tells epochs apart.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The epoch's GroupContext (RFC 9420 §8.1), TLS-encoded.
    pub fn group_context(&self) -> &[u8] {
        &self.inner.group_context
    }

    /// The members of the epoch.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.inner.roster
    }

    /// The root of the secret tree (RFC 9420 §9): for stores, backups and bundles.
    pub fn encryption_secret(&self) -> &Secret {
        &self.inner.encryption_secret
    }

    /// What hides who sent a message (RFC 9420 §6.3.2): for stores, backups and bundles.
    pub fn sender_data_secret(&self) -> &Secret {
        &self.inner.sender_data_secret
    }

    /// Encrypts an application message (RFC 9420 §6.3.1) and gives the bytes of the whole
    /// MLSMessage, at most [`MAX_MESSAGE_LENGTH`]. They are longer than the plaintext by about 170
    /// bytes, the group ID, 32 for each tip, and Padmé padding of at most 12 %.
    ///
    /// The generation must never have been used by this leaf in this epoch, not even for a message
    /// that was not sent: the caller makes the counter durable first (protocol §7).
    ///
    /// # Errors
    ///
    /// See [`EncryptError`]. Nothing has changed then.
    pub fn encrypt(
        &self,
        sender: &MessageSender<'_>,
        aad: &MessageAad,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, EncryptError> {
        if aad.epoch() != self.inner.node {
            return Err(EncryptError::WrongNode);
        }
        encrypt::seal(&self.inner, sender, &aad.to_bytes(), plaintext)
    }

    /// Decrypts and verifies an application message: the bytes of a whole MLSMessage, at most
    /// [`MAX_MESSAGE_LENGTH`]. Consumes nothing, and does not notice replays: whether the same
    /// (leaf, generation) was seen before is for the caller to know (protocol §7).
    ///
    /// # Errors
    ///
    /// See [`DecryptError`]. Nothing has changed then.
    pub fn decrypt(&self, message: &[u8]) -> Result<DecryptedMessage, DecryptError> {
        decrypt::open_message(&self.inner, message)
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKey")
            .field("node", &self.inner.node)
            .field("epoch", &self.inner.epoch)
            .field("members", &self.inner.roster.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EpochKeyParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeyParts")
            .field("node", &self.node)
            .field("members", &self.roster.len())
            .finish_non_exhaustive()
    }
}
