//! The machine and its parts.

mod account;
mod again;
mod anchor;
mod anew;
mod ask;
mod backfill;
mod behind;
mod commit_requests;
mod commits;
mod decrypt;
mod deserted;
mod devices;
mod encrypt;
mod external;
mod files;
mod follow;
mod gaps;
mod generations;
mod graphs;
mod heavy;
mod identity;
mod invented;
mod join_requests;
mod key_packages;
mod key_requests;
mod look_ahead;
mod membership;
mod prepare;
mod questions;
mod read_once;
mod relays;
mod requests;
mod retention;
mod room_events;
mod rooms;
mod seqs;
mod spare_keys;
mod standing;
mod sync;
mod welcomes;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
};

use matrix_dmls::{ChoiceStep, EpochGraph, GroupExtension, LocalMember, NodeId, Roster};
use matrix_sdk_crypto::OlmMachine;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, RoomId, UserId};
use tokio::sync::Mutex;

pub(crate) use self::rooms::Room;
use self::{
    account::Account,
    commits::{MAX_CONTENT, MIN_CONTENT},
    devices::Devices,
    generations::Generations,
    read_once::Undelivered,
    requests::Transient,
    rooms::Rooms,
};
pub use self::{
    decrypt::{DecryptedRoomEvent, MlsEncryptionInfo},
    encrypt::RawEncryptionResult,
    follow::ReplacedGroup,
    prepare::Readiness,
    sync::EncryptionSyncChanges,
};
use crate::{
    clock::{Clock, SystemClock},
    error::MlsError,
    notice::Notice,
    store::{IntoMlsStore, MemoryStore, MlsStore},
};

/// At most this many notices wait for the application; the oldest go first.
const MAX_NOTICES: usize = 10_000;

/// How much memory the rooms take by default, in bytes: 64 MiB.
const ROOM_CACHE_SIZE: usize = 64 * 1024 * 1024;

/// More one-time key packages than this are not uploaded at once.
const MAX_KEY_PACKAGES: u32 = 100;

/// The MLS machine of one device, beside its `OlmMachine`. See the crate's documentation.
///
/// Cheap to clone; clones are the same machine.
#[derive(Clone)]
pub struct MlsMachine {
    inner: Arc<Inner>,
}

struct Inner {
    olm: OlmMachine,
    store: Arc<dyn MlsStore>,
    clock: Arc<dyn Clock>,
    settings: RoomSettings,
    /// How many one-time key packages the server is to have.
    key_packages: u32,
    /// What an event's content may have, in bytes.
    max_content: usize,
    local: LocalMember,
    account: Mutex<Account>,
    rooms: Rooms,
    generations: StdMutex<Generations>,
    undelivered: StdMutex<Undelivered>,
    devices: Devices,
    transient: StdMutex<Transient>,
    notices: StdMutex<VecDeque<Notice>>,
}

/// What rooms founded by this machine are like. Members cannot change it later, but for the history
/// policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomSettings {
    /// Which devices are let in: all of the members', or those that their owner has cross-signed.
    pub trust: matrix_dmls::TrustRequirement,
    /// Whether devices of users who are not in the group yet may add themselves.
    pub external: matrix_dmls::ExternalJoins,
    /// How long the keys of messages are kept.
    pub history: matrix_dmls::HistoryPolicy,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            trust: matrix_dmls::TrustRequirement::CrossSigned,
            external: matrix_dmls::ExternalJoins::Allowed,
            history: matrix_dmls::HistoryPolicy::Keep,
        }
    }
}

/// Makes an [`MlsMachine`].
#[derive(Debug)]
pub struct MlsMachineBuilder {
    olm: OlmMachine,
    store: Arc<dyn MlsStore>,
    clock: Arc<dyn Clock>,
    settings: RoomSettings,
    room_cache_size: usize,
    key_packages: u32,
    max_content: usize,
}

impl MlsMachineBuilder {
    /// Where everything is kept that must not be lost. In memory, if this is not called.
    #[must_use]
    pub fn store(mut self, store: impl IntoMlsStore) -> Self {
        self.store = store.into_mls_store();
        self
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What rooms founded by this machine are like.
    #[must_use]
    pub fn room_settings(mut self, settings: RoomSettings) -> Self {
        self.settings = settings;
        self
    }

    /// About how many bytes of memory the rooms may take together that are kept loaded; 64 MiB by
    /// default. The one that was used least recently goes first, and is loaded again when it is
    /// needed. Those that an operation is working on stay, so a room that is larger than this is
    /// still usable.
    ///
    /// A room's size is an estimate, made anew whenever its group or its state changes: the ratchet
    /// trees and keys of the epochs that are held, each counted once where epochs share it, the
    /// rosters, the records of all commits, and what is known of the members.
    #[must_use]
    pub const fn room_cache_size(mut self, bytes: usize) -> Self {
        self.room_cache_size = bytes;
        self
    }

    /// How many one-time key packages the server is to have of this device; 50 by default, at most
    /// 100. Each lets the device be added to one group; when all are used up, the last-resort one is
    /// taken. Making one takes about a millisecond.
    #[must_use]
    pub fn one_time_key_packages(mut self, count: u32) -> Self {
        self.key_packages = count.min(MAX_KEY_PACKAGES);
        self
    }

    /// How many bytes the content of an event that this machine makes may have as JSON: 61,440 (60 KiB)
    /// by default, which is also the most, since homeservers let 65,536 bytes through with what they
    /// put around it; 4,096 at least. Commits and ratchet trees that do not fit become files in the
    /// media repository (protocol §2).
    #[must_use]
    pub fn max_event_content(mut self, bytes: usize) -> Self {
        self.max_content = bytes.clamp(MIN_CONTENT, MAX_CONTENT);
        self
    }

    /// Opens the store, or makes this device's MLS key when the store is empty.
    ///
    /// # Errors
    ///
    /// When a store fails, or the MLS store belongs to another device than the OlmMachine.
    pub async fn build(self) -> Result<MlsMachine, MlsError> {
        let now = self.clock.now();
        // Before anything is asked of it, so that no change is missed.
        let devices = Devices::new(&self.olm);
        let (account, local) = identity::load_or_make(&self.olm, &*self.store, now).await?;
        Ok(MlsMachine {
            inner: Arc::new(Inner {
                olm: self.olm,
                store: self.store,
                clock: self.clock,
                settings: self.settings,
                key_packages: self.key_packages,
                max_content: self.max_content,
                local,
                account: Mutex::new(account),
                rooms: Rooms::new(self.room_cache_size),
                generations: StdMutex::default(),
                undelivered: StdMutex::default(),
                devices,
                transient: StdMutex::default(),
                notices: StdMutex::default(),
            }),
        })
    }
}

impl MlsMachine {
    /// A machine that keeps everything in memory, beside the device's `OlmMachine`.
    ///
    /// # Errors
    ///
    /// As [`MlsMachineBuilder::build`].
    pub async fn new(olm: OlmMachine) -> Result<Self, MlsError> {
        Self::builder(olm).build().await
    }

