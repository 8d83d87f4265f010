//! `cargo xtask test`: the tests that need nothing, those that need a homeserver, and those that need
//! two of them.

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    cargo::Workspace,
    files,
    homeserver::{self, ServerArgs},
    process::{self, Cancel},
    progress::seconds,
};

/// The package with the tests that need a homeserver.
pub const PACKAGE: &str = "matrix-mls-tests";

/// The chat client, one of whose tests needs a homeserver.
const CHAT: &str = "matrix-mls-chat";
const CHAT_TEST: &str = "terminal";

/// The tests of [`PACKAGE`] that need two that federate.
const FEDERATION: &str = "federation";

/// Where that test finds the chat client that was built without MLS.
const CHAT_WITHOUT_MLS: &str = "MLS_TEST_CHAT_WITHOUT_MLS";

/// What the crates offer to tests.
const FEATURES: &str = "testing";

/// The same, with the tests that need homeservers. The whole workspace is built with them, because
/// building that one package alone would choose other features of the dependencies, and so build
/// much of them a second time.
pub const FEATURES_WITH_SYNAPSE: &str =
    "testing,matrix-mls-chat/synapse,matrix-mls-tests/synapse,matrix-mls-tests/federation";

/// The same, with the chat client as it is without MLS. Nothing else is built differently, so it costs
/// the compilation of that client alone.
const FEATURES_WITHOUT_MLS: &str = "testing,matrix-mls-tests/synapse,matrix-mls-tests/federation";

/// Which tests to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the tests that need no homeserver
    #[arg(long)]
    unit: bool,
    /// Only the tests that need a homeserver
    #[arg(long, conflicts_with = "unit")]
    synapse: bool,
    /// Only the tests that need two homeservers
    #[arg(long, conflicts_with_all = ["unit", "synapse"])]
    federation: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// Only the tests whose names contain this
    filters: Vec<String>,
}

/// Runs a command that runs tests.
type Runner<'a> = &'a mut dyn FnMut(&mut Command) -> Result<()>;

/// Runs the tests.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let begin = Instant::now();
    let mut passed = Vec::new();
    let all = !(args.unit || args.synapse || args.federation);
    if all || args.unit {
        unit(&workspace, &args.filters, &mut process::check)?;
        passed.push(if args.filters.is_empty() { "unit and doc tests" } else { "unit tests" });
    }
    if all || args.synapse {
        synapse(&workspace, &args.server, &args.filters, &mut process::check)?;
        passed.push("Synapse tests");
    }
    if args.federation || (all && can_federate(&args.server)) {
        federation(&workspace, &args.server, &args.filters, &mut process::check)?;
        passed.push("federation tests");
    }
    eprintln!("test: {} passed in {}", passed.join(", "), seconds(begin.elapsed()));
    Ok(())
}

/// Runs the tests that need no homeserver. Filters leave the documentation's examples out, which
/// have no names.
pub fn unit(workspace: &Workspace, filters: &[String], run: Runner<'_>) -> Result<()> {
    let mut tests = if workspace.has_subcommand("nextest") {
        nextest(workspace, FEATURES, filters)
    } else {
        let mut tests = cargo_test(workspace, FEATURES);
        tests.args(["--workspace", "--lib", "--bins", "--tests", "--"]).args(filters);
        tests
    };
    run(&mut tests)?;
    if filters.is_empty() {
        run(cargo_test(workspace, FEATURES).args(["--workspace", "--doc"]))?;
    }
    Ok(())
}

/// Runs the tests that need a homeserver, which is started while they are built.
pub fn synapse(
    workspace: &Workspace,
    server: &ServerArgs,
    filters: &[String],
    run: Runner<'_>,
) -> Result<()> {
    let (server, mut tests) =
        homeserver::start_during(server, &workspace.synapse_dir(), |cancel| {
            built(workspace, Servers::One, filters, cancel)
        })?;
    tests.env("MLS_TEST_HOMESERVER", server.url());
    tests.env("MLS_TEST_SERVER_NAME", server.server_name());
    run(&mut tests)
}

/// Whether two servers can be started. Says why if not.
pub fn can_federate(server: &ServerArgs) -> bool {
    let can = server.can_federate();
    if !can {
        eprintln!(
            "The tests on two homeservers are left out: they start their own, without a container"
        );
    }
    can
}

