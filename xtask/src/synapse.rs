//! A throw-away Synapse, from PyPI in a virtual environment or in a container.
//!
//! It is stopped by process ID when its owner is dropped: at the end, after an error, in a panic,
//! and after a signal, which makes every wait of ours return an error. When xtask is killed
//! outright, a supervisor sees its standard input closed and ends Synapse (`supervise.py`); the
//! data folder is then deleted by the next run.

mod config;
mod engine;
mod federation;
mod folder;
mod state;
mod verb;

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub use self::{
    config::SERVER_NAME,
    federation::Federation,
    verb::{Verb, run},
};
use self::{
    config::{GENERATED, LOG, OVERRIDES, Settings},
    engine::Engine,
    folder::Folder,
    state::State,
};
use crate::{
    files, http,
    process::{self, Cancel},
    progress::Progress,
    venv::{self, Venv},
};

/// The version of Synapse, of the package and of the image.
pub const VERSION: &str = "1.163.2";

const SUPERVISE: &str = include_str!("synapse/supervise.py");

const CERTIFY: &str = include_str!("synapse/certificate.py");

/// What Synapse and its launcher print, beside what Synapse logs.
const CONSOLE: &str = "console.log";

const START_LIMIT: Duration = Duration::from_secs(60);

/// How much of each log an error message shows.
const LINES_SHOWN: usize = 20;

/// How often to try another port when somebody else took ours.
const ATTEMPTS: u32 = 3;

/// How to start a Synapse.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// In a container?
    pub container: bool,
    /// Leave the data folder there in the end?
    pub keep: bool,
    /// Shall it outlive us?
    pub background: bool,
}

/// What a Synapse needs to know to federate with another one.
#[derive(Debug)]
pub struct Peering {
    /// Its own name.
    pub name: String,
    /// The other one's.
    pub peer: String,
}

/// A running Synapse, which is stopped when this is dropped.
#[derive(Debug)]
pub struct Synapse {
    child: Child,
    ports: Ports,
    engine: Option<Engine>,
    folder: Folder,
    detached: bool,
}

/// What a Synapse listens on.
#[derive(Debug, Clone, Copy)]
struct Ports {
    client: u16,
    /// For other servers; of no use to one that is alone.
    federation: u16,
}

impl Synapse {
    /// Installs Synapse if it is not there yet, starts one, and waits until it answers.
    /// `dir` is where all that goes.
    pub fn start(dir: &Path, options: Options, cancel: &Cancel) -> Result<Self> {
        Self::start_with(dir, options, None, cancel)
    }

    /// The same, with another one to federate with if `peering` says so.
    fn start_with(
        dir: &Path,
        options: Options,
        peering: Option<&Peering>,
        cancel: &Cancel,
    ) -> Result<Self> {
        venv::require_python()?;
        let background = State::load(&dir.join(verb::STATE)).ok().flatten();
        Folder::clean(dir, background.as_ref().map(|state| &*state.folder))?;
        let source = Source::find(dir, options.container, cancel)?;
        let mut attempt = 1;
        loop {
            let mut synapse = Self::launch(dir, &source, options, peering, cancel)?;
            match synapse.wait_until_ready(cancel) {
                Ok(()) => return Ok(synapse),
                Err(_) if synapse.lost_its_port() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        url(self.ports.client)
    }

    /// Lets it live on, and returns what is needed to stop it later.
    fn detach(mut self) -> State {
        self.detached = true;
        let keep = self.folder.is_kept();
        self.folder.keep();
        State {
            pid: self.child.id(),
            port: self.ports.client,
            folder: self.folder.path().to_owned(),
            engine: self.engine.as_ref().map(|engine| engine.name().to_owned()),
            keep,
        }
    }

    fn launch(
        dir: &Path,
        source: &Source,
        options: Options,
        peering: Option<&Peering>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut folder = Folder::create(dir)?;
        if options.keep {
            folder.keep_for_good()?;
            eprintln!("The data of Synapse will stay in {}", folder.path().display());
        }
        let [client, federation] = http::free_ports()?;
        let ports = Ports { client, federation };
        let synapse = source.prepare(folder.path(), ports, peering, cancel)?;
        let console = files::create(&folder.path().join(CONSOLE))?;
        let mut command = if options.background { synapse } else { supervised(&synapse) };
        let child = command
            .stdin(if options.background { Stdio::null() } else { Stdio::piped() })
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run `{}`", process::display(&command)))?;
        let engine = source.engine().cloned();
        Ok(Self { child, ports, engine, folder, detached: false })
    }

    fn wait_until_ready(&mut self, cancel: &Cancel) -> Result<()> {
        let place = if self.engine.is_some() { " in a container" } else { "" };
        let progress = Progress::start_in_background(&format!("Starting Synapse {VERSION}{place}"));
        let begin = Instant::now();
        while !http::answers(self.ports.client, "/_matrix/client/versions") {
            cancel.check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("Synapse ended at once ({status})\n{}", self.logs());
            }
            if begin.elapsed() > START_LIMIT {
                bail!("no answer from Synapse for {START_LIMIT:?}\n{}", self.logs());
            }
            thread::sleep(Duration::from_millis(100));
        }
        progress.finish();
        Ok(())
    }

    fn lost_its_port(&self) -> bool {
        is_about_a_taken_port(&logs(self.folder.path(), 500))
    }

    fn logs(&self) -> String {
        logs(self.folder.path(), LINES_SHOWN)
    }

    fn stop(&mut self) {
        // The supervisor sees its input end; without one, Synapse itself gets the signal.
        if self.child.stdin.take().is_some() {
            process::wait_at_most(&mut self.child, process::GRACE + Duration::from_secs(2));
        }
        process::stop(&mut self.child);
        if let Some(engine) = &self.engine {
            engine.remove(self.folder.path());
        }
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        if !self.detached {
            self.stop();
        }
    }
}

/// Where Synapse comes from.
enum Source {
    Package(Venv),
    Image(Engine),
}

impl Source {
    fn find(dir: &Path, container: bool, cancel: &Cancel) -> Result<Self> {
        if container {
            return Engine::find().map(Self::Image);
        }
        let requirement = format!("matrix-synapse=={VERSION}");
        Venv::ensure(&dir.join("venv"), &requirement, cancel).map(Self::Package)
    }

