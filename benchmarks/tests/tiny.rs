//! The benchmark runs, and what cannot depend on the machine is as it should be.

#![allow(missing_docs, clippy::unwrap_used)]

use matrix_mls_benchmarks::{
    forks,
    store::{self, Options},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_and_a_message_writes_the_same_in_small_and_large_rooms() {
    let options = Options::tiny(20, env!("CARGO_TARGET_TMPDIR").into());
    let report = store::run(&options, &|_| {}).await.unwrap();
    let compared = if cfg!(feature = "openmls") { 2 } else { 1 };
    assert_eq!((report.rows.len(), report.comparison.len()), (6, compared));
    assert!(report.rows.iter().chain(&report.comparison).all(|row| !row.values.is_empty()));
    let bytes = report.rows.iter().find(|row| row.what == "bytes written per message").unwrap();
    // Counted on Linux only.
    assert_eq!(bytes.holds, cfg!(target_os = "linux").then_some(true), "{}", bytes.measured);
    let table = report.to_string();
    assert_eq!(table.matches("| holds |").count() + table.matches("**missed**").count(), 6);
}

#[test]
fn branches_are_measured() {
    let report = forks::run(&forks::Options::tiny(20), &|_| {}).unwrap();
    assert_eq!((report.rows.len(), report.comparison.len()), (5, 0));
    assert!(report.rows.iter().all(|row| row.values.iter().all(|(_, value)| *value > 0.0)));
}
