//! One batch of changes, and the few statements that it is made of.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use matrix_sdk_crypto_mls::store::StoreError;
use ruma::RoomId;
use sqlx::{
    AssertSqlSafe, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteQueryResult},
};
use zeroize::Zeroizing;

use crate::{
    chunks::{self, Before},
    cipher::{Cipher, Place},
    error::database,
    hook::Hook,
    known::Known,
    seal::{self, Nonce, Sum},
    table::{self, Table},
};

/// The connection that writes.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    /// A transaction was begun, and it is not known to have ended.
    in_transaction: bool,
    /// How safe commits are now; `None` if that is not known.
    durability: Option<Durability>,
    known: Known,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of the process, and power that fails. In WAL mode `synchronous` has to be FULL for it:
    /// the log is written to the disk with every commit.
    Power,
    /// The end of the process. When power fails, the last transactions may be gone, always with all
    /// that came after them: the next one that is to survive it takes those before it along.
    Process,
}

impl Durability {
    /// Begins a transaction, and asks whether somebody else has written before it: in one go, since
    /// every statement is a way to another thread and back. `synchronous` cannot be changed within.
    const fn begin(self, before: Option<Self>) -> &'static str {
        match (self, before) {
            (Self::Power, Some(Self::Power)) | (Self::Process, Some(Self::Process)) => {
                "BEGIN IMMEDIATE; PRAGMA data_version"
            }
            (Self::Power, _) => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE; PRAGMA data_version",
            (Self::Process, _) => {
                "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; PRAGMA data_version"
            }
        }
    }
}

impl Writer {
    pub(crate) fn new(connection: SqliteConnection) -> Self {
        Self { connection, in_transaction: false, durability: None, known: Known::default() }
    }

    /// Adds a row of a room in a statement of its own, if that need not wait for the disk and the room's
    /// ID is known; whether it was added.
    pub(crate) async fn add_alone(
        &mut self,
        hook: &Hook,
        room_key: &[u8],
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.roll_back().await;
        // Rooms are never deleted, so their IDs hold whoever has written.
        let room = self.known.rooms.get(room_key).copied();
        let (Some(room), Some(Durability::Process)) = (room, self.durability) else {
            return Ok(false);
        };
        hook.statement()?;
        hook.commit(&mut self.connection).await?;
        let sql = format!(
            "INSERT INTO {} (key, room, value) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
            table.name
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(key).bind(room).bind(value);
        let done = query.execute(&mut self.connection).await.map_err(database)?;
        let _ = hook.committed();
        Ok(done.rows_affected() > 0)
    }

    /// Undoes what was left over, if anything was. There may be no transaction any more.
    pub(crate) async fn roll_back(&mut self) {
        if self.in_transaction {
            if let Err(error) = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await {
                tracing::debug!(%error, "the transaction has rolled back already");
            }
            self.in_transaction = false;
            self.known = Known::default();
        }
    }
}

/// A transaction that writes. It has happened with [`Transaction::commit`]; else it
/// is to be undone with [`Writer::roll_back`].
///
/// Not sqlx's: that one loses count when SQLite rolls back by itself, as it does when the disk is
/// full, and the connection cannot be used any more.
pub(crate) struct Transaction<'c> {
    writer: &'c mut Writer,
    hook: &'c Hook,
    pub(crate) cipher: &'c Cipher,
    /// The sums that have changed, by their lookup key, with their room.
    sums: BTreeMap<Vec<u8>, (i64, Sum)>,
}

/// A room's row.
pub(crate) struct RoomKey {
    pub(crate) id: i64,
    pub(crate) key: Vec<u8>,
}

/// A column beside `key`, `room` and `value`.
pub(crate) enum Beside<'a> {
    Nothing,
    /// The lookup key of a roster, or of what else rows are found by.
    Key(&'static str, Option<&'a [u8]>),
    /// Something sealed.
    Sealed(&'a [u8]),
    /// A roster's lookup key, and chunks.
    Both(&'a [u8], &'a [u8]),
}

