use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use matrix_dmls::{KeyPackageRef, NodeId};
use ruma::{OwnedRoomId, RoomId};

use crate::store::{
    Changes, HeldWelcome, LedgerEntry, MemoryStore, MessageKey, MlsStore, OutboxRequest,
    QueuedEvent, StoreError, StoreVersion, StoredAccount, StoredCommit, StoredKeyPackage,
    StoredRoom,
};

/// A store around another one that counts the writes and the commits that are read, can fail at one of them, and remembers them
/// all, so that the store can be had again as it was at any time.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn MlsStore>,
    log: Mutex<Vec<Changes>>,
    attempts: AtomicUsize,
    commits: AtomicUsize,
    fault: Mutex<Option<StoreFault>>,
}

#[derive(Clone, Copy, Debug)]
enum StoreFault {
    /// The write with this number fails, once.
    FailsAt(usize),
    /// The write with this number is done but reported as failed, once.
    UnknownAt(usize),
    /// This write and all later ones fail: the process is as good as dead.
    DeadFrom(usize),
}

impl FaultyStore {
    /// Around an empty [`MemoryStore`].
    pub fn new() -> Self {
        Self::around(Arc::new(MemoryStore::new()))
    }

    /// Around any store.
    pub fn around(inner: Arc<dyn MlsStore>) -> Self {
        Self {
            inner,
            log: Mutex::default(),
            attempts: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            fault: Mutex::default(),
        }
    }

    /// How many writes were tried.
    pub fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// How many writes were done.
    pub fn writes(&self) -> usize {
        self.log().len()
    }

    /// How often a commit was read.
    pub fn commit_reads(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// Lets one write fail: 0 is the first one that is tried from now on.
    pub fn fail_at(&self, nth: usize) {
        self.set(StoreFault::FailsAt(self.attempts() + nth));
    }

    /// Lets one write be done but reported as failed: 0 is the first one that is tried from now on.
    pub fn lose_answer_at(&self, nth: usize) {
        self.set(StoreFault::UnknownAt(self.attempts() + nth));
    }

    /// Lets a write and all after it fail: 0 is the first one that is tried from now on.
    pub fn die_at(&self, nth: usize) {
        self.set(StoreFault::DeadFrom(self.attempts() + nth));
    }

    /// No more faults.
    pub fn heal(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A new store in memory, as this one was after its first writes.
    pub async fn as_after(&self, writes: usize) -> MemoryStore {
        let log: Vec<_> = self.log().iter().take(writes).cloned().collect();
        let store = MemoryStore::new();
        for changes in log {
            store.save_changes(changes).await.expect("a memory store takes everything");
        }
        store
    }

    fn set(&self, fault: StoreFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    fn log(&self) -> MutexGuard<'_, Vec<Changes>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FaultyStore {
    fn default() -> Self {
        Self::new()
    }
}

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl MlsStore for FaultyStore {
    async fn load_account(&self) -> Result<Option<StoredAccount>> {
        self.inner.load_account().await
    }

    async fn room_ids(&self) -> Result<Vec<OwnedRoomId>> {
        self.inner.room_ids().await
    }

    async fn load_room(&self, room_id: &RoomId) -> Result<Option<StoredRoom>> {
        self.inner.load_room(room_id).await
    }

    async fn key_package(&self, reference: &KeyPackageRef) -> Result<Option<StoredKeyPackage>> {
        self.inner.key_package(reference).await
    }

    async fn key_package_refs(&self) -> Result<Vec<KeyPackageRef>> {
        self.inner.key_package_refs().await
    }

    async fn outbox(&self) -> Result<Vec<OutboxRequest>> {
        self.inner.outbox().await
    }

    async fn queued_events_before(&self, room_id: &RoomId, time: u64) -> Result<Vec<QueuedEvent>> {
        self.inner.queued_events_before(room_id, time).await
    }

    async fn queued_events(&self, room_id: &RoomId, node: &NodeId) -> Result<Vec<QueuedEvent>> {
        self.inner.queued_events(room_id, node).await
    }

    async fn queued_event_count(&self, room_id: &RoomId) -> Result<usize> {
        self.inner.queued_event_count(room_id).await
    }

    async fn held_welcomes(&self, room_id: &RoomId) -> Result<Vec<HeldWelcome>> {
        self.inner.held_welcomes(room_id).await
    }

    async fn commit(&self, room_id: &RoomId, node: &NodeId) -> Result<Option<StoredCommit>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.commit(room_id, node).await
    }

    async fn ledger_entry(
        &self,
        room_id: &RoomId,
        key: &MessageKey,
    ) -> Result<Option<LedgerEntry>> {
        self.inner.ledger_entry(room_id, key).await
    }

    async fn version(&self) -> Result<StoreVersion> {
        self.inner.version().await
    }

    async fn save_changes(&self, changes: Changes) -> Result<()> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        // Others get their turn here, as they would with a database.
        tokio::task::yield_now().await;
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(StoreFault::FailsAt(nth)) if nth == attempt => return Err(StoreError::Busy),
            Some(StoreFault::DeadFrom(nth)) if nth <= attempt => return Err(StoreError::Busy),
            _ => {}
        }
        // Written again elsewhere, it is based on nothing.
        let again = Changes { based_on: None, ..changes.clone() };
        self.inner.save_changes(changes).await?;
        self.log().push(again);
        match fault {
            Some(StoreFault::UnknownAt(nth)) if nth == attempt => Err(StoreError::Busy),
            _ => Ok(()),
        }
    }
}
