//! `cargo xtask ci`: every check that a change must pass, in the order in which they fail fastest.

mod features;
mod tools;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    cargo::{Package, Workspace},
    demo,
    homeserver::ServerArgs,
    process,
    progress::seconds,
    test, tool,
};

/// Which runs of the simulator there are: each scenario has two, in rooms of different sizes.
const SIMULATED: [&str; 6] = ["--each", "2", "--devices", "8-24", "--jobs", "2"];

/// Which checks to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only this step (can be repeated)
    #[arg(long, value_name = "NAME")]
    step: Vec<Step>,
    /// Leave this step out (can be repeated)
    #[arg(long, value_name = "NAME")]
    skip: Vec<Step>,
    #[command(flatten)]
    server: ServerArgs,
}

/// One of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Fmt,
    /// No word is misspelt
    Typos,
    /// Clippy has nothing to say
    Clippy,
    /// The documentation builds, and its links work
    Docs,
    /// Dependencies come from where they may, under licences that we accept
    Deny,
    /// Every crate and every example compiles with each of its features alone
    Features,
    /// The tests that need no homeserver pass
    Unit,
    /// The simulator's runs end well: every scenario twice, with the seeds that are the same each time
    Sim,
    /// The tests on a real Synapse pass
    Synapse,
    /// The tests on two Synapses that are cut off from one another pass
    Federation,
    /// The demo works, on one Synapse and on two
    Demo,
}

/// A step that passed.
struct Passed {
    step: Step,
    time: Duration,
    summaries: Vec<String>,
}

/// Runs the checks, up to the first that fails.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let steps = selected(args);
    if steps.is_empty() {
        bail!("every step is skipped");
    }
    let begin = Instant::now();
    let mut passed = Vec::new();
    for (number, &step) in steps.iter().enumerate() {
        let name = step.name();
        eprintln!("\n== {name} ({} of {})", number + 1, steps.len());
        let begin = Instant::now();
        let summaries = step.run(&workspace, &args.server).with_context(|| {
            let time = seconds(begin.elapsed());
            format!("ci: {name} failed after {time} (again: `cargo xtask ci --step {name}`)")
        })?;
        passed.push(Passed { step, time: begin.elapsed(), summaries });
    }
    eprintln!("\n== summary");
    for Passed { step, time, summaries } in &passed {
        eprintln!("{:10} passed in {}", step.name(), seconds(*time));
        for summary in summaries {
            eprintln!("           {summary}");
        }
    }
    eprintln!("ci: {} steps passed in {}", passed.len(), seconds(begin.elapsed()));
    Ok(())
}

fn selected(args: &Args) -> Vec<Step> {
    let is_selected = |step: &Step| args.step.is_empty() || args.step.contains(step);
    let steps = Step::value_variants().iter().copied();
    steps.filter(is_selected).filter(|step| !args.skip.contains(step)).collect()
}

impl Step {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Runs the step, and returns the summaries of the test runners in it.
    fn run(self, workspace: &Workspace, server: &ServerArgs) -> Result<Vec<String>> {
        let cargo = |args: &[&str]| {
            let mut command = workspace.cargo();
            command.args(args);
            command
        };
        let mut summaries = Vec::new();
        let mut run_tests = |command: &mut Command| {
            summaries.extend(process::check_picking(command, test::is_summary)?);
            Ok(())
        };
        match self {
            Self::Fmt => process::check(&mut cargo(&["fmt", "--all", "--check"]))?,
            Self::Typos => process::check(&mut tools::typos(workspace)?)?,
            Self::Clippy => {
                // `--locked` here finds a lock file that was not brought up to date.
                let what = ["--workspace", "--all-targets", "--all-features", "--locked"];
                let denied = ["--", "-D", "warnings"];
                process::check(cargo(&["clippy"]).args(what).args(denied))?;
            }
            Self::Docs => {
                let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
                process::check(docs.env("RUSTDOCFLAGS", "-Dwarnings"))?;
            }
            Self::Deny => {
                let mut deny = tools::cargo_deny(workspace)?;
                process::check(deny.args(["check", "bans", "licenses", "sources"]))?;
            }
            Self::Features => check_features(workspace)?,
            Self::Unit => test::unit(workspace, &[], &mut run_tests)?,
            Self::Sim => {
                let mut sim = tool::SIM.build(workspace)?;
                sim.args(SIMULATED);
                summaries
                    .extend(process::check_picking(&mut sim, |line| line.starts_with("sim: "))?);
            }
            Self::Synapse => test::synapse(workspace, server, &[], &mut run_tests)?,
            Self::Federation if test::can_federate(server) => {
                test::federation(workspace, server, &[], &mut run_tests)?;
            }
            Self::Federation => {}
            Self::Demo => {
                run_demo(workspace, &demo::Args::on(server))?;
                if server.can_federate() {
                    run_demo(workspace, &demo::Args::on_two(server))?;
                }
            }
        }
        Ok(summaries)
    }
}

/// Clippy rather than a plain check, because with `-D warnings` as its own argument it finds what
/// only one combination leaves unused, and the dependencies need no second build for it.
fn check_features(workspace: &Workspace) -> Result<()> {
    let (crates, examples) = (workspace.root.join("crates"), workspace.root.join("examples"));
    let is_checked = |package: &&Package| package.is_in(&crates) || package.is_in(&examples);
    for package in workspace.packages.iter().filter(is_checked) {
        for combination in features::combinations(package) {
            let mut check = workspace.cargo();
            check.args(["clippy", "--package", &package.name]).args(combination);
            eprintln!("-- {}", process::display(&check));
            process::check(check.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

fn run_demo(workspace: &Workspace, args: &demo::Args) -> Result<()> {
    // Built along with the tests, whose dependencies have the same features then.
    let mut build = vec!["--bin", demo::PACKAGE];
    build.extend(["--workspace", "--tests", "--features", test::FEATURES_WITH_SYNAPSE]);
    let build = |cancel: &_| workspace.build_binary(demo::PACKAGE, &build, cancel);
    match demo::run_built(workspace, args, build)? {
        0 => Ok(()),
        code => bail!("the demo ended with exit code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected_by(step: &[Step], skip: &[Step]) -> Vec<Step> {
        let (step, skip) = (step.to_vec(), skip.to_vec());
        selected(&Args { step, skip, server: ServerArgs::default() })
    }

    #[test]
    fn all_steps_run_unless_others_are_asked_for() {
        assert_eq!(selected_by(&[], &[]), Step::value_variants());
        assert_eq!(selected_by(&[Step::Docs, Step::Fmt], &[]), [Step::Fmt, Step::Docs]);
        assert_eq!(selected_by(&[Step::Docs, Step::Fmt], &[Step::Fmt]), [Step::Docs]);
    }

    #[test]
    fn steps_are_called_what_the_command_line_calls_them() {
        for step in Step::value_variants() {
            let value = step.to_possible_value().unwrap();
            assert_eq!(value.get_name(), step.name());
        }
    }
}
