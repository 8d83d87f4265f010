//! A copy of the store to look into. Opening a database writes: to its log, and to the file itself
//! when the log is written back or the schema is brought up to date.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// What the store looks for in its directory.
const FILE_NAME: &str = "matrix-sdk-mls.sqlite3";

/// Where the schema's version is in the file.
/// <https://sqlite.org/fileformat2.html#the_database_header>
const USER_VERSION: usize = 60;

/// A store, copied into a directory that only we can read.
pub struct Copied {
    /// The original.
    pub file: PathBuf,
    /// The version of the file's schema, as its header says.
    pub schema_version: u32,
    directory: TempDir,
}

impl Copied {
    /// Copies a database and its log.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is written to at the same time.
    pub fn of(file: &Path) -> Result<Self> {
        let mut header = [0; 64];
        let mut original = File::open(file)?;
        // What is too short is found damaged when it is opened.
        let length = original.read(&mut header)?;
        let version = header.get(USER_VERSION..length).and_then(|bytes| bytes.try_into().ok());
        let log = with_suffix(file, "-wal");
        let before = (state(file)?, state(&log)?);
        let directory = tempfile::Builder::new().prefix("mls-store-").tempdir()?;
        let copy = directory.path().join(FILE_NAME);
        fs::copy(file, &copy).context("it cannot be copied")?;
        if before.1.is_some() {
            fs::copy(&log, with_suffix(&copy, "-wal")).context("its log cannot be copied")?;
        }
        if (state(file)?, state(&log)?) != before {
            bail!("it was written to meanwhile; stop the application that uses it first");
        }
        let schema_version = version.map_or(0, u32::from_be_bytes);
        Ok(Self { file: file.to_owned(), schema_version, directory })
    }

    /// The directory with the copy.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the copy, and says so if that fails.
    pub fn remove(self) -> io::Result<()> {
        self.directory.close()
    }
}

/// Length and time of the last change; `None` if there is no such file.
fn state(file: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    match fs::metadata(file) {
        Ok(file) => Ok(Some((file.len(), file.modified()?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
