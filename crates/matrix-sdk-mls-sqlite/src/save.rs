//! One batch of changes in one transaction.

use std::{collections::HashMap, sync::Arc};

use matrix_dmls::{GroupChanges, NodeId, Roster};
use matrix_sdk_crypto_mls::store::{Changes, LedgerEntry, MessageKey, RoomChanges, StoreError};
use ruma::RoomId;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    chunks::{self, Cutter},
    cipher::{Cipher, Place},
    codec::{encode, encode_compact},
    hook::Hook,
    ledger, pack,
    rows::{
        CommitEventRow, EpochKeyRow, GenerationRow, PendingRow, RecordRow, RosterRow, StateRow,
        VaultRow,
    },
    table::{self, Table},
    transaction::{Beside, RoomKey, Transaction, Writer, room_key},
};

/// Writes a batch. Whether it erased or replaced a secret, which is then still in the log.
pub(crate) async fn save(
    transaction: &mut Transaction<'_>,
    changes: &Changes,
) -> Result<bool, StoreError> {
    let mut erased = false;
    if let Some(account) = &changes.account {
        let key = account_key(transaction);
        transaction.put(table::ACCOUNT, &key, &encode(account)?).await?;
    }
    for (reference, package) in &changes.key_packages {
        let key = transaction.cipher.lookup("key_package", &[reference.as_bytes()]);
        match package {
            Some(package) => transaction.put(table::KEY_PACKAGE, &key, &encode(package)?).await?,
            None => erased |= transaction.delete(table::KEY_PACKAGE, &key).await?,
        }
    }
    for (id, request) in &changes.outbox {
        let key = transaction.cipher.lookup("outbox", &[id.as_bytes()]);
        match request {
            Some(request) => transaction.put(table::OUTBOX, &key, &encode(request)?).await?,
            None => {
                transaction.delete(table::OUTBOX, &key).await?;
            }
        }
    }
    for (room_id, changes) in &changes.rooms {
        let room = transaction.room(room_id).await?;
        erased |= Saver {
            transaction,
            room,
            rosters: HashMap::new(),
            garbage: false,
            old_rosters: false,
            erased: false,
        }
        .save(changes)
        .await?;
    }
    Ok(erased)
}

fn account_key(transaction: &Transaction<'_>) -> Vec<u8> {
    transaction.cipher.lookup("account", &[])
}

/// Notes that a message was read, in one statement without a transaction around it; whether that was
/// done. It is not if something was known of the message before, or of the room nothing yet, or the
/// connection would wait for the disk.
///
/// Whether somebody else has written meanwhile does not matter: a note is only added, and what is
/// there is left to a transaction.
pub(crate) async fn note_message(
    writer: &mut Writer,
    cipher: &Cipher,
    hook: &Hook,
    room_id: &RoomId,
    message: &MessageKey,
    entry: &LedgerEntry,
) -> Result<bool, StoreError> {
    let room_key = room_key(cipher, room_id);
    let key = row_key(cipher, table::LEDGER, &room_key, &message_name(message));
    let value = cipher.seal(Place(table::LEDGER.value, &key), &ledger::encode(entry))?;
    writer.add_alone(hook, &room_key, table::LEDGER, key, value).await
}

/// The lookup key of a row in a room.
pub(crate) fn row_key(cipher: &Cipher, table: Table, room: &[u8], name: &[u8]) -> Vec<u8> {
    cipher.lookup(table.name, &[room, name])
}

/// What a ledger row is named by.
pub(crate) fn message_name(key: &MessageKey) -> Vec<u8> {
    [key.node.as_bytes().as_slice(), &key.leaf.to_be_bytes(), &key.generation.to_be_bytes()]
        .concat()
}

/// Writes the changes of one room.
struct Saver<'a, 'c> {
    transaction: &'a mut Transaction<'c>,
    room: RoomKey,
    /// The rosters that are there, by address: one batch has the same one several times.
    rosters: HashMap<usize, ([u8; 32], Vec<u8>)>,
    /// Something that named chunks has gone, or that named rosters.
    garbage: bool,
    old_rosters: bool,
    erased: bool,
}

