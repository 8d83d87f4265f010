//! `cargo xtask sim`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    ops::RangeInclusive,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use matrix_mls_sim::{Outcome, Plan, Report, Scenario, minimise, run};
use matrix_sdk_crypto_mls::testing::SimRng;

/// Sets the number of devices of a seed apart from everything else that is drawn from it.
const DEVICES: u64 = 0xde71_ce50;

/// Whole machines on simulated homeservers: what happens follows from a seed, and must end well
#[derive(Clone, Debug, Parser)]
#[command(name = "mls-sim", bin_name = "cargo xtask sim", version)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// So many seeds of every scenario instead
    #[arg(long, value_name = "SEEDS", conflicts_with = "seeds")]
    each: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many devices there are at the beginning, 3 to 200; or a range, as 8-24, of which every seed
    /// has one
    #[arg(long, default_value = "8", value_parser = devices)]
    devices: RangeInclusive<usize>,
    /// Only this scenario (can be repeated); otherwise all of them by turns
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Print the traces of what fails as they were, and do not make them as short as they can be
    #[arg(long)]
    no_minimise: bool,
    /// Make the one that is given with --trace as short as it can be, too
    #[arg(long, requires = "trace", conflicts_with = "no_minimise")]
    minimise: bool,
    /// Fail when a target of docs/forks.md is missed by the runs of a scenario, if there are 50 or more
    #[arg(long)]
    strict: bool,
    /// So many processes
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Do what a trace says, as a failure prints it
    #[arg(long, value_name = "JSON")]
    trace: Option<String>,
    /// Print the traces of the runs, as --trace takes them, and do nothing
    #[arg(long)]
    plan: bool,
    /// Print what happens
    #[arg(long)]
    log: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print every run as a line of JSON, for the process that has started this one
    #[arg(long, hide = true)]
    worker: Option<u64>,
}

/// A run as one process tells another.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    scenario: Scenario,
    seed: u64,
    outcome: Outcome,
    /// The trace of what fails.
    plan: Option<Plan>,
    log: Option<String>,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(args: &Args) -> Result<bool> {
    if let Some(trace) = &args.trace {
        let plan: Plan = serde_json::from_str(trace).context("not a trace")?;
        let line = one(args, plan);
        print_failure(&line);
        println!("{}", serde_json::to_string_pretty(&line.outcome)?);
        return Ok(line.outcome.failure.is_none());
    }
    let scenarios = scenarios(&args.only)?;
    let of_each = |each: u64| each.saturating_mul(scenarios.len() as u64);
    let args = &Args { seeds: args.each.map_or(args.seeds, of_each), ..args.clone() };
    if let Some(worker) = args.worker {
        work(args, &scenarios, worker, |plan| {
            let line = one(args, plan);
            println!("{}", serde_json::to_string(&line).unwrap_or_default());
        });
        return Ok(true);
    }
    if args.plan {
        let jobs = Args { jobs: 1, ..args.clone() };
        work(&jobs, &scenarios, 0, |plan| {
            println!("{}", serde_json::to_string(&plan).unwrap_or_default());
        });
        return Ok(true);
    }
    let mut reports: BTreeMap<Scenario, Report> = BTreeMap::new();
    let mut all = Report::default();
    let mut failures = Vec::new();
    let mut take = |line: Line| {
        reports.entry(line.scenario).or_default().add(&line.outcome);
        all.add(&line.outcome);
        if line.outcome.failure.is_some() {
            print_failure(&line);
            failures.push((line.scenario, line.seed));
        } else if args.log {
            println!("{}", line.log.unwrap_or_default());
        }
    };
    if args.jobs <= 1 {
        work(args, &scenarios, 0, |plan| take(one(args, plan)));
    } else {
        for line in in_processes(args)? {
            take(line?);
        }
    }
    if args.json {
        let reports: BTreeMap<_, _> =
            reports.iter().map(|(s, report)| (s.name(), report)).collect();
        let failures: Vec<_> = failures.iter().map(|(s, seed)| (s.name(), *seed)).collect();
        let json = serde_json::json!({
            "devices": [args.devices.start(), args.devices.end()], "all": all, "scenarios": reports, "failures": failures,
            "p50": all.sends_of(50), "p95": all.sends_of(95),
        });
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        print(&reports, &all);
    }
    let mut is_well = failures.is_empty();
    for (scenario, report) in &reports {
        if report.has_no_attack(*scenario) {
            is_well = false;
            eprintln!(
                "FAILED {}: none of {} attacks did anything",
                scenario.name(),
                report.attacks
            );
        }
        for missed in report.misses(*scenario).into_iter().filter(|_| args.strict) {
            is_well = false;
            eprintln!("MISSED {}: {missed}", scenario.name());
        }
    }
    std::io::stdout().flush()?;
    Ok(is_well)
}

