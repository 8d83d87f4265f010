//! How connections are set up.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

use crate::config::SqliteMlsStoreConfig;

/// The log is cut to this size when it is reused.
const JOURNAL_SIZE_LIMIT: u32 = 4_000_000;

/// What writers and readers have in common.
fn options(config: &SqliteMlsStoreConfig, path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(config.busy_timeout)
        .foreign_keys(true)
        // Each row is handed over by another thread, which should not wait for us in between.
        .row_buffer_size(1024)
        .pragma("cache_size", format!("-{}", (config.cache_bytes / 1024).max(64)))
        // Nothing goes into temporary files.
        .pragma("temp_store", "MEMORY")
        // Statements have no contents, but are no news either.
        .disable_statement_logging()
}

/// The one that writes.
///
/// `synchronous` is FULL: in WAL mode NORMAL may lose the last transactions when power fails, and a
/// send generation that was lost so would be used a second time.
pub(crate) fn writer(config: &SqliteMlsStoreConfig, path: &Path) -> SqliteConnectOptions {
    options(config, path)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT.to_string())
}

/// How long is waited for a reader at least.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// Those that read. They are opened when first needed.
pub(crate) fn readers(config: &SqliteMlsStoreConfig, path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(config.readers)
        // Opening a connection takes its time on a busy machine; that is nobody's lock.
        .acquire_timeout(config.busy_timeout.max(READER_PATIENCE))
        .test_before_acquire(false)
        // After some errors SQLite ends a transaction by itself, and sqlx does not notice.
        .before_acquire(|connection, _| {
            let usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        })
        .connect_lazy_with(options(config, path).pragma("query_only", "ON"))
}

/// The name of a file that SQLite keeps beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
