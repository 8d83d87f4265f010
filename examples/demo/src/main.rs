//! Several people with several devices each talk in an MLS room on a real homeserver, and every
//! claim on the way is checked.

mod large;
mod partition;
mod report;
mod scenario;
mod stage;

use std::{io, path::Path, process::ExitCode};

use clap::Parser;
use matrix_mls_tests::{Federation, HttpClient};

use crate::report::{Form, Report};

/// Talks in an MLS room on a homeserver, and checks every claim on the way
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The homeserver, which must let anybody register
    #[arg(
        long,
        env = "MLS_DEMO_HOMESERVER",
        value_name = "URL",
        required_unless_present = "partition"
    )]
    homeserver: Option<String>,
    /// Play on two homeservers that are cut off from one another for a while. They and the link
    /// between them are those in MLS_TEST_FEDERATION_A, _B and _CONTROL
    #[arg(long, conflicts_with = "devices")]
    partition: bool,
    /// Play in a large room, with so many devices and two that come late
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(4..=2000))]
    devices: Option<u16>,
    /// Print one JSON document on standard output, and what happens meanwhile on standard error
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match play(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix-mls-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays, reports, and leaves nothing behind. Gives whether all went well.
fn play(args: &Args) -> io::Result<bool> {
    let form = if args.json { Form::Json } else { Form::Text };
    let place = match &args.homeserver {
        Some(url) if !args.partition => url,
        _ => "two homeservers",
    };
    let mut report = Report::new(place, form);
    let stores = tempfile::Builder::new().prefix("matrix-mls-demo-").tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = run(args, stores.path(), &mut report) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Waits for the threads that close databases, which may still write.
    drop(runtime);
    stores.close()?;
    report.finish(result.err().as_ref())
}

async fn run(args: &Args, stores: &Path, report: &mut Report) -> anyhow::Result<()> {
    if args.partition {
        let mut net = Federation::from_env().await?;
        report.count(&net.a.wire_log);
        return partition::play(&mut net, stores, report).await;
    }
    let url = args.homeserver.as_deref().unwrap_or_default();
    let http = HttpClient::connect(url.trim_end_matches('/')).await?;
    report.count(&http.wire_log);
    if let Some(devices) = args.devices {
        return large::play(&http, devices.into(), report).await;
    }
    scenario::play(&http, stores, report).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
