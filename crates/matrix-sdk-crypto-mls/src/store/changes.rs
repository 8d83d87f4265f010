use std::collections::BTreeMap;

use matrix_dmls::{Device, GroupChanges, Identity, KeyPackageRef, NodeId, OwnKeyPackage, Secret};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StoreVersion;
use crate::{
    room::RoomView,
    types::events::{
        CommitEventContent, GroupEventContent, ToDeviceJoinRequestEventContent,
        ToDeviceWelcomeEventContent,
    },
};

/// Our own keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAccount {
    /// Our credential.
    pub identity: Identity,
    /// The secret half of our MLS signature key.
    pub seed: Secret,
    /// The server has had our first key packages.
    pub published: bool,
    /// The last-resort key package in use.
    pub last_resort: Option<KeyPackageRef>,
    /// When it was made, in milliseconds since 1970.
    pub last_resort_since: u64,
    /// By device, the highest `seq` of the key packages that were claimed (protocol §4): only a leaf
    /// with that one, or a higher one, is wanted. At most 4,096.
    #[serde(default, with = "crate::room::as_list")]
    pub seqs: BTreeMap<Device, u64>,
}

/// A key package of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredKeyPackage {
    /// The package with its private keys.
    pub package: OwnKeyPackage,
    /// The server has it.
    pub published: bool,
    /// When another last-resort package took its place, or when it was made for a join request, in
    /// milliseconds since 1970: 30 days later it is erased.
    pub replaced_at: Option<u64>,
}

/// A room as it is loaded.
#[derive(Clone, Debug, Default)]
pub struct StoredRoom {
    /// What is known of the room.
    pub view: RoomView,
    /// Everything of its group, as upserts.
    pub group: GroupChanges,
    /// By epoch, the first generation that is not reserved yet: those below it were used for
    /// messages of ours, or may have been.
    pub generations: BTreeMap<NodeId, u32>,
    /// By epoch, the event that carries its commit.
    pub commit_events: BTreeMap<NodeId, OwnedEventId>,
    /// By epoch, when that event came, in milliseconds since 1970.
    pub commit_times: BTreeMap<NodeId, u64>,
}

/// An event that waits for an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// Its ID.
    pub event_id: OwnedEventId,
    /// The epoch: a commit's parent, or the one that a message is encrypted in.
    pub node: NodeId,
    /// The whole event.
    pub json: String,
    /// When it came, in milliseconds since 1970.
    pub received_at: u64,
}

/// A Welcome that could not be used yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldWelcome {
    /// Who sent it, as the server says.
    pub sender: OwnedUserId,
    /// What it says.
    pub content: ToDeviceWelcomeEventContent,
    /// When it came, in milliseconds since 1970.
    pub received_at: u64,
}

/// A commit as its event carried it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredCommit {
    /// The event.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its content.
    pub content: CommitEventContent,
    /// When it came, in milliseconds since 1970.
    pub received_at: u64,
}

/// Which message it is: no two are alike, unless the sender went back to an old copy of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageKey {
    /// The epoch.
    pub node: NodeId,
    /// The sender's leaf.
    pub leaf: u32,
    /// The sender's count.
    pub generation: u32,
}

/// What was read under one [`MessageKey`] (protocol §7): one message, or several if the sender went
/// back to an old copy of its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The messages, in the order in which they were read.
    pub messages: Vec<BoundMessage>,
}

impl LedgerEntry {
    /// At most this many messages with the same keys are remembered; a sender that makes more only
    /// hurts itself.
    pub const MAX_MESSAGES: usize = 16;

    /// The entry with one message more; nothing if it has that ciphertext, or enough messages.
    pub fn with(&self, message: BoundMessage) -> Option<Self> {
        let is_known = |known: &BoundMessage| known.ciphertext_hash == message.ciphertext_hash;
        if self.messages.len() >= Self::MAX_MESSAGES || self.messages.iter().any(is_known) {
            return None;
        }
        let mut after = self.clone();
        after.messages.push(message);
        Some(after)
    }
}

/// A message that was read, and the event that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundMessage {
    /// The event that had it first.
    pub event_id: OwnedEventId,
    /// SHA-256 of the ciphertext.
    pub ciphertext_hash: [u8; 32],
}

impl BoundMessage {
    /// A message in an event, by its ciphertext: the bytes of the whole MLSMessage.
    pub fn new(event_id: OwnedEventId, ciphertext: &[u8]) -> Self {
        Self { event_id, ciphertext_hash: Sha256::digest(ciphertext).into() }
    }
}

/// A request that must be sent even if the application is stopped in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRequest {
    /// Its ID, which is also the transaction ID: sent twice, it counts once.
    pub id: OwnedTransactionId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Rises from request to request.
    pub order: u64,
    /// What it is.
    pub kind: OutboxRequestKind,
}

