use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use matrix_dmls::{GroupChanges, KeyPackageRef, NodeId};
use ruma::{OwnedEventId, OwnedRoomId, OwnedTransactionId, RoomId};

use super::{
    Changes, HeldWelcome, LedgerEntry, MessageKey, MlsStore, OutboxRequest, QueuedEvent, Result,
    RoomChanges, StoreError, StoreVersion, StoredAccount, StoredCommit, StoredKeyPackage,
    StoredRoom,
};

/// A store that lives as long as the process. For tests, and for bots that join anew.
#[derive(Debug, Default)]
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    /// Which of those that share the data this one is.
    number: usize,
}

#[derive(Debug, Default)]
struct Data {
    /// How many share the data beside the first one.
    shared: usize,
    /// How often each of them has written.
    writes: BTreeMap<usize, u64>,
    account: Option<StoredAccount>,
    key_packages: BTreeMap<KeyPackageRef, StoredKeyPackage>,
    outbox: BTreeMap<OwnedTransactionId, OutboxRequest>,
    rooms: BTreeMap<OwnedRoomId, Room>,
}

#[derive(Debug, Default)]
struct Room {
    stored: StoredRoom,
    commits: BTreeMap<NodeId, StoredCommit>,
    queued: BTreeMap<OwnedEventId, QueuedEvent>,
    welcomes: BTreeMap<NodeId, HeldWelcome>,
    ledger: BTreeMap<MessageKey, LedgerEntry>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another store on the same data, as another process would have it.
    #[must_use]
    pub fn shared(&self) -> Self {
        let mut data = self.data();
        data.shared += 1;
        Self { data: Arc::clone(&self.data), number: data.shared }
    }

    /// How often others have written.
    fn version_of(&self, data: &Data) -> StoreVersion {
        let others = data.writes.iter().filter(|(number, _)| **number != self.number);
        StoreVersion::new(others.map(|(_, writes)| *writes).sum())
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        // Changes are applied without anything that could panic in between.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_room<T>(&self, room_id: &RoomId, read: impl FnOnce(&Room) -> T) -> Option<T> {
        self.data().rooms.get(room_id).map(read)
    }
}

