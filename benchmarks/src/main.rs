//! Runs a benchmark and prints its table.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use matrix_mls_benchmarks::{forks, large, store};

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
    /// What branches cost: choosing a tip, puncturing, merging
    Forks(ForksArgs),
    /// A large room of whole machines on a simulated homeserver; fails when a bound is missed
    Large(LargeArgs),
}

#[derive(Debug, clap::Args)]
struct LargeArgs {
    /// How many devices the large room has
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(120..=5000))]
    devices: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct ForksArgs {
    /// How many devices the group has
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(20..=5000))]
    devices: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Fail when a bound is missed
    #[arg(long)]
    strict: bool,
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
    #[command(flatten)]
    output: Output,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let tell = |what: &str| eprintln!("{what} …");
    let (report, output) = match Args::parse().benchmark {
        Benchmark::Store(args) => {
            let directory = match args.directory {
                Some(directory) => directory,
                None => std::env::current_exe()?.parent().context("no directory")?.to_owned(),
            };
            let options = store::Options::full(args.devices as usize, directory);
            (store::run(&options, &tell).await?, args.output)
        }
        Benchmark::Forks(args) => {
            let options = forks::Options::full(args.devices as usize);
            (forks::run(&options, &tell)?, args.output)
        }
        Benchmark::Large(args) => {
            let options = large::Options::full(args.devices as usize);
            let output = Output { strict: true, ..args.output };
            (large::run(&options, &tell).await?, output)
        }
    };
    let mut out = std::io::stdout().lock();
    if output.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    let failed = output.strict && !report.all_hold();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