/// See [`OutboxRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OutboxRequestKind {
    /// A commit of ours.
    Commit {
        /// The epoch that it makes.
        node: NodeId,
        /// The event's content.
        content: Box<CommitEventContent>,
        /// For whom there will be Welcomes when it is accepted.
        recipients: Vec<WelcomeRecipient>,
    },
    /// Welcomes.
    Welcome {
        /// For whom, and what.
        messages: Vec<(OwnedUserId, OwnedDeviceId, ToDeviceWelcomeEventContent)>,
    },
    /// Requests to be let in.
    JoinRequest {
        /// For whom, and what.
        messages: Vec<(OwnedUserId, OwnedDeviceId, ToDeviceJoinRequestEventContent)>,
    },
    /// Which group is the room's.
    Group {
        /// The state event's content.
        content: GroupEventContent,
    },
    /// A commit that is missing in the room, posted once more (protocol §2).
    Relay {
        /// The epoch that it makes.
        node: NodeId,
        /// The event's content.
        content: Box<CommitEventContent>,
    },
    /// Anything else for devices.
    ToDevice {
        /// The type of the messages.
        event_type: String,
        /// For whom, and the content as JSON.
        messages: Vec<(OwnedUserId, OwnedDeviceId, String)>,
    },
}

/// Whom a commit adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeRecipient {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The key package that it is added by.
    pub key_package: KeyPackageRef,
}

/// What one operation changes: `Some` is an upsert, `None` in a map a deletion.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Our own keys.
    pub account: Option<StoredAccount>,
    /// Our key packages.
    pub key_packages: BTreeMap<KeyPackageRef, Option<StoredKeyPackage>>,
    /// Requests to be sent.
    pub outbox: BTreeMap<OwnedTransactionId, Option<OutboxRequest>>,
    /// Rooms.
    pub rooms: BTreeMap<OwnedRoomId, RoomChanges>,
    /// The version of the store that the changes were made from. If it is another one by the time
    /// that they are to be written, nothing is. Without it they are written in any case.
    pub based_on: Option<StoreVersion>,
}

/// What one operation changes in one room.
#[derive(Clone, Debug, Default)]
pub struct RoomChanges {
    /// What is known of the room.
    pub view: Option<RoomView>,
    /// Its group.
    pub group: GroupChanges,
    /// By epoch, the first generation that is not reserved yet.
    pub generations: BTreeMap<NodeId, u32>,
    /// Commits as their events carried them.
    pub commits: BTreeMap<NodeId, Option<StoredCommit>>,
    /// Events that wait.
    pub queued: BTreeMap<OwnedEventId, Option<QueuedEvent>>,
    /// Welcomes that wait, by their epoch.
    pub welcomes: BTreeMap<NodeId, Option<HeldWelcome>>,
    /// Messages that were read.
    pub ledger: BTreeMap<MessageKey, LedgerEntry>,
}

impl Changes {
    /// The changes of a room, to be added to.
    pub fn room(&mut self, room_id: &ruma::RoomId) -> &mut RoomChanges {
        self.rooms.entry(room_id.to_owned()).or_default()
    }

    /// Whether these are only notes of messages that were read.
    ///
    /// Should such a batch get lost when the power fails, the messages count as unread, and reading
    /// them again makes the same notes. So a store may leave it to the operating system when it gets
    /// to the disk (in SQLite, `synchronous = NORMAL`), as long as it is in order with the batches
    /// before and after it, and survives the end of the process.
    pub fn is_only_reading(&self) -> bool {
        let Self { account, key_packages, outbox, rooms, based_on: _ } = self;
        let nothing_else = account.is_none() && key_packages.is_empty() && outbox.is_empty();
        nothing_else && !rooms.is_empty() && rooms.values().all(RoomChanges::is_only_reading)
    }
}

impl RoomChanges {
    fn is_only_reading(&self) -> bool {
        // All fields by name, so that a new one is not forgotten here.
        let Self { view, group, generations, commits, queued, welcomes, ledger } = self;
        !ledger.is_empty()
            && view.is_none()
            && group.is_empty()
            && generations.is_empty()
            && commits.is_empty()
            && queued.is_empty()
            && welcomes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 32]);

    fn reading() -> Changes {
        let mut changes = Changes { based_on: Some(StoreVersion::new(1)), ..Changes::default() };
        let key = MessageKey { node: NODE, leaf: 0, generation: 0 };
        changes.room(ruma::room_id!("!r:example.org")).ledger.insert(key, LedgerEntry::default());
        changes
    }

    #[test]
    fn notes_of_messages_are_only_reading() {
        assert!(reading().is_only_reading());
        assert!(!Changes::default().is_only_reading());
    }

    #[test]
    fn with_anything_else_it_is_more_than_reading() {
        let more: [fn(&mut Changes); 8] = [
            |changes| {
                changes.outbox.insert("t".into(), None);
            },
            |changes| {
                changes.key_packages.insert(KeyPackageRef::from_bytes([1; 32]), None);
            },
            |changes| {
                changes.room(ruma::room_id!("!other:example.org"));
            },
            |changes| in_room(changes).view = Some(RoomView::default()),
            |changes| {
                in_room(changes).generations.insert(NODE, 1);
            },
            |changes| {
                in_room(changes).queued.insert(ruma::owned_event_id!("$1"), None);
            },
            |changes| {
                in_room(changes).welcomes.insert(NODE, None);
            },
            |changes| {
                in_room(changes).group.vaults.insert(NODE, None);
            },
        ];
        for (number, more) in more.into_iter().enumerate() {
            let mut changes = reading();
            more(&mut changes);
            assert!(!changes.is_only_reading(), "{number}");
        }
    }

    fn in_room(changes: &mut Changes) -> &mut RoomChanges {
        changes.room(ruma::room_id!("!r:example.org"))
    }
}
