//! `synapse up` and `synapse down`.

mod pair;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Subcommand;
use rustix::process::Signal;

use super::{Engine, Options, State, Synapse, folder, url};
use crate::{
    cargo::Workspace,
    files,
    process::{self, Cancel},
    progress::Progress,
};

/// The file in Synapse's folder that remembers the one in the background.
pub const STATE: &str = "state.json";

/// What to do with the Synapse in the background.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start one, and print its URL
    Up {
        /// Run it in a container (Docker or Podman) instead of a virtual environment
        #[arg(long)]
        container: bool,
        /// Start two that federate, and print where the tests find them
        #[arg(long, conflicts_with = "container")]
        federated: bool,
        /// Leave its data where they are when it stops
        #[arg(long)]
        keep: bool,
    },
    /// Stop it
    Down,
    /// Keep two running that federate, until a signal comes: what `up --federated` starts
    #[command(hide = true)]
    Hold {
        /// The file to write when they are ready
        #[arg(long)]
        state: PathBuf,
        /// Leave their data where they are
        #[arg(long)]
        keep: bool,
    },
}

/// Runs the verb.
pub fn run(verb: &Verb) -> Result<()> {
    let dir = Workspace::load()?.synapse_dir();
    files::create_dir(&dir)?;
    let lock = || files::lock(&dir.join("state.lock"));
    match *verb {
        Verb::Up { federated: true, keep, .. } => {
            let _lock = lock()?;
            pair::up(&dir, keep)
        }
        Verb::Up { container, keep, .. } => {
            let _lock = lock()?;
            up(&dir, Options { container, keep, background: true })
        }
        Verb::Down => {
            let _lock = lock()?;
            down(&dir)
        }
        // Whoever has started this holds the lock.
        Verb::Hold { ref state, keep } => pair::hold(&dir, state, keep),
    }
}

fn up(dir: &Path, options: Options) -> Result<()> {
    let path = dir.join(STATE);
    if let Some(state) = State::load(&path)? {
        if state.is_running() {
            eprintln!("Synapse is already running (process {})", state.pid);
            println!("{}", url(state.port));
            return Ok(());
        }
        forget(&path, &state)?;
    }
    let synapse = Synapse::start(dir, options, &Cancel::default())?;
    let url = synapse.url();
    let state = synapse.detach();
    if let Err(error) = state.save(&path) {
        end(&state)?;
        return Err(error);
    }
    eprintln!("Synapse runs (process {}); `cargo xtask synapse down` stops it", state.pid);
    println!("{url}");
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    let pair = pair::down(dir)?;
    let path = dir.join(STATE);
    let Some(state) = State::load(&path)? else {
        if !pair {
            eprintln!("No Synapse was started by `cargo xtask synapse up`");
        }
        return Ok(());
    };
    let was_running = state.is_running();
    end(&state)?;
    forget(&path, &state)?;
    let outcome = if was_running { "stopped" } else { "had already ended" };
    eprintln!("Synapse (process {}) {outcome}", state.pid);
    Ok(())
}

fn end(state: &State) -> Result<()> {
    let progress = Progress::start("Stopping Synapse");
    for signal in [Signal::TERM, Signal::KILL] {
        if state.is_running() {
            process::signal_process(state.pid, signal);
            wait_for_end(state, process::GRACE);
        }
    }
    if let Some(engine) = &state.engine {
        Engine::named(engine).remove(&state.folder);
    }
    if state.is_running() {
        bail!("Synapse (process {}) does not end", state.pid);
    }
    progress.finish();
    Ok(())
}

fn wait_for_end(state: &State, limit: Duration) {
    let begin = Instant::now();
    while state.is_running() && begin.elapsed() < limit {
        thread::sleep(Duration::from_millis(50));
    }
}

fn forget(path: &Path, state: &State) -> Result<()> {
    if !state.keep {
        folder::delete(&state.folder)?;
    }
    fs::remove_file(path)?;
    Ok(())
}
