//! Looks into the MLS machine's SQLite store, and changes nothing.

mod copy;
mod print;
mod secret;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

use crate::{copy::Copied, secret::SecretArgs};

/// Looks into a store of the MLS machine (matrix-sdk-mls.sqlite3), and changes nothing
///
/// The application that uses the store must not be running: the file is copied together with its
/// log, and the copy is opened, in a temporary directory that is removed at the end. No secret and
/// no content of a message is printed; IDs of rooms are.
#[derive(Debug, Parser)]
#[command(name = "mls-store", bin_name = "cargo xtask store", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say what is in a store, and what is wrong with it
    Inspect(StoreArgs),
    /// Read everything in a store, and say what is wrong with it
    Check(StoreArgs),
}

/// Which store, and how it is opened.
#[derive(Debug, clap::Args)]
struct StoreArgs {
    /// The database
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    secret: SecretArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let (args, with_content) = match Args::parse().verb {
        Verb::Inspect(args) => (args, true),
        Verb::Check(args) => (args, false),
    };
    match run(&args, with_content).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}: {error:#}", args.file.display());
            ExitCode::FAILURE
        }
    }
}

/// Opens a copy of the store, reads it and prints. Gives whether the store is sound.
async fn run(args: &StoreArgs, with_content: bool) -> Result<bool> {
    let copied = Copied::of(&args.file)?;
    let config = args.secret.configure(copied.directory())?;
    let store = SqliteMlsStore::open_with_config(&config).await?;
    let problems = store.check().await?;
    let content = if with_content {
        match store.inspect().await {
            Ok(content) => Some(content),
            // Then the problems say why.
            Err(_) if !problems.is_empty() => None,
            Err(error) => return Err(error).context("the store cannot be summed up"),
        }
    } else {
        None
    };
    store.close().await?;
    let text = if args.json {
        print::json(&copied, content.as_ref(), &problems)?
    } else {
        print::text(&copied, content.as_ref(), &problems)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    copied.remove()?;
    Ok(problems.is_empty())
}