impl Saver<'_, '_> {
    async fn save(mut self, changes: &RoomChanges) -> Result<bool, StoreError> {
        if let Some(view) = &changes.view {
            let key = self.key(table::VIEW, b"");
            self.put(table::VIEW, &key, Beside::Nothing, view).await?;
        }
        self.save_group(&changes.group).await?;
        for (node, next) in &changes.generations {
            let row = GenerationRow { node: *node, next: *next };
            self.put_by_node(table::GENERATION, node, &row).await?;
        }
        for (node, commit) in &changes.commits {
            let key = self.key(table::COMMIT_EVENT, node.as_bytes());
            if let Some(commit) = commit {
                let event = CommitEventRow {
                    node: *node,
                    event_id: commit.event_id.clone(),
                    received_at: commit.received_at,
                };
                let event = encode(&event)?;
                self.put(table::COMMIT_EVENT, &key, Beside::Sealed(&event), commit).await?;
            } else {
                self.transaction.delete_in_room(table::COMMIT_EVENT, &self.room, &key).await?;
            }
        }
        for (event_id, event) in &changes.queued {
            let key = self.key(table::QUEUED, event_id.as_bytes());
            if let Some(event) = event {
                let node = self.key(table::QUEUED, event.node.as_bytes());
                self.put(table::QUEUED, &key, Beside::Key("node", Some(&node)), event).await?;
            } else {
                self.transaction.delete(table::QUEUED, &key).await?;
            }
        }
        for (node, welcome) in &changes.welcomes {
            self.apply_by_node(table::WELCOME, node, welcome.as_ref()).await?;
        }
        for (message, entry) in &changes.ledger {
            let key = self.key(table::LEDGER, &message_name(message));
            let value = ledger::encode(entry);
            let (table, beside) = (table::LEDGER, Beside::Nothing);
            self.transaction.put_in_room(table, &self.room, &key, beside, &value).await?;
        }
        if self.old_rosters {
            chunks::delete_unused_rosters(self.transaction, &self.room).await?;
        }
        if self.garbage || self.old_rosters {
            chunks::collect_garbage(self.transaction, &self.room).await?;
        }
        Ok(self.erased)
    }

    async fn save_group(&mut self, group: &GroupChanges) -> Result<(), StoreError> {
        for node in &group.forgotten {
            let key = self.key(table::RECORD, node.as_bytes());
            let was_there =
                self.transaction.delete_in_room(table::RECORD, &self.room, &key).await?;
            self.note_erased(table::RECORD, was_there);
        }
        for (node, entry) in &group.records {
            let roster = match &entry.roster {
                Some(roster) => Some(self.roster(roster).await?),
                None => None,
            };
            let (hash, link) = roster.unzip();
            let key = self.key(table::RECORD, node.as_bytes());
            let row = RecordRow::new(entry, hash);
            let beside = Beside::Key("roster", link.as_deref());
            self.old_rosters |= self.put(table::RECORD, &key, beside, &row).await?;
        }
        for (node, state) in &group.states {
            let Some(state) = state else {
                self.erase(table::NODE_STATE, node).await?;
                continue;
            };
            let key = self.key(table::NODE_STATE, node.as_bytes());
            let mut cutter = Cutter::after(self.transaction.last_tree(&self.room));
            let row = StateRow::new(*node, state, &mut cutter);
            let chunks = cutter.store(self.transaction, &self.room).await?;
            let was_there =
                self.put(table::NODE_STATE, &key, Beside::Sealed(&chunks), &row).await?;
            self.note_erased(table::NODE_STATE, was_there);
        }
        for (node, vault) in &group.vaults {
            let row = vault.clone().map(|vault| VaultRow { node: *node, vault });
            self.erased |= self.apply_by_node(table::VAULT, node, row.as_ref()).await?;
        }
        for (node, epoch_key) in &group.epoch_keys {
            let Some(epoch_key) = epoch_key else {
                self.erase(table::EPOCH_KEY, node).await?;
                continue;
            };
            let key = self.key(table::EPOCH_KEY, node.as_bytes());
            let (hash, link) = self.roster(epoch_key.roster()).await?;
            let row = EpochKeyRow::new(epoch_key, hash);
            let beside = Beside::Key("roster", Some(&link));
            let was_there = self.put(table::EPOCH_KEY, &key, beside, &row).await?;
            self.note_erased(table::EPOCH_KEY, was_there);
        }
        for (node, pending) in &group.pending {
            let Some(pending) = pending else {
                self.erase(table::PENDING, node).await?;
                continue;
            };
            let key = self.key(table::PENDING, node.as_bytes());
            let (hash, link) = self.roster(&pending.node.roster).await?;
            let (key_hash, _) = self.roster(pending.node.epoch_key.roster()).await?;
            let mut cutter = Cutter::after(self.transaction.last_tree(&self.room));
            let row = PendingRow::new(pending, hash, key_hash, &mut cutter);
            let chunks = cutter.store(self.transaction, &self.room).await?;
            let beside = Beside::Both(&link, &chunks);
            let was_there = self.put(table::PENDING, &key, beside, &row).await?;
            self.note_erased(table::PENDING, was_there);
        }
        Ok(())
    }

