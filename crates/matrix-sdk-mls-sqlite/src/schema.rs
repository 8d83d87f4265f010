//! The file: made whole or not at all, recognised before SQLite touches it, migrated in one step.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::{cipher::Cipher, config::SqliteMlsStoreConfig, connection, error::OpenStoreError};

/// In SQLite's header, for `file(1)` and for us: "dMLS".
pub(crate) const APPLICATION_ID: u32 = 0x644d_4c53;

/// Each takes the schema from the version that is its index to the next one. Never changed once
/// released.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/001_init.sql"),
    include_str!("../migrations/002_packed_chunks.sql"),
    include_str!("../migrations/003_punctured_keys.sql"),
];

/// The version that the last migration makes.
pub(crate) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Makes the database at `path`. Until it is complete it has another name, so that there is never half
/// a store, and an empty file is always a damaged one.
pub(crate) async fn create(
    config: &SqliteMlsStoreConfig,
    path: &Path,
) -> Result<(), OpenStoreError> {
    std::fs::create_dir_all(&config.directory)?;
    let temporary = tempfile::Builder::new()
        .prefix(".matrix-sdk-mls-")
        .suffix(".new")
        .tempfile_in(&config.directory)?
        .into_temp_path();
    let secret = config.secret.clone();
    let (_, wrapped) = off_thread(move || Cipher::create(secret.as_ref())).await?;
    let mut connection =
        SqliteConnection::connect_with(&connection::writer(config, &temporary)).await?;
    sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
    migrate(&mut connection, 0).await?;
    if let Some(wrapped) = wrapped {
        sqlx::query("INSERT INTO meta (name, value) VALUES ('cipher', ?)")
            .bind(wrapped)
            .execute(&mut connection)
            .await?;
    }
    // Writes the log back and deletes it.
    connection.close().await?;
    match temporary.persist_noclobber(path) {
        // So that the name is durable too. Elsewhere directories cannot be opened.
        Ok(()) if cfg!(unix) => File::open(&config.directory)?.sync_all()?,
        Ok(()) => {}
        // Another process was faster: its store is the one.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error.into()),
    }
    Ok(())
}

/// Looks at the file before SQLite does, which would take an empty one for a new database, and could
/// write to one that a newer version has made. <https://sqlite.org/fileformat2.html#the_database_header>
pub(crate) fn check_header(path: &Path) -> Result<(), OpenStoreError> {
    let damaged = |what: &str| OpenStoreError::Corrupt(what.to_owned());
    let mut header = [0; 100];
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("the file is cut off"),
        _ => error.into(),
    })?;
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged("the file is not a database"));
    }
    if number(68) != APPLICATION_ID {
        return Err(damaged("the file is another application's database"));
    }
    check_version(number(60))?;
    let page_size = match number(16) >> 16 {
        1 => 65_536,
        size => u64::from(size),
    };
    // While there is a log, the missing pages may be there.
    let log = std::fs::metadata(connection::beside(path, "-wal")).map_or(0, |log| log.len());
    if log == 0 && length < page_size * u64::from(number(28)) {
        return Err(damaged("the file is cut off"));
    }
    Ok(())
}

fn check_version(found: u32) -> Result<(), OpenStoreError> {
    match found {
        0 => Err(OpenStoreError::Corrupt("the file has no schema version".to_owned())),
        1..=VERSION => Ok(()),
        found => Err(OpenStoreError::SchemaTooNew { found, supported: VERSION }),
    }
}

/// Unlocks a store whose header is good, and then migrates it if it is old.
pub(crate) async fn prepare(
    connection: &mut SqliteConnection,
    config: &SqliteMlsStoreConfig,
) -> Result<Cipher, OpenStoreError> {
    // Once more: the version in the file is older than that in its log, if there is one.
    let found = version(connection).await?;
    check_version(found)?;
    let wrapped: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'cipher'")
            .fetch_optional(&mut *connection)
            .await?;
    let secret = config.secret.clone();
    let cipher = off_thread(move || Cipher::unlock(secret.as_ref(), wrapped.as_deref())).await?;
    migrate(connection, found).await?;
    Ok(cipher)
}

/// Does what takes long where it holds nobody up: deriving a key from a passphrase is a tenth of a
/// second of work.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenStoreError> + Send + 'static,
) -> Result<T, OpenStoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| OpenStoreError::Backend(error.into()))?
}

async fn version(connection: &mut SqliteConnection) -> Result<u32, OpenStoreError> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(connection).await?;
    let version: i32 = row.try_get(0)?;
    Ok(version.cast_unsigned())
}

/// Brings the schema up to date, in one transaction.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    from: u32,
) -> Result<(), OpenStoreError> {
    if from >= VERSION {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Another process may have been here since `from` was read.
    let from = version(&mut transaction).await?;
    for migration in MIGRATIONS.iter().skip(from as usize) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    let header = format!(
        "PRAGMA user_version = {}; PRAGMA application_id = {APPLICATION_ID}",
        from.max(VERSION)
    );
    sqlx::raw_sql(AssertSqlSafe(header)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}
