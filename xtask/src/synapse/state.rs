//! What `synapse up` remembers for `synapse down`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{files, process};

/// A Synapse in the background.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// The process that we started: Synapse itself, or the client of the container engine.
    pub pid: u32,
    /// The port of its client listener.
    pub port: u16,
    /// Its data folder.
    pub folder: PathBuf,
    /// The container engine, if it runs in one.
    pub engine: Option<String>,
    /// Whether its data shall outlive it.
    pub keep: bool,
}

impl State {
    /// Reads the state; none if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(&bytes)
                .with_context(|| {
                    format!(
                        "{} is not understood; end that Synapse by hand, then delete the file",
                        path.display()
                    )
                })
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the state.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write(path, &self.to_json().to_string())
    }

    /// Whether that very process still runs: the number may have been given to another one since.
    pub fn is_running(&self) -> bool {
        let folder = self.folder.to_string_lossy();
        process::command_line(self.pid).is_some_and(|command| command.contains(&*folder))
    }

    fn to_json(&self) -> Value {
        json!({
            "pid": self.pid,
            "port": self.port,
            "url": super::url(self.port),
            "server_name": super::config::SERVER_NAME,
            "folder": self.folder,
            "engine": self.engine,
            "keep": self.keep,
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            pid: value.get("pid")?.as_u64()?.try_into().ok()?,
            port: value.get("port")?.as_u64()?.try_into().ok()?,
            folder: value.get("folder")?.as_str().filter(|folder| !folder.is_empty())?.into(),
            engine: value.get("engine")?.as_str().map(str::to_owned),
            keep: value.get("keep")?.as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let folder = "/target/synapse/run-1-0".into();
        State { pid: 4711, port: 8008, folder, engine: None, keep: false }
    }

    #[test]
    fn what_is_saved_can_be_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(State::load(&path).unwrap(), None);
        for engine in [None, Some("podman".to_owned())] {
            let state = State { engine, ..state() };
            state.save(&path).unwrap();
            assert_eq!(State::load(&path).unwrap(), Some(state));
        }
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let no_pid = r#"{"port": 1, "folder": "/x", "engine": null, "keep": false}"#;
        // An empty folder would match the command line of any process.
        let no_folder = r#"{"pid": 1, "port": 1, "folder": "", "engine": null, "keep": false}"#;
        let big_port =
            r#"{"pid": 1, "port": 99999, "folder": "/x", "engine": null, "keep": false}"#;
        for content in ["", "{", no_pid, no_folder, big_port] {
            fs::write(&path, content).unwrap();
            assert!(State::load(&path).is_err(), "{content}");
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_not_ours() {
        let state = State { pid: std::process::id(), ..state() };
        assert!(!state.is_running());
    }
}
