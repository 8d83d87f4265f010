//! What cargo knows about the workspace, and commands that run it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{self, Cancel};

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo builds, `CARGO_TARGET_DIR` taken into account.
    pub target: PathBuf,
    /// The packages of the workspace.
    pub packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The path of its `Cargo.toml`.
    pub manifest: PathBuf,
    /// Its features, `default` too if it has one, in alphabetical order.
    pub features: Vec<String>,
}

impl Workspace {
    /// Asks cargo for the workspace around the current folder.
    pub fn load() -> Result<Self> {
        let mut metadata = Command::new(program());
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        Self::parse(&process::output(&mut metadata)?)
    }

    fn parse(metadata: &[u8]) -> Result<Self> {
        let metadata: Value = serde_json::from_slice(metadata).context("not cargo's metadata")?;
        let path = |key: &str| {
            let path = metadata.get(key).and_then(Value::as_str).map(PathBuf::from);
            path.with_context(|| format!("cargo's metadata lack {key}"))
        };
        let packages = metadata.get("packages").and_then(Value::as_array);
        let packages = packages.into_iter().flatten().filter_map(Package::parse).collect();
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, packages })
    }

    /// A cargo command to be run at the root of the workspace.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(&self.root);
        command
    }

    /// Whether cargo has this subcommand.
    pub fn has_subcommand(&self, name: &str) -> bool {
        process::succeeds(self.cargo().args([name, "--version"]))
    }

    /// Where Synapse is installed and run.
    pub fn synapse_dir(&self) -> PathBuf {
        self.target.join("synapse")
    }

    /// Runs a `cargo build` with these arguments, and returns where the binary of this name is.
    pub fn build_binary(&self, name: &str, args: &[&str], cancel: &Cancel) -> Result<PathBuf> {
        // The messages on standard output are for us; cargo's own progress goes to standard error.
        let mut build = self.cargo();
        build.args(["build", "--message-format=json-render-diagnostics"]).args(args);
        let messages = process::capture(&mut build, cancel)?;
        find_executable(&messages, name)
            .with_context(|| format!("`{}` built no {name}", process::display(&build)))
    }
}

impl Package {
    fn parse(package: &Value) -> Option<Self> {
        let features = package.get("features")?.as_object()?;
        let mut features: Vec<_> = features.keys().cloned().collect();
        features.sort();
        Some(Self {
            name: package.get("name")?.as_str()?.to_owned(),
            manifest: package.get("manifest_path")?.as_str()?.into(),
            features,
        })
    }

    /// Whether the package lies below this folder.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.manifest.starts_with(folder)
    }
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn find_executable(messages: &[u8], name: &str) -> Option<PathBuf> {
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<Value>();
    messages.map_while(Result::ok).find_map(|message| {
        let is_it = message.pointer("/target/name")?.as_str()? == name
            && message.pointer("/profile/test")?.as_bool() == Some(false);
        let executable = message.get("executable")?.as_str()?;
        is_it.then(|| executable.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_understood() {
        let metadata = br#"{
            "workspace_root": "/w", "target_directory": "/elsewhere",
            "packages": [
                {"name": "a", "manifest_path": "/w/crates/a/Cargo.toml",
                 "features": {"x": ["dep:y"], "default": []}},
                {"name": "b", "manifest_path": "/w/tests/Cargo.toml", "features": {}}
            ]
        }"#;
        let workspace = Workspace::parse(metadata).unwrap();
        assert_eq!(workspace.synapse_dir(), Path::new("/elsewhere/synapse"));
        let [a, b] = &workspace.packages[..] else { panic!("two packages") };
        assert_eq!(a.features, ["default", "x"]);
        assert!(a.is_in(Path::new("/w/crates")) && !b.is_in(Path::new("/w/crates")));
    }

    #[test]
    fn metadata_without_a_target_folder_are_refused() {
        let error = Workspace::parse(br#"{"workspace_root": "/w"}"#).unwrap_err();
        assert!(error.to_string().contains("target_directory"));
    }

    #[test]
    fn the_executable_is_that_of_the_binary_and_not_of_its_tests() {
        let messages = br#"
            {"reason": "compiler-artifact", "target": {"name": "demo"},
             "profile": {"test": true}, "executable": "/t/demo-tests"}
            {"reason": "compiler-artifact", "target": {"name": "lib"},
             "profile": {"test": false}, "executable": null}
            {"reason": "compiler-artifact", "target": {"name": "demo"},
             "profile": {"test": false}, "executable": "/t/demo"}
        "#;
        assert_eq!(find_executable(messages, "demo"), Some("/t/demo".into()));
        assert_eq!(find_executable(messages, "lib"), None);
    }
}
