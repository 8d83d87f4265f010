//! The store.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use matrix_dmls::{KeyPackageRef, NodeId};
use matrix_sdk_crypto_mls::store::{
    self, BoundMessage, Changes, HeldWelcome, LedgerEntry, MessageKey, MlsStore, OutboxRequest,
    QueuedEvent, StoreError, StoreVersion, StoredAccount, StoredCommit, StoredKeyPackage,
    StoredRoom,
};
use ruma::{OwnedRoomId, RoomId};
use sqlx::{
    AssertSqlSafe, Connection, Sqlite, SqliteConnection, Transaction as SqlTransaction,
    sqlite::SqlitePool,
};
use tokio::sync::{Mutex, MutexGuard, oneshot};

use crate::{
    cipher::Cipher,
    config::SqliteMlsStoreConfig,
    connection,
    error::{OpenStoreError, database},
    hook::Hook,
    load::Reader,
    right_of_way::RightOfWay,
    save, schema, table,
    transaction::{Durability, RoomKey, Transaction, Writer, room_key},
};

/// The database's name in its directory.
pub(crate) const FILE_NAME: &str = "matrix-sdk-mls.sqlite3";

/// The MLS machine's store in an SQLite database. See the crate's documentation for what it
/// guarantees.
///
/// Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct SqliteMlsStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) cipher: Cipher,
    /// None once the store is closed.
    writer: Mutex<Option<Writer>>,
    readers: SqlitePool,
    busy_timeout: Duration,
    hook: Hook,
    /// By their lookup keys, the IDs of rooms.
    room_ids: StdMutex<HashMap<Vec<u8>, i64>>,
    pub(crate) way: RightOfWay,
    /// Erased secrets are still in the log.
    secrets_in_log: AtomicBool,
}

impl SqliteMlsStore {
    /// Opens the store in this directory, or makes one. With a passphrase it is encrypted.
    ///
    /// # Errors
    ///
    /// See [`OpenStoreError`]; the file is as it was.
    pub async fn open(
        directory: impl AsRef<Path>,
        passphrase: Option<&str>,
    ) -> Result<Self, OpenStoreError> {
        Self::open_with_config(&SqliteMlsStoreConfig::new(directory).passphrase(passphrase)).await
    }

    /// Opens the store in this directory, or makes one. With a key it is encrypted.
    ///
    /// # Errors
    ///
    /// See [`OpenStoreError`]; the file is as it was.
    pub async fn open_with_key(
        directory: impl AsRef<Path>,
        key: Option<&[u8; 32]>,
    ) -> Result<Self, OpenStoreError> {
        Self::open_with_config(&SqliteMlsStoreConfig::new(directory).key(key)).await
    }

    /// Opens a store, or makes one.
    ///
    /// # Errors
    ///
    /// See [`OpenStoreError`]; the file is as it was.
    pub async fn open_with_config(config: &SqliteMlsStoreConfig) -> Result<Self, OpenStoreError> {
        Self::open_with_hook(config, Hook::default()).await
    }

    /// Opens a store whose batches can be made to fail.
    ///
    /// # Errors
    ///
    /// See [`OpenStoreError`].
    #[cfg(feature = "testing")]
    pub async fn open_for_testing(
        config: &SqliteMlsStoreConfig,
        hook: crate::hook::WriteHook,
    ) -> Result<Self, OpenStoreError> {
        Self::open_with_hook(config, Hook { hook: Some(hook) }).await
    }

