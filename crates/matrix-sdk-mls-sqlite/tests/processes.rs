//! Two processes on one store: the lease lock, and nothing lost or doubled.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    KEY, directory,
    scenario::{generation, ledger_entry, room_id},
};
use matrix_dmls::NodeId;
use matrix_sdk_crypto_mls::store::{MessageKey, MlsStore};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

const DIRECTORY: &str = "MLS_SQLITE_PROCESS_DIRECTORY";
const LEASE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 100;
const NODE: NodeId = NodeId::from_bytes([5; 32]);

#[tokio::test]
async fn a_lock_has_one_holder_until_it_runs_out() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let lease = Duration::from_millis(500);
    let lock = |holder: &'static str, now| {
        let store = store.clone();
        async move { store.try_lock("writer", holder, lease, now).await.unwrap() }
    };
    assert_eq!(store.generation("writer").await.unwrap(), 0);
    assert_eq!(lock("app", 1000).await, Some(1));
    assert_eq!(lock("extension", 1100).await, None);
    // Renewed, it keeps its generation.
    assert_eq!(lock("app", 1400).await, Some(1));
    assert_eq!(lock("extension", 1899).await, None);
    assert_eq!(lock("extension", 1900).await, Some(2));
    assert_eq!(lock("app", 1901).await, None);
    assert_eq!(store.generation("writer").await.unwrap(), 2);
    store.unlock("writer", "app").await.unwrap();
    assert_eq!(lock("app", 1902).await, None);
    store.unlock("writer", "extension").await.unwrap();
    assert_eq!(lock("extension", 1903).await, Some(2));
    store.unlock("writer", "extension").await.unwrap();
    assert_eq!(lock("app", 1904).await, Some(3));
    // Another lock is another lock.
    assert_eq!(store.try_lock("other", "extension", lease, 1904).await.unwrap(), Some(1));
}

#[tokio::test]
async fn it_shows_when_somebody_else_wrote() {
    let directory = directory();
    let one = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let two = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let before = one.data_version().await.unwrap();
    one.save_changes(generation(&room_id("one"), NODE, 1)).await.unwrap();
    assert_eq!(one.data_version().await.unwrap(), before);
    two.save_changes(generation(&room_id("one"), NODE, 2)).await.unwrap();
    assert_ne!(one.data_version().await.unwrap(), before);
    assert_eq!(one.load_room(&room_id("one")).await.unwrap().unwrap().generations[&NODE], 2);
}

/// Opening at the same time, two make one store.
#[tokio::test]
async fn two_that_make_it_make_one() {
    let directory = directory();
    let open = || SqliteMlsStore::open_with_key(&directory, Some(&KEY));
    let (one, two) = tokio::join!(open(), open());
    let (one, two) = (one.unwrap(), two.unwrap());
    one.save_changes(generation(&room_id("one"), NODE, 1)).await.unwrap();
    two.save_changes(generation(&room_id("two"), NODE, 1)).await.unwrap();
    assert_eq!(one.room_ids().await.unwrap(), [room_id("one"), room_id("two")]);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Takes the next generation so many times, and notes each in the ledger. Both would do so at once,
/// but for the lock.
#[tokio::main(flavor = "current_thread")]
async fn hammer(directory: &Path, holder: &str) {
    let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await.unwrap();
    let room = room_id("one");
    for _ in 0..ROUNDS {
        while store.try_lock("room", holder, LEASE, now()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let stored = store.load_room(&room).await.unwrap().unwrap_or_default();
        let next = stored.generations.get(&NODE).copied().unwrap_or(0);
        let key = MessageKey { node: NODE, leaf: 0, generation: next };
        assert!(store.ledger_entry(&room, &key).await.unwrap().is_none(), "{next} used twice");
        let mut batch = generation(&room, NODE, next + 1);
        batch.room(&room).ledger.insert(key, ledger_entry(holder));
        store.save_changes(batch).await.unwrap();
        store.unlock("room", holder).await.unwrap();
    }
    store.close().await.unwrap();
}

#[test]
fn two_processes_lose_and_double_nothing() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        hammer(Path::new(&directory), "extension");
        return;
    }
    let directory = directory();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "two_processes_lose_and_double_nothing", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    hammer(directory.path(), "app");
    assert!(child.wait().unwrap().success());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
        let room = room_id("one");
        let stored = store.load_room(&room).await.unwrap().unwrap();
        assert_eq!(stored.generations[&NODE], 2 * ROUNDS);
        for generation in 0..2 * ROUNDS {
            let key = MessageKey { node: NODE, leaf: 0, generation };
            let entry = store.ledger_entry(&room, &key).await.unwrap().unwrap();
            assert_eq!(entry.messages.len(), 1);
        }
        assert_eq!(store.check().await.unwrap(), []);
    });
}
