//! What is in a store, without secrets; and whether it is sound.

mod check;

use std::{collections::BTreeSet, fmt};

use matrix_dmls::NodeId;
use matrix_sdk_crypto_mls::store::{MlsStore as _, OutboxRequestKind, StoreError};
use ruma::OwnedRoomId;

pub use self::check::Problem;
use crate::{
    connection::beside,
    error::database,
    load::Reader,
    rows::RecordRow,
    schema,
    store::SqliteMlsStore,
    table::{self, Table},
    transaction::RoomKey,
};

/// What is in a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The schema's version.
    pub schema_version: u32,
    /// Whether values are encrypted.
    pub encrypted: bool,
    /// The size of the database in bytes.
    pub file_bytes: u64,
    /// The size of its log in bytes.
    pub log_bytes: u64,
    /// How many key packages' private keys are held.
    pub key_packages: usize,
    /// The requests that wait for an answer: their order, their room and what they are.
    pub requests: Vec<(u64, OwnedRoomId, &'static str)>,
    /// The rooms.
    pub rooms: Vec<RoomInspection>,
}

/// What is in a store of one room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoomInspection {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The epochs without known child.
    pub tips: Vec<(u64, NodeId)>,
    /// How many rows there are of what, for what there is.
    pub counts: Vec<(&'static str, usize)>,
    /// The bytes of what states, rosters and pending commits share.
    pub shared_bytes: u64,
}

impl SqliteMlsStore {
    /// A summary of the store, without secrets or contents of messages.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn inspect(&self) -> Result<Inspection, StoreError> {
        let requests = self
            .outbox()
            .await?
            .into_iter()
            .map(|request| (request.order, request.room_id, kind(&request.kind)))
            .collect();
        let key_packages = self.key_package_refs().await?.len();
        let mut snapshot = self.snapshot().await?;
        let mut reader = self.reader(&mut snapshot);
        let mut rooms = Vec::new();
        for (room_id, room) in reader.rooms().await? {
            rooms.push(inspect_room(&mut reader, room_id, &room).await?);
        }
        let size = |path| std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(Inspection {
            schema_version: schema::VERSION,
            encrypted: self.inner.cipher.is_encrypted(),
            file_bytes: size(self.path().to_owned()),
            log_bytes: size(beside(self.path(), "-wal")),
            key_packages,
            requests,
            rooms,
        })
    }
}

async fn inspect_room(
    reader: &mut Reader<'_>,
    room_id: OwnedRoomId,
    room: &RoomKey,
) -> Result<RoomInspection, StoreError> {
    let mut nodes = BTreeSet::new();
    let mut parents = BTreeSet::new();
    for (_, row) in reader.values::<RecordRow>(table::RECORD, Some(room)).await? {
        nodes.insert((row.record.epoch, row.record.node));
        parents.extend(row.record.parent);
    }
    nodes.retain(|(_, node)| !parents.contains(node));
    let mut counts = Vec::new();
    for table in table::ALL.iter().filter(|table| table.of_room) {
        let count = reader.count(*table, room).await?;
        if count > 0 {
            counts.push((table.name, count));
        }
    }
    let shared: Option<i64> =
        sqlx::query_scalar("SELECT SUM(LENGTH(value)) FROM chunk WHERE room = ?")
            .bind(room.id)
            .fetch_one(&mut *reader.connection)
            .await
            .map_err(database)?;
    Ok(RoomInspection {
        room_id,
        tips: nodes.into_iter().collect(),
        counts,
        shared_bytes: shared.map_or(0, i64::cast_unsigned),
    })
}

const fn kind(kind: &OutboxRequestKind) -> &'static str {
    match kind {
        OutboxRequestKind::Commit { .. } => "commit",
        OutboxRequestKind::Welcome { .. } => "welcome",
        OutboxRequestKind::JoinRequest { .. } => "join request",
        OutboxRequestKind::Group { .. } => "group",
        OutboxRequestKind::Relay { .. } => "relay",
        OutboxRequestKind::ToDevice { .. } => "to-device",
        _ => "other",
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        writeln!(f, "schema {}, {encrypted}", self.schema_version)?;
        writeln!(f, "file {} bytes, log {} bytes", self.file_bytes, self.log_bytes)?;
        writeln!(f, "{} key packages", self.key_packages)?;
        writeln!(f, "{} pending requests", self.requests.len())?;
        for (order, room_id, kind) in &self.requests {
            writeln!(f, "  {order}: {kind} in {room_id}")?;
        }
        writeln!(f, "{} rooms", self.rooms.len())?;
        for room in &self.rooms {
            writeln!(f, "  {}: {} bytes shared", room.room_id, room.shared_bytes)?;
            for (epoch, node) in &room.tips {
                writeln!(f, "    tip {} of epoch {epoch}", node.short())?;
            }
            for (name, count) in &room.counts {
                writeln!(f, "    {name}: {count}")?;
            }
        }
        Ok(())
    }
}

impl Table {
    /// For messages.
    fn named(self, what: impl fmt::Display) -> String {
        format!("{}: {what}", self.name)
    }
}
