//! Puncturing one node's PPRF once per processed commit.

use anyhow::Result;
use matrix_dmls::{Pprf, Secret};

use super::Options;
use crate::{
    report::{Row, number},
    sample::Samples,
};

/// Derives so many children from one node, each at a random point. A copy is punctured, as the group
/// does it, so that nothing has happened if the commit turns out to be wrong.
pub(super) fn measure(options: &Options) -> Result<Row> {
    let mut times = Samples::default();
    let mut bytes = 0;
    for _ in 0..options.runs {
        let mut pprf = Pprf::new(Secret::from_bytes(random()?));
        for commit in 1..=options.commits {
            let point = random()?;
            let mut ignored = Samples::default();
            // The last is the dearest: there is most to copy.
            let into = if commit == options.commits { &mut times } else { &mut ignored };
            pprf = into.time_now(|| {
                let mut copy = pprf.clone();
                copy.evaluate(&point).map(|_| copy)
            })?;
        }
        bytes = rmp_serde::to_vec(&pprf)?.len();
    }
    let (summary, each) = (times.summary(), bytes as f64 / options.commits as f64);
    Ok(Row {
        what: format!("PPRF: one processed commit, the last of {} on one node", options.commits),
        bound: Some("1 ms, and 8.5 kB per commit".to_owned()),
        measured: format!(
            "{} ms ({}), {} kB per commit",
            number(summary.median),
            number(summary.p95),
            number(each / 1000.0),
        ),
        holds: Some(summary.median <= 1.0 && each <= 8500.0),
        values: vec![
            ("median_ms".to_owned(), summary.median),
            ("p95_ms".to_owned(), summary.p95),
            ("bytes_per_commit".to_owned(), each),
        ],
    })
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
