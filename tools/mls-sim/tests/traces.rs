//! Runs that failed once, and what was mended since. Each is a trace as a failing run prints it, or as
//! `cargo xtask sim --plan` does.

#![allow(clippy::panic)]

use matrix_mls_sim::{Plan, run};

/// A run that must end well, by the name of its trace.
macro_rules! traces {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        $($(#[doc = $doc])* #[test]
        fn $name() {
            let json = include_str!(concat!("../traces/", stringify!($name), ".json"));
            let plan: Plan = serde_json::from_str(json).expect("it is a trace");
            let outcome = run(&plan);
            if let Some(failure) = outcome.failure {
                panic!("{failure}\n{}", outcome.log);
            }
        })*
    };
}

traces! {
    /// A device whose clock is years ahead did not look for the parent of a commit.
    mixed_91,
    /// Newcomers who had no commit asked the same three devices again and again.
    lone_founder_51,
    /// Device lists that did not come were looked at every ten seconds.
    mixed_321,
    /// Single removals against a sweep were not united by objections.
    insiders_43,
    /// Devices that were invented in a user's name took away that user's voice.
    insiders_165,
    /// A relayed copy was dropped because its poster had been thrown out meanwhile.
    insiders_197,
    /// After a restart nobody looked whether to object, and nobody could send.
    insiders_48,
    /// These failed before newcomers were told of branches, and before requests, Welcomes and refused
    /// commits were handled as docs/simulator.md says ("What it found").
    race_242,
    /// See above.
    crashes_64,
    /// See above.
    partition_123,
    /// See above.
    soft_failed_1216,
    /// See above.
    gaps_1005,
    /// Nobody could let newcomers in, nor could they themselves: the author of the epoch had left.
    mixed_4891,
    /// Insiders outvoted who was left, and went.
    insiders_2349,
    /// Two Welcomes that could not be used had their commits fetched by turns, without end.
    partition_5163,
    /// The same.
    soft_failed_6096,
    /// The same.
    gaps_8705,
    /// Who had left the room tried for days to confirm a removal, and kept each commit.
    soft_failed_3036,
    /// The same.
    partition_1493,
    /// Nobody is left who has the key of an epoch that somebody came into alone: that is no failure.
    partition_7633,
    /// Who was removed without cause held the chosen tip, and spoke on another one: that was the best
    /// of those that it held, without the removal, which it could not enter.
    false_removal_11445,
    /// An invitation that came late took a device that had joined for one that was only invited.
    partition_20533,
    /// The two of many who had an epoch's key were not asked for it within hours.
    partition_22033,
    /// The same with one, who had committed there.
    partition_23833,
}
