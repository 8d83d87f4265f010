//! matrix-sdk's SQLite stores, sqlx and OpenMLS live in one program, over one SQLite.

use std::path::Path;

use matrix_sdk::SqliteCryptoStore;
use matrix_sdk_crypto::store::CryptoStore;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// The versions of a package in the lock file.
fn locked(package: &str) -> Vec<&'static str> {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK_FILE.lines();
    let mut versions = Vec::new();
    while lines.any(|line| line == name) {
        let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
        versions.extend(version.map(|version| version.trim_end_matches('"')));
    }
    versions
}

async fn connect(file: &Path) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    SqlitePool::connect_with(options).await
}

/// The version number of the SQLite library that wrote a database file last; SQLite keeps it in the
/// header at 96.
fn written_by(file: &Path) -> std::io::Result<Option<u32>> {
    let bytes = std::fs::read(file)?;
    Ok(bytes.get(96..100).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes))
}

#[test]
fn one_lock_file_holds_the_three_and_one_sqlite() {
    assert_eq!(locked("libsqlite3-sys").len(), 1, "two copies of SQLite cannot be linked");
    assert_eq!(locked("openmls"), ["0.9.2"]);
    for (package, minor) in
        [("matrix-sdk", "0.18."), ("matrix-sdk-crypto", "0.18."), ("sqlx", "0.9.")]
    {
        let versions = locked(package);
        assert!(versions.len() == 1 && versions[0].starts_with(minor), "{package} {versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_store_and_sqlx_write_with_the_same_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let (sdk_file, our_file) =
        (folder.path().join("matrix-sdk-crypto.sqlite3"), folder.path().join("ours.sqlite3"));

    let store = SqliteCryptoStore::open(folder.path(), None).await.unwrap();
    let pool = connect(&our_file).await.unwrap();
    sqlx::query("CREATE TABLE t (value BLOB NOT NULL) STRICT").execute(&pool).await.unwrap();

    // Both at once, in turns.
    for round in 0..20_u8 {
        store.set_custom_value("round", vec![round]).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (?)").bind(vec![round]).execute(&pool).await.unwrap();
        assert_eq!(store.get_custom_value("round").await.unwrap(), Some(vec![round]));
    }
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM t ORDER BY value").fetch_all(&pool).await.unwrap();
    assert_eq!(rows.len(), 20);

    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&pool).await.unwrap();
    let number =
        version.split('.').fold(0, |number, part| number * 1000 + part.parse::<u32>().unwrap());

    // Before sqlx touches the SDK's file, its header names the SQLite that the SDK is linked with.
    drop(store);
    assert_eq!(written_by(&sdk_file).unwrap(), Some(number), "sqlx has SQLite {version}");
    pool.close().await;
    assert_eq!(written_by(&our_file).unwrap(), Some(number));

    // And the one library opens the other's file.
    let theirs = connect(&sdk_file).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM kv WHERE key = 'round'")
        .fetch_one(&theirs)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}