    /// A machine on a store. Another process of the same device, a notification extension for
    /// example, may have a machine on the same file at the same time: each notices what the other
    /// has written. Within a process there is one machine for a device; clone it.
    ///
    /// # Errors
    ///
    /// As [`MlsMachineBuilder::build`].
    pub async fn with_store(olm: OlmMachine, store: impl IntoMlsStore) -> Result<Self, MlsError> {
        Self::builder(olm).store(store).build().await
    }

    /// For more choices.
    pub fn builder(olm: OlmMachine) -> MlsMachineBuilder {
        MlsMachineBuilder {
            olm,
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(SystemClock),
            settings: RoomSettings::default(),
            room_cache_size: ROOM_CACHE_SIZE,
            key_packages: key_packages::WANTED,
            max_content: MAX_CONTENT,
        }
    }

    /// Our user.
    pub fn user_id(&self) -> &UserId {
        self.inner.olm.user_id()
    }

    /// Our device.
    pub fn device_id(&self) -> &DeviceId {
        self.inner.olm.device_id()
    }

    /// Our credential.
    pub fn identity(&self) -> &matrix_dmls::Identity {
        self.inner.local.identity()
    }

    /// The OlmMachine that this machine was made with.
    pub fn olm_machine(&self) -> &OlmMachine {
        &self.inner.olm
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn MlsStore> {
        &self.inner.store
    }

    /// Whether a room is an MLS room. Once it was, it is for ever (protocol §11).
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn is_mls_room(&self, room_id: &RoomId) -> Result<bool, MlsError> {
        self.with_room(room_id, |room| room.view.mls_since.is_some()).await
    }

    /// How a room's group stands; `None` while this device is in none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn group_status(&self, room_id: &RoomId) -> Result<Option<GroupStatus>, MlsError> {
        self.with_room(room_id, |room| {
            let node = room.sends_in()?;
            let record = room.group.graph().get(&node)?;
            let tips = room.group.graph().tips();
            Some(GroupStatus {
                node,
                epoch: record.epoch,
                roster: room.group.roster(&node)?,
                extension: record.extension.clone(),
                tips: tips.filter(|tip| room.are_together(tip, &node)).collect(),
                retained: room.group.entered().count(),
                is_chosen: room.group.chosen_tip() == Some(node),
            })
        })
        .await
    }

    /// How the tip to send on was chosen, one step per branch point (protocol §8).
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn explain_choice(&self, room_id: &RoomId) -> Result<Vec<ChoiceStep>, MlsError> {
        self.with_room(room_id, |room| room.group.graph().explain()).await
    }

    /// The room's epochs and the choice among them as a picture: `to_string`, `to_mermaid`,
    /// `to_graphviz` or `to_svg` draws it. Empty while nothing of a group is known. It has no
    /// secrets, but says who is in the room.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn epoch_graph(&self, room_id: &RoomId) -> Result<EpochGraph, MlsError> {
        self.with_room(room_id, |room| room.group.epoch_graph()).await
    }

    /// Takes out what has happened since the last call, oldest first.
    pub fn take_notices(&self) -> Vec<Notice> {
        lock(&self.inner.notices).drain(..).collect()
    }

    pub(crate) fn notify(&self, notice: Notice) {
        let mut notices = lock(&self.inner.notices);
        if notices.len() == MAX_NOTICES {
            notices.pop_front();
        }
        notices.push_back(notice);
    }

    fn now(&self) -> u64 {
        self.inner.clock.now()
    }

    fn transient(&self) -> MutexGuard<'_, Transient> {
        lock(&self.inner.transient)
    }
}

/// How a room's group stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The epoch that this device sends in.
    pub node: NodeId,
    /// Its number.
    pub epoch: u64,
    /// Who is in it.
    pub roster: Arc<Roster>,
    /// The group's settings.
    pub extension: GroupExtension,
    /// All branches' ends.
    pub tips: Vec<NodeId>,
    /// How many epochs' states are held.
    pub retained: usize,
    /// Whether the epoch is the one that everybody should be in.
    pub is_chosen: bool,
}

impl fmt::Debug for MlsMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlsMachine")
            .field("user_id", &self.user_id())
            .field("device_id", &self.device_id())
            .finish_non_exhaustive()
    }
}

/// A user and one of its devices.
pub(crate) type DeviceName = (OwnedUserId, OwnedDeviceId);

/// What is behind these locks is never left half-changed, so a panic elsewhere does no harm.
fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
