//! `cargo xtask bench cold-start`: how long an application with many rooms takes to start, with MLS and
//! without. The measurement is one of the tests on a homeserver, which nobody runs unasked.

use std::process::Command;

use anyhow::Result;
use clap::Parser;

use crate::{
    cargo::Workspace,
    homeserver::{self, ServerArgs},
    process, test,
};

/// The word by which it is asked for, among those of `cargo xtask bench`.
pub const WORD: &str = "cold-start";

const TEST: &str = "cold_start::a_cold_start_with_many_rooms";

/// Measure how long an application with many rooms takes to start, with MLS and without
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench cold-start")]
struct Args {
    /// How many rooms; as many MLS rooms as Megolm rooms
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    #[command(flatten)]
    server: ServerArgs,
}

/// Measures, with these words after `cargo xtask bench`.
pub fn run(words: &[String]) -> Result<()> {
    let args = Args::parse_from(words);
    let workspace = Workspace::load()?;
    let (server, mut measure) =
        homeserver::start_during(&args.server, &workspace.synapse_dir(), |cancel| {
            process::check_until(command(&workspace).arg("--no-run"), cancel)?;
            let mut measure = command(&workspace);
            measure.args(["--", "--ignored", "--exact", TEST, "--nocapture"]);
            Ok(measure)
        })?;
    measure.env("MLS_COLD_START_ROOMS", args.rooms.to_string());
    measure.env("MLS_TEST_HOMESERVER", server.url());
    measure.env("MLS_TEST_SERVER_NAME", server.server_name());
    process::check(&mut measure)
}

/// Only optimised code is worth measuring.
fn command(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["test", "--release", "--package", test::PACKAGE]);
    command.args(["--features", "synapse", "--test", "sdk"]);
    command
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Args, WORD};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        let args = Args::try_parse_from([WORD, "--rooms", "3"]).unwrap();
        assert_eq!(args.rooms, 3);
        assert_eq!(Args::try_parse_from([WORD]).unwrap().rooms, 100);
    }
}
