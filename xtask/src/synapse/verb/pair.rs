//! Two Synapses that federate, in the background: a process of ours that holds them, and stops them
//! when it is told to.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    files,
    process::{self, Cancel},
    progress::Progress,
    synapse::{Federation, Options},
};

/// The file in Synapse's folder that remembers the process.
const STATE: &str = "federation.json";

/// What the process prints.
const LOG: &str = "federation.log";

/// How long it may take to stop two Synapses.
const STOP_LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

/// The process in the background.
#[derive(Debug, PartialEq, Eq)]
struct State {
    pid: u32,
    /// The variables of the environment that lead to the Synapses.
    environment: Vec<(String, String)>,
}

/// Starts them, unless they run already, and prints where they are.
pub fn up(dir: &Path, keep: bool) -> Result<()> {
    let path = dir.join(STATE);
    let state = match State::load(&path)? {
        Some(state) if state.is_running(&path) => {
            eprintln!("Two Synapses are already running (process {})", state.pid);
            state
        }
        _ => start(dir, &path, keep)?,
    };
    for (name, value) in &state.environment {
        println!("export {name}={value}");
    }
    Ok(())
}

/// Stops them. Whether there were any.
pub fn down(dir: &Path) -> Result<bool> {
    let path = dir.join(STATE);
    let Some(state) = State::load(&path)? else { return Ok(false) };
    let was_running = state.is_running(&path);
    if was_running {
        let progress = Progress::start("Stopping two Synapses");
        process::signal_process(state.pid, Signal::TERM);
        let begin = Instant::now();
        while state.is_running(&path) {
            if begin.elapsed() > STOP_LIMIT {
                bail!("the two Synapses (process {}) do not end", state.pid);
            }
            thread::sleep(POLL);
        }
        progress.finish();
    }
    fs::remove_file(&path)?;
    let outcome = if was_running { "stopped" } else { "had already ended" };
    eprintln!("Two Synapses (process {}) {outcome}", state.pid);
    Ok(true)
}

/// Is that process: keeps two Synapses until a signal comes.
pub fn hold(dir: &Path, state: &Path, keep: bool) -> Result<()> {
    let options = Options { container: false, keep, background: false };
    let cancel = Cancel::default();
    let federation = Federation::start(dir, options, &cancel)?;
    let environment = federation.environment().map(|(name, value)| (name.to_owned(), value));
    State { pid: std::process::id(), environment: environment.into() }.save(state)?;
    while cancel.check().is_ok() {
        thread::sleep(POLL);
    }
    Ok(())
}

fn start(dir: &Path, path: &Path, keep: bool) -> Result<State> {
    forget(path)?;
    let log_path = dir.join(LOG);
    let log = files::create(&log_path)?;
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.args(["synapse", "hold", "--state"]).arg(path).args(keep.then_some("--keep"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{}`", process::display(&command)))?;
    let result = wait_until_ready(&mut child, path, &log_path);
    if result.is_err() {
        process::stop(&mut child);
        forget(path)?;
    }
    let state = result?;
    eprintln!("Two Synapses run (process {}); `cargo xtask synapse down` stops them", state.pid);
    Ok(state)
}

fn wait_until_ready(child: &mut Child, path: &Path, log: &Path) -> Result<State> {
    let progress = Progress::start("Starting two Synapses");
    let cancel = Cancel::default();
    loop {
        if let Some(state) = State::load(path)? {
            progress.finish();
            return Ok(state);
        }
        cancel.check()?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "the two Synapses did not start ({status}); the end of {}:\n{}",
                log.display(),
                files::tail(log, 60)
            );
        }
        thread::sleep(POLL);
    }
}

fn forget(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl State {
    fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Self::parse(&bytes)
                .with_context(|| {
                    let path = path.display();
                    format!("{path} is not understood; end those Synapses by hand, then delete it")
                })
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Under its final name, it is complete.
    fn save(&self, path: &Path) -> Result<()> {
        let new: PathBuf = path.with_extension("new");
        let environment: Vec<_> = self.environment.iter().map(|(k, v)| json!([k, v])).collect();
        files::write(&new, &json!({ "pid": self.pid, "environment": environment }).to_string())?;
        fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether that very process still runs: the number may have been given to another one since.
    fn is_running(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        process::command_line(self.pid).is_some_and(|command| command.contains(&*path))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let environment = value.get("environment")?.as_array()?;
        let variable = |pair: &Value| {
            Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()))
        };
        Some(Self {
            pid: value.get("pid")?.as_u64()?.try_into().ok()?,
            environment: environment.iter().map(variable).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_can_be_loaded_and_what_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("federation.json");
        assert_eq!(State::load(&path).unwrap(), None);
        let environment = vec![("A".to_owned(), "http://127.0.0.1:1".to_owned())];
        let state = State { pid: std::process::id(), environment };
        state.save(&path).unwrap();
        assert!(!state.is_running(&path), "this process holds no Synapses");
        assert_eq!(State::load(&path).unwrap(), Some(state));
        for content in ["", "{", r#"{"pid": 1}"#, r#"{"pid": 1, "environment": [["A"]]}"#] {
            fs::write(&path, content).unwrap();
            assert!(State::load(&path).is_err(), "{content}");
        }
    }
}
