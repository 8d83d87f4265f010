//! Nothing recognisable in the files, and nothing opens with a wrong key.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{fs, path::Path};

use common::{
    KEY, directory,
    scenario::{MARKER, room_id, scenario},
};
use matrix_sdk_crypto_mls::store::{MlsStore, StoreError};
use matrix_sdk_mls_sqlite::{OpenStoreError, SqliteMlsStore};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

/// All files of the directory, by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn nothing_is_recognisable() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    let mut known: Vec<Vec<u8>> = ["recognisable", "RECOGNISABLEPHONE", "@alice", "!one:", MARKER]
        .map(|text| text.as_bytes().to_vec())
        .into();
    known.push(KEY.to_vec());
    known.push(common::seed("alice").as_bytes().to_vec());
    for (_, batch) in scenario.batches {
        for room in batch.rooms.values() {
            for key in room.group.epoch_keys.values().flatten() {
                known.push(key.node().as_bytes().to_vec());
                known.push(key.node().to_base64().into_bytes());
                known.push(key.encryption_secret().unwrap().as_bytes().to_vec());
                known.push(key.sender_data_secret().as_bytes().to_vec());
            }
            for state in room.group.states.values().flatten() {
                known.push(state.context.clone());
            }
        }
        store.save_changes(batch).await.unwrap();
        // Also what is in the log at this moment.
        for (name, bytes) in files(directory.path()) {
            for part in &known {
                assert!(!contains(&bytes, part), "{part:?} is in {name}");
            }
        }
    }
    let names: Vec<_> = files(directory.path()).into_iter().map(|(name, _)| name).collect();
    let name = "matrix-sdk-mls.sqlite3";
    assert_eq!(names, [name.to_owned(), format!("{name}-shm"), format!("{name}-wal")]);
}

/// The scan finds what it looks for where nothing is encrypted.
#[tokio::test]
async fn without_a_key_everything_is_recognisable() {
    let directory = directory();
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    for (_, batch) in scenario().batches {
        store.save_changes(batch).await.unwrap();
    }
    store.close().await.unwrap();
    let bytes = fs::read(store.path()).unwrap();
    for part in [b"@alice:recognisable".as_slice(), b"!one:", common::seed("alice").as_bytes()] {
        assert!(contains(&bytes, part));
    }
}

#[tokio::test]
async fn a_wrong_key_changes_nothing() {
    let with_key = directory();
    SqliteMlsStore::open_with_key(&with_key, Some(&KEY)).await.unwrap().close().await.unwrap();
    let with_passphrase = directory();
    SqliteMlsStore::open(&with_passphrase, Some("right")).await.unwrap().close().await.unwrap();
    let plain = directory();
    SqliteMlsStore::open(&plain, None).await.unwrap().close().await.unwrap();

    let error = |result: Result<SqliteMlsStore, _>| result.unwrap_err();
    for directory in [&with_key, &with_passphrase, &plain] {
        let before = files(directory.path());
        let wrong = [
            error(SqliteMlsStore::open_with_key(directory, Some(&[1; 32])).await),
            error(SqliteMlsStore::open(directory, Some("wrong")).await),
        ];
        for error in wrong {
            let encrypted = directory.path() != plain.path();
            assert!(matches!(
                (encrypted, error),
                (true, OpenStoreError::WrongKey) | (false, OpenStoreError::NotEncrypted)
            ));
        }
        if directory.path() != plain.path() {
            let error = error(SqliteMlsStore::open(directory, None).await);
            assert!(matches!(error, OpenStoreError::KeyMissing));
        }
        assert!(files(directory.path()) == before);
    }
    SqliteMlsStore::open(&with_passphrase, Some("right")).await.unwrap();
}

