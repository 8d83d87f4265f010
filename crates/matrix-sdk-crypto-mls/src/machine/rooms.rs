//! Rooms in memory: loaded when they are needed, always what the store has, and bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::size_of,
    sync::{Arc, Mutex as StdMutex},
};

use matrix_dmls::{Device, Group, GroupExtension, NodeId, NodeStatus, TrustRequirement};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{MlsMachine, lock, prepare::Settled};
use crate::{
    error::MlsError,
    room::RoomView,
    store::{Changes, HeldWelcome, RoomChanges, StoreVersion, StoredRoom},
};

/// A room in memory: always what the store has.
pub(crate) struct Room {
    pub(crate) id: OwnedRoomId,
    pub(crate) view: RoomView,
    pub(crate) group: Arc<Group>,
    /// By epoch, the first generation that is not reserved.
    pub(crate) generations: BTreeMap<NodeId, u32>,
    pub(crate) commit_events: BTreeMap<NodeId, OwnedEventId>,
    /// When these events came, in milliseconds since 1970.
    pub(crate) commit_times: BTreeMap<NodeId, u64>,
    /// The parents that stored commits name, of those that were asked for: a long way up through commits that
    /// wait would read each of them from the store.
    pub(super) parents: BTreeMap<NodeId, Option<NodeId>>,
    /// The store's version that all of this is of.
    version: StoreVersion,
    /// Changes were given to the store, and nobody knows yet what became of them: an operation that
    /// failed or was cancelled here leaves this set, and the next one loads the room anew. Otherwise
    /// memory could fall behind the store, and use a generation twice.
    saving: bool,
    /// Nothing in the queue waits for an epoch that was entered.
    pub(super) drained: bool,
    /// It is known that no Welcome is held, and that no event waits: most of the time, and asking the
    /// store takes its time.
    nothing_held: bool,
    nothing_queued: bool,
    /// The room and its group agree; forgotten when either changes.
    pub(super) settled: Option<Settled>,
    /// The epoch beside a commit that is to be repaired, where we send instead of below it; none
    /// before that was looked at.
    pub(super) beside: Option<NodeId>,
    /// Devices that somebody has made up, of those that were looked at together with that.
    pub(super) invented: BTreeSet<Device>,
}

/// Exclusive access to a room for the length of an operation.
type RoomGuard = OwnedMutexGuard<Option<Room>>;

/// The rooms that are in memory.
pub(super) struct Rooms {
    /// What they may take together, in bytes.
    limit: usize,
    slots: StdMutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_room: BTreeMap<OwnedRoomId, Slot>,
    /// Counts uses; orders rooms by their last one.
    clock: u64,
    /// What all take together.
    bytes: usize,
}

#[derive(Default)]
struct Slot {
    room: Arc<Mutex<Option<Room>>>,
    bytes: usize,
    used: u64,
}

impl Rooms {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, slots: StdMutex::default() }
    }

    /// A room's place. It stays in memory as long as somebody has it.
    fn slot(&self, room_id: &RoomId) -> Arc<Mutex<Option<Room>>> {
        let mut slots = lock(&self.slots);
        slots.clock += 1;
        let used = slots.clock;
        let slot = slots.by_room.entry(room_id.to_owned()).or_default();
        slot.used = used;
        Arc::clone(&slot.room)
    }

    /// Takes note of a room's size, and lets go of others until all are within the limit.
    fn note_size(&self, room_id: &RoomId, bytes: usize) {
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.by_room.get_mut(room_id) else { return };
        let before = std::mem::replace(&mut slot.bytes, bytes);
        slots.bytes = slots.bytes.saturating_sub(before).saturating_add(bytes);
        let mut gone = Vec::new();
        while slots.bytes > self.limit {
            // Who has a room has its `Arc` too, and nobody can get it while the slots are locked.
            let free = slots.by_room.iter().filter(|(_, slot)| Arc::strong_count(&slot.room) == 1);
            let oldest = free.min_by_key(|(_, slot)| slot.used).map(|(id, _)| id.clone());
            let Some(slot) = oldest.and_then(|oldest| slots.by_room.remove(&oldest)) else { break };
            slots.bytes = slots.bytes.saturating_sub(slot.bytes);
            gone.push(slot);
        }
        // Freeing megabytes takes its time.
        drop(slots);
        drop(gone);
    }
}

