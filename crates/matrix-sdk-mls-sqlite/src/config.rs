//! How a store is opened.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

/// What the store key is wrapped with.
#[derive(Clone)]
pub(crate) enum Secret {
    Key(Zeroizing<[u8; 32]>),
    Passphrase(Zeroizing<String>),
}

/// How [`SqliteMlsStore::open_with_config`](crate::SqliteMlsStore::open_with_config) opens a store.
#[derive(Clone)]
#[must_use]
pub struct SqliteMlsStoreConfig {
    pub(crate) directory: PathBuf,
    pub(crate) secret: Option<Secret>,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: u32,
    pub(crate) cache_bytes: u32,
}

impl SqliteMlsStoreConfig {
    /// A store in this directory, without encryption.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self {
            directory: directory.as_ref().to_owned(),
            secret: None,
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            cache_bytes: 2_000_000,
        }
    }

    /// Encrypts with a passphrase. Slow on purpose: the key is derived with 200,000 rounds of PBKDF2.
    pub fn passphrase(mut self, passphrase: Option<&str>) -> Self {
        self.secret = passphrase.map(|text| Secret::Passphrase(Zeroizing::new(text.to_owned())));
        self
    }

    /// Encrypts with a key. It should be random.
    pub fn key(mut self, key: Option<&[u8; 32]>) -> Self {
        self.secret = key.map(|key| Secret::Key(Zeroizing::new(*key)));
        self
    }

    /// How long an operation waits for another process before it fails with
    /// [`StoreError::Busy`](matrix_sdk_crypto_mls::store::StoreError::Busy). 5 seconds unless set.
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// At most this many connections read at the same time; they are opened when needed. 4 unless
    /// set.
    pub const fn pool_max_size(mut self, readers: u32) -> Self {
        self.readers = if readers == 0 { 1 } else { readers };
        self
    }

    /// SQLite's page cache, in bytes per connection. 2 MB unless set.
    pub const fn cache_size(mut self, bytes: u32) -> Self {
        self.cache_bytes = bytes;
        self
    }
}

impl std::fmt::Debug for SqliteMlsStoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteMlsStoreConfig")
            .field("encrypted", &self.secret.is_some())
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}