fn devices(text: &str) -> Result<RangeInclusive<usize>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to): (usize, usize) = (from.parse()?, to.parse()?);
    if from < 3 || to > 200 || from > to {
        bail!("a number between 3 and 200, or two of them with a - between them");
    }
    Ok(from..=to)
}

fn scenarios(only: &[String]) -> Result<Vec<Scenario>> {
    if only.is_empty() {
        return Ok(Scenario::ALL.to_vec());
    }
    let named = |name: &String| match Scenario::named(name) {
        Some(scenario) => Ok(scenario),
        None => {
            let names: Vec<_> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
            bail!("no scenario {name}; there are {}", names.join(", "))
        }
    };
    only.iter().map(named).collect()
}

/// Makes the plan of every `jobs`-th seed.
fn work(args: &Args, scenarios: &[Scenario], worker: u64, mut take: impl FnMut(Plan)) {
    for (seed, scenario) in (args.from..args.from + args.seeds).zip(scenarios.iter().cycle()) {
        if seed % args.jobs.max(1) == worker {
            let some = args.devices.end() - args.devices.start() + 1;
            // Not by the seed's rest: that goes with the scenario.
            let devices = args.devices.start() + SimRng::new(seed ^ DEVICES).below(some);
            take(Plan::new(*scenario, seed, devices));
        }
    }
}

fn one(args: &Args, plan: Plan) -> Line {
    let mut outcome = run(&plan);
    let mut log = args.log.then(|| outcome.log.clone());
    let (scenario, seed) = (plan.scenario, plan.setup.seed);
    let mut failed = None;
    if outcome.failure.is_some() {
        failed = Some(plan);
        let minimises = if args.trace.is_some() { args.minimise } else { !args.no_minimise };
        if let Some(plan) = failed.as_mut().filter(|_| minimises) {
            *plan = minimise(plan, &outcome);
            let again = run(plan);
            if again.failure.is_some() {
                outcome = again;
            }
        }
        log = Some(outcome.log.clone());
    }
    Line { scenario, seed, outcome, plan: failed, log }
}

/// Starts this program `jobs` times, and gives what they say as they say it.
fn in_processes(args: &Args) -> Result<impl Iterator<Item = Result<Line>>> {
    let program = std::env::current_exe()?;
    let (sender, receiver) = mpsc::channel();
    for worker in 0..args.jobs {
        let mut child: Child = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .args(["--worker", &worker.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let sender = sender.clone();
        let output = child.stdout.take().context("a pipe")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.map_err(anyhow::Error::from);
                let line = line.and_then(|line| Ok(serde_json::from_str::<Line>(&line)?));
                if sender.send(line).is_err() {
                    return;
                }
            }
            match child.wait() {
                Ok(status) if status.success() => {}
                other => drop(sender.send(Err(anyhow::anyhow!("a worker ended with {other:?}")))),
            }
        });
    }
    Ok(receiver.into_iter())
}

fn print_failure(line: &Line) {
    let Line { scenario, seed, outcome, plan, log } = line;
    if let Some(log) = log {
        println!("{log}");
    }
    if let Some(failure) = &outcome.failure {
        println!("FAILED {} with seed {seed}: {failure}", scenario.name());
    }
    if let Some(plan) = plan {
        println!("again with --trace '{}'", serde_json::to_string(plan).unwrap_or_default());
    }
}

fn print(reports: &BTreeMap<Scenario, Report>, all: &Report) {
    println!("{}", Report::head());
    for (scenario, report) in reports {
        println!("{}", report.line(Some(*scenario)));
    }
    println!("{all}");
    // One scenario alone is looked at closely.
    if reports.len() == 1 {
        for (harm, share) in all.shares_of_harm() {
            println!("harm: {share:5.2}% {harm}");
        }
    }
    println!(
        "sim: {} runs, {} failed, {} messages read {} times and kept from a device {} times, {} gone with who was there, {} paged back for, {} opened by outsiders who were in, {} comparisons with the model, {} ms",
        all.runs,
        all.failures,
        all.messages,
        all.read,
        all.kept,
        all.gone,
        all.paged,
        all.opened,
        all.compared,
        all.took_ms
    );
}
