//! A damaged file is reported, and left as it is.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{fs, path::Path};

use common::{KEY, directory, scenario::scenario};
use matrix_sdk_crypto_mls::store::{MlsStore, StoreError};
use matrix_sdk_mls_sqlite::{OpenStoreError, SqliteMlsStore};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

async fn store(directory: &Path) -> SqliteMlsStore {
    let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await.unwrap();
    for (_, batch) in scenario().batches {
        store.save_changes(batch).await.unwrap();
    }
    store.close().await.unwrap();
    store
}

/// Opens and reads everything; whether the store says that it is damaged.
async fn is_reported(directory: &Path) -> bool {
    let store = match SqliteMlsStore::open_with_key(directory, Some(&KEY)).await {
        Ok(store) => store,
        Err(OpenStoreError::Corrupt(_)) => return true,
        Err(error) => panic!("not as damage: {error:?}"),
    };
    let corrupt = |error: StoreError| match error {
        StoreError::Corrupt(_) => true,
        error => panic!("not as damage: {error:?}"),
    };
    let named = match store.check().await {
        Ok(problems) => !problems.is_empty(),
        Err(error) => corrupt(error),
    };
    store.close().await.unwrap();
    named
}

#[tokio::test]
async fn a_file_cut_off_is_reported() {
    let directory = directory();
    let store = store(directory.path()).await;
    let whole = fs::read(store.path()).unwrap();
    let mut lengths: Vec<_> = (0..whole.len()).step_by(4096).collect();
    lengths.extend([1, 50, 99, 100, 101, whole.len() - 1]);
    for length in lengths {
        fs::write(store.path(), &whole[..length]).unwrap();
        assert!(is_reported(directory.path()).await, "cut to {length}");
        assert!(fs::read(store.path()).unwrap() == whole[..length]);
    }
}

#[tokio::test]
async fn a_damaged_page_is_reported() {
    let directory = directory();
    let store = store(directory.path()).await;
    let whole = fs::read(store.path()).unwrap();
    let options = SqliteConnectOptions::new().filename(store.path());
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let free: i64 =
        sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut unnoticed = 0;
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        for (index, byte) in damaged[page * 4096..][..4096].iter_mut().enumerate() {
            *byte = (index * 7 + page) as u8 ^ 0xa5;
        }
        fs::write(store.path(), &damaged).unwrap();
        unnoticed += i64::from(!is_reported(directory.path()).await);
        assert!(fs::read(store.path()).unwrap() == damaged, "page {page}");
    }
    // Pages that nothing is in.
    assert!(unnoticed <= free, "{unnoticed} of {free} free pages");
}

#[tokio::test]
async fn what_is_no_store_is_not_touched() {
    let directory = directory();
    let store = store(directory.path()).await;
    let other = directory.path().join("other");
    let options = SqliteConnectOptions::new().filename(&other).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let files = [Vec::new(), vec![0; 8192], b"text".repeat(1000), fs::read(other).unwrap()];
    for bytes in files {
        fs::write(store.path(), &bytes).unwrap();
        let error = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap_err();
        assert!(matches!(error, OpenStoreError::Corrupt(_)), "{error:?}");
        assert!(fs::read(store.path()).unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = directory();
    let store = store(directory.path()).await;
    let options = SqliteConnectOptions::new().filename(store.path());
    for version in [4_i32, 1000, -1] {
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let sql = AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let before = fs::read(store.path()).unwrap();
        let error = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap_err();
        let OpenStoreError::SchemaTooNew { found, supported: 3 } = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, version.cast_unsigned());
        assert!(fs::read(store.path()).unwrap() == before);
    }
}

/// After a crash while the log was written, what was committed before is there, and nothing torn.
#[tokio::test]
async fn a_torn_log_loses_whole_batches_only() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    let mut dumps = Vec::new();
    // Without erasures the log is not written back in between.
    for (_, batch) in scenario.batches.into_iter().take(6) {
        store.save_changes(batch).await.unwrap();
        dumps.push(common::dump(&store, &scenario.messages).await);
    }
    let log_path = store.path().with_extension("sqlite3-wal");
    let (file, log) = (fs::read(store.path()).unwrap(), fs::read(&log_path).unwrap());
    store.close().await.unwrap();
    assert!(log.len() > 4096);
    let mut last = 0;
    for length in (0..=log.len()).step_by(1031).chain([log.len()]) {
        fs::write(store.path(), &file).unwrap();
        fs::write(&log_path, &log[..length]).unwrap();
        let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
        assert_eq!(store.check().await.unwrap(), []);
        let found = common::dump(&store, &scenario.messages).await;
        let index = dumps.iter().position(|dump| *dump == found);
        assert!(index >= Some(last) || last == 0, "went back");
        last = index.unwrap_or(last);
        store.close().await.unwrap();
    }
    assert_eq!(last, dumps.len() - 1);
}
