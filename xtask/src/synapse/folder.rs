//! The data folder of one Synapse.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::files;

const PREFIX: &str = "run-";

/// Held while folders are created or deleted.
const LOCK: &str = "folders.lock";

/// A file in a folder that is to be kept.
const KEEP: &str = "keep";

/// A data folder of our own, which is deleted in the end.
///
/// Beside it lies a file that we hold locked. A folder whose file is not locked was left behind by
/// a process that died.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
    _lock: File,
}

impl Folder {
    /// A new and empty folder.
    pub fn create(parent: &Path) -> Result<Self> {
        files::create_dir(parent)?;
        // So that nobody takes a folder for abandoned between its creation and its lock.
        let _creating = files::lock(&parent.join(LOCK))?;
        for number in 0.. {
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            let lock = files::open_lock(&lock_path(&path))?;
            if lock.try_lock().is_err() || path.exists() {
                continue;
            }
            files::create_dir(&path)?;
            return Ok(Self { path, keep: false, _lock: lock });
        }
        anyhow::bail!("no free name in {}", parent.display())
    }

    /// Deletes the folders of processes that died. `used` is one that is in use nevertheless.
    pub fn clean(parent: &Path, used: Option<&Path>) -> Result<()> {
        files::create_dir(parent)?;
        let _creating = files::lock(&parent.join(LOCK))?;
        for entry in fs::read_dir(parent).context("cannot list the data folders")? {
            let path = entry?.path();
            let is_ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
            if !is_ours || !path.is_dir() || used == Some(&path) || path.join(KEEP).exists() {
                continue;
            }
            let lock = files::open_lock(&lock_path(&path))?;
            if lock.try_lock().is_ok() {
                delete(&path)?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is, for somebody to look into or for a Synapse in the background.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether it stays when this is dropped.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// Protects the folder from [`Folder::clean`] too.
    pub fn keep_for_good(&mut self) -> Result<()> {
        self.keep();
        files::write(&self.path.join(KEEP), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = delete(&self.path)
        {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Deletes a data folder and what belongs to it.
pub fn delete(path: &Path) -> Result<()> {
    files::remove_dir(path)?;
    // Left behind, it would do no harm.
    let _ = fs::remove_file(lock_path(path));
    Ok(())
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lives_as_long_as_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let one = Folder::create(parent.path()).unwrap();
        let two = Folder::create(parent.path()).unwrap();
        assert_ne!(one.path(), two.path());
        Folder::clean(parent.path(), None).unwrap();
        assert!(one.path().is_dir() && two.path().is_dir());

        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().is_dir());
    }

    #[test]
    fn abandoned_folders_are_cleaned_and_others_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (abandoned, used, other) = (folder("run-1-0"), folder("run-1-1"), folder("venv"));
        let mut kept = Folder::create(parent.path()).unwrap();
        kept.keep_for_good().unwrap();
        let kept_path = kept.path().to_owned();
        drop(kept);

        Folder::clean(parent.path(), Some(&used)).unwrap();
        assert!(!abandoned.exists());
        assert!(used.exists() && other.exists() && kept_path.exists());
    }
}
