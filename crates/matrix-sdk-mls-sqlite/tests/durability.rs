//! What is in the database's hands when a batch is committed: only what can be made again may be lost
//! when power fails.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::{Arc, Mutex};

use common::{
    KEY, directory,
    scenario::{generation, in_room, ledger_entry, room_id, scenario},
};
use matrix_dmls::NodeId;
use matrix_sdk_crypto_mls::store::{Changes, MessageKey, MlsStore, StoreError};
use matrix_sdk_mls_sqlite::{SqliteMlsStore, SqliteMlsStoreConfig, WriteHook, WritePoint};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

const NODE: NodeId = NodeId::from_bytes([5; 32]);

/// Takes down how durable each commit is. An error for as long as it is wanted.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<(Vec<bool>, bool)>>);

impl Watch {
    async fn store(&self, directory: &tempfile::TempDir) -> SqliteMlsStore {
        let watch = self.clone();
        let hook: WriteHook = Arc::new(move |point| {
            let mut state = watch.0.lock().unwrap();
            match point {
                WritePoint::Commit { .. } if state.1 => return Err(StoreError::Busy),
                WritePoint::Commit { durable } => state.0.push(durable),
                _ => {}
            }
            Ok(())
        });
        let config = SqliteMlsStoreConfig::new(directory).key(Some(&KEY));
        SqliteMlsStore::open_for_testing(&config, hook).await.unwrap()
    }

    fn taken(&self) -> Vec<bool> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }

    fn fails(&self, fails: bool) {
        self.0.lock().unwrap().1 = fails;
    }
}

fn read(generation: u32) -> Changes {
    let key = MessageKey { node: NODE, leaf: 1, generation };
    in_room(&room_id("one"), |room| drop(room.ledger.insert(key, ledger_entry("event"))))
}

fn send(next: u32) -> Changes {
    generation(&room_id("one"), NODE, next)
}

#[tokio::test]
async fn only_what_was_read_may_be_lost() {
    let (directory, watch) = (directory(), Watch::default());
    let store = watch.store(&directory).await;
    for (name, batch) in scenario().batches {
        store.save_changes(batch).await.unwrap();
        assert_eq!(watch.taken(), [name != "read a message"], "{name}");
    }
    // In every order, and with both in one batch.
    let mut both = send(3);
    both.room(&room_id("one")).ledger.extend(read(9).room(&room_id("one")).ledger.clone());
    for batch in [read(0), send(1), read(1), read(2), send(2), both, read(3), Changes::default()] {
        store.save_changes(batch).await.unwrap();
    }
    assert_eq!(watch.taken(), [false, true, false, false, true, true, false, true]);
}

#[tokio::test]
async fn a_failure_in_between_does_not_confuse_it() {
    let (directory, watch) = (directory(), Watch::default());
    let store = watch.store(&directory).await;
    for (batch, durable) in [(read(0), false), (send(1), true), (read(1), false), (send(2), true)] {
        for other in [read(7), send(1)] {
            watch.fails(true);
            assert!(matches!(store.save_changes(other).await, Err(StoreError::Busy)));
            watch.fails(false);
            store.save_changes(batch.clone()).await.unwrap();
            assert_eq!(watch.taken(), [durable]);
        }
    }
    // And not if the batch could not even begin.
    store.save_changes(read(2)).await.unwrap();
    store.close().await.unwrap();
    let config = SqliteMlsStoreConfig::new(&directory)
        .key(Some(&KEY))
        .busy_timeout(std::time::Duration::from_millis(10));
    let store = SqliteMlsStore::open_with_config(&config).await.unwrap();
    store.save_changes(read(3)).await.unwrap();
    let options = SqliteConnectOptions::new().filename(store.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(matches!(store.save_changes(send(3)).await, Err(StoreError::Busy)));
    lock.rollback().await.unwrap();
    store.save_changes(send(3)).await.unwrap();
    let room = store.load_room(&room_id("one")).await.unwrap().unwrap();
    assert_eq!(room.generations[&NODE], 3);
}

/// What one connection remembers of the database is not used when another one has written.
#[tokio::test]
async fn nothing_stale_is_written() {
    let directory = directory();
    let one = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let two = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    for next in 0..20 {
        let store = if next % 3 == 0 { &one } else { &two };
        store.save_changes(send(next)).await.unwrap();
        store.save_changes(read(next)).await.unwrap();
        for store in [&one, &two] {
            let room = store.load_room(&room_id("one")).await.unwrap().unwrap();
            assert_eq!(room.generations[&NODE], next);
        }
    }
    assert_eq!(one.check().await.unwrap(), []);
}
