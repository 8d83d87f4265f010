//! The benchmark runs, and what cannot depend on the machine is as it should be.

#![allow(missing_docs, clippy::unwrap_used)]

use matrix_mls_benchmarks::{
    forks, large,
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

#[tokio::test(flavor = "multi_thread")]
async fn a_large_room_is_measured_and_all_that_is_no_time_is_as_it_should_be() {
    let report = large::run(&large::Options::tiny(24), &|_| {}).await.unwrap();
    assert_eq!((report.rows.len(), report.comparison.len()), (9, 5));
    for row in &report.rows {
        let is_time = row.what.starts_with("join by") || row.what.starts_with("catch up");
        assert!(is_time || row.holds == Some(true), "{}: {}", row.what, row.measured);
        assert!(row.values.iter().all(|(_, value)| *value > 0.0), "{}", row.what);
    }
    let catch_up = report.rows.iter().find(|row| row.what.starts_with("catch up")).unwrap();
    let pages = catch_up.values.iter().find(|(name, _)| name == "pages").unwrap().1;
    assert!((2.0..=3.0).contains(&pages), "{}", catch_up.measured);
}
