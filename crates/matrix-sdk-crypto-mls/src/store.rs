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
    /// Somebody else has written since the [`StoreVersion`] that the batch was based on: what it was
    /// made from has to be loaded again. The machine does that by itself.
    #[error("somebody else has written to the store meanwhile")]
    Outdated,
    /// What is stored cannot be read: made by a newer version, or damaged. It is left as it is.
    #[error("what is stored cannot be read: {0}")]
    Corrupt(String),
    /// The database or the file system failed.
    #[error(transparent)]
    Backend(Box<dyn StdError + Send + Sync>),
}

type Result<T> = std::result::Result<T, StoreError>;

/// What a store object has seen of others' writes: it changes when somebody else than this object
/// has written, another process above all, and not by what the object itself writes. Only ever
/// compared for equality, with versions of the same object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoreVersion(u64);

impl StoreVersion {
    /// A version, by the number that the store has for it.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// How often a message is noted while others write.
const MAX_TRIES: usize = 32;

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

    /// The version as it is now. What is loaded after this call, and kept in memory, is up to date
    /// for as long as the version stays the same. Called before every operation, so it has to be
    /// cheap.
    ///
    /// Stores that nobody else can write to need not implement it.
    async fn version(&self) -> Result<StoreVersion> {
        Ok(StoreVersion::default())
    }

    /// Notes that a message was read, unless that is known of the same ciphertext already, or
    /// [`LedgerEntry::MAX_MESSAGES`] are noted under its keys. Gives what was noted before. Whether
    /// somebody else has written meanwhile does not matter.
    ///
    /// The note need not survive a failure of power, only the end of the process: see
    /// [`Changes::is_only_reading`].
    async fn note_message(
        &self,
        room_id: &RoomId,
        key: &MessageKey,
        message: BoundMessage,
    ) -> Result<LedgerEntry> {
        note_in_a_batch(self, room_id, key, message).await
    }

    /// Makes all of the changes durable, or none of them.
    ///
    /// [`StoreError::Outdated`] if they are based on another version than the present one, see
    /// [`Changes::based_on`]. That is checked together with the writing: nobody can write in
    /// between.
    async fn save_changes(&self, changes: Changes) -> Result<()>;
}

/// What [`MlsStore::note_message`] does where a store knows no shorter way.
///
/// # Errors
///
/// When the store fails; [`StoreError::Busy`] when others have written in between again and again.
pub async fn note_in_a_batch(
    store: &(impl MlsStore + ?Sized),
    room_id: &RoomId,
    key: &MessageKey,
    message: BoundMessage,
) -> Result<LedgerEntry> {
    for _ in 0..MAX_TRIES {
        let based_on = Some(store.version().await?);
        let before = store.ledger_entry(room_id, key).await?.unwrap_or_default();
        let Some(after) = before.with(message.clone()) else { return Ok(before) };
        let mut changes = Changes { based_on, ..Changes::default() };
        changes.room(room_id).ledger.insert(*key, after);
        match store.save_changes(changes).await {
            Ok(()) => return Ok(before),
            Err(StoreError::Outdated) => {}
            Err(other) => return Err(other),
        }
    }
    Err(StoreError::Busy)
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
