//! The project's commands: `cargo xtask demo`, `test`, `ci` and `synapse`.
//!
//! Whatever a command starts, it stops: at its end, after an error, on Ctrl-C, and even when it is
//! killed itself (see [`synapse`]).

mod cargo;
mod ci;
mod demo;
mod files;
mod homeserver;
mod http;
mod link;
mod process;
mod progress;
mod synapse;
mod test;
mod venv;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The commands of this project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the demo: several devices talking in an MLS room on a real homeserver
    Demo(demo::Args),
    /// Run the tests: those that need nothing, and those that need a homeserver
    Test(test::Args),
    /// Run every check that a change must pass
    Ci(ci::Args),
    /// Start a Synapse (or two that federate) in the background, or stop it
    #[command(subcommand)]
    Synapse(synapse::Verb),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(process::signal_exit_code().unwrap_or(1))
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    process::catch_signals()?;
    match cli.verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Ci(args) => ci::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Synapse(verb) => synapse::run(&verb).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
