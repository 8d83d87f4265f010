//! What can go wrong in an operation on a group.

use crate::{
    credential::CredentialError,
    epoch_key::{DecryptError, EncryptError},
    error::MalformedError,
    ids::{KeyPackageRef, NodeId},
    record::IllFormed,
    storage::StorageError,
};

/// An operation failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Bytes that are not what they claim to be. Everybody drops them.
    #[error("malformed: {0}")]
    Malformed(#[from] MalformedError),
    /// A commit that breaks a rule which everybody can check (protocol §2). Everybody drops it.
    #[error("the commit is not well-formed: {0}")]
    IllFormed(#[from] IllFormed),
    /// A leaf's credential is not valid.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A leaf has another kind of credential or signature key than this protocol's.
    #[error("a leaf has a credential or signature key of another kind")]
    UnsupportedCredential,
    /// Two leaves belong to one device (user and device ID) or have one signature key.
    #[error("two leaves belong to one device, or have one signature key")]
    DuplicateDevice,
    /// The message belongs to another room's group.
    #[error("made for another room")]
    WrongRoom,
    /// A copy of our own commit that is not as we made it.
    #[error("not the commit as we made it")]
    AlteredCopy,
    /// The commit's parent is not known (yet): fetch it, then try again.
    #[error("the parent {0:?} is not known")]
    UnknownParent(NodeId),
    /// The commit's parent is one of the commits that were forgotten, or lies above what is known:
    /// it can have no say any more (protocol §9). Drop it.
    #[error("the parent {0:?} is too old, and was forgotten")]
    Forgotten(NodeId),
    /// There is no state of this node: it was erased, or we were never in it.
    #[error("there is no state of {0:?}")]
    NoState(NodeId),
    /// There is no epoch key of this node.
    #[error("there is no epoch key of {0:?}")]
    NoEpochKey(NodeId),
    /// An epoch key that somebody has given us is another epoch's.
    #[error("the given key is not that of {0:?}")]
    WrongEpochKey(NodeId),
    /// No commit of ours with this node ID is pending.
    #[error("no commit of ours with the ID {0:?} is pending")]
    NotPending(NodeId),
    /// A commit must not remove its author (RFC 9420 §12.2).
    #[error("a member cannot remove itself by its own commit")]
    RemovesItself,
    /// The change names a leaf that is blank.
    #[error("leaf {0} is blank")]
    BlankLeaf(u32),
    /// This key package cannot be added to this epoch: it is not valid, or has a key that somebody in
    /// it, or another one to be added, has too. Leave it out.
    #[error("the key package {0} cannot be added")]
    KeyPackage(KeyPackageRef),
    /// The Welcome's key package is not ours, or was used before.
    #[error("no private key for this Welcome: the key package is unknown or was used before")]
    NoMatchingKeyPackage,
    /// The Welcome does not belong to the commit that it names (protocol §6).
    #[error("the Welcome does not belong to the commit that it names")]
    WelcomeMismatch,
    /// The ratchet tree has other leaves than those that are known to be in the epoch.
    #[error("the tree has other leaves than the epoch")]
    WrongTree,
    /// The node was entered before. Joining it again would bring back what was punctured there.
    #[error("{0:?} was entered before")]
    AlreadyEntered(NodeId),
    /// The commit was processed on this node before, and its secret is erased.
    #[error("punctured: this commit was processed here before")]
    Punctured,
    /// The message cannot be decrypted.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The message cannot be encrypted.
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    /// OpenMLS refused; the text is its reason.
    #[error("MLS refused: {0}")]
    Mls(String),
    /// OpenMLS panicked on this input; nothing has changed.
    #[error("the MLS library failed on this input")]
    Panicked,
    /// The node's state lacks something that it must have.
    #[error("the stored state is incomplete")]
    StateMissing,
    /// The node's state cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl GroupError {
    /// OpenMLS has some forty error enums; which one it was matters to a reader of logs only.
    pub(super) fn openmls(error: impl std::fmt::Display) -> Self {
        Self::Mls(error.to_string())
    }
}
