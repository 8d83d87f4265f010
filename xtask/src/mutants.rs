//! `cargo xtask mutants`: rules are broken one at a time, and the tests must notice.
//!
//! Each mutation is a file in `tools/mls-sim/mutations` (docs/simulator.md lists them). It is made in
//! a copy of the sources, which is built in a folder of its own. The same tests are run there without
//! it first, and must pass: a test that fails anyway notices nothing.

mod mutation;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use self::mutation::{Mutation, Runs};
use crate::{cargo::Workspace, files, process, progress::seconds};

/// What is copied: all that the crates are built from.
const SOURCES: [&str; 12] = [
    ".cargo",
    "benchmarks",
    "Cargo.lock",
    "Cargo.toml",
    "clippy.toml",
    "crates",
    "docs",
    "examples",
    "README.md",
    "tests",
    "tools",
    "xtask",
];

/// Which mutations to make.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those whose names contain this
    filters: Vec<String>,
    /// Only say which there are
    #[arg(long)]
    list: bool,
}

/// Makes one mutation after the other, and fails if the tests miss one.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let mutations = mutations(&workspace.root)?;
    let wanted = |mutation: &&Mutation| {
        args.filters.is_empty() || args.filters.iter().any(|f| mutation.name.contains(f))
    };
    let mutations: Vec<_> = mutations.iter().filter(wanted).collect();
    if args.list {
        for mutation in mutations {
            println!("{:32} {}", mutation.name, mutation.rule);
        }
        return Ok(());
    }
    let copy = workspace.target.join("mutants");
    let begin = Instant::now();
    copy_sources(&workspace.root, &copy.join("sources"))?;
    let tests: BTreeSet<_> = mutations.iter().map(|mutation| mutation.runs()).collect();
    for runs in &tests {
        let begin = Instant::now();
        if !runs.pass(&copy)? {
            bail!("without a mutation the tests fail: {runs}");
        }
        println!("passes {:>6}  {runs} without a mutation", seconds(begin.elapsed()));
    }
    let (mut missed, mut caught) = (Vec::new(), 0);
    for mutation in &mutations {
        let begin = Instant::now();
        copy_sources(&workspace.root, &copy.join("sources"))?;
        let is_caught = try_one(mutation, &copy)?;
        let word = if is_caught { "caught" } else { "MISSED" };
        println!(
            "{word} {:32} in {:>6}  {}",
            mutation.name,
            seconds(begin.elapsed()),
            mutation.rule
        );
        if is_caught {
            caught += 1;
        } else {
            missed.push(mutation.name.as_str());
        }
    }
    println!("mutants: {caught} of {} caught in {}", mutations.len(), seconds(begin.elapsed()));
    if !missed.is_empty() {
        bail!("the tests miss {}", missed.join(", "));
    }
    Ok(())
}

/// Whether the tests notice a mutation. It has to compile, so that it is the tests that do.
fn try_one(mutation: &Mutation, copy: &Path) -> Result<bool> {
    let file = copy.join("sources").join(&mutation.file);
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    files::write(&file, &mutation.apply(&text)?)?;
    let pass = mutation.runs().pass(copy);
    Ok(!pass.with_context(|| format!("with {}", mutation.name))?)
}

impl Runs<'_> {
    /// Whether the tests pass in the copy. An error, if they do not compile, or there are none.
    fn pass(&self, copy: &Path) -> Result<bool> {
        let test = |arguments: &[&str]| {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            command.current_dir(copy.join("sources")).env("CARGO_TARGET_DIR", copy.join("target"));
            command.args(["test", "--quiet", "--package", self.package, "--features", "testing"]);
            command.args(["--lib"]).args(arguments);
            command
        };
        if !process::succeeds(&mut test(&["--no-run"])) {
            bail!("{} does not compile", self.package);
        }
        let names: Vec<_> = self.tests.split_whitespace().collect();
        let list = test(&["--", "--list"]).args(&names).output().context("cannot list tests")?;
        if !String::from_utf8_lossy(&list.stdout).lines().any(|line| line.ends_with(": test")) {
            bail!("there are no tests: {self}");
        }
        Ok(process::succeeds(test(&["--"]).args(names)))
    }
}

/// The mutations, by name.
fn mutations(root: &Path) -> Result<Vec<Mutation>> {
    let folder = root.join("tools/mls-sim/mutations");
    let files = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        files.map(|file| Ok(file?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    paths.iter().map(|path| Mutation::read(path)).collect()
}

/// Copies what is new, so that what is not is not built again.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    files::create_dir(to)?;
    for name in SOURCES {
        copy_new(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

fn copy_new(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        files::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_new(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let Ok(new) = fs::read(from) else { return Ok(()) };
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_still_fits_the_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutations = mutations(root).unwrap();
        assert!(mutations.len() >= 12, "{}", mutations.len());
        for mutation in mutations {
            let text = fs::read_to_string(root.join(&mutation.file)).unwrap();
            let mutated =
                mutation.apply(&text).unwrap_or_else(|e| panic!("{}: {e}", mutation.name));
            assert_ne!(mutated, text, "{}", mutation.name);
        }
    }
}
