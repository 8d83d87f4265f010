//! `cargo xtask demo`: the demo against a homeserver that is started for it.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    cargo::Workspace,
    homeserver::{self, Homeserver, ServerArgs},
    process::{self, Cancel},
    synapse::Federation,
};

/// The package, and its binary.
pub const PACKAGE: &str = "matrix-mls-demo";

/// How to run the demo.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Play on two homeservers that are cut off from one another for a while
    #[arg(long, conflicts_with_all = ["container", "homeserver"])]
    partition: bool,
    /// Play in a large room, with so many devices and two that come late; in release mode
    #[arg(long, value_name = "NUMBER", conflicts_with = "partition")]
    devices: Option<u16>,
    /// Have the demo print JSON; nothing else goes to standard output
    #[arg(long)]
    json: bool,
    /// Arguments for the demo
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the demo, and returns its exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    // The development profile, so that the tests' build is of use, unless there is much to do.
    let profile = if args.devices.is_some() { "release" } else { "dev" };
    let code = run_built(&workspace, args, |cancel| {
        let build = ["--package", PACKAGE, "--profile", profile];
        workspace.build_binary(PACKAGE, &build, cancel)
    })?;
    Ok(ExitCode::from(code))
}

/// What the demo runs on.
#[expect(dead_code, reason = "held until the demo has ended")]
enum Servers {
    One(Homeserver),
    Two(Federation),
}

/// Runs the demo as built by `build`.
pub fn run_built(
    workspace: &Workspace,
    args: &Args,
    build: impl FnOnce(&Cancel) -> Result<PathBuf>,
) -> Result<u8> {
    let dir = workspace.synapse_dir();
    // Whatever was started is stopped when this function ends.
    let (_servers, mut demo) = if args.partition {
        let (federation, binary) =
            homeserver::start_federation_during(args.server.keep, &dir, build)?;
        let mut demo = Command::new(binary);
        demo.arg("--partition").envs(federation.environment());
        (Servers::Two(federation), demo)
    } else {
        let (server, binary) = homeserver::start_during(&args.server, &dir, build)?;
        let mut demo = Command::new(binary);
        demo.args(["--homeserver", &server.url()]);
        (Servers::One(server), demo)
    };
    if let Some(devices) = args.devices {
        demo.args(["--devices", &devices.to_string()]);
    }
    if args.json {
        demo.arg("--json");
    }
    let status = process::run(demo.args(&args.args))?;
    Ok(process::exit_code(status))
}

impl Args {
    /// The demo with its defaults, on such a homeserver.
    pub fn on(server: &ServerArgs) -> Self {
        Self { server: server.clone(), ..Self::default() }
    }

    /// The demo on two servers.
    pub fn on_two(server: &ServerArgs) -> Self {
        Self { partition: true, ..Self::on(server) }
    }
}
