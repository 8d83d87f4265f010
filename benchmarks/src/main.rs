//! Runs a benchmark and prints its table.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use matrix_mls_benchmarks::store;

/// Measures what the machine and its store cost
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Messages, commits and sizes, with everything on disk
    Store(StoreArgs),
}

#[derive(Debug, clap::Args)]
struct StoreArgs {
    /// How many devices the large room has; the small one has ten
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=5000))]
    devices: u32,
    /// Where the databases are made, in a directory that is removed at the end; by default beside the
    /// program. It should be on a disk: in memory nothing is durable
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Fail when a bound is missed
    #[arg(long)]
    strict: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Benchmark::Store(args) = Args::parse().benchmark;
    let directory = match args.directory {
        Some(directory) => directory,
        None => std::env::current_exe()?.parent().context("no directory")?.to_owned(),
    };
    let options = store::Options::full(args.devices as usize, directory);
    let report = store::run(&options, &|what| eprintln!("{what} …")).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    let failed = args.strict && !report.all_hold();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
