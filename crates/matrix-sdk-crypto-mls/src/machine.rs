//! The machine and its parts.

mod anchor;
mod commits;
mod decrypt;
mod encrypt;
mod heavy;
mod identity;
mod key_packages;
mod membership;
mod prepare;
mod requests;
mod retention;
mod room_events;
mod standing;
mod sync;
mod welcomes;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
};

use matrix_dmls::{ChoiceStep, EpochGraph, Group, GroupExtension, LocalMember, NodeId, Roster};
use matrix_sdk_crypto::OlmMachine;
use ruma::{DeviceId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::requests::Transient;
pub use self::{
    decrypt::{DecryptedRoomEvent, MlsEncryptionInfo},
    encrypt::RawEncryptionResult,
    prepare::Readiness,
    sync::EncryptionSyncChanges,
};
use crate::{
    clock::{Clock, SystemClock},
    error::MlsError,
    notice::Notice,
    room::RoomView,
    store::{Changes, IntoMlsStore, MemoryStore, MlsStore, StoredAccount, StoredRoom},
};

/// At most this many notices wait for the application; the oldest go first.
const MAX_NOTICES: usize = 10_000;

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
    local: LocalMember,
    account: Mutex<StoredAccount>,
    rooms: StdMutex<BTreeMap<OwnedRoomId, Arc<Mutex<Option<Room>>>>>,
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

/// A room in memory: always what the store has.
pub(crate) struct Room {
    pub(crate) id: OwnedRoomId,
    pub(crate) view: RoomView,
    pub(crate) group: Arc<Group>,
    pub(crate) generations: BTreeMap<NodeId, u32>,
    pub(crate) commit_events: BTreeMap<NodeId, OwnedEventId>,
    /// When these events came, in milliseconds since 1970.
    pub(crate) commit_times: BTreeMap<NodeId, u64>,
    /// Changes were given to the store, and nobody knows yet what became of them: an operation that
    /// failed or was cancelled here leaves this set, and the next one loads the room anew. Otherwise
    /// memory could fall behind the store, and use a generation twice.
    saving: bool,
    /// Nothing in the queue waits for an epoch that was entered.
    drained: bool,
}

/// Exclusive access to a room for the length of an operation.
type RoomGuard = OwnedMutexGuard<Option<Room>>;

/// Makes an [`MlsMachine`].
#[derive(Debug)]
pub struct MlsMachineBuilder {
    olm: OlmMachine,
    store: Arc<dyn MlsStore>,
    clock: Arc<dyn Clock>,
    settings: RoomSettings,
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

    /// Opens the store, or makes this device's MLS key when the store is empty.
    ///
    /// # Errors
    ///
    /// When a store fails, or the MLS store belongs to another device than the OlmMachine.
    pub async fn build(self) -> Result<MlsMachine, MlsError> {
        let now = self.clock.now();
        let (account, local) = identity::load_or_make(&self.olm, &*self.store, now).await?;
        Ok(MlsMachine {
            inner: Arc::new(Inner {
                olm: self.olm,
                store: self.store,
                clock: self.clock,
                settings: self.settings,
                local,
                account: Mutex::new(account),
                rooms: StdMutex::default(),
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

    /// A machine on a store.
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
            let node = room.group.sending_tip()?;
            let record = room.group.graph().get(&node)?;
            Some(GroupStatus {
                node,
                epoch: record.epoch,
                roster: room.group.roster(&node)?,
                extension: record.extension.clone(),
                tips: room.group.graph().tips().collect(),
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

    /// A room, loaded and locked. Operations on one room follow one another.
    async fn lock_room(&self, room_id: &RoomId) -> Result<RoomGuard, MlsError> {
        let slot = Arc::clone(lock(&self.inner.rooms).entry(room_id.to_owned()).or_default());
        let mut guard = slot.lock_owned().await;
        if guard.as_ref().is_none_or(|room| room.saving) {
            let stored = self.inner.store.load_room(room_id).await?.unwrap_or_default();
            *guard = Some(Room::from_stored(room_id, stored));
        }
        Ok(guard)
    }

    async fn with_room<T>(
        &self,
        room_id: &RoomId,
        read: impl FnOnce(&Room) -> T,
    ) -> Result<T, MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        Ok(read(guard.get_or_insert_with(|| Room::empty(room_id))))
    }

    /// Stores an operation's changes, then lets the room in memory follow.
    async fn save(&self, room: &mut Room, changes: Changes) -> Result<(), MlsError> {
        let in_memory = changes.rooms.get(&room.id).cloned();
        room.saving = true;
        self.inner.store.save_changes(changes).await?;
        room.saving = false;
        let Some(in_memory) = in_memory else { return Ok(()) };
        let entered = !in_memory.group.states.is_empty();
        room.apply(in_memory);
        if entered {
            let group = room.group.enforce_limits();
            let mut changes = Changes::default();
            changes.room(&room.id).group = group.clone();
            // In a batch of its own: should it fail, the next epoch makes up for it.
            if !group.is_empty() && self.inner.store.save_changes(changes).await.is_ok() {
                Arc::make_mut(&mut room.group).apply(group);
            }
        }
        Ok(())
    }
}

impl Room {
    fn empty(room_id: &RoomId) -> Self {
        Self::from_stored(room_id, StoredRoom::default())
    }

    fn from_stored(room_id: &RoomId, stored: StoredRoom) -> Self {
        let mut group = Group::new(room_id.as_str());
        group.apply(stored.group);
        let mut room = Self {
            id: room_id.to_owned(),
            view: stored.view,
            group: Arc::new(group),
            generations: stored.generations,
            commit_events: stored.commit_events,
            commit_times: stored.commit_times,
            saving: false,
            drained: false,
        };
        room.aim();
        room
    }

    fn apply(&mut self, changes: crate::store::RoomChanges) {
        if let Some(view) = changes.view {
            self.view = view;
        }
        Arc::make_mut(&mut self.group).apply(changes.group);
        self.generations.extend(changes.generations);
        for (node, commit) in changes.commits {
            if let Some(commit) = commit {
                self.commit_events.insert(node, commit.event_id);
                self.commit_times.insert(node, commit.received_at);
            } else {
                self.commit_events.remove(&node);
                self.commit_times.remove(&node);
            }
        }
        self.aim();
    }

    /// Tells the graph where the choice starts: at the founding commit that the room names if our
    /// nodes hang together with it, else where we came in (protocol §8).
    fn aim(&mut self) {
        let named = self.view.group.as_ref().map(|(_, content)| content);
        let graph = self.group.graph();
        let root = self
            .view
            .group
            .as_ref()
            // The founding's author must be who named it, if its record is there to tell.
            .filter(|(sender, content)| {
                graph
                    .get(&content.founding)
                    .is_some_and(|record| record.author.member.device().user_id == sender.as_str())
            })
            .map(|(_, content)| content.founding)
            .filter(|root| {
                self.view
                    .entrance
                    .is_none_or(|entrance| entrance == *root || graph.is_ancestor(root, &entrance))
            })
            .or(self.view.entrance);
        let anchor = named.and_then(|content| content.anchor);
        Arc::make_mut(&mut self.group).set_root(root, anchor);
    }

    /// The extension of the group that the room's state names, as far as it matters for membership.
    fn extension(&self, node: &NodeId) -> Option<&GroupExtension> {
        self.group.graph().get(node).map(|record| &record.extension)
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
