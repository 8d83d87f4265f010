//! The same as one JSON document.

use std::io::{self, Write};

use matrix_mls_tests::WireCount;
use matrix_sdk_crypto_mls::dmls;
use serde_json::{Map, Value, json};

use super::{Report, Step};

pub(super) fn write(report: &Report, failure: Option<&str>) -> io::Result<()> {
    let mut total = WireCount::default();
    report.steps.iter().for_each(|step| total += step.total());
    let document = json!({
        "homeserver": report.homeserver,
        "algorithm": dmls::ALGORITHM,
        "result": result(failure),
        "failure": failure,
        "seconds": report.time().as_secs_f64(),
        "total": count(total),
        "steps": report.steps.iter().map(step).collect::<Vec<_>>(),
    });
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &document)?;
    writeln!(out)
}

fn step(step: &Step) -> Value {
    let wire: Map<_, _> =
        step.wire.iter().map(|(kind, wire)| (kind.clone(), count(*wire))).collect();
    json!({
        "title": step.title,
        "result": result(step.failure.as_deref()),
        "failure": step.failure,
        "at_seconds": step.at.as_secs_f64(),
        "seconds": step.time.as_secs_f64(),
        "lines": step.lines,
        "total": count(step.total()),
        "wire": wire,
    })
}

fn result(failure: Option<&str>) -> &'static str {
    if failure.is_none() { "passed" } else { "failed" }
}

fn count(count: WireCount) -> Value {
    json!({ "requests": count.requests, "sent": count.sent, "received": count.received })
}
