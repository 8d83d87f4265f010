//! What can go wrong, and how SQLite says it.

use std::io;

use matrix_sdk_crypto_mls::store::StoreError;

/// Why a store cannot be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The key or passphrase is not the one that the store was made with.
    #[error("the key or passphrase is not this store's")]
    WrongKey,
    /// The store is encrypted, and no key or passphrase was given.
    #[error("the store is encrypted, and no key or passphrase was given")]
    KeyMissing,
    /// A key or passphrase was given for a store that was made without.
    #[error("the store is not encrypted, and a key or passphrase was given")]
    NotEncrypted,
    /// A newer version of this crate has made or migrated the store.
    #[error("the store's schema is version {found}, and this crate knows them up to {supported}")]
    SchemaTooNew {
        /// The file's version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// Another process holds the store; trying again helps.
    #[error("the store is busy")]
    Busy,
    /// The file is damaged, or is not a store at all.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The file or its directory cannot be made, read or written.
    #[error("the store's file: {0}")]
    Io(#[from] io::Error),
    /// The database or the cryptography failed otherwise.
    #[error(transparent)]
    Backend(Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for OpenStoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::Busy,
            StoreError::Corrupt(what) => Self::Corrupt(what),
            StoreError::Backend(error) => Self::Backend(error),
            other => Self::Backend(other.into()),
        }
    }
}

impl From<sqlx::Error> for OpenStoreError {
    fn from(error: sqlx::Error) -> Self {
        database(error).into()
    }
}

/// The primary result codes of SQLite that mean something to a caller.
/// <https://sqlite.org/rescode.html>
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const CORRUPT: u32 = 11;
const NOT_A_DATABASE: u32 = 26;
/// The file ends where a page should be.
const IOERR_SHORT_READ: u32 = 522;

/// What a database error is to the machine.
pub(crate) fn database(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::PoolTimedOut => return StoreError::Busy,
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::TypeNotFound { .. } => return StoreError::Corrupt(error.to_string()),
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
            match code & 0xff {
                BUSY | LOCKED => return StoreError::Busy,
                CORRUPT | NOT_A_DATABASE => return StoreError::Corrupt(database.to_string()),
                _ if code == IOERR_SHORT_READ => {
                    return StoreError::Corrupt("the file is cut off".to_owned());
                }
                _ => {}
            }
        }
        _ => {}
    }
    StoreError::Backend(error.into())
}

/// A stored value that cannot be what this crate has written.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