    async fn open_with_hook(
        config: &SqliteMlsStoreConfig,
        hook: Hook,
    ) -> Result<Self, OpenStoreError> {
        let path = config.directory.join(FILE_NAME);
        if !path.try_exists()? {
            schema::create(config, &path).await?;
        }
        schema::check_header(&path)?;
        let mut writer = SqliteConnection::connect_with(&connection::writer(config, &path)).await?;
        let cipher = match schema::prepare(&mut writer, config).await {
            Ok(cipher) => cipher,
            Err(error) => {
                // Leaves nothing behind.
                let _ = writer.close().await;
                return Err(error);
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                readers: connection::readers(config, &path),
                path,
                cipher,
                writer: Mutex::new(Some(Writer::new(writer))),
                hook,
                room_ids: StdMutex::default(),
                way: RightOfWay::new(),
                busy_timeout: config.busy_timeout,
                // Perhaps from the last run, which may have been stopped before it could do so.
                secrets_in_log: AtomicBool::new(true),
            }),
        })
    }

    /// Closes the file once running operations are done, for example before an application is
    /// suspended. Later operations fail. Without this call the file is closed some time after the last
    /// clone was dropped.
    ///
    /// # Errors
    ///
    /// When the log cannot be written back. Nothing is lost; the next time the store is opened it
    /// goes on from the log.
    pub async fn close(&self) -> Result<(), StoreError> {
        let writer = self.inner.writer.lock().await.take();
        self.inner.readers.close().await;
        match writer {
            Some(writer) => writer.connection.close().await.map_err(database),
            None => Ok(()),
        }
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Lets the database grow by so many pages only, as on a full disk; or again without limit.
    ///
    /// # Errors
    ///
    /// When the database fails.
    #[cfg(feature = "testing")]
    pub async fn limit_pages(&self, room_for: Option<u32>) -> Result<(), StoreError> {
        let mut writer = self.writer().await;
        let writer = connected(&mut writer)?;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
            .fetch_one(&mut *writer)
            .await
            .map_err(database)?;
        let limit =
            room_for.map_or(i64::from(u32::MAX - 1), |room_for| pages + i64::from(room_for));
        let sql = AssertSqlSafe(format!("PRAGMA max_page_count = {limit}"));
        sqlx::raw_sql(sql).execute(writer).await.map_err(database)?;
        Ok(())
    }

    /// A number that changes when *another* process has written to the store: what is in memory may
    /// be out of date then.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        let mut writer = self.writer().await;
        data_version(connected(&mut writer)?).await
    }

    pub(crate) async fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        let mut writer = self.inner.writer.lock().await;
        if let Some(writer) = &mut *writer {
            writer.roll_back().await;
        }
        writer
    }

    pub(crate) async fn snapshot(&self) -> Result<SqlTransaction<'static, Sqlite>, StoreError> {
        self.inner.readers.begin().await.map_err(database)
    }

    /// A room's row, for a single statement that need not see more than itself. Rooms are never deleted
    /// and keep their ID, so that is asked for once.
    async fn known_room(
        &self,
        reader: &mut Reader<'_>,
        room_id: &RoomId,
    ) -> Result<Option<RoomKey>, StoreError> {
        let key = room_key(&self.inner.cipher, room_id);
        let known = || self.inner.room_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known().get(&key).copied() {
            return Ok(Some(RoomKey { id, key }));
        }
        let Some(room) = reader.room(room_id).await? else { return Ok(None) };
        known().insert(key, room.id);
        Ok(Some(room))
    }

    pub(crate) fn reader<'a>(&'a self, snapshot: &'a mut SqliteConnection) -> Reader<'a> {
        Reader::new(snapshot, &self.inner.cipher)
    }
}

impl Inner {
    /// Saves, and says so; then erases what is in the log, before anybody else writes.
    async fn save(&self, changes: &Changes, done: oneshot::Sender<Result<(), StoreError>>) {
        let mut writer = self.writer.lock().await;
        let writer = match writer_of(&mut writer) {
            Ok(writer) => writer,
            Err(error) => {
                let _ = done.send(Err(error));
                return;
            }
        };
        let result = self.save_in_transaction(writer, changes).await;
        if result.is_err() {
            writer.roll_back().await;
        }
        let saved = result.is_ok();
        // Perhaps nobody waits for it any more.
        let _ = done.send(result);
        if saved && self.secrets_in_log.load(Ordering::Acquire) {
            self.empty_log(&mut writer.connection).await;
        }
    }