/// Whoever can write to the file cannot move, exchange or cut values without being noticed.
#[tokio::test]
async fn rows_stay_where_they_are() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    let options = SqliteConnectOptions::new().filename(store.path());
    for (name, batch) in scenario.batches {
        store.save_changes(batch).await.unwrap();
        if name == "queue an event" {
            // An attacker's copies of some rows.
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            let copy = "CREATE TABLE older_generation AS SELECT * FROM generation;
                        CREATE TABLE older_vault AS SELECT * FROM vault";
            sqlx::raw_sql(copy).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
    store.close().await.unwrap();
    let original = fs::read(store.path()).unwrap();
    let attacks = [
        // The values of two rows of one table.
        "UPDATE generation SET value = (SELECT value FROM generation AS o
             WHERE o.key <> generation.key)",
        "UPDATE vault SET value = (SELECT value FROM vault AS o WHERE o.key <> vault.key)",
        "UPDATE chunk SET value = (SELECT value FROM chunk AS o WHERE o.id <> chunk.id)",
        // Two chunks under each other's ID.
        "CREATE TEMP TABLE two AS SELECT * FROM chunk ORDER BY id LIMIT 2;
             DELETE FROM chunk WHERE id IN (SELECT id FROM two);
             INSERT INTO chunk
             SELECT (SELECT SUM(id) FROM two) - id, room, key, value, form FROM two",
        // Compressed ones as if they were not, and the other way round.
        "UPDATE chunk SET form = 1 - form",
        // Cut off.
        "UPDATE record SET value = substr(value, 1, length(value) - 1)",
        "UPDATE node_state SET chunks = substr(chunks, 1, 10)",
        // Under another node's name, and in the other room.
        "UPDATE vault SET key = zeroblob(32) WHERE key = (SELECT MAX(key) FROM vault)",
        "UPDATE generation SET room = 3 - room",
        "UPDATE node_state SET room = 3 - room",
        "UPDATE commit_event SET room = 3 - room",
        // From another table.
        "UPDATE epoch_key SET value = (SELECT value FROM vault)",
        // Put back to an older version, or gone.
        "UPDATE generation SET value = o.value FROM older_generation AS o
             WHERE o.key = generation.key",
        "UPDATE vault SET value = o.value FROM older_vault AS o WHERE o.key = vault.key",
        "DELETE FROM generation",
        "DELETE FROM epoch_key",
        "DELETE FROM chunk WHERE id = (SELECT MAX(id) FROM chunk)",
    ];
    for attack in attacks {
        fs::write(store.path(), &original).unwrap();
        let options = SqliteConnectOptions::new().filename(store.path()).foreign_keys(false);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let done = sqlx::raw_sql(attack).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{attack}");
        connection.close().await.unwrap();

        let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
        let mut corrupt = false;
        for room in [room_id("one"), room_id("two")] {
            let loaded = store.load_room(&room).await;
            corrupt |= matches!(loaded, Err(StoreError::Corrupt(_)));
        }
        assert!(corrupt, "not noticed: {attack}");
        assert_ne!(store.check().await.unwrap(), [], "not named: {attack}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn erased_secrets_are_not_left_in_the_file() {
    let directory = directory();
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    let mut erased = Vec::new();
    for (name, batch) in scenario().batches {
        for room in batch.rooms.values() {
            for key in room.group.epoch_keys.values().flatten() {
                erased.push((room_id("one"), key.node(), key.encryption_secret().unwrap().clone()));
            }
        }
        store.save_changes(batch).await.unwrap();
        if name == "enter a commit of somebody's" {
            break;
        }
    }
    let present = |secret: &[u8]| files(directory.path()).iter().any(|(_, b)| contains(b, secret));
    assert!(erased.iter().all(|(_, _, secret)| present(secret.as_bytes())));
    let changes = common::scenario::in_room(&room_id("one"), |room| {
        let group = &mut room.group;
        group.epoch_keys = erased.iter().map(|(_, node, _)| (*node, None)).collect();
        group.states = erased.iter().map(|(_, node, _)| (*node, None)).collect();
        group.vaults = erased.iter().map(|(_, node, _)| (*node, None)).collect();
    });
    store.save_changes(changes).await.unwrap();
    // The log is emptied after that, before anything else gets its turn.
    store.data_version().await.unwrap();
    assert!(!erased.iter().any(|(_, _, secret)| present(secret.as_bytes())));
}

#[tokio::test]
async fn the_connection_is_set_up_for_safety() {
    let directory = directory();
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    store.close().await.unwrap();
    let options = SqliteConnectOptions::new().filename(store.path());
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(mode.get::<String, _>(0), "wal");
}