impl MlsMachine {
    /// How many rooms are in memory, and the bytes that they are taken to have.
    #[cfg(test)]
    pub(crate) fn room_usage(&self) -> (usize, usize) {
        let slots = lock(&self.inner.rooms.slots);
        (slots.by_room.len(), slots.bytes)
    }

    /// Whether it is remembered that a room agrees with its group.
    #[cfg(test)]
    pub(crate) async fn is_settled(&self, room_id: &RoomId) -> bool {
        self.with_room(room_id, |room| self.settled(room).is_some()).await.unwrap()
    }

    /// A room, loaded and locked. Operations on one room follow one another.
    pub(super) async fn lock_room(&self, room_id: &RoomId) -> Result<RoomGuard, MlsError> {
        let mut guard = self.inner.rooms.slot(room_id).lock_owned().await;
        // Asked for before the room is loaded: what somebody else writes in between is noticed
        // later, perhaps for nothing.
        let version = self.inner.store.version().await?;
        if guard.as_ref().is_none_or(|room| room.saving || room.version != version) {
            // Not two copies at the same time.
            *guard = None;
            let stored = self.inner.store.load_room(room_id).await?.unwrap_or_default();
            let room = Room::from_stored(room_id, stored, version);
            self.inner.rooms.note_size(room_id, room.memory_size());
            *guard = Some(room);
        }
        Ok(guard)
    }

    /// A room to read a message of an epoch in. An epoch's key never changes, so it need not be what
    /// the store has now; unless its messages are read once, and others may have read them, or somebody
    /// has given us the key, and others may have been given another one.
    pub(super) async fn lock_room_to_read(
        &self,
        room_id: &RoomId,
        node: &NodeId,
    ) -> Result<RoomGuard, MlsError> {
        let guard = self.inner.rooms.slot(room_id).lock_owned().await;
        let may_be_old = |room: &Room| {
            !room.saving
                && room.group.epoch_key(node).is_some()
                && room.group.graph().status(node) == Some(NodeStatus::Entered)
                && !room.group.reads_once(node)
        };
        if guard.as_ref().is_some_and(may_be_old) {
            return Ok(guard);
        }
        drop(guard);
        self.lock_room(room_id).await
    }

    pub(super) async fn with_room<T>(
        &self,
        room_id: &RoomId,
        read: impl FnOnce(&Room) -> T,
    ) -> Result<T, MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        Ok(read(guard.get_or_insert_with(|| {
            Room::from_stored(room_id, StoredRoom::default(), StoreVersion::default())
        })))
    }

    /// The Welcomes that are held for a room.
    pub(super) async fn held_welcomes(
        &self,
        room: &mut Room,
    ) -> Result<Vec<HeldWelcome>, MlsError> {
        if room.nothing_held {
            return Ok(Vec::new());
        }
        let held = self.inner.store.held_welcomes(&room.id).await?;
        room.nothing_held = held.is_empty();
        Ok(held)
    }

    /// How many events wait for an epoch.
    pub(super) async fn queue_length(&self, room: &mut Room) -> Result<usize, MlsError> {
        if room.nothing_queued {
            return Ok(0);
        }
        let count = self.inner.store.queued_event_count(&room.id).await?;
        room.nothing_queued = count == 0;
        Ok(count)
    }

    /// Stores an operation's changes, then lets the room in memory follow.
    ///
    /// [`crate::store::StoreError::Outdated`] when somebody else has written since the room was
    /// locked: the operation is to begin again, see [`super::again`].
    pub(super) async fn save(&self, room: &mut Room, mut changes: Changes) -> Result<(), MlsError> {
        if let Some(changes) = changes.rooms.get_mut(&room.id)
            && !changes.group.states.is_empty()
        {
            let over = room.group.enforce_limits(&changes.group);
            changes.group.extend(over);
        }
        let in_memory = changes.rooms.get(&room.id).cloned();
        changes.based_on = Some(room.version);
        room.saving = true;
        self.inner.store.save_changes(changes).await?;
        room.saving = false;
        let Some(in_memory) = in_memory else { return Ok(()) };
        if room.apply(in_memory) {
            self.inner.rooms.note_size(&room.id, room.memory_size());
        }
        Ok(())
    }

    /// The same, where nothing but what is known of the room changes.
    pub(super) async fn save_view(&self, room: &mut Room, view: RoomView) -> Result<(), MlsError> {
        let mut changes = Changes::default();
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
    }
}

