//! What the application ought to know or show.

use matrix_dmls::{Device, NodeId};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

/// Something happened that the application may want to show. See
/// [`crate::MlsMachine::take_notices`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The room has become an MLS room, and stays one. Once for each room.
    RoomIsMls {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// This device is in the room's group now.
    Joined {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch.
        node: NodeId,
    },
    /// A new epoch of the room's group was entered.
    EpochEntered {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch.
        node: NodeId,
        /// Its number.
        epoch: u64,
        /// Who made it.
        author: Device,
        /// Whether its author was not in the group before: it has added itself.
        is_external: bool,
        /// Whom it added; not its author.
        added: Vec<Device>,
        /// Whom it removed.
        removed: Vec<Device>,
    },
    /// There is a new epoch, but this device cannot enter it.
    EpochNotEntered {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A commit has become known that was made on the same epoch as another one: the group has
    /// branches. For each commit but the first that is known on an epoch.
    Forked {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that the commit makes.
        node: NodeId,
        /// The epoch that both were made on.
        parent: NodeId,
    },
    /// A commit has become known whose author knew the ends of other branches, and has brought the
    /// group in line with the room: those branches need nothing more (protocol §8). The first one to
    /// name a branch, on its own.
    Merged {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that the commit makes.
        node: NodeId,
        /// The ends of the other branches.
        branches: Vec<NodeId>,
    },
    /// This device was removed from the group.
    Removed {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that it is not in.
        node: NodeId,
        /// Who removed it.
        by: Device,
    },
    /// A commit event was dropped: it is not what it claims to be.
    CommitDropped {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Why.
        reason: String,
    },
    /// The server has refused a file that a commit needs: it limits what may be uploaded. If the commit
    /// cannot do without, it is given up too ([`Notice::CommitRefused`]).
    UploadRefused {
        /// The room.
        room_id: OwnedRoomId,
        /// The file's size in bytes.
        bytes: usize,
    },
    /// The server has refused a commit of ours.
    CommitRefused {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that it would have made.
        node: NodeId,
    },
    /// A Welcome cannot be used.
    WelcomeDropped {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that it is for.
        node: NodeId,
        /// Who sent it, as the server says.
        sender: OwnedUserId,
        /// Why.
        reason: String,
    },
    /// An event that could not be read can be read now: decrypt it again.
    Readable {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// The whole event as it was queued.
        event: ruma::serde::Raw<ruma::events::AnySyncTimelineEvent>,
    },
    /// An event that waited for its epoch cannot be read: the epoch is known now, but is none of
    /// ours. Decrypt it again to learn why.
    NotReadable {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// The whole event as it was queued.
        event: ruma::serde::Raw<ruma::events::AnySyncTimelineEvent>,
    },
    /// A device is in the group that the room's state does not justify; our next commit removes it.
    UnexpectedMember {
        /// The room.
        room_id: OwnedRoomId,
        /// Whose leaf it is.
        device: Device,
        /// Who added it.
        added_by: Device,
    },
    /// Somebody was removed whom the room's state does not want removed; our next commit adds it.
    UnjustifiedRemoval {
        /// The room.
        room_id: OwnedRoomId,
        /// Who was removed.
        device: Device,
        /// By whom.
        removed_by: Device,
    },
    /// A commit has added devices that do not exist. This device keeps away from what lies below it,
    /// and helps others to do the same.
    InventedDevices {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that the commit makes.
        node: NodeId,
        /// Who made it.
        by: Device,
        /// The devices.
        devices: Vec<Device>,
    },
    /// This device cannot enter the branch that everybody should be on, or was removed from it without
    /// cause, and has made a commit beside it.
    Objected {
        /// The room.
        room_id: OwnedRoomId,
        /// The epoch that it cannot enter.
        node: NodeId,
        /// Who made it.
        by: Device,
    },
    /// The room names another group than the one that this device is in. Either it has left that for
    /// the new one, or it stays: then [`crate::MlsMachine::follow_group`] may take it there.
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
    /// A member's device has no usable key package, so it cannot be added.
    DeviceWithoutMls {
        /// The room.
        room_id: OwnedRoomId,
        /// The user.
        user_id: OwnedUserId,
        /// The device.
        device_id: ruma::OwnedDeviceId,
        /// Why.
        reason: String,
    },
    /// Somebody tried to turn MLS off in the room. Nothing is sent in it any more.
    DowngradeAttempt {
        /// The room.
        room_id: OwnedRoomId,
        /// The event that did it.
        event_id: Option<OwnedEventId>,
    },
}

/// Why a device does not follow the room to a group that was founded anew (protocol §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Obstacle {
    /// Its founding commit is not known yet.
    Unknown,
    /// What is named is no founding commit, or not of the instance that is named with it.
    NotAFounding,
    /// It lets in devices that the old group keeps out, or keeps keys for longer.
    WeakerRules,
    /// The old group would not let in the device that has founded it, or that device's user has not
    /// joined.
    UntrustedFounder,
    /// Who has named it is not who has founded it.
    NamedByAnother,
    /// This device was in it, and has left it.
    WasLeft,
    /// In the group that this device is in there are others who have joined, and they may still be
    /// there.
    OthersAreThere,
}

impl Obstacle {
    /// Whether the device follows all the same if the application agrees.
    pub const fn can_be_agreed_to(self) -> bool {
        matches!(self, Self::NamedByAnother | Self::WasLeft | Self::OthersAreThere)
    }
}