fn apply<K: Ord, V>(map: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

/// Deletions leave nothing behind: what is loaded is upserts only.
fn prune(group: &mut GroupChanges) {
    group.states.retain(|_, value| value.is_some());
    group.vaults.retain(|_, value| value.is_some());
    group.epoch_keys.retain(|_, value| value.is_some());
    group.pending.retain(|_, value| value.is_some());
    group.forgotten.clear();
}

impl Room {
    fn apply(&mut self, changes: RoomChanges) {
        if let Some(view) = changes.view {
            self.stored.view = view;
        }
        self.stored.group.extend(changes.group);
        prune(&mut self.stored.group);
        self.stored.generations.extend(changes.generations);
        for (node, commit) in &changes.commits {
            if let Some(commit) = commit {
                self.stored.commit_events.insert(*node, commit.event_id.clone());
                self.stored.commit_times.insert(*node, commit.received_at);
            } else {
                self.stored.commit_events.remove(node);
                self.stored.commit_times.remove(node);
            }
        }
        apply(&mut self.commits, changes.commits);
        apply(&mut self.queued, changes.queued);
        apply(&mut self.welcomes, changes.welcomes);
        self.ledger.extend(changes.ledger);
    }
}

#[async_trait]
impl MlsStore for MemoryStore {
    async fn load_account(&self) -> Result<Option<StoredAccount>> {
        Ok(self.data().account.clone())
    }

    async fn room_ids(&self) -> Result<Vec<OwnedRoomId>> {
        Ok(self.data().rooms.keys().cloned().collect())
    }

    async fn load_room(&self, room_id: &RoomId) -> Result<Option<StoredRoom>> {
        Ok(self.in_room(room_id, |room| room.stored.clone()))
    }

    async fn key_package(&self, reference: &KeyPackageRef) -> Result<Option<StoredKeyPackage>> {
        Ok(self.data().key_packages.get(reference).cloned())
    }

    async fn key_package_refs(&self) -> Result<Vec<KeyPackageRef>> {
        Ok(self.data().key_packages.keys().copied().collect())
    }

    async fn outbox(&self) -> Result<Vec<OutboxRequest>> {
        let mut requests: Vec<_> = self.data().outbox.values().cloned().collect();
        requests.sort_by_key(|request| request.order);
        Ok(requests)
    }

    async fn queued_events(&self, room_id: &RoomId, node: &NodeId) -> Result<Vec<QueuedEvent>> {
        let events = self.in_room(room_id, |room| {
            let mut events: Vec<_> =
                room.queued.values().filter(|event| event.node == *node).cloned().collect();
            events.sort_by_key(|event| event.received_at);
            events
        });
        Ok(events.unwrap_or_default())
    }

    async fn queued_event_count(&self, room_id: &RoomId) -> Result<usize> {
        Ok(self.in_room(room_id, |room| room.queued.len()).unwrap_or_default())
    }

    async fn queued_events_before(&self, room_id: &RoomId, time: u64) -> Result<Vec<QueuedEvent>> {
        let events = self.in_room(room_id, |room| {
            let mut events: Vec<_> =
                room.queued.values().filter(|event| event.received_at < time).cloned().collect();
            events.sort_by_key(|event| event.received_at);
            events
        });
        Ok(events.unwrap_or_default())
    }

    async fn held_welcomes(&self, room_id: &RoomId) -> Result<Vec<HeldWelcome>> {
        let welcomes = self.in_room(room_id, |room| {
            let mut welcomes: Vec<_> = room.welcomes.values().cloned().collect();
            welcomes.sort_by_key(|welcome| welcome.received_at);
            welcomes
        });
        Ok(welcomes.unwrap_or_default())
    }

    async fn commit(&self, room_id: &RoomId, node: &NodeId) -> Result<Option<StoredCommit>> {
        Ok(self.in_room(room_id, |room| room.commits.get(node).cloned()).flatten())
    }

    async fn ledger_entry(
        &self,
        room_id: &RoomId,
        key: &MessageKey,
    ) -> Result<Option<LedgerEntry>> {
        Ok(self.in_room(room_id, |room| room.ledger.get(key).cloned()).flatten())
    }

    async fn version(&self) -> Result<StoreVersion> {
        Ok(self.version_of(&self.data()))
    }

    async fn save_changes(&self, changes: Changes) -> Result<()> {
        let mut data = self.data();
        if changes.based_on.is_some_and(|version| version != self.version_of(&data)) {
            return Err(StoreError::Outdated);
        }
        *data.writes.entry(self.number).or_default() += 1;
        if let Some(account) = changes.account {
            data.account = Some(account);
        }
        apply(&mut data.key_packages, changes.key_packages);
        apply(&mut data.outbox, changes.outbox);
        for (room_id, room) in changes.rooms {
            data.rooms.entry(room_id).or_default().apply(room);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    #[allow(clippy::unused_async)]
    async fn get_store(_: &str) -> MemoryStore {
        MemoryStore::new()
    }

    crate::mlsstore_integration_tests!();

    /// The tests for stores that persist, on one that outlives who opened it.
    mod reopened {
        use std::{
            collections::BTreeMap,
            sync::{Arc, Mutex},
        };

        use super::MemoryStore;
        use crate::testing::FaultyStore;

        static STORES: Mutex<BTreeMap<String, MemoryStore>> = Mutex::new(BTreeMap::new());

        #[allow(clippy::unused_async)]
        async fn get_store(name: &str) -> FaultyStore {
            let mut stores = STORES.lock().unwrap();
            let store = stores.entry(name.to_owned()).or_default().shared();
            FaultyStore::around(Arc::new(store))
        }

        crate::mlsstore_integration_tests!(persistent);
    }
}
