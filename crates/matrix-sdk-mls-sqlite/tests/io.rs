//! The file system fails below the database: files may not grow, as with a quota. Nothing has changed
//! then, and the next try works.
//!
//! In a process of its own, since the limit is the process's.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{env, path::Path, process::Command};

use common::{KEY, directory, dump, scenario::scenario};
use matrix_sdk_crypto_mls::store::{MemoryStore, MlsStore, StoreError};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DIRECTORY: &str = "MLS_SQLITE_IO_DIRECTORY";

/// Files may have so many bytes; without a number as many as they like.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn child(directory: &Path) {
    // Else the process ends at the first write beyond the limit.
    let signal = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, signal.clone()).unwrap();
    let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await.unwrap();
    let log = store.path().with_extension("sqlite3-wal");
    let scenario = scenario();
    let memory = MemoryStore::new();
    let mut failures = 0;
    for (name, batch) in scenario.batches {
        let before = dump(&memory, &scenario.messages).await;
        // In the middle of a page, too.
        for room_for in (0..).step_by(2500) {
            // Erased secrets of the batch before are out of the log then.
            store.data_version().await.unwrap();
            let length = std::fs::metadata(&log).map_or(0, |log| log.len());
            limit_files(Some(length + room_for));
            let result = store.save_changes(batch.clone()).await;
            limit_files(None);
            match result {
                Ok(()) => break,
                Err(StoreError::Backend(_)) => {}
                Err(error) => panic!("{name}, with room for {room_for} bytes: {error:?}"),
            }
            failures += 1;
            assert!(dump(&store, &scenario.messages).await == before, "{name}, {room_for} bytes");
        }
        memory.save_changes(batch).await.unwrap();
        assert!(dump(&store, &scenario.messages).await == dump(&memory, &scenario.messages).await);
    }
    assert!(failures > 50, "{failures}");
    assert!(signal.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(store.check().await.unwrap(), []);
    store.close().await.unwrap();
}

#[test]
fn files_that_may_not_grow_change_nothing() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        child(Path::new(&directory));
        return;
    }
    let directory = directory();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "files_that_may_not_grow_change_nothing", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
