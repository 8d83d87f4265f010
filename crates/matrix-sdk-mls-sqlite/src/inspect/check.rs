//! Whether a store is sound.

use std::{collections::HashSet, fmt};

use matrix_sdk_crypto_mls::store::{
    OutboxRequest, StoreError, StoredAccount, StoredCommit, StoredKeyPackage,
};
use serde::de::IgnoredAny;
use sqlx::SqliteConnection;

use crate::{
    error::database,
    load::Reader,
    store::SqliteMlsStore,
    table::{self, Table},
    transaction::RoomKey,
};

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// SQLite finds the file's structure damaged.
    Structure(String),
    /// A row refers to one that is not there.
    Dangling(String),
    /// Something cannot be read.
    Unreadable(String),
    /// Pieces of values are there that no row needs: a waste, and perhaps an erasure that was not one.
    Unneeded {
        /// Where.
        table: &'static str,
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Structure(what) => write!(f, "the file is damaged: {what}"),
            Self::Dangling(what) => write!(f, "a row refers to nothing: {what}"),
            Self::Unreadable(what) => write!(f, "unreadable: {what}"),
            Self::Unneeded { table, count } => write!(f, "{count} rows of {table} are not needed"),
        }
    }
}

impl SqliteMlsStore {
    /// Reads everything, and names what is wrong; nothing, in a sound store. Repairs nothing.
    ///
    /// # Errors
    ///
    /// When the database cannot be used at all.
    pub async fn check(&self) -> Result<Vec<Problem>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let mut problems = structure(&mut snapshot).await?;
        if !problems.is_empty() {
            return Ok(problems);
        }
        let mut reader = self.reader(&mut snapshot);
        let mut found = Findings(&mut problems);
        found.of(table::ACCOUNT, reader.values::<StoredAccount>(table::ACCOUNT, None).await)?;
        let packages = reader.values::<StoredKeyPackage>(table::KEY_PACKAGE, None).await;
        found.of(table::KEY_PACKAGE, packages)?;
        found.of(table::OUTBOX, reader.values::<OutboxRequest>(table::OUTBOX, None).await)?;
        let rooms = found.of(table::ROOM, reader.rooms().await)?.unwrap_or_default();
        for (_, room) in &rooms {
            check_room(&mut reader, room, &mut found).await?;
        }
        Ok(problems)
    }
}

async fn structure(connection: &mut SqliteConnection) -> Result<Vec<Problem>, StoreError> {
    let integrity = sqlx::query_scalar::<_, String>("PRAGMA integrity_check")
        .fetch_all(&mut *connection)
        .await
        .map_err(database);
    let lines = match integrity {
        Ok(lines) => lines,
        Err(StoreError::Corrupt(what)) => vec![what],
        Err(error) => return Err(error),
    };
    let mut problems: Vec<_> =
        lines.into_iter().filter(|line| line != "ok").map(Problem::Structure).collect();
    if problems.is_empty() {
        let dangling: Vec<(String, Option<i64>, String, i64)> =
            sqlx::query_as("PRAGMA foreign_key_check")
                .fetch_all(connection)
                .await
                .map_err(database)?;
        problems.extend(
            dangling
                .into_iter()
                .map(|(table, _, parent, _)| Problem::Dangling(format!("{table} to {parent}"))),
        );
    }
    Ok(problems)
}

/// Takes down what is corrupt, and lets other errors through.
struct Findings<'a>(&'a mut Vec<Problem>);

impl Findings<'_> {
    fn of<T>(
        &mut self,
        table: Table,
        result: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Corrupt(what)) => {
                self.0.push(Problem::Unreadable(table.named(what)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

async fn check_room(
    reader: &mut Reader<'_>,
    room: &RoomKey,
    found: &mut Findings<'_>,
) -> Result<(), StoreError> {
    // The whole group, as it is loaded.
    found.of(table::ROOM, reader.stored_room(room).await)?;
    found.of(table::WELCOME, reader.welcomes(room).await)?;
    found.of(table::QUEUED, reader.values::<IgnoredAny>(table::QUEUED, Some(room)).await)?;
    let commits = reader.values::<StoredCommit>(table::COMMIT_EVENT, Some(room)).await;
    found.of(table::COMMIT_EVENT, commits)?;
    found.of(table::LEDGER, reader.check_ledger(room).await)?;
    let pieces = reader.pieces(room).await;
    let lists = reader.chunk_lists(room).await;
    if let (Some(pieces), Some(lists)) =
        (found.of(table::CHUNK, pieces)?, found.of(table::CHUNK, lists)?)
    {
        let used: HashSet<i64> = lists.into_iter().flatten().collect();
        let count = pieces.ids().filter(|id| !used.contains(id)).count();
        if count > 0 {
            found.0.push(Problem::Unneeded { table: table::CHUNK.name, count });
        }
    }
    let unused: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM roster WHERE room = ?1 AND key NOT IN (
             SELECT roster FROM record WHERE roster IS NOT NULL
             UNION ALL SELECT roster FROM epoch_key UNION ALL SELECT roster FROM pending)",
    )
    .bind(room.id)
    .fetch_one(&mut *reader.connection)
    .await
    .map_err(database)?;
    if let Ok(count @ 1..) = usize::try_from(unused) {
        found.0.push(Problem::Unneeded { table: table::ROSTER.name, count });
    }
    Ok(())
}
