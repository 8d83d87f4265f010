//! Messages: encryption and decryption with an epoch key (protocol §7; RFC 9420 §6.3, §9).
//!
//! An epoch key reads and writes the messages of one epoch, and can do nothing else. Reading
//! consumes nothing: any message of the epoch can be read at any time, again and again, in any
//! order, one's own too. Where the group's history policy is `none`, [`EpochKey::decrypt_once`] gives
//! another epoch key besides, without the key that was used: that one takes the first one's place.
//! Nothing is returned before its signature has been verified under the key that the roster has for
//! its sender.
//!
//! This replaces OpenMLS's own message protection, which erases keys as it reads.

mod aead;
mod decrypt;
mod encrypt;
mod error;
mod framing;
mod group_context;
mod padding;
mod punctured;
mod ratchets;
mod secret_tree;
mod sender_data;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::secret_tree::secrets_above;

use std::{fmt, sync::Arc};

use self::{
    aead::KeyAndNonce, group_context::GroupContext, punctured::KeyErased, ratchets::Ratchets,
};
pub use self::{
    decrypt::DecryptedMessage,
    encrypt::MessageSender,
    error::{DecryptError, EncryptError},
    framing::{MAX_MESSAGE_LENGTH, MessageHeader, peek},
    punctured::{MAX_SKIPPED_KEYS, PuncturedTree},
    secret_tree::GENERATION_LIMIT,
};
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
    tree: SecretTree,
    sender_data_secret: Secret,
    roster: Arc<Roster>,
    /// Of a whole tree only.
    ratchets: Ratchets,
}

/// The secret tree of an epoch (RFC 9420 §9), from which the keys of its messages follow.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretTree {
    /// All of it: its root, the `encryption_secret`.
    Whole(Secret),
    /// What was used is gone (protocol §7).
    Punctured(Arc<PuncturedTree>),
}

/// What an epoch key is made of: the form in which stores, backups and bundles hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKeyParts {
    /// The node that is the epoch.
    pub node: NodeId,
    /// The epoch's GroupContext (RFC 9420 §8.1), TLS-encoded.
    pub group_context: Vec<u8>,
    /// The secret tree.
    pub tree: SecretTree,
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
        let tree = SecretTree::Whole(encryption_secret);
        Self::from_parts(EpochKeyParts { node, group_context, tree, sender_data_secret, roster })
    }

    /// Makes an epoch key of its parts, as [`EpochKey::new`] does.
    ///
    /// # Errors
    ///
    /// As [`EpochKey::new`], and [`MalformedError::Unsupported`] when a punctured tree has another
    /// width than the roster.
    pub fn from_parts(parts: EpochKeyParts) -> Result<Self, MalformedError> {
        let EpochKeyParts { node, group_context, tree, sender_data_secret, roster } = parts;
        let GroupContext { group_id, epoch } = GroupContext::from_bytes(&group_context)?;
        let group_id = group_id.to_vec();
        if roster.iter().any(|(leaf, _)| leaf >= MAX_LEAVES) {
            return Err(MalformedError::TooLarge);
        }
        if let SecretTree::Punctured(tree) = &tree
            && tree.width() != roster.tree_width().max(1)
        {
            return Err(MalformedError::Unsupported);
        }
        let ratchets = Ratchets::default();
        let inner = Inner {
            node,
            group_context,
            group_id,
            epoch,
            tree,
            sender_data_secret,
            roster,
            ratchets,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A copy of the parts, to be stored.
    pub fn to_parts(&self) -> EpochKeyParts {
        EpochKeyParts {
            node: self.inner.node,
            group_context: self.inner.group_context.clone(),
            tree: self.inner.tree.clone(),
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

    /// The secret tree (RFC 9420 §9): for stores.
    pub fn tree(&self) -> &SecretTree {
        &self.inner.tree
    }

    /// The root of the secret tree (RFC 9420 §9), unless it is punctured. For backups and bundles,
    /// which get nothing of an epoch whose messages are read once
    /// ([`Group::reads_once`](crate::Group::reads_once)), whether it is punctured yet or not.
    pub fn encryption_secret(&self) -> Option<&Secret> {
        match &self.inner.tree {
            SecretTree::Whole(secret) => Some(secret),
            SecretTree::Punctured(_) => None,
        }
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

    /// Decrypts and verifies as [`EpochKey::decrypt`] does, and gives the epoch key that is to take
    /// this one's place: it cannot read this message again, and what it is made of does not give this
    /// message's key. All others it reads.
    ///
    /// # Errors
    ///
    /// See [`DecryptError`]. A message that is refused uses nothing up.
    pub fn decrypt_once(&self, message: &[u8]) -> Result<(DecryptedMessage, Self), DecryptError> {
        let message = self.decrypt(message)?;
        let Inner { tree, roster, .. } = &*self.inner;
        let (leaf, generation) = (message.leaf, message.generation);
        let after = match tree {
            SecretTree::Whole(secret) => {
                PuncturedTree::new(secret, roster.tree_width()).without(leaf, generation)
            }
            SecretTree::Punctured(tree) => tree.without(leaf, generation),
        };
        let after = after.map_err(|KeyErased| DecryptError::KeyErased { leaf, generation })?;
        let tree = SecretTree::Punctured(Arc::new(after));
        let after = Self::from_parts(EpochKeyParts { tree, ..self.to_parts() })?;
        Ok((message, after))
    }
}

impl Inner {
    /// The key of a message. The leaf is in the roster, the generation below the limit.
    fn message_key(&self, leaf: u32, generation: u32) -> Result<KeyAndNonce, KeyErased> {
        match &self.tree {
            SecretTree::Whole(secret) => {
                let width = self.roster.tree_width();
                Ok(self.ratchets.message_key(secret, width, leaf, generation))
            }
            SecretTree::Punctured(tree) => tree.message_key(leaf, generation),
        }
    }
}

impl fmt::Debug for SecretTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(_) => f.write_str("Whole"),
            Self::Punctured(tree) => tree.fmt(f),
        }
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
