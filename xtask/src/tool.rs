//! Commands that are programs of their own, so that xtask itself stays quick to build.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    cargo::Workspace,
    process::{self, Cancel},
};

/// A program in this workspace.
#[derive(Debug)]
pub struct Tool {
    package: &'static str,
    binary: &'static str,
    profile: &'static str,
    features: &'static str,
}

/// `cargo xtask bench`: only optimised code is worth measuring.
pub const BENCH: Tool = Tool {
    package: "matrix-mls-benchmarks",
    binary: "matrix-mls-benchmarks",
    profile: "release",
    features: "openmls",
};

/// `cargo xtask sim`: thousands of runs, each with hundreds of commits.
pub const SIM: Tool =
    Tool { package: "matrix-mls-sim", binary: "mls-sim", profile: "release", features: "" };

/// `cargo xtask store`.
pub const STORE: Tool =
    Tool { package: "matrix-mls-store-tool", binary: "mls-store", profile: "dev", features: "" };

/// What is passed on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the program itself takes: `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    args: Vec<String>,
}

impl Args {
    /// Whether the first argument is this word.
    pub fn begins_with(&self, word: &str) -> bool {
        self.args.first().is_some_and(|first| first == word)
    }

    /// The arguments, with the first one in the place of a program's name.
    pub fn words(&self) -> &[String] {
        &self.args
    }
}

impl Tool {
    /// Builds the program, runs it with these arguments in the current folder, and returns its exit
    /// code.
    pub fn run(&self, args: &Args) -> Result<ExitCode> {
        let mut command = self.build(&Workspace::load()?)?;
        let status = process::run(command.args(&args.args))?;
        Ok(ExitCode::from(process::exit_code(status)))
    }

    /// Builds the program, and returns the command that runs it.
    pub fn build(&self, workspace: &Workspace) -> Result<Command> {
        let build = ["--package", self.package, "--profile", self.profile];
        let build = [&build[..], &["--features", self.features]].concat();
        Ok(Command::new(workspace.build_binary(self.binary, &build, &Cancel::default())?))
    }
}
