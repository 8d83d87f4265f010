//! What the machine must not lose, and where it goes.
//!
//! An operation of the machine ends in one [`Changes`] batch, which the store makes durable
//! completely or not at all. The machine's memory follows the store, never the other way round.

mod changes;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod integration_tests;
mod memory;

use std::{error::Error as StdError, fmt::Debug, sync::Arc};

use async_trait::async_trait;
use matrix_dmls::{KeyPackageRef, NodeId};
use ruma::{OwnedRoomId, RoomId};

pub use self::{
    changes::{
        BoundMessage, Changes, HeldWelcome, LedgerEntry, MessageKey, OutboxRequest,
        OutboxRequestKind, QueuedEvent, RoomChanges, StoredAccount, StoredCommit, StoredKeyPackage,
        StoredRoom, WelcomeRecipient,
    },
    memory::MemoryStore,
};

/// Why a store did not do what it should. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the store; trying again helps.
    #[error("the store is busy")]
    Busy,
    /// What is stored cannot be read: made by a newer version, or damaged. It is left as it is.
    #[error("what is stored cannot be read: {0}")]
    Corrupt(String),
    /// The database or the file system failed.
    #[error(transparent)]
    Backend(Box<dyn StdError + Send + Sync>),
}

type Result<T> = std::result::Result<T, StoreError>;

/// A store of everything that [`crate::MlsMachine`] must not lose. Implementations run
/// [`crate::mlsstore_integration_tests`].
#[async_trait]
pub trait MlsStore: Debug + Send + Sync {
    /// Our own keys; `None` before the machine has run for the first time.
    async fn load_account(&self) -> Result<Option<StoredAccount>>;

    /// All rooms that there is anything of.
    async fn room_ids(&self) -> Result<Vec<OwnedRoomId>>;

    /// A room with its group.
    async fn load_room(&self, room_id: &RoomId) -> Result<Option<StoredRoom>>;

    /// A key package of ours with its private keys.
    async fn key_package(&self, reference: &KeyPackageRef) -> Result<Option<StoredKeyPackage>>;

    /// The names of all key packages whose private keys are held.
    async fn key_package_refs(&self) -> Result<Vec<KeyPackageRef>>;

    /// The requests that were not answered yet, in the order in which they were made.
    async fn outbox(&self) -> Result<Vec<OutboxRequest>>;

    /// The events that wait for an epoch, oldest first.
    async fn queued_events(&self, room_id: &RoomId, node: &NodeId) -> Result<Vec<QueuedEvent>>;

    /// The events that wait in a room for any epoch, and came before this time (in milliseconds since
    /// 1970), oldest first.
    async fn queued_events_before(&self, room_id: &RoomId, time: u64) -> Result<Vec<QueuedEvent>>;

    /// How many events wait in a room.
    async fn queued_event_count(&self, room_id: &RoomId) -> Result<usize>;

    /// The Welcomes that could not be used yet, oldest first.
    async fn held_welcomes(&self, room_id: &RoomId) -> Result<Vec<HeldWelcome>>;

    /// A commit as its event carried it.
    async fn commit(&self, room_id: &RoomId, node: &NodeId) -> Result<Option<StoredCommit>>;

    /// What is known of a message that was read before.
    async fn ledger_entry(&self, room_id: &RoomId, key: &MessageKey)
    -> Result<Option<LedgerEntry>>;

    /// Makes all of the changes durable, or none of them.
    async fn save_changes(&self, changes: Changes) -> Result<()>;
}

/// Something that can become the machine's store.
pub trait IntoMlsStore {
    /// Makes it the machine's store.
    fn into_mls_store(self) -> Arc<dyn MlsStore>;
}

impl<T: MlsStore + 'static> IntoMlsStore for T {
    fn into_mls_store(self) -> Arc<dyn MlsStore> {
        Arc::new(self)
    }
}

impl<T: MlsStore + 'static> IntoMlsStore for Arc<T> {
    fn into_mls_store(self) -> Arc<dyn MlsStore> {
        self
    }
}

impl IntoMlsStore for Arc<dyn MlsStore> {
    fn into_mls_store(self) -> Arc<dyn MlsStore> {
        self
    }
}