    async fn save_in_transaction(
        &self,
        writer: &mut Writer,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let durability =
            if changes.is_only_reading() { Durability::Process } else { Durability::Power };
        let mut transaction =
            Transaction::begin(writer, &self.cipher, &self.hook, durability).await?;
        if let Some(based_on) = changes.based_on {
            // Nobody else can write from here on.
            if based_on != StoreVersion::new(transaction.version().cast_unsigned()) {
                return Err(StoreError::Outdated);
            }
        }
        let erased = save::save(&mut transaction, changes).await?;
        if erased {
            self.secrets_in_log.store(true, Ordering::Release);
        }
        transaction.commit().await
    }

    /// Writes the log back and empties it, if there are erased secrets in it. While somebody reads an
    /// older snapshot that is not possible; then the next batch tries again.
    async fn empty_log(&self, writer: &mut SqliteConnection) {
        let patience = |milliseconds: u128| {
            sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA busy_timeout = {milliseconds}")))
        };
        // Not worth waiting for: the batch is durable, and the next one tries again.
        let _ = patience(50).execute(&mut *writer).await;
        let row: Result<(i64, i64, i64), _> =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *writer).await;
        let _ = patience(self.busy_timeout.as_millis()).execute(writer).await;
        match row {
            Ok((0, ..)) => self.secrets_in_log.store(false, Ordering::Release),
            Ok(_) => tracing::debug!("the log is in use and is emptied later"),
            // The batch itself is durable.
            Err(error) => tracing::warn!(%error, "the log cannot be emptied"),
        }
    }
}

/// Changes when another connection than this one has written.
async fn data_version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await.map_err(database)
}

/// The connection, unless the store is closed.
pub(crate) fn connected(writer: &mut Option<Writer>) -> Result<&mut SqliteConnection, StoreError> {
    writer_of(writer).map(|writer| &mut writer.connection)
}

fn writer_of(writer: &mut Option<Writer>) -> Result<&mut Writer, StoreError> {
    writer.as_mut().ok_or_else(|| database(sqlx::Error::PoolClosed))
}

