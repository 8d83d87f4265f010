//! Reading, on a connection of its own, each operation from one snapshot.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use matrix_dmls::{GroupChanges, Member, Roster};
use matrix_sdk_crypto_mls::{
    room::RoomView,
    store::{HeldWelcome, LedgerEntry, MessageKey, QueuedEvent, StoreError, StoredRoom},
};
use ruma::{OwnedRoomId, RoomId};
use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, SqliteConnection};
use zeroize::Zeroizing;

use crate::{
    chunks::{Joiner, Pieces},
    cipher::{Cipher, Place},
    codec::decode,
    error::{corrupt, database},
    ledger, pack,
    rows::{
        CommitEventRow, EpochKeyRow, GenerationRow, PendingRow, RecordRow, RosterRow, Rosters,
        StateRow, VaultRow,
    },
    save::{message_name, row_key},
    seal::{self, Sums},
    table::{self, Table},
    transaction::{RoomKey, chunk_list, room_key},
};

/// What reads: a snapshot, and the keys.
pub(crate) struct Reader<'a> {
    pub(crate) connection: &'a mut SqliteConnection,
    pub(crate) cipher: &'a Cipher,
    /// Of the room that is being read.
    sums: Sums,
}

/// A row as it is in its table.
type Row = (Vec<u8>, Vec<u8>);

impl<'a> Reader<'a> {
    pub(crate) fn new(connection: &'a mut SqliteConnection, cipher: &'a Cipher) -> Self {
        Self { connection, cipher, sums: Sums::default() }
    }
    /// A room's row, if there is one.
    pub(crate) async fn room(&mut self, room_id: &RoomId) -> Result<Option<RoomKey>, StoreError> {
        let key = room_key(self.cipher, room_id);
        let id = sqlx::query_scalar("SELECT id FROM room WHERE key = ?")
            .bind(&key)
            .fetch_optional(&mut *self.connection)
            .await
            .map_err(database)?;
        Ok(id.map(|id| RoomKey { id, key }))
    }

    pub(crate) async fn rooms(&mut self) -> Result<Vec<(OwnedRoomId, RoomKey)>, StoreError> {
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT id, key, value FROM room ORDER BY id")
                .fetch_all(&mut *self.connection)
                .await
                .map_err(database)?;
        rows.into_iter()
            .map(|(id, key, value)| {
                let name = self.cipher.open(Place(table::ROOM.value, &key), value)?;
                let room_id = std::str::from_utf8(&name)
                    .ok()
                    .and_then(|name| RoomId::parse(name).ok())
                    .filter(|room_id| room_key(self.cipher, room_id) == key)
                    .ok_or_else(|| corrupt("a room ID"))?;
                Ok((room_id, RoomKey { id, key }))
            })
            .collect()
    }

    /// One value, by its row's lookup key.
    pub(crate) async fn value<T: DeserializeOwned>(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let sql = format!("SELECT value FROM {} WHERE key = ?", table.name);
        let value: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(key)
            .fetch_optional(&mut *self.connection)
            .await
            .map_err(database)?;
        value.map(|value| self.decode(table.value, key, value)).transpose()
    }

    /// All values of a table, of a room if it has rooms.
    pub(crate) async fn values<T: DeserializeOwned>(
        &mut self,
        table: Table,
        room: Option<&RoomKey>,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let filter = if room.is_some() { " WHERE room = ?" } else { "" };
        let sql = format!("SELECT key, value FROM {}{filter}", table.name);
        let rows = self.rows(sql, room).await?;
        rows.into_iter()
            .map(|(key, value)| {
                let value = self.decode(table.value, &key, value)?;
                Ok((key, value))
            })
            .collect()
    }

    pub(crate) async fn rows(
        &mut self,
        sql: String,
        room: Option<&RoomKey>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        if let Some(room) = room {
            query = query.bind(room.id);
        }
        query.fetch_all(&mut *self.connection).await.map_err(database)
    }

    fn open(&self, place: &'static str, key: &[u8], value: Vec<u8>) -> Opened {
        self.cipher.open(Place(place, key), value)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        place: &'static str,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<T, StoreError> {
        let value = self.open(place, key, value)?;
        match pack::unpack_row(&value)? {
            Some(unpacked) => decode(&unpacked),
            None => decode(&value),
        }
    }

    /// The values of a room that are by node, each checked to be in its place: a row that was moved
    /// to another room opens, but its name does not lead to it.
    async fn by_node<T: DeserializeOwned>(
        &mut self,
        table: Table,
        room: &RoomKey,
        node: impl Fn(&T) -> &[u8],
    ) -> Result<Vec<T>, StoreError> {
        let sql = format!("SELECT key, value FROM {} WHERE room = ?", table.name);
        let rows = self.rows(sql, Some(room)).await?;
        let sealed = rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.sums.check(self.cipher, table, &room.key, sealed)?;
        rows.into_iter()
            .map(|(key, value)| {
                let row = self.decode(table.value, &key, value)?;
                self.check_key(table, room, node(&row), &key)?;
                Ok(row)
            })
            .collect()
    }

