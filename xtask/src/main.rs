//! The project's commands: `cargo xtask demo`, `test`, `ci`, `synapse`, `bench`, `store`,
//! `sim` and `mutants`.
//!
//! Whatever a command starts, it stops: at its end, after an error, on Ctrl-C, and even when it is
//! killed itself (see [`synapse`]).

mod cargo;
mod ci;
mod cold_start;
mod demo;
mod files;
mod homeserver;
mod http;
mod link;
mod mutants;
mod process;
mod progress;
mod synapse;
mod test;
mod tool;
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
    /// Measure what the machine and its store cost: `store`, `forks` or `large`, each with
    /// `[--devices N] [--json] [--strict]`; or how long an application takes to start: `cold-start
    /// [--rooms N]`
    #[command(disable_help_flag = true)]
    Bench(tool::Args),
    /// Look into an SQLite store and change nothing: `inspect FILE`, `check FILE`
    #[command(disable_help_flag = true)]
    Store(tool::Args),
    /// Simulate: `--seeds N --devices M [--only SCENARIO] [--no-minimise] [--strict] [--jobs J]`
    #[command(disable_help_flag = true)]
    Sim(tool::Args),
    /// Break the protocol's rules one at a time, and see that the tests notice
    Mutants(mutants::Args),
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
        Verb::Bench(args) if args.begins_with(cold_start::WORD) => {
            cold_start::run(args.words()).map(|()| ExitCode::SUCCESS)
        }
        Verb::Bench(args) => tool::BENCH.run(&args),
        Verb::Store(args) => tool::STORE.run(&args),
        Verb::Sim(args) => tool::SIM.run(&args),
        Verb::Mutants(args) => mutants::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Verb;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn what_is_passed_on_is_not_looked_at() {
        let line = ["xtask", "store", "inspect", "a file", "--key", "00", "--help"];
        let Verb::Store(args) = super::Cli::parse_from(line).verb else { panic!("another verb") };
        assert_eq!(format!("{args:?}"), format!("Args {{ args: {:?} }}", &line[2..]));
        let help_only = super::Cli::try_parse_from(["xtask", "bench", "--help"]).unwrap();
        assert!(matches!(help_only.verb, Verb::Bench(_)));
    }
}
