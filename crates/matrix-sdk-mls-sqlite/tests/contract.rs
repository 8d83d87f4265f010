//! The store gives back what was put in, as the store in memory does.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{
    KEY, directory, dump,
    scenario::{room_id, scenario},
};
use matrix_sdk_crypto_mls::store::{Changes, MemoryStore, MlsStore};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

/// After every batch, and after closing and opening, there is in SQLite what is in memory.
async fn equals_memory(key: Option<&[u8; 32]>) {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, key).await.unwrap();
    let memory = MemoryStore::new();
    let scenario = scenario();
    for (name, batch) in scenario.batches {
        memory.save_changes(batch.clone()).await.unwrap();
        store.save_changes(batch).await.unwrap();
        let expected = dump(&memory, &scenario.messages).await;
        assert!(dump(&store, &scenario.messages).await == expected, "after: {name}");
    }
    assert_eq!(store.check().await.unwrap(), []);
    let before = dump(&store, &scenario.messages).await;
    store.close().await.unwrap();
    let store = SqliteMlsStore::open_with_key(&directory, key).await.unwrap();
    assert!(dump(&store, &scenario.messages).await == before);
}

#[tokio::test]
async fn equals_memory_encrypted_on_one_thread() {
    equals_memory(Some(&KEY)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_memory_on_several_threads() {
    equals_memory(None).await;
}

#[tokio::test]
async fn an_empty_store_has_nothing() {
    let directory = directory();
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    let room = room_id("nowhere");
    assert!(store.load_account().await.unwrap().is_none());
    assert!(store.room_ids().await.unwrap().is_empty());
    assert!(store.load_room(&room).await.unwrap().is_none());
    assert_eq!(store.queued_event_count(&room).await.unwrap(), 0);
    assert!(store.held_welcomes(&room).await.unwrap().is_empty());
    store.save_changes(Changes::default()).await.unwrap();
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn what_nobody_needs_goes() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    for (_, batch) in scenario().batches {
        store.save_changes(batch).await.unwrap();
    }
    let room = room_id("one");
    let group = store.load_room(&room).await.unwrap().unwrap().group;
    let mut changes = Changes::default();
    let gone = &mut changes.room(&room).group;
    gone.states = group.states.keys().map(|node| (*node, None)).collect();
    gone.vaults = group.vaults.keys().map(|node| (*node, None)).collect();
    gone.epoch_keys = group.epoch_keys.keys().map(|node| (*node, None)).collect();
    store.save_changes(changes).await.unwrap();
    assert_eq!(store.check().await.unwrap(), []);
    // The log is emptied once a batch is durable, before anything else gets its turn.
    store.data_version().await.unwrap();
    let inspection = store.inspect().await.unwrap();
    let one = inspection.rooms.iter().find(|one| one.room_id == room).unwrap();
    // The roster, with its chunks, is the founding commit's.
    let names: Vec<_> = one.counts.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["view", "chunk", "roster", "record", "generation", "commit_event", "ledger"]
    );
    // Erased secrets are not in the log either.
    assert_eq!(inspection.log_bytes, 0);
}

#[tokio::test]
async fn the_summary_says_what_there_is_and_no_secrets() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    for (_, batch) in scenario().batches.into_iter().take(3) {
        store.save_changes(batch).await.unwrap();
    }
    let text = store.inspect().await.unwrap().to_string();
    for part in ["encrypted", "2 key packages", "commit in !one:", "pending: 1", "1 rooms"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn many_tasks_at_once() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    for (_, batch) in scenario.batches {
        store.save_changes(batch).await.unwrap();
    }
    let tasks: Vec<_> = (0..20_u64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = format!("room{task}");
                let changes = common::scenario::in_room(&room_id(&name), |room| {
                    room.view = Some(Default::default());
                });
                store.save_changes(changes).await.unwrap();
                store.load_room(&room_id("one")).await.unwrap().unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.room_ids().await.unwrap().len(), 22);
}
