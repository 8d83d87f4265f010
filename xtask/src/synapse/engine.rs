//! Synapse in a container.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::config::{GENERATED, OVERRIDES, SERVER_NAME, Settings};
use crate::process::{self, Cancel};

/// Where the data folder is mounted.
const DATA: &str = "/data";

/// The port inside the container.
const PORT: u16 = 8008;

/// The file in the data folder that holds the container's ID.
const ID_FILE: &str = "container.id";

/// Docker or Podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    program: String,
}

impl Engine {
    /// The first engine on this machine that answers.
    pub fn find() -> Result<Self> {
        let mut reasons = String::new();
        for program in ["docker", "podman"] {
            // Unlike `version`, this fails when Docker's daemon is not running.
            match process::output(Command::new(program).args(["ps", "--quiet"])) {
                Ok(_) => return Ok(Self::named(program)),
                Err(reason) => reasons += &format!("\n  {reason:#}"),
            }
        }
        bail!("no container engine answers; leave out `--container` to do without:{reasons}")
    }

    /// The engine that an earlier command found.
    pub fn named(program: &str) -> Self {
        Self { program: program.to_owned() }
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.program
    }

    /// Writes the configuration to the data folder, and returns the command that runs Synapse.
    pub fn prepare(&self, folder: &Path, public_port: u16, cancel: &Cancel) -> Result<Command> {
        let settings = Settings {
            data: DATA.into(),
            bind: "0.0.0.0",
            port: PORT,
            public_port,
            federation: None,
        };
        settings.write(folder)?;

        // Pulls the image too if it is not there yet.
        let mut generate = self.run(folder);
        generate.args(["-e", &format!("SYNAPSE_SERVER_NAME={SERVER_NAME}")]);
        generate.args(["-e", "SYNAPSE_REPORT_STATS=no"]).args([&image(), "generate"]);
        super::generate(&mut generate, folder, cancel)?;

        let mut run = self.run(folder);
        run.arg("--cidfile").arg(folder.join(ID_FILE));
        run.args(["--publish", &format!("127.0.0.1:{public_port}:{PORT}"), &image(), "run"]);
        run.args(["-c", &format!("{DATA}/{GENERATED}"), "-c", &format!("{DATA}/{OVERRIDES}")]);
        Ok(run)
    }

    /// Stops and removes the container whose data this folder holds. That it may be gone is not an
    /// error.
    pub fn remove(&self, folder: &Path) {
        if let Ok(id) = fs::read_to_string(folder.join(ID_FILE)) {
            let grace = process::GRACE.as_secs().to_string();
            let _ = self.quietly(&["stop", "-t", &grace, id.trim()]);
            let _ = self.quietly(&["rm", "--force", id.trim()]);
        }
    }

    fn quietly(&self, args: &[&str]) -> Result<Vec<u8>> {
        process::output(Command::new(&self.program).args(args).stdout(Stdio::null()))
    }

    /// The part that all our containers share.
    fn run(&self, folder: &Path) -> Command {
        let (user, group) = self.user();
        let mut command = Command::new(&self.program);
        // `Z` lets the container in where SELinux guards the folder.
        let mut volume = folder.as_os_str().to_owned();
        volume.push(format!(":{DATA}:Z"));
        command.args(["run", "--rm", "--volume"]).arg(volume);
        command.args(["-e", &format!("UID={user}"), "-e", &format!("GID={group}")]);
        command
    }

    /// As whom Synapse must run in the container so that the files are ours outside: without root
    /// rights, an engine maps the container's root to us.
    fn user(&self) -> (u32, u32) {
        let rootless = self.program == "podman"
            || self
                .quietly_output(&["info", "--format", "{{.SecurityOptions}}"])
                .contains("rootless");
        if rootless {
            return (0, 0);
        }
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    fn quietly_output(&self, args: &[&str]) -> String {
        let output = process::output(Command::new(&self.program).args(args));
        output.map(|output| String::from_utf8_lossy(&output).into_owned()).unwrap_or_default()
    }
}

fn image() -> String {
    format!("matrixdotorg/synapse:v{}", super::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_mount_the_folder_and_run_as_us() {
        let command = Engine::named("podman").run(Path::new("/d/run-1-0"));
        assert_eq!(
            process::display(&command),
            "podman run --rm --volume /d/run-1-0:/data:Z -e UID=0 -e GID=0"
        );
    }

    #[test]
    fn the_image_is_of_the_pinned_version() {
        assert_eq!(image(), format!("matrixdotorg/synapse:v{}", crate::synapse::VERSION));
    }
}
