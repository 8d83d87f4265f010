//! Where a device keeps on disk what its machines must not lose.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use matrix_sdk_sqlite::SqliteCryptoStore;
use zeroize::Zeroizing;

use crate::{account::Session, error::DriverError};

/// A directory with the stores of both machines, encrypted with one random key.
///
/// The key is in memory only. A real client has it in the system's keychain, and its access token,
/// sync token and timeline in a store of its own.
#[derive(Clone)]
pub struct Home {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

impl Home {
    /// A home in this directory, with a new key. Nothing is written yet; the directory must be
    /// empty, or not exist.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, DriverError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        Ok(Self { directory: directory.into(), key })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens both stores, or makes them, and the Olm machine that the one has the keys of.
    pub(crate) async fn open(
        &self,
        session: &Session,
    ) -> Result<(OlmMachine, SqliteMlsStore), DriverError> {
        let crypto = SqliteCryptoStore::open_with_key(&self.directory, Some(&self.key)).await?;
        let olm =
            OlmMachine::with_store(&session.user_id, &session.device_id, crypto, None).await?;
        let mls = SqliteMlsStore::open_with_key(&self.directory, Some(&self.key)).await?;
        Ok((olm, mls))
    }
}

/// Closes what [`Home::open`] has opened.
pub(crate) async fn close(olm: &OlmMachine, mls: &SqliteMlsStore) -> Result<(), DriverError> {
    mls.close().await?;
    Ok(olm.store().close().await?)
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("directory", &self.directory).finish_non_exhaustive()
    }
}
