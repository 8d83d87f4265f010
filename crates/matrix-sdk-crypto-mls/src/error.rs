//! What can go wrong, one enum per domain.

use matrix_dmls::{Device, GroupError, NodeId};
use matrix_sdk_crypto::CryptoStoreError;
use ruma::{OwnedRoomId, OwnedUserId};

use crate::store::StoreError;

/// An operation of the machine failed. What it was about to change has not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// The machine's store failed. If it was busy, try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The OlmMachine's store failed.
    #[error("the OlmMachine's store failed: {0}")]
    OlmStore(#[from] CryptoStoreError),
    /// The store belongs to another device, or the device's keys have changed.
    #[error("the store belongs to another device: {stored}")]
    WrongDevice {
        /// Whose it is.
        stored: String,
    },
    /// The OlmMachine gave no signature for its own device.
    #[error("the device key gave no signature")]
    NoDeviceSignature,
    /// MLS failed.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The room is not an MLS room, as far as this machine has seen its state.
    #[error("{0} is not an MLS room")]
    NotMls(OwnedRoomId),
    /// Somebody tried to turn MLS off in the room. Nothing is sent in it (protocol §11).
    #[error("the encryption of {0} was changed after it was an MLS room; nothing is sent in it")]
    Downgraded(OwnedRoomId),
    /// The room cannot be sent to yet: send [`crate::MlsMachine::outgoing_requests`], sync, and try
    /// again.
    #[error("not ready to send: {0:?}")]
    NotReady(crate::Readiness),
    /// This device was removed from the room's group.
    #[error("this device was removed from the group by {by}")]
    Removed {
        /// Who removed it.
        by: OwnedUserId,
    },
    /// Somebody has to be removed before anything is sent, or our keys are to be renewed, and the
    /// server has refused our commit a short while ago, or the room's power levels do not let us.
    #[error("a commit is needed first, and the server refuses our commits")]
    CommitsRefused,
    /// Rooms founded by this machine let in cross-signed devices only, and this device is none: sign
    /// it by the user's identity first, or found rooms with another
    /// [`crate::RoomSettings::trust`].
    #[error("this device is not signed by its owner, as the rooms that it founds require")]
    NotCrossSigned,
    /// The branch that everybody should be on cannot be entered, and on the best one that can,
    /// somebody would have to be removed before anything is sent (protocol §8). A member who is on
    /// that branch can let this device in again.
    #[error("left behind on a branch where members would have to be removed first")]
    LeftBehind,
    /// The room's group cannot be founded anew by this device: it is in the group, or has not tried to
    /// get in yet, or its user may not name the group.
    #[error("this device cannot found the room's group anew")]
    CannotFoundAnew,
    /// The group that the application wants to follow must not be followed, or is not the one that the
    /// room names.
    #[error("that group cannot be followed: {0:?}")]
    CannotFollow(Option<crate::Obstacle>),
    /// The room is too large for its commits or Welcomes to fit into events.
    #[error("the room is too large: {bytes} bytes do not fit into an event")]
    RoomTooLarge {
        /// How large the smallest possible event is.
        bytes: usize,
    },
    /// The event is larger than a message can be.
    #[error("the message is too large: {bytes} bytes")]
    MessageTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There is no such request, or it was answered before.
    #[error("there is no such request")]
    UnknownRequest,
    /// The response is for another kind of request.
    #[error("the response is not for this request")]
    WrongResponse,
    /// JSON could not be written or read.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why an event cannot be read. Every event ends in exactly one state: decrypted, or one of these
/// (protocol §10).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptionError {
    /// Its epoch is not known yet: the event is kept, and [`crate::Notice::Readable`] will tell when
    /// it can be read.
    #[error("the epoch {0:?} is not known yet")]
    UnknownEpoch(NodeId),
    /// It was sent before this device was in the group.
    #[error("sent before this device joined")]
    BeforeOurJoin,
    /// It was sent after this device was removed, or on a branch that it is not on.
    #[error("sent after this device was removed")]
    AfterOurRemoval,
    /// The epoch's key was erased, as the room's history policy wants it. Where that is `none`, also
    /// when the key of this message was used for another one, or given up because too many before it
    /// were missing ([`MAX_SKIPPED_KEYS`](crate::dmls::MAX_SKIPPED_KEYS)).
    #[error("the epoch's key was erased")]
    KeysExpired,
    /// This device has read this event before, and its key is erased with that, as the room's history
    /// policy `none` wants it (protocol §7). What it said is for the application to keep.
    #[error("read before, and its key is erased as the room's history policy wants it")]
    AlreadyRead,
    /// The same message as another event.
    #[error("the same message as {first}, sent again")]
    Replay {
        /// The event that had it first.
        first: ruma::OwnedEventId,
    },
    /// The Matrix sender is not the user whose device signed it.
    #[error("sent by {sender} but signed by {signer:?}")]
    InvalidSender {
        /// Who the server says it is from.
        sender: OwnedUserId,
        /// Whose device signed it.
        signer: Device,
    },
    /// It was encrypted for another room.
    #[error("encrypted for another room")]
    WrongRoom,
    /// It is not what it claims to be, or was altered on its way.
    #[error("malformed or altered: {0}")]
    Malformed(String),
    /// The stores failed; nothing is said about the event.
    #[error(transparent)]
    Machine(#[from] MlsError),
}

impl From<StoreError> for DecryptionError {
    fn from(error: StoreError) -> Self {
        Self::Machine(error.into())
    }
}

impl From<CryptoStoreError> for DecryptionError {
    fn from(error: CryptoStoreError) -> Self {
        Self::Machine(error.into())
    }
}
