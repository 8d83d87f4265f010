//! A store of schema version 1, as it was first made, opens for ever after.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{fs, path::PathBuf};

use common::{KEY, directory, dump, scenario::scenario};
use matrix_sdk_crypto_mls::store::{MessageKey, MlsStore};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[tokio::test]
async fn version_1_opens() {
    let directory = directory();
    let file = directory.path().join("matrix-sdk-mls.sqlite3");
    fs::copy(fixture("version-1.sqlite3"), &file).unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(fixture("version-1.json")).unwrap()).unwrap();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    assert_eq!(store.check().await.unwrap(), []);
    let messages: Vec<(OwnedRoomId, MessageKey)> =
        serde_json::from_value(expected["messages"].clone()).unwrap();
    let found: Value = serde_json::from_str(&dump(&store, &messages).await).unwrap();
    // What later versions add to a value does not matter here.
    assert_contains(&found, &expected["content"], "");

    // It can be written to.
    for (_, batch) in scenario().batches {
        store.save_changes(batch).await.unwrap();
    }
    assert_eq!(store.check().await.unwrap(), []);
}

fn assert_contains(found: &Value, expected: &Value, path: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            // Welcomes had a part in which is the commit's event now, before anything was released.
            for (key, value) in expected.iter().filter(|(key, _)| *key != "shared") {
                assert_contains(&found[key], value, &format!("{path}/{key}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_contains(found, expected, &format!("{path}/{index}"));
            }
        }
        _ => assert_eq!(found, expected, "at {path}"),
    }
}

/// Writes the fixture. Only for the version that introduces a schema.
#[tokio::test]
#[ignore = "replaces the fixture"]
async fn write_version_1() {
    let directory = directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    let scenario = scenario();
    // One entered commit, one pending, and something in every table.
    let mut of_each = std::collections::HashMap::from([("enter a commit of ours", 1)]);
    let left_out = ["enter a commit of somebody's", "make a commit in vain", "give it up"];
    of_each.extend(left_out.map(|name| (name, 0)));
    of_each.extend([("erase a state", 0), ("join by a Welcome", 0), ("make a commit", 2)]);
    for (name, batch) in scenario.batches {
        let left = of_each.entry(name).or_insert(usize::MAX);
        if *left > 0 {
            *left -= 1;
            store.save_changes(batch).await.unwrap();
        }
    }
    let content: Value = serde_json::from_str(&dump(&store, &scenario.messages).await).unwrap();
    store.close().await.unwrap();
    let options = SqliteConnectOptions::new().filename(store.path());
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("VACUUM").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    fs::copy(store.path(), fixture("version-1.sqlite3")).unwrap();
    let expected = json!({ "messages": scenario.messages, "content": content });
    fs::write(fixture("version-1.json"), expected.to_string()).unwrap();
}
