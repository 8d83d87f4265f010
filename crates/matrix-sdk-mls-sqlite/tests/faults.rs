//! Errors at every write: nothing has changed then, and the next try works.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use common::{
    KEY, directory, dump,
    scenario::{generation, room_id, scenario},
};
use matrix_dmls::NodeId;
use matrix_sdk_crypto_mls::store::{Changes, MemoryStore, MlsStore, StoreError};
use matrix_sdk_mls_sqlite::{SqliteMlsStore, SqliteMlsStoreConfig, WriteHook, WritePoint};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

/// Fails once, when so many writes were done; negative is never.
fn failing(countdown: &Arc<AtomicI64>) -> WriteHook {
    let countdown = Arc::clone(countdown);
    Arc::new(move |point| {
        let fails = point != WritePoint::Committed && countdown.fetch_sub(1, Ordering::SeqCst) == 0;
        if fails { Err(StoreError::Backend("injected".into())) } else { Ok(()) }
    })
}

#[tokio::test]
async fn a_failed_write_changes_nothing() {
    let scenario = scenario();
    let directory = directory();
    let countdown = Arc::new(AtomicI64::new(-1));
    let config = SqliteMlsStoreConfig::new(directory.path()).key(Some(&KEY));
    let store = SqliteMlsStore::open_for_testing(&config, failing(&countdown)).await.unwrap();
    let memory = MemoryStore::new();
    let mut before = dump(&memory, &scenario.messages).await;
    let mut failures = 0;
    for (name, batch) in scenario.batches {
        // At the first write, then at the second, until there are no more.
        for n in 0.. {
            countdown.store(n, Ordering::SeqCst);
            match store.save_changes(batch.clone()).await {
                Ok(()) => break,
                Err(StoreError::Backend(error)) => assert_eq!(error.to_string(), "injected"),
                Err(error) => panic!("{name}, write {n}: {error:?}"),
            }
            failures += 1;
            assert!(dump(&store, &scenario.messages).await == before, "{name}, write {n}");
        }
        memory.save_changes(batch).await.unwrap();
        before = dump(&memory, &scenario.messages).await;
        assert!(dump(&store, &scenario.messages).await == before, "{name}");
    }
    assert!(failures > 80, "{failures}");
    assert_eq!(store.check().await.unwrap(), []);
}

/// Cancelled wherever it waits, a batch is stored or not, and the store can be used.
#[tokio::test]
async fn a_cancelled_batch_is_whole_or_nothing() {
    let scenario = scenario();
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let memory = MemoryStore::new();
    for (name, batch) in scenario.batches {
        let before = dump(&memory, &scenario.messages).await;
        memory.save_changes(batch.clone()).await.unwrap();
        let after = dump(&memory, &scenario.messages).await;
        for polls in [1, 2, 4, 8] {
            let mut save = store.save_changes(batch.clone());
            for _ in 0..polls {
                let done =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(save.as_mut().poll(cx)));
                if done.await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(save);
            // Comes after what was begun.
            store.save_changes(Changes::default()).await.unwrap();
            let found = dump(&store, &scenario.messages).await;
            assert!(found == before || found == after, "{name} after {polls} polls");
        }
        store.save_changes(batch).await.unwrap();
        assert!(dump(&store, &scenario.messages).await == after, "{name}");
    }
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn a_locked_store_is_busy_and_works_afterwards() {
    let directory = directory();
    let config =
        SqliteMlsStoreConfig::new(directory.path()).busy_timeout(Duration::from_millis(50));
    let store = SqliteMlsStore::open_with_config(&config).await.unwrap();
    let room = room_id("one");
    let node = NodeId::from_bytes([1; 32]);
    store.save_changes(generation(&room, node, 1)).await.unwrap();

    let options = SqliteConnectOptions::new().filename(store.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let result = store.save_changes(generation(&room, node, 2)).await;
    assert!(matches!(result, Err(StoreError::Busy)), "{result:?}");
    // Reading goes on meanwhile.
    assert_eq!(store.load_room(&room).await.unwrap().unwrap().generations[&node], 1);
    lock.rollback().await.unwrap();
    store.save_changes(generation(&room, node, 2)).await.unwrap();
    assert_eq!(store.load_room(&room).await.unwrap().unwrap().generations[&node], 2);
}

#[tokio::test]
async fn a_full_disk_changes_nothing() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    let memory = MemoryStore::new();
    let mut full = 0;
    for (name, batch) in scenario.batches {
        let before = dump(&memory, &scenario.messages).await;
        let mut room_for = 0;
        loop {
            store.limit_pages(Some(room_for)).await.unwrap();
            match store.save_changes(batch.clone()).await {
                Ok(()) => break,
                Err(StoreError::Backend(error)) => {
                    assert!(error.to_string().contains("full"), "{error}");
                }
                Err(error) => panic!("{name}: {error:?}"),
            }
            full += 1;
            room_for += 1;
            assert!(dump(&store, &scenario.messages).await == before, "{name}");
        }
        store.limit_pages(None).await.unwrap();
        memory.save_changes(batch).await.unwrap();
        assert!(dump(&store, &scenario.messages).await == dump(&memory, &scenario.messages).await);
    }
    assert!(full > 10, "{full}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = directory();
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    store.close().await.unwrap();
    let changes = generation(&room_id("one"), NodeId::from_bytes([1; 32]), 1);
    assert!(matches!(store.save_changes(changes).await, Err(StoreError::Backend(_))));
    assert!(matches!(store.room_ids().await, Err(StoreError::Backend(_))));
    store.close().await.unwrap();
}
