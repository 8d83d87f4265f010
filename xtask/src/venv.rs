//! Programs from PyPI, each in a virtual environment of its own under the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    files,
    process::{self, Cancel},
    progress::Progress,
};

/// The interpreter that makes the environments.
pub const PYTHON: &str = "python3";

/// A virtual environment with one pinned package in it.
#[derive(Debug)]
pub struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// The environment at `dir` with exactly this requirement (`name==version`), made if it is not
    /// there, or not this one, or was left half-finished.
    pub fn ensure(dir: &Path, requirement: &str, cancel: &Cancel) -> Result<Self> {
        let venv = Self { dir: dir.to_owned() };
        if let Some(parent) = dir.parent() {
            files::create_dir(parent)?;
        }
        let _lock = files::lock(&dir.with_extension("lock"))?;
        if venv.is_complete(requirement) {
            return Ok(venv);
        }
        let progress = Progress::start_in_background(&format!("Installing {requirement}"));
        venv.install(requirement, cancel)?;
        progress.finish();
        Ok(venv)
    }

    /// A program of this environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    fn marker(&self) -> PathBuf {
        self.dir.join("complete")
    }

    fn is_complete(&self, requirement: &str) -> bool {
        // The interpreter is a link, which an upgrade of the system may have broken.
        self.program("python").exists()
            && fs::read_to_string(self.marker()).is_ok_and(|content| content == requirement)
    }

    fn install(&self, requirement: &str, cancel: &Cancel) -> Result<()> {
        require_python()?;
        files::remove_dir(&self.dir)?;
        let log_path = self.dir.with_extension("log");
        let log = files::create(&log_path)?;
        let mut create = Command::new(PYTHON);
        create.args(["-m", "venv"]).arg(&self.dir);
        let mut install = Command::new(self.program("python"));
        install.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check"]);
        install.arg(requirement);
        for command in [&mut create, &mut install] {
            command.stdout(log.try_clone()?).stderr(log.try_clone()?);
            let status = process::run_until(command, cancel)?;
            if !status.success() {
                bail!(
                    "`{}` failed ({status}); the end of {}:\n{}",
                    process::display(command),
                    log_path.display(),
                    files::tail(&log_path, 30)
                );
            }
        }
        files::write(&self.marker(), requirement)
    }
}

/// Fails with advice unless there is a Python that can run what we install.
pub fn require_python() -> Result<()> {
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 10))";
    if !process::succeeds(Command::new(PYTHON).args(["-c", new_enough])) {
        bail!(
            "Python 3.10 or newer is needed as `{PYTHON}` (with its `venv` module: \
             on Debian and Ubuntu, install `python3-venv`)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_finished_environment_of_the_same_requirement_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let venv = Venv { dir: dir.path().to_owned() };
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(venv.program("python"), "").unwrap();
        assert!(!venv.is_complete("thing==1"), "no marker yet");

        fs::write(venv.marker(), "thing==1").unwrap();
        assert!(venv.is_complete("thing==1"));
        assert!(!venv.is_complete("thing==2"), "another version");

        fs::remove_file(venv.program("python")).unwrap();
        assert!(!venv.is_complete("thing==1"), "the interpreter is gone");
    }
}
