//! What every store has to do, on SQLite: encrypted and in the clear.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::HashMap, path::PathBuf, sync::Mutex};

use matrix_sdk_mls_sqlite::SqliteMlsStore;
use tempfile::TempDir;

/// A directory for each name, for as long as the tests run.
static DIRECTORIES: Mutex<Option<HashMap<String, TempDir>>> = Mutex::new(None);

fn directory(name: String) -> PathBuf {
    let mut directories = DIRECTORIES.lock().unwrap();
    let directories = directories.get_or_insert_default();
    directories.entry(name).or_insert_with(|| TempDir::new().unwrap()).path().to_owned()
}

mod encrypted {
    use super::*;

    async fn get_store(name: &str) -> SqliteMlsStore {
        let directory = directory(format!("encrypted {name}"));
        SqliteMlsStore::open_with_key(directory, Some(&[7; 32])).await.unwrap()
    }

    matrix_sdk_crypto_mls::mlsstore_integration_tests!(persistent);
}

mod clear {
    use super::*;

    async fn get_store(name: &str) -> SqliteMlsStore {
        let directory = directory(format!("clear {name}"));
        SqliteMlsStore::open_with_key(directory, None).await.unwrap()
    }

    matrix_sdk_crypto_mls::mlsstore_integration_tests!(persistent);
}