    fn engine(&self) -> Option<&Engine> {
        match self {
            Self::Package(_) => None,
            Self::Image(engine) => Some(engine),
        }
    }

    /// Writes the configuration to the data folder, and returns the command that runs Synapse.
    fn prepare(
        &self,
        folder: &Path,
        ports: Ports,
        peering: Option<&Peering>,
        cancel: &Cancel,
    ) -> Result<Command> {
        let Ports { client: port, federation } = ports;
        let venv = match self {
            Self::Package(venv) => venv,
            Self::Image(_) if peering.is_some() => {
                bail!("a Synapse in a container does not reach another one on this machine")
            }
            Self::Image(engine) => return engine.prepare(folder, port, cancel),
        };
        let mut settings = Settings {
            data: folder.to_owned(),
            bind: "127.0.0.1",
            port,
            public_port: port,
            federation: None,
        };
        let name = peering.map_or(SERVER_NAME, |peering| &peering.name);
        if let Some(Peering { peer, .. }) = peering {
            let (certificate, key) = certify(venv, folder)?;
            let (port, peer) = (federation, peer.clone());
            settings.federation = Some(config::Federation { port, peer, certificate, key });
        }
        settings.write(folder)?;

        let homeserver = || {
            let mut command = Command::new(venv.program("python"));
            command.args(["-m", "synapse.app.homeserver"]).current_dir(folder);
            command
        };
        let mut generate = homeserver();
        generate.args(["--server-name", name, "--report-stats=no", "--generate-config"]);
        generate.arg("--config-path").arg(folder.join(GENERATED));
        generate.arg("--data-directory").arg(folder);
        self::generate(&mut generate, folder, cancel)?;

        let mut run = homeserver();
        run.arg("-c").arg(folder.join(GENERATED)).arg("-c").arg(folder.join(OVERRIDES));
        Ok(run)
    }
}

/// Makes a certificate in this folder, and says where it is and where its key is.
fn certify(venv: &Venv, folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let mut command = Command::new(venv.program("python"));
    command.args(["-c", CERTIFY]).arg(&certificate).arg(&key);
    process::output(&mut command).context("no certificate for the federation")?;
    Ok((certificate, key))
}

/// Runs a command that generates Synapse's configuration and keys.
fn generate(command: &mut Command, folder: &Path, cancel: &Cancel) -> Result<()> {
    let progress = Progress::start_in_background("Configuring Synapse");
    let console = files::create(&folder.join(CONSOLE))?;
    command.stdout(console.try_clone()?).stderr(console);
    let status = process::run_until(command, cancel)?;
    if !status.success() {
        bail!("`{}` failed ({status})\n{}", process::display(command), logs(folder, LINES_SHOWN));
    }
    progress.finish();
    Ok(())
}

fn supervised(command: &Command) -> Command {
    let mut supervisor = Command::new(venv::PYTHON);
    supervisor.args(["-c", SUPERVISE]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        supervisor.current_dir(dir);
    }
    supervisor
}

fn logs(folder: &Path, lines: usize) -> String {
    let of = |name: &str| {
        let path = folder.join(name);
        format!("The end of {}:\n{}", path.display(), files::tail(&path, lines))
    };
    format!("{}\n{}", of(CONSOLE), of(LOG))
}

/// What Synapse, Docker and Podman say when somebody else listens on the port.
fn is_about_a_taken_port(logs: &str) -> bool {
    let logs = logs.to_lowercase();
    let messages = ["address already in use", "address in use", "port is already allocated"];
    messages.iter().any(|message| logs.contains(message))
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script under the supervisor, with its first line of output.
    fn supervise(script: &str) -> (Child, String) {
        use std::io::{BufRead, BufReader};

        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut supervisor = supervised(&command);
        let mut child = supervisor.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    #[test]
    fn a_taken_port_is_told_from_other_errors() {
        assert!(is_about_a_taken_port(
            "CannotListenError: Couldn't listen on 127.0.0.1:1: [Errno 98] Address already in use."
        ));
        assert!(is_about_a_taken_port("Bind for 127.0.0.1:1 failed: port is already allocated"));
        assert!(!is_about_a_taken_port("Error in configuration at 'listeners.<item 0>.port'"));
    }

    #[test]
    fn the_supervisor_ends_with_its_command() {
        let (mut child, _) = supervise("exit 5");
        let status = process::wait_at_most(&mut child, process::GRACE).unwrap();
        assert_eq!(status.code(), Some(5));
    }

    #[test]
    fn the_command_ends_when_the_supervisors_input_does() {
        let (mut child, pid) = supervise("echo $$; exec sleep 60");
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        process::wait_at_most(&mut child, process::GRACE).unwrap();
        assert_eq!(process::command_line(pid.parse().unwrap()), None);
    }

    #[test]
    fn the_command_ends_when_the_supervisor_is_asked_to() {
        let (mut child, pid) = supervise("echo $$; exec sleep 60");
        process::signal_process(child.id(), rustix::process::Signal::TERM);
        process::wait_at_most(&mut child, process::GRACE).unwrap();
        assert_eq!(process::command_line(pid.parse().unwrap()), None);
    }
}