    fn check_key(
        &self,
        table: Table,
        room: &RoomKey,
        name: &[u8],
        key: &[u8],
    ) -> Result<(), StoreError> {
        if row_key(self.cipher, table, &room.key, name) == key {
            return Ok(());
        }
        Err(misplaced(table))
    }

    pub(crate) async fn pieces(&mut self, room: &RoomKey) -> Result<Pieces, StoreError> {
        let rows = sqlx::query_as("SELECT id, key, value, form FROM chunk WHERE room = ?")
            .bind(room.id)
            .fetch_all(&mut *self.connection)
            .await
            .map_err(database)?;
        Pieces::open(self.cipher, rows)
    }

    /// The rows of a table with chunks.
    async fn chunked<T: DeserializeOwned>(
        &mut self,
        table: Table,
        room: &RoomKey,
    ) -> Result<Vec<(Vec<u8>, Vec<i64>, T)>, StoreError> {
        let sql = format!("SELECT key, chunks, value FROM {} WHERE room = ?", table.name);
        let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(room.id)
            .fetch_all(&mut *self.connection)
            .await
            .map_err(database)?;
        let sealed = rows.iter().map(|(key, _, value)| (key.as_slice(), value.as_slice()));
        self.sums.check(self.cipher, table, &room.key, sealed)?;
        rows.into_iter()
            .map(|(key, list, value)| {
                let list = chunk_list(self.cipher, table, &key, list)?;
                let value = self.decode(table.value, &key, value)?;
                Ok((key, list, value))
            })
            .collect()
    }

    async fn rosters(&mut self, room: &RoomKey, pieces: &Pieces) -> Result<Rosters, StoreError> {
        let mut rosters = HashMap::new();
        let mut members: HashSet<Arc<Member>> = HashSet::new();
        for (key, list, row) in self.chunked::<RosterRow>(table::ROSTER, room).await? {
            let roster: Roster = decode(&pieces.of(list).join(row.0)?)?;
            let hash = roster.content_hash();
            self.check_key(table::ROSTER, room, &hash, &key)?;
            // Rosters have most members in common: in memory, too, each is there once.
            let shared = roster.iter().map(|(leaf, member)| {
                let member = members.get(member).cloned().unwrap_or_else(|| {
                    members.insert(Arc::clone(member));
                    Arc::clone(member)
                });
                (leaf, member)
            });
            rosters.insert(hash, Arc::new(shared.collect()));
        }
        Ok(rosters)
    }

    async fn load_sums(&mut self, room: &RoomKey) -> Result<(), StoreError> {
        if !self.cipher.is_encrypted() {
            return Ok(());
        }
        let mut sums = HashMap::new();
        for table in table::SEALED {
            let key = seal::sum_key(self.cipher, table, &room.key);
            let value: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM seal WHERE key = ?")
                .bind(&key)
                .fetch_optional(&mut *self.connection)
                .await
                .map_err(database)?;
            if let Some(value) = value {
                let sum = seal::open_sum(self.cipher, &key, value)?;
                sums.insert(key, sum);
            }
        }
        self.sums = Sums(sums);
        Ok(())
    }

    /// A room with its group.
    pub(crate) async fn stored_room(&mut self, room: &RoomKey) -> Result<StoredRoom, StoreError> {
        self.load_sums(room).await?;
        let view = self.by_node(table::VIEW, room, |_: &RoomView| b"").await?.pop();
        let commits = self.commit_events(room).await?;
        Ok(StoredRoom {
            view: view.unwrap_or_default(),
            group: self.group(room).await?,
            generations: self.generations(room).await?,
            commit_times: commits.iter().map(|row| (row.node, row.received_at)).collect(),
            commit_events: commits.into_iter().map(|row| (row.node, row.event_id)).collect(),
        })
    }

    pub(crate) fn key(&self, table: Table, room: &RoomKey, name: &[u8]) -> Vec<u8> {
        row_key(self.cipher, table, &room.key, name)
    }

    async fn group(&mut self, room: &RoomKey) -> Result<GroupChanges, StoreError> {
        let pieces = self.pieces(room).await?;
        let rosters = self.rosters(room, &pieces).await?;
        let mut group = GroupChanges::default();
        let records =
            self.by_node(table::RECORD, room, |row: &RecordRow| row.record.node.as_bytes());
        for row in records.await? {
            group.records.insert(row.record.node, row.into_entry(&rosters)?);
        }
        for (key, list, row) in self.chunked::<StateRow>(table::NODE_STATE, room).await? {
            self.check_key(table::NODE_STATE, room, row.node.as_bytes(), &key)?;
            let node = row.node;
            let state = row.into_state(&mut pieces.of(list))?;
            group.states.insert(node, Some(Arc::new(state)));
        }
        let vaults = self.by_node(table::VAULT, room, |row: &VaultRow| row.node.as_bytes());
        for row in vaults.await? {
            group.vaults.insert(row.node, Some(row.vault));
        }
        let keys = self.by_node(table::EPOCH_KEY, room, |row: &EpochKeyRow| row.node.as_bytes());
        for row in keys.await? {
            let node = row.node;
            group.epoch_keys.insert(node, Some(Arc::new(row.into_key(&rosters)?)));
        }
        for (key, list, row) in self.chunked::<PendingRow>(table::PENDING, room).await? {
            self.check_key(table::PENDING, room, row.record.node.as_bytes(), &key)?;
            let node = row.record.node;
            let mut joiner: Joiner<'_> = pieces.of(list);
            group.pending.insert(node, Some(Arc::new(row.into_pending(&mut joiner, &rosters)?)));
        }
        Ok(group)
    }

