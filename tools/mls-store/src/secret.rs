//! How the store is unlocked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use matrix_sdk_mls_sqlite::SqliteMlsStoreConfig;
use zeroize::Zeroizing;

/// The key or the passphrase; none for a store that is not encrypted.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct SecretArgs {
    /// The store's key: 64 hexadecimal digits. Other users of this machine can see it meanwhile
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// A file with the key: 32 bytes, or 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with the passphrase, up to the first line break. Without any of these, the environment
    /// variable MLS_STORE_PASSPHRASE is used if it is set
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SecretArgs {
    /// How a store in this directory is opened.
    pub fn configure(&self, directory: &Path) -> Result<SqliteMlsStoreConfig> {
        let config = SqliteMlsStoreConfig::new(directory);
        if let Some(hex) = &self.key {
            return Ok(config.key(Some(&*from_hex(hex.as_bytes())?)));
        }
        if let Some(file) = &self.key_file {
            let bytes = read(file)?;
            let key = match <[u8; 32]>::try_from(bytes.as_slice()) {
                Ok(key) => Zeroizing::new(key),
                Err(_) => from_hex(bytes.trim_ascii())?,
            };
            return Ok(config.key(Some(&*key)));
        }
        let passphrase = match &self.passphrase_file {
            Some(file) => {
                let bytes = read(file)?;
                let line = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next();
                let text = str::from_utf8(line.unwrap_or_default());
                Some(Zeroizing::new(text.context("the passphrase is not UTF-8")?.to_owned()))
            }
            None => match std::env::var("MLS_STORE_PASSPHRASE") {
                Ok(text) => Some(Zeroizing::new(text)),
                Err(std::env::VarError::NotPresent) => None,
                Err(_) => bail!("MLS_STORE_PASSPHRASE is not UTF-8"),
            },
        };
        Ok(config.passphrase(passphrase.as_ref().map(|text| text.as_str())))
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(Zeroizing::new(bytes))
}

fn from_hex(digits: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    // Not the error of `hex`, which quotes what it was given.
    if hex::decode_to_slice(digits, &mut *key).is_err() {
        bail!("a key is 64 hexadecimal digits");
    }
    Ok(key)
}

impl std::fmt::Debug for SecretArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretArgs").finish_non_exhaustive()
    }
}