#[async_trait]
impl MlsStore for SqliteMlsStore {
    async fn load_account(&self) -> Result<Option<StoredAccount>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let key = self.inner.cipher.lookup("account", &[]);
        self.reader(&mut snapshot).value(table::ACCOUNT, &key).await
    }

    async fn room_ids(&self) -> Result<Vec<OwnedRoomId>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut rooms: Vec<_> = self
            .reader(&mut snapshot)
            .rooms()
            .await?
            .into_iter()
            .map(|(room_id, _)| room_id)
            .collect();
        rooms.sort();
        Ok(rooms)
    }

    async fn load_room(&self, room_id: &RoomId) -> Result<Option<StoredRoom>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut reader = self.reader(&mut snapshot);
        match reader.room(room_id).await? {
            Some(room) => reader.stored_room(&room).await.map(Some),
            None => Ok(None),
        }
    }

    async fn key_package(
        &self,
        reference: &KeyPackageRef,
    ) -> Result<Option<StoredKeyPackage>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let key = self.inner.cipher.lookup("key_package", &[reference.as_bytes()]);
        self.reader(&mut snapshot).value(table::KEY_PACKAGE, &key).await
    }

    async fn key_package_refs(&self) -> Result<Vec<KeyPackageRef>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut reader = self.reader(&mut snapshot);
        let packages = reader.values::<StoredKeyPackage>(table::KEY_PACKAGE, None).await?;
        let mut refs: Vec<_> =
            packages.into_iter().map(|(_, stored)| stored.package.reference).collect();
        refs.sort();
        Ok(refs)
    }

    async fn outbox(&self) -> Result<Vec<OutboxRequest>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let requests = self.reader(&mut snapshot).values(table::OUTBOX, None).await?;
        let mut requests: Vec<OutboxRequest> =
            requests.into_iter().map(|(_, request)| request).collect();
        requests.sort_by(|a, b| (a.order, &a.id).cmp(&(b.order, &b.id)));
        Ok(requests)
    }

    async fn queued_events(
        &self,
        room_id: &RoomId,
        node: &NodeId,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        let mut connection = self.inner.readers.acquire().await.map_err(database)?;
        let mut reader = self.reader(&mut connection);
        let Some(room) = self.known_room(&mut reader, room_id).await? else {
            return Ok(Vec::new());
        };
        let node = reader.key(table::QUEUED, &room, node.as_bytes());
        let mut events = reader.queued(&room, &node).await?;
        events.sort_by(|a, b| (a.received_at, &a.event_id).cmp(&(b.received_at, &b.event_id)));
        Ok(events)
    }

    async fn queued_events_before(
        &self,
        room_id: &RoomId,
        time: u64,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut reader = self.reader(&mut snapshot);
        let Some(room) = reader.room(room_id).await? else { return Ok(Vec::new()) };
        let mut events = reader.all_queued(&room).await?;
        events.retain(|event| event.received_at < time);
        events.sort_by(|a, b| (a.received_at, &a.event_id).cmp(&(b.received_at, &b.event_id)));
        Ok(events)
    }

    async fn queued_event_count(&self, room_id: &RoomId) -> Result<usize, StoreError> {
        let mut connection = self.inner.readers.acquire().await.map_err(database)?;
        let mut reader = self.reader(&mut connection);
        let Some(room) = self.known_room(&mut reader, room_id).await? else { return Ok(0) };
        reader.count(table::QUEUED, &room).await
    }

    async fn held_welcomes(&self, room_id: &RoomId) -> Result<Vec<HeldWelcome>, StoreError> {
        let mut connection = self.inner.readers.acquire().await.map_err(database)?;
        let mut reader = self.reader(&mut connection);
        let Some(room) = self.known_room(&mut reader, room_id).await? else {
            return Ok(Vec::new());
        };
        let mut welcomes = reader.welcomes(&room).await?;
        welcomes.sort_by_key(|welcome| (welcome.received_at, welcome.content.epoch));
        Ok(welcomes)
    }

    async fn commit(
        &self,
        room_id: &RoomId,
        node: &NodeId,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut reader = self.reader(&mut snapshot);
        let Some(room) = reader.room(room_id).await? else { return Ok(None) };
        let key = reader.key(table::COMMIT_EVENT, &room, node.as_bytes());
        reader.value(table::COMMIT_EVENT, &key).await
    }

    async fn ledger_entry(
        &self,
        room_id: &RoomId,
        key: &MessageKey,
    ) -> Result<Option<LedgerEntry>, StoreError> {
        let mut connection = self.inner.readers.acquire().await.map_err(database)?;
        self.reader(&mut connection).ledger_entry(room_id, key).await
    }

    async fn note_message(
        &self,
        room_id: &RoomId,
        key: &MessageKey,
        message: BoundMessage,
    ) -> Result<LedgerEntry, StoreError> {
        let first = LedgerEntry { messages: vec![message.clone()] };
        // The statement comes to its end even if this future is dropped, and leaves nothing open.
        let (cipher, hook) = (&self.inner.cipher, &self.inner.hook);
        let mut writer = self.writer().await;
        let open = writer_of(&mut writer)?;
        if save::note_message(open, cipher, hook, room_id, key, &first).await? {
            return Ok(LedgerEntry::default());
        }
        drop(writer);
        store::note_in_a_batch(self, room_id, key, message).await
    }

    async fn version(&self) -> Result<StoreVersion, StoreError> {
        Ok(StoreVersion::new(self.version_in_turn().await?.cast_unsigned()))
    }

    async fn save_changes(&self, changes: Changes) -> Result<(), StoreError> {
        // A task of its own goes on when the caller's future is dropped, so that no transaction is left
        // open, with the lock that keeps other processes from writing.
        let inner = Arc::clone(&self.inner);
        let (done, outcome) = oneshot::channel();
        tokio::spawn(async move { inner.save(&changes, done).await });
        let outcome = outcome.await.map_err(|error| StoreError::Backend(error.into()))?;
        self.note_outcome(&outcome).await;
        outcome
    }
}

impl std::fmt::Debug for SqliteMlsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteMlsStore")
            .field("encrypted", &self.inner.cipher.is_encrypted())
            .finish_non_exhaustive()
    }
}