    fn key(&self, table: Table, name: &[u8]) -> Vec<u8> {
        row_key(self.transaction.cipher, table, &self.room.key, name)
    }

    /// Whether there was such a row.
    async fn put(
        &mut self,
        table: Table,
        key: &[u8],
        beside: Beside<'_>,
        row: &(impl Serialize + Sync),
    ) -> Result<bool, StoreError> {
        let mut value = encode(row)?;
        if table::PACKED.contains(&table)
            && let Some(packed) = pack::pack_row(&value)
        {
            value = Zeroizing::new(packed);
        }
        self.transaction.put_in_room(table, &self.room, key, beside, &value).await
    }

    async fn put_by_node(
        &mut self,
        table: Table,
        node: &NodeId,
        row: &(impl Serialize + Sync),
    ) -> Result<bool, StoreError> {
        let key = self.key(table, node.as_bytes());
        self.put(table, &key, Beside::Nothing, row).await
    }

    async fn apply_by_node(
        &mut self,
        table: Table,
        node: &NodeId,
        row: Option<&(impl Serialize + Sync)>,
    ) -> Result<bool, StoreError> {
        match row {
            Some(row) => self.put_by_node(table, node, row).await,
            None => {
                let key = self.key(table, node.as_bytes());
                self.transaction.delete_in_room(table, &self.room, &key).await
            }
        }
    }

    /// Deletes a row with secrets, chunks or a roster.
    async fn erase(&mut self, table: Table, node: &NodeId) -> Result<(), StoreError> {
        let key = self.key(table, node.as_bytes());
        let was_there = self.transaction.delete_in_room(table, &self.room, &key).await?;
        self.note_erased(table, was_there);
        Ok(())
    }

    /// Takes note that such a row was deleted or replaced, if there was one.
    fn note_erased(&mut self, table: Table, was_there: bool) {
        self.garbage |= was_there && table::CHUNKED.contains(&table);
        self.old_rosters |= was_there && table::WITH_ROSTER.contains(&table);
        self.erased |= was_there;
    }

    /// Stores a roster unless it is there; its content hash and its lookup key.
    async fn roster(&mut self, roster: &Arc<Roster>) -> Result<([u8; 32], Vec<u8>), StoreError> {
        let address = Arc::as_ptr(roster).addr();
        if let Some(known) = self.rosters.get(&address) {
            return Ok(known.clone());
        }
        let hash = roster.content_hash();
        let key = self.key(table::ROSTER, &hash);
        if !self.transaction.has_roster(&key).await? {
            let encoded = encode_compact(&**roster)?;
            let mut cutter = Cutter::default();
            let row = RosterRow(cutter.cut_public(&encoded));
            let chunks = cutter.store(self.transaction, &self.room).await?;
            self.put(table::ROSTER, &key, Beside::Sealed(&chunks), &row).await?;
        }
        self.rosters.insert(address, (hash, key.clone()));
        Ok((hash, key))
    }
}
