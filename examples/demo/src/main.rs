//! Several people with several devices each talk in an MLS room on a real homeserver, and every
//! claim on the way is checked.

mod report;
mod scenario;
mod stage;

use std::process::ExitCode;

use clap::Parser;
use matrix_mls_tests::HttpClient;

use crate::report::{Form, Report};

/// Talks in an MLS room on a homeserver, and checks every claim on the way
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The homeserver, which must let anybody register
    #[arg(long, env = "MLS_DEMO_HOMESERVER", value_name = "URL")]
    homeserver: String,
    /// Print one JSON document on standard output, and what happens meanwhile on standard error
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let form = if args.json { Form::Json } else { Form::Text };
    let mut report = Report::new(&args.homeserver, form);
    let result = tokio::select! {
        result = run(&args, &mut report) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match report.finish(result.err().as_ref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix-mls-demo: the report cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let http = HttpClient::connect(args.homeserver.trim_end_matches('/')).await?;
    report.count(&http.wire_log);
    scenario::play(&http, report).await
}
