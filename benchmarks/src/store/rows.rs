//! The table: what was wanted, and what was found.

use super::{BODY, Cost, Options, Retained, SMALL};
use crate::{
    report::{Row, number},
    sample::{Samples, Summary},
};

pub(super) fn setting(options: &Options, sync: Summary) -> Vec<String> {
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "{profile} profile, {} {}, {cores} cores; medians (95th percentiles) of {} runs each",
            std::env::consts::OS,
            std::env::consts::ARCH,
            options.messages,
        ),
        format!(
            "making 4 KiB durable (fdatasync) takes {} ms ({} ms) on this disk",
            number(sync.median),
            number(sync.p95),
        ),
    ]
}

fn milliseconds(summary: Summary) -> String {
    format!("{} ms ({})", number(summary.median), number(summary.p95))
}

fn both(costs: &[Cost; 2]) -> (Summary, Summary) {
    let [small, large] = costs;
    (small.ms.summary(), large.ms.summary())
}

fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn times_values(small: Summary, large: Summary) -> Vec<(String, f64)> {
    named(&[
        ("small_median_ms", small.median),
        ("small_p95_ms", small.p95),
        ("large_median_ms", large.median),
        ("large_p95_ms", large.p95),
        ("ratio", large.median / small.median),
    ])
}

pub(super) fn encrypt(costs: &[Cost; 2], devices: usize) -> Row {
    let (small, large) = both(costs);
    let ratio = large.median / small.median;
    Row {
        what: format!("encrypt one {BODY}-byte message, durable, at {SMALL} / {devices} devices"),
        bound: Some("0.5 ms, and the second at most 1.3x the first".to_owned()),
        measured: format!("{} / {}: {}x", milliseconds(small), milliseconds(large), number(ratio)),
        holds: Some(small.median <= 0.5 && large.median <= 0.5 && ratio <= 1.3),
        values: times_values(small, large),
    }
}

/// Whether the bytes of the large room are those of the small one, up to a tenth: rows are of slightly
/// different lengths.
fn is_constant(costs: &[Cost; 2]) -> Option<bool> {
    let [small, large] = costs.each_ref().map(|cost| cost.bytes.summary());
    (large.count > 0).then_some(large.median <= small.median * 1.1)
}

pub(super) fn decrypt(costs: &[Cost; 2], devices: usize) -> Row {
    let (small, large) = both(costs);
    let constant = is_constant(costs);
    Row {
        what: format!("decrypt one message, at {SMALL} / {devices} devices"),
        bound: Some("0.2 ms; nothing rewritten that grows with the room".to_owned()),
        measured: format!("{} / {}", milliseconds(small), milliseconds(large)),
        holds: Some(small.median <= 0.2 && large.median <= 0.2 && constant != Some(false)),
        values: times_values(small, large),
    }
}

pub(super) fn bytes(encrypted: &[Cost; 2], decrypted: &[Cost; 2], devices: usize) -> Row {
    let [[sent_small, sent_large], [read_small, read_large]] =
        [encrypted, decrypted].map(|costs| costs.each_ref().map(|cost| cost.bytes.summary()));
    let holds = is_constant(encrypted).zip(is_constant(decrypted)).map(|(one, two)| one && two);
    Row {
        what: "bytes written per message".to_owned(),
        bound: Some("constant in room size".to_owned()),
        measured: format!(
            "sent {} / {}, read {} / {} at {SMALL} / {devices} devices",
            sent_small.median, sent_large.median, read_small.median, read_large.median,
        ),
        holds,
        values: named(&[
            ("sent_small_bytes", sent_small.median),
            ("sent_large_bytes", sent_large.median),
            ("read_small_bytes", read_small.median),
            ("read_large_bytes", read_large.median),
        ]),
    }
}

pub(super) fn commit(times: &[Samples; 2], devices: usize) -> Row {
    let [sqlite, memory] = times.each_ref().map(Samples::summary);
    let ratio = sqlite.median / memory.median;
    Row {
        what: format!("receive and store one commit at {devices} devices"),
        bound: Some("1.5x the same in memory".to_owned()),
        measured: format!(
            "{}, in memory {}: {}x",
            milliseconds(sqlite),
            milliseconds(memory),
            number(ratio)
        ),
        holds: Some(ratio <= 1.5),
        values: named(&[
            ("sqlite_median_ms", sqlite.median),
            ("sqlite_p95_ms", sqlite.p95),
            ("memory_median_ms", memory.median),
            ("memory_p95_ms", memory.p95),
            ("ratio", ratio),
        ]),
    }
}

pub(super) fn retained(retained: &Retained, devices: usize) -> Row {
    let megabytes = retained.bytes as f64 / 1e6;
    Row {
        what: format!(
            "{} retained nodes and {} epoch keys of a {devices}-device room",
            retained.nodes, retained.keys
        ),
        bound: Some("3 MB".to_owned()),
        measured: format!("{} MB", number(megabytes)),
        holds: Some(megabytes <= 3.0),
        values: named(&[
            ("nodes", retained.nodes as f64),
            ("epoch_keys", retained.keys as f64),
            ("bytes", retained.bytes as f64),
        ]),
    }
}

pub(super) fn open(opened: Summary, rooms: usize) -> Row {
    Row {
        what: format!("open a store with {rooms} rooms and answer for one"),
        bound: Some("50 ms".to_owned()),
        measured: milliseconds(opened),
        holds: Some(opened.median <= 50.0),
        values: named(&[("median_ms", opened.median), ("p95_ms", opened.p95)]),
    }
}

pub(super) fn megolm(costs: &[Cost; 2], devices: usize) -> Row {
    let what = format!(
        "Megolm: encrypt one {BODY}-byte message, OlmMachine on SqliteCryptoStore, at {SMALL} / \
         {devices} devices"
    );
    compared(what, costs)
}

#[cfg(feature = "openmls")]
pub(super) fn openmls(costs: &[Cost; 2], devices: usize) -> Row {
    let past = super::openmls::PAST_EPOCHS;
    let what = format!(
        "OpenMLS: encrypt one {BODY}-byte message, {past} past epochs, on its SQLite storage, \
         not encrypted, at {SMALL} / {devices} devices"
    );
    compared(what, costs)
}

fn compared(what: String, costs: &[Cost; 2]) -> Row {
    let (small, large) = both(costs);
    let [small_bytes, large_bytes] = costs.each_ref().map(|cost| cost.bytes.summary().median);
    Row {
        what,
        bound: None,
        measured: format!(
            "{} / {}; {small_bytes} / {large_bytes} bytes written",
            milliseconds(small),
            milliseconds(large),
        ),
        holds: None,
        values: times_values(small, large),
    }
}
