//! What happens, for the application to show.

use std::{fmt, sync::Arc};

use matrix_sdk::encryption::backups::BackupState;
use matrix_sdk_crypto_mls::{
    DecryptionError, Obstacle,
    dmls::{Device, NodeId},
};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId};

use crate::room::RoomDevice;

/// Something that has happened in an MLS room, and that a user may want to see. See
/// [`crate::Client::subscribe_to_mls_events`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MlsEvent {
    /// The room has become an MLS room, and stays one. Once for each room.
    BecameMls {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// The room can be sent to without delay. It stays so, also in later epochs, until there is
    /// [`MlsEvent::NotReady`]; the two take turns in a room, beginning with this one.
    ReadyToSend {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that messages will be encrypted in.
        node: NodeId,
        /// Members' devices that cannot read them, since they cannot be added.
        without_mls: Vec<(OwnedUserId, OwnedDeviceId)>,
    },
    /// The room has to be brought in line with its members and their devices before it can be sent to,
    /// or cannot be sent to at all: this device is not in the group any more, or not in the room, or
    /// MLS was turned off. Sending does what can be done, and so does [`crate::Room::prepare_mls`],
    /// which also says why it cannot; nobody does it until then.
    NotReady {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// This device is in the room's group now.
    Joined {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// This device was removed from the room's group.
    Removed {
        /// The room.
        room_id: OwnedRoomId,
        /// Whose device has removed it.
        by: Device,
    },
    /// The room names another group than the one that this device is in. Either the device has left that
    /// for the new one, or it stays: then [`crate::Room::follow_mls_group`] may take it there.
    GroupReplaced {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch of the new group's founding commit.
        founding: NodeId,
        /// Who has named it.
        by: OwnedUserId,
        /// Why this device stays; none if it has left.
        obstacle: Option<Obstacle>,
    },
    /// The epoch that this device sends in is another one: there was a commit, or another branch was
    /// chosen.
    EpochChanged {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch.
        node: NodeId,
        /// Its number.
        epoch: u64,
        /// How many devices are in it.
        devices: usize,
        /// Who made it, if its commit has just come.
        author: Option<Device>,
        /// Whom that commit added.
        added: Vec<Device>,
        /// Whom it removed.
        removed: Vec<Device>,
    },
    /// Two members have made commits at the same time. Both branches can be read, and all choose the
    /// same one of them.
    ForkSeen {
        /// The room.
        room_id: OwnedRoomId,
        /// The commit that makes it a fork: the one that came to be known later.
        node: NodeId,
        /// The epoch that both were made on.
        parent: NodeId,
    },
    /// Somebody's commit has brought the branches together: the others need nothing more.
    ForkMerged {
        /// The room.
        room_id: OwnedRoomId,
        /// The commit.
        node: NodeId,
        /// The ends of the other branches.
        branches: Vec<NodeId>,
    },
    /// A member has no device at all that could be in the group, so that person reads nothing.
    MemberWithoutMls {
        /// The room.
        room_id: OwnedRoomId,
        /// The user.
        user_id: OwnedUserId,
    },
    /// A member's device cannot be added, and so does not read along.
    DeviceWithoutMls {
        /// The room.
        room_id: OwnedRoomId,
        /// The user.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
        /// Why.
        reason: String,
    },
    /// A device has come into the group that we have not verified.
    UnverifiedDevice {
        /// The room.
        room_id: OwnedRoomId,
        /// The device, as far as it is known.
        device: RoomDevice,
    },
    /// A device is in the group that the room's state does not justify; the next commit removes it.
    UnexpectedMember {
        /// The room.
        room_id: OwnedRoomId,
        /// Whose leaf it is.
        device: Device,
        /// Who added it.
        added_by: Device,
    },
    /// The server takes no file of this size, and a commit of ours has one, because it does not fit into
    /// an event. Those whom the commit would have added stay outside, each with a
    /// [`MlsEvent::DeviceWithoutMls`], until whoever runs the server lets larger files through; it is tried
    /// again after an hour. Those who are in the group go on as before.
    UploadRefused {
        /// The room.
        room_id: OwnedRoomId,
        /// The file's size in bytes.
        bytes: usize,
    },
    /// A message cannot be read. Once for each message and reason, while somebody listens.
    Undecryptable {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Why.
        reason: Arc<DecryptionError>,
        /// What to do about it.
        advice: Advice,
    },
    /// A message that could not be read can be read now. Timelines show it by themselves.
    Readable {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
    },
    /// Somebody tried to turn MLS off in the room. Nothing is sent in it any more.
    DowngradeAttempt {
        /// The room.
        room_id: OwnedRoomId,
        /// The event that did it.
        event_id: Option<OwnedEventId>,
    },
    /// How the SDK's key backup stands: first as it is, then whenever that changes. It has the keys of rooms without MLS only.
    BackupState(BackupState),
    /// So many events were lost, because they were not taken out in time.
    Missed(u64),
}

impl MlsEvent {
    /// The room that it is about, if it is about one.
    pub fn room_id(&self) -> Option<&ruma::RoomId> {
        match self {
            Self::BecameMls { room_id }
            | Self::ReadyToSend { room_id, .. }
            | Self::NotReady { room_id }
            | Self::Joined { room_id }
            | Self::Removed { room_id, .. }
            | Self::GroupReplaced { room_id, .. }
            | Self::EpochChanged { room_id, .. }
            | Self::ForkSeen { room_id, .. }
            | Self::ForkMerged { room_id, .. }
            | Self::MemberWithoutMls { room_id, .. }
            | Self::DeviceWithoutMls { room_id, .. }
            | Self::UnverifiedDevice { room_id, .. }
            | Self::UnexpectedMember { room_id, .. }
            | Self::UploadRefused { room_id, .. }
            | Self::Undecryptable { room_id, .. }
            | Self::Readable { room_id, .. }
            | Self::DowngradeAttempt { room_id, .. } => Some(room_id),
            Self::BackupState(_) | Self::Missed(_) => None,
        }
    }
}

/// What a user can do about a message that cannot be read. `Display` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing: what is missing is being looked for, and the message appears when it has come.
    Wait,
    /// Ask somebody who was there: this device has no key for it, and will get none.
    AskAMember,
    /// Stay online with somebody of the room, who lets this device in again; then ask for what was said.
    GetLetIn,
    /// The room's history policy has erased its key, here and everywhere.
    Gone,
    /// Leave it aside: it is not what it claims to be, or a copy of another message.
    Distrust,
    /// Try again: the store has failed, which says nothing about the message.
    TryAgain,
}

impl Advice {
    /// What to do when a message cannot be read for this reason.
    pub const fn on(reason: &DecryptionError) -> Self {
        match reason {
            DecryptionError::UnknownEpoch(_) => Self::Wait,
            DecryptionError::BeforeOurJoin => Self::AskAMember,
            DecryptionError::AfterOurRemoval => Self::GetLetIn,
            DecryptionError::KeysExpired | DecryptionError::AlreadyRead => Self::Gone,
            DecryptionError::Machine(_) => Self::TryAgain,
            // Also of kinds that are not known here.
            _ => Self::Distrust,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "it appears when what is missing has come",
            Self::AskAMember => "ask somebody who was in the room",
            Self::GetLetIn => "wait until somebody lets this device in again",
            Self::Gone => "its key was erased, as the room wants it",
            Self::Distrust => "do not trust it",
            Self::TryAgain => "try again",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_advice() {
        let node = NodeId::from_bytes([1; 32]);
        let advice = [
            (DecryptionError::UnknownEpoch(node), Advice::Wait),
            (DecryptionError::BeforeOurJoin, Advice::AskAMember),
            (DecryptionError::AfterOurRemoval, Advice::GetLetIn),
            (DecryptionError::KeysExpired, Advice::Gone),
            (DecryptionError::AlreadyRead, Advice::Gone),
            (DecryptionError::WrongRoom, Advice::Distrust),
            (DecryptionError::Malformed(String::new()), Advice::Distrust),
        ];
        for (reason, expected) in advice {
            assert_eq!(Advice::on(&reason), expected, "{reason}");
        }
    }
}