impl<'c> Transaction<'c> {
    /// Takes the write lock at once, so that what is read first is still true when it is written.
    pub(crate) async fn begin(
        writer: &'c mut Writer,
        cipher: &'c Cipher,
        hook: &'c Hook,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        writer.roll_back().await;
        writer.in_transaction = true;
        let begin = durability.begin(writer.durability.take());
        let version = sqlx::query_scalar(begin).fetch_one(&mut writer.connection).await;
        writer.known.keep_if(version.map_err(database)?);
        writer.durability = Some(durability);
        Ok(Self { writer, hook, cipher, sums: BTreeMap::new() })
    }

    /// `PRAGMA data_version` at its beginning: another one after somebody else has written.
    pub(crate) const fn version(&self) -> i64 {
        self.writer.known.version()
    }

    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let sums = std::mem::take(&mut self.sums);
        if !sums.is_empty() {
            let mut rows = Vec::with_capacity(sums.len());
            for (key, (room, sum)) in sums {
                let value = self.cipher.seal(Place(table::SEAL.value, &key), sum.as_bytes())?;
                rows.push((key.clone(), room, value));
                // Forgotten again if the transaction does not come to its end.
                self.writer.known.sums.insert(key, sum);
            }
            let mut put = sqlx::QueryBuilder::new("INSERT INTO seal (key, room, value) ");
            put.push_values(rows, |mut row, (key, room, value)| {
                row.push_bind(key).push_bind(room).push_bind(value);
            });
            put.push(" ON CONFLICT (key) DO UPDATE SET value = excluded.value");
            self.execute(put.build()).await?;
        }
        self.hook.commit(&mut self.writer.connection).await?;
        let commit = sqlx::query("COMMIT").execute(self.connection()).await;
        commit.map_err(database)?;
        self.writer.in_transaction = false;
        // It is done, whatever happens now.
        let _ = self.hook.committed();
        Ok(())
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }

    /// Runs a statement that writes. All of them come through here.
    pub(crate) async fn execute(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<SqliteQueryResult, StoreError> {
        self.hook.statement()?;
        query.execute(self.connection()).await.map_err(database)
    }

    /// A room's row, made if it is not there.
    pub(crate) async fn room(&mut self, room_id: &RoomId) -> Result<RoomKey, StoreError> {
        let key = room_key(self.cipher, room_id);
        if let Some(id) = self.writer.known.rooms.get(&key).copied() {
            return Ok(RoomKey { id, key });
        }
        let found = sqlx::query_scalar("SELECT id FROM room WHERE key = ?")
            .bind(&key)
            .fetch_optional(self.connection())
            .await
            .map_err(database)?;
        if let Some(id) = found {
            self.writer.known.rooms.insert(key.clone(), id);
            return Ok(RoomKey { id, key });
        }
        let value = self.cipher.seal(Place(table::ROOM.value, &key), room_id.as_bytes())?;
        let insert = sqlx::query("INSERT INTO room (key, value) VALUES (?, ?)");
        let done = self.execute(insert.bind(key.clone()).bind(value)).await?;
        Ok(RoomKey { id: done.last_insert_rowid(), key })
    }

    /// Inserts a row of a table that has nothing to do with rooms, or replaces it.
    pub(crate) async fn put(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        let sql = format!("INSERT OR REPLACE INTO {} (key, value) VALUES (?, ?)", table.name);
        let value = self.cipher.seal(Place(table.value, key), value)?;
        self.execute(sqlx::query(AssertSqlSafe(sql)).bind(key.to_owned()).bind(value)).await?;
        Ok(())
    }

    /// Inserts a room's row, or replaces it; whether there was one.
    pub(crate) async fn put_in_room(
        &mut self,
        table: Table,
        room: &RoomKey,
        key: &[u8],
        beside: Beside<'_>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        let name = table.name;
        let column = table.beside.rsplit('.').next().unwrap_or_default();
        let (columns, places) = match &beside {
            Beside::Nothing => (String::new(), ""),
            Beside::Key(column, _) => (format!("{column}, "), "?, "),
            Beside::Sealed(_) => (format!("{column}, "), "?, "),
            Beside::Both(..) => (format!("roster, {column}, "), "?, ?, "),
        };
        let insert = format!(
            "INSERT INTO {name} (key, room, {columns}value) VALUES (?, ?, {places}?)
             ON CONFLICT (key) DO"
        );
        let value = self.cipher.seal(Place(table.value, key), value)?;
        let (mut link, mut sealed) = (None, None);
        match beside {
            Beside::Nothing => {}
            Beside::Key(_, key) => link = Some(key.map(<[u8]>::to_owned)),
            Beside::Sealed(plain) => sealed = Some(plain),
            Beside::Both(key, plain) => (link, sealed) = (Some(Some(key.to_owned())), Some(plain)),
        }
        let chunks = sealed.filter(|_| table::CHUNKED.contains(&table));
        let sealed = sealed.map(|plain| self.cipher.seal(Place(table.beside, key), plain));
        let sealed = sealed.transpose()?;
        let query = |end: &str| {
            let query = sqlx::query(AssertSqlSafe(format!("{insert} {end}")));
            let mut query = query.bind(key.to_owned()).bind(room.id);
            if let Some(link) = &link {
                query = query.bind(link.clone());
            }
            if let Some(sealed) = &sealed {
                query = query.bind(sealed.clone());
            }
            query.bind(value.clone())
        };

        // Most rows are new; of the others it is mostly known that they are there.
        let mut is_new = false;
        if !self.writer.known.nonces.contains_key(key) {
            is_new = self.execute(query("NOTHING")).await?.rows_affected() > 0;
        }
        let is_sealed = seal::is_sealed(self.cipher, table);
        if !is_new {
            if is_sealed {
                self.unseal_row(table, room, key).await?;
            }
            // An update, not a replacement: indices that stay the same are not written.
            let updates: String = columns
                .split_terminator(", ")
                .map(|column| format!("{column} = excluded.{column}, "))
                .collect();
            self.execute(query(&format!("UPDATE SET {updates}value = excluded.value"))).await?;
        }
        if is_sealed {
            let nonce = seal::nonce_of(&value)?;
            self.toggle(table, room, key, &nonce).await?;
            if table::REPLACED_OFTEN.contains(&table) {
                self.writer.known.nonces.insert(key.to_owned(), nonce);
            }
        }
        if let (Some(chunks), Some(lists)) = (chunks, self.writer.known.lists.get_mut(&room.id)) {
            lists.insert(key.to_owned(), chunks::read_runs(chunks)?);
        }
        Ok(!is_new)
    }

    /// Takes a row out of its table's sum, before it is replaced.
    async fn unseal_row(
        &mut self,
        table: Table,
        room: &RoomKey,
        key: &[u8],
    ) -> Result<(), StoreError> {
        if let Some(nonce) = self.writer.known.nonces.remove(key) {
            return self.toggle(table, room, key, &nonce).await;
        }
        let sql = format!("SELECT value FROM {} WHERE key = ?", table.name);
        let old: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(key)
            .fetch_optional(self.connection())
            .await
            .map_err(database)?;
        match old {
            Some(old) => self.toggle(table, room, key, &seal::nonce_of(&old)?).await,
            None => Ok(()),
        }
    }

    async fn toggle(
        &mut self,
        table: Table,
        room: &RoomKey,
        key: &[u8],
        nonce: &Nonce,
    ) -> Result<(), StoreError> {
        let sum_key = seal::sum_key(self.cipher, table, &room.key);
        if let Some((_, sum)) = self.sums.get_mut(&sum_key) {
            sum.toggle(self.cipher, table, key, nonce);
            return Ok(());
        }
        let mut sum = if let Some(sum) = self.writer.known.sums.get(&sum_key) {
            *sum
        } else {
            let stored = sqlx::query_scalar("SELECT value FROM seal WHERE key = ?")
                .bind(&sum_key)
                .fetch_optional(self.connection())
                .await
                .map_err(database)?;
            let sum = stored.map(|value| seal::open_sum(self.cipher, &sum_key, value));
            sum.transpose()?.unwrap_or_default()
        };
        sum.toggle(self.cipher, table, key, nonce);
        self.sums.insert(sum_key, (room.id, sum));
        Ok(())
    }

    /// Deletes a room's row; whether it was there.
    pub(crate) async fn delete_in_room(
        &mut self,
        table: Table,
        room: &RoomKey,
        key: &[u8],
    ) -> Result<bool, StoreError> {
        if let Some(lists) = self.writer.known.lists.get_mut(&room.id) {
            lists.remove(key);
        }
        self.writer.known.rosters.remove(key);
        if !seal::is_sealed(self.cipher, table) {
            return self.delete(table, key).await;
        }
        self.writer.known.nonces.remove(key);
        self.hook.statement()?;
        let sql = format!("DELETE FROM {} WHERE key = ? RETURNING value", table.name);
        let old: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(key)
            .fetch_optional(self.connection())
            .await
            .map_err(database)?;
        let Some(old) = old else { return Ok(false) };
        self.toggle(table, room, key, &seal::nonce_of(&old)?).await?;
        Ok(true)
    }

    /// Deletes a row; whether it was there.
    pub(crate) async fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let sql = format!("DELETE FROM {} WHERE key = ?", table.name);
        let done = self.execute(sqlx::query(AssertSqlSafe(sql)).bind(key.to_owned())).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether a roster is there.
    pub(crate) async fn has_roster(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        if self.writer.known.rosters.contains(key) {
            return Ok(true);
        }
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM roster WHERE key = ?")
            .bind(key)
            .fetch_optional(self.connection())
            .await
            .map_err(database)?;
        if found.is_some() {
            self.writer.known.rosters.insert(key.to_owned());
        }
        Ok(found.is_some())
    }

    /// The IDs of a room's pieces, by their lookup keys. Who adds some or deletes some changes this too.
    pub(crate) async fn chunks(
        &mut self,
        room: &RoomKey,
    ) -> Result<&mut HashMap<Vec<u8>, i64>, StoreError> {
        if !self.writer.known.chunks.contains_key(&room.id) {
            let rows: Vec<(Vec<u8>, i64)> =
                sqlx::query_as("SELECT key, id FROM chunk WHERE room = ?")
                    .bind(room.id)
                    .fetch_all(self.connection())
                    .await
                    .map_err(database)?;
            self.writer.known.chunks.insert(room.id, rows.into_iter().collect());
        }
        Ok(self.writer.known.chunks.entry(room.id).or_default())
    }

    /// The highest chunk ID that was ever given out.
    pub(crate) async fn last_chunk(&mut self) -> Result<i64, StoreError> {
        if let Some(last) = self.writer.known.last_chunk {
            return Ok(last);
        }
        let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'")
            .fetch_optional(self.connection())
            .await
            .map_err(database)?;
        Ok(last.unwrap_or(0))
    }

    /// An ID was given out.
    pub(crate) const fn note_last_chunk(&mut self, id: i64) {
        self.writer.known.last_chunk = Some(id);
    }

    /// The ratchet tree that was stored last in a room. It is taken out.
    pub(crate) fn last_tree(&mut self, room: &RoomKey) -> Option<Before> {
        self.writer.known.trees.remove(&room.id)
    }

    /// A ratchet tree was stored.
    pub(crate) fn note_tree(&mut self, room: &RoomKey, tree: Before) {
        self.writer.known.trees.insert(room.id, tree);
    }

    /// The pieces that a room's rows name, by the rows' lookup keys.
    pub(crate) async fn chunk_lists(
        &mut self,
        room: &RoomKey,
    ) -> Result<&HashMap<Vec<u8>, Vec<Range<i64>>>, StoreError> {
        if !self.writer.known.lists.contains_key(&room.id) {
            let mut lists = HashMap::new();
            for table in table::CHUNKED {
                let sql = format!("SELECT key, chunks FROM {} WHERE room = ?", table.name);
                let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(sql))
                    .bind(room.id)
                    .fetch_all(self.connection())
                    .await
                    .map_err(database)?;
                for (key, list) in rows {
                    let list = self.cipher.open(Place(table.beside, &key), list)?;
                    lists.insert(key, chunks::read_runs(&list)?);
                }
            }
            self.writer.known.lists.insert(room.id, lists);
        }
        Ok(self.writer.known.lists.entry(room.id).or_default())
    }
}

/// A room's lookup key.
pub(crate) fn room_key(cipher: &Cipher, room_id: &RoomId) -> Vec<u8> {
    cipher.lookup(table::ROOM.name, &[room_id.as_bytes()])
}

/// Reads a `chunks` column.
pub(crate) fn chunk_list(
    cipher: &Cipher,
    table: Table,
    key: &[u8],
    list: Vec<u8>,
) -> Result<Vec<i64>, StoreError> {
    let list: Zeroizing<Vec<u8>> = cipher.open(Place(table.beside, key), list)?;
    chunks::read_list(&list)
}