    async fn generations(
        &mut self,
        room: &RoomKey,
    ) -> Result<BTreeMap<matrix_dmls::NodeId, u32>, StoreError> {
        let rows = self.by_node(table::GENERATION, room, |row: &GenerationRow| row.node.as_bytes());
        Ok(rows.await?.into_iter().map(|row| (row.node, row.next)).collect())
    }

    async fn commit_events(&mut self, room: &RoomKey) -> Result<Vec<CommitEventRow>, StoreError> {
        let table = table::COMMIT_EVENT;
        let sql = "SELECT key, event FROM commit_event WHERE room = ?".to_owned();
        let rows = self.rows(sql, Some(room)).await?;
        rows.into_iter()
            .map(|(key, event)| {
                let row: CommitEventRow = self.decode(table.beside, &key, event)?;
                self.check_key(table, room, row.node.as_bytes(), &key)?;
                Ok(row)
            })
            .collect()
    }

    /// What is known of a message. One row, so this needs no transaction.
    pub(crate) async fn ledger_entry(
        &mut self,
        room_id: &RoomId,
        message: &MessageKey,
    ) -> Result<Option<LedgerEntry>, StoreError> {
        let key = row_key(
            self.cipher,
            table::LEDGER,
            &room_key(self.cipher, room_id),
            &message_name(message),
        );
        let value: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM ledger WHERE key = ?")
            .bind(&key)
            .fetch_optional(&mut *self.connection)
            .await
            .map_err(database)?;
        let Some(value) = value else { return Ok(None) };
        let (named, entry) = ledger::decode(&self.open(table::LEDGER.value, &key, value)?)?;
        match named {
            Some(named) if named != *message => Err(misplaced(table::LEDGER)),
            _ => Ok(Some(entry)),
        }
    }

    /// Reads everything that a room has in its ledger, and says whether it is right.
    pub(crate) async fn check_ledger(&mut self, room: &RoomKey) -> Result<(), StoreError> {
        let rows = self.rows("SELECT key, value FROM ledger WHERE room = ?".to_owned(), Some(room));
        for (key, value) in rows.await? {
            let (named, _) = ledger::decode(&self.open(table::LEDGER.value, &key, value)?)?;
            if let Some(message) = named {
                self.check_key(table::LEDGER, room, &message_name(&message), &key)?;
            }
        }
        Ok(())
    }

    /// The events that wait for what has this lookup key.
    pub(crate) async fn queued(
        &mut self,
        room: &RoomKey,
        node: &[u8],
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT key, value FROM queued WHERE room = ? AND node = ?")
                .bind(room.id)
                .bind(node)
                .fetch_all(&mut *self.connection)
                .await
                .map_err(database)?;
        rows.into_iter()
            .map(|(key, value)| {
                let table = table::QUEUED;
                let event: QueuedEvent = self.decode(table.value, &key, value)?;
                self.check_key(table, room, event.event_id.as_bytes(), &key)?;
                self.check_key(table, room, event.node.as_bytes(), node)?;
                Ok(event)
            })
            .collect()
    }

    /// All events that wait.
    pub(crate) async fn all_queued(
        &mut self,
        room: &RoomKey,
    ) -> Result<Vec<QueuedEvent>, StoreError> {
        self.by_node(table::QUEUED, room, |event: &QueuedEvent| event.event_id.as_bytes()).await
    }

    /// The Welcomes that wait.
    pub(crate) async fn welcomes(
        &mut self,
        room: &RoomKey,
    ) -> Result<Vec<HeldWelcome>, StoreError> {
        self.by_node(table::WELCOME, room, |row: &HeldWelcome| row.content.epoch.as_bytes()).await
    }

    /// How many rows a room has in a table.
    pub(crate) async fn count(
        &mut self,
        table: Table,
        room: &RoomKey,
    ) -> Result<usize, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM {} WHERE room = ?", table.name);
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(room.id)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(database)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// The chunks that the rows of a room name.
    pub(crate) async fn chunk_lists(
        &mut self,
        room: &RoomKey,
    ) -> Result<Vec<Vec<i64>>, StoreError> {
        let mut lists = Vec::new();
        for table in table::CHUNKED {
            let sql = format!("SELECT key, chunks FROM {} WHERE room = ?", table.name);
            for (key, list) in self.rows(sql, Some(room)).await? {
                lists.push(chunk_list(self.cipher, table, &key, list)?);
            }
        }
        Ok(lists)
    }
}

fn misplaced(table: Table) -> StoreError {
    corrupt(format!("a row of {} is not where it belongs", table.name))
}

type Opened = Result<Zeroizing<Vec<u8>>, StoreError>;