impl Room {
    fn from_stored(room_id: &RoomId, stored: StoredRoom, version: StoreVersion) -> Self {
        let mut group = Group::new(room_id.as_str());
        group.apply(stored.group);
        let mut room = Self {
            id: room_id.to_owned(),
            view: stored.view,
            group: Arc::new(group),
            generations: stored.generations,
            commit_events: stored.commit_events,
            commit_times: stored.commit_times,
            parents: BTreeMap::new(),
            version,
            saving: false,
            nothing_held: false,
            nothing_queued: false,
            drained: false,
            settled: None,
            beside: None,
            invented: BTreeSet::new(),
        };
        room.aim();
        room
    }

    /// Takes stored changes over. Whether there is more, or less, than counters now.
    fn apply(&mut self, changes: RoomChanges) -> bool {
        self.generations.extend(changes.generations);
        self.nothing_held &= changes.welcomes.values().all(Option::is_none);
        self.nothing_queued &= changes.queued.values().all(Option::is_none);
        if changes.view.is_none() && changes.commits.is_empty() && changes.group.is_only_keys() {
            // Reading a message touches nothing else.
            let has_changed = !changes.group.is_empty();
            if has_changed {
                Arc::make_mut(&mut self.group).apply(changes.group);
            }
            return has_changed;
        }
        self.settled = None;
        if let Some(view) = changes.view {
            self.view = view;
        }
        Arc::make_mut(&mut self.group).apply(changes.group);
        for (node, commit) in changes.commits {
            self.parents.remove(&node);
            if let Some(commit) = commit {
                self.commit_events.insert(node, commit.event_id);
                self.commit_times.insert(node, commit.received_at);
            } else {
                self.commit_events.remove(&node);
                self.commit_times.remove(&node);
            }
        }
        self.aim();
        true
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
        let instance = named.map(|content| content.instance);
        let deserted = self.deserted();
        let group = Arc::make_mut(&mut self.group);
        group.set_root(root, anchor);
        group.set_instance(instance);
        group.set_deserted(deserted);
    }

    /// Where we came in, once we are in this epoch too: an entrance in use stays, and what we only saw
    /// from outside is none.
    pub(super) fn entrance_with(&self, node: NodeId) -> Option<NodeId> {
        let is_in = self.group.entered().next().is_some();
        self.view.entrance.filter(|_| is_in).or(Some(node))
    }

    /// The extension of the group that the room's state names, as far as it matters for membership.
    pub(super) fn extension(&self, node: &NodeId) -> Option<&GroupExtension> {
        self.group.graph().get(node).map(|record| &record.extension)
    }

    /// The trust requirement of an epoch's group.
    pub(super) fn trust(&self, node: &NodeId) -> TrustRequirement {
        self.extension(node).map(|extension| extension.trust).unwrap_or_default()
    }

    /// The epoch that we send in.
    pub(super) fn sends_in(&self) -> Option<NodeId> {
        let beside = self.beside.filter(|node| self.group.state(node).is_some());
        beside.or_else(|| self.group.sending_tip())
    }

    /// About how many bytes of memory the room takes.
    fn memory_size(&self) -> usize {
        // Names, and their part of the maps.
        const MEMBER: usize = 160;
        const VERDICT: usize = 256;
        const COMMIT: usize = 192;
        const PARENT: usize = 96;
        const REQUEST: usize = 2048;
        size_of::<Self>()
            + self.group.memory_size()
            + (self.view.members.len() + self.view.failed_claims.len()) * MEMBER
            + (self.view.verdicts.len() + self.invented.len()) * VERDICT
            + self.view.join_requests.len() * REQUEST
            + (self.commit_events.len() + self.generations.len()) * COMMIT
            + self.parents.len() * PARENT
    }
}