/// Runs the tests that need two homeservers, which are started while they are built.
pub fn federation(
    workspace: &Workspace,
    server: &ServerArgs,
    filters: &[String],
    run: Runner<'_>,
) -> Result<()> {
    if !server.can_federate() {
        bail!("two homeservers can only be our own, without a container");
    }
    let dir = workspace.synapse_dir();
    let (federation, mut tests) =
        homeserver::start_federation_during(server.keep, &dir, |cancel| {
            built(workspace, Servers::Two, filters, cancel)
        })?;
    run(tests.envs(federation.environment()))
}

/// What some tests need.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Servers {
    One,
    Two,
}

/// Builds the tests that need homeservers, and returns the command that runs them.
fn built(
    workspace: &Workspace,
    servers: Servers,
    filters: &[String],
    cancel: &Cancel,
) -> Result<Command> {
    let has_nextest = workspace.has_subcommand("nextest");
    let tests = || {
        if has_nextest {
            let mut tests = nextest(workspace, FEATURES_WITH_SYNAPSE, filters);
            let those = match servers {
                Servers::One => format!(
                    "(package({PACKAGE}) - binary_id({PACKAGE}::{FEDERATION})) \
                     + binary_id({CHAT}::{CHAT_TEST})"
                ),
                Servers::Two => format!("binary_id({PACKAGE}::{FEDERATION})"),
            };
            tests.args(["--filterset", &those]);
            tests
        } else {
            let feature = if servers == Servers::One { "synapse" } else { FEDERATION };
            let mut tests = cargo_test(workspace, feature);
            tests.args(["--package", PACKAGE]);
            if servers == Servers::One {
                tests.args(["--package", CHAT]);
            }
            tests.args(match servers {
                Servers::One => &["--lib", "--tests"][..],
                Servers::Two => &["--test", FEDERATION],
            });
            tests
        }
    };
    // First, because both builds leave their program in the same place, and the tests look for the one
    // with MLS there.
    let without_mls = match servers {
        Servers::One => Some(chat_without_mls(workspace, has_nextest, cancel)?),
        Servers::Two => None,
    };
    process::check_until(tests().arg("--no-run"), cancel)?;
    let mut tests = tests();
    tests.envs(without_mls.map(|program| (CHAT_WITHOUT_MLS, program)));
    if !has_nextest {
        tests.arg("--").args(filters);
    }
    Ok(tests)
}

/// Builds the chat client without MLS, and returns where it stays.
fn chat_without_mls(workspace: &Workspace, has_nextest: bool, cancel: &Cancel) -> Result<PathBuf> {
    // The packages that are selected, and that there is a test among what is built, decide about the
    // features of dependencies: as in the build of the tests, so that they are not built again.
    let mut build = if has_nextest {
        vec!["--workspace", "--features", FEATURES_WITHOUT_MLS]
    } else {
        vec!["--package", PACKAGE, "--package", CHAT, "--features", "matrix-mls-tests/synapse"]
    };
    build.extend(["--bin", CHAT, "--test", "http"]);
    let built = workspace.build_binary(CHAT, &build, cancel)?;
    let folder = workspace.target.join("without-mls");
    files::create_dir(&folder)?;
    files::replace(&built, &folder.join(CHAT))
}

/// A failing test fails: neither runner tries again (`.config/nextest.toml`).
fn nextest(workspace: &Workspace, features: &str, filters: &[String]) -> Command {
    let mut command = workspace.cargo();
    command.args(["nextest", "run", "--workspace", "--features", features]);
    if std::env::var_os("CI").is_some() {
        command.args(["--profile", "ci"]);
    }
    if !filters.is_empty() {
        // A filter for one part need not match in the other.
        command.arg("--no-tests=warn").args(filters);
    }
    command
}

fn cargo_test(workspace: &Workspace, features: &str) -> Command {
    let mut command = workspace.cargo();
    command.args(["test", "--features", features]);
    command
}

/// Whether a line of a test runner's output is its summary.
pub fn is_summary(line: &str) -> bool {
    line.starts_with("test result:") || (line.contains("Summary") && line.contains(" run: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_are_seen() {
        assert!(is_summary("     Summary [   0.5s] 3 tests run: 3 passed, 0 skipped"));
        assert!(is_summary("\x1b[32m     Summary\x1b[0m [   0.5s] 1 test run: 1 passed"));
        assert!(is_summary("test result: ok. 3 passed; 0 failed"));
        assert!(!is_summary("        PASS [   0.1s] crate tests::test_run: summary"));
    }
}
