//! What many runs come to.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{outcome::Outcome, scenario::Scenario};

/// In so many runs of a scenario at least one attack must have done something.
const ENOUGH_FOR_ATTACKS: usize = 10;

/// Shares of time and percentiles of fewer runs say nothing.
const ENOUGH_FOR_TARGETS: usize = 50;

/// The results of the runs of one scenario, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Runs.
    pub runs: usize,
    /// Runs in which a check failed.
    pub failures: usize,
    /// Messages that had to be sent after healing until everybody was on one tip: of how many runs
    /// which number.
    pub sends: BTreeMap<usize, usize>,
    /// Messages sent.
    pub messages: usize,
    /// Messages read.
    pub read: usize,
    /// Messages that an attack has kept from devices.
    pub kept: usize,
    /// Messages that nobody has the key of who is still there.
    pub gone: usize,
    /// Messages that devices have asked for after limited syncs.
    pub paged: usize,
    /// Commits.
    pub commits: usize,
    /// The most commits in one run.
    pub most_commits: usize,
    /// Attacks that were tried.
    pub attacks: usize,
    /// Those of them that have brought a commit into the room.
    pub effective: usize,
    /// Messages that insiders, and devices that are not in the room any more, could read with what they
    /// had: such as they had a leaf for.
    pub opened: usize,
    /// Comparisons with the model.
    pub compared: usize,
    /// How long attacks did harm to honest devices, in simulated milliseconds.
    pub attacked_ms: u64,
    /// The same by harm and attack; a time can have several of them.
    pub harms: BTreeMap<String, u64>,
    /// How long they were on a branch that an attack had made beside what others had done.
    pub beside_ms: u64,
    /// How long they could have been.
    pub exposed_ms: u64,
    /// True milliseconds of all runs together.
    pub took_ms: u128,
    /// True milliseconds of the longest.
    pub longest_ms: u128,
}

impl Report {
    /// Counts a run.
    pub fn add(&mut self, outcome: &Outcome) {
        let stats = &outcome.stats;
        self.runs += 1;
        self.failures += usize::from(outcome.failure.is_some());
        if let Some(sends) = stats.sends {
            *self.sends.entry(sends).or_default() += 1;
        }
        self.messages += stats.messages;
        self.read += stats.read;
        self.kept += stats.kept;
        self.gone += stats.gone;
        self.paged += stats.paged;
        self.commits += stats.commits;
        self.most_commits = self.most_commits.max(stats.commits);
        self.attacks += stats.attacks;
        self.effective += stats.effective;
        self.opened += stats.opened;
        self.compared += stats.compared;
        self.attacked_ms += stats.attacked_ms;
        for (harm, milliseconds) in &stats.harms {
            *self.harms.entry(harm.clone()).or_default() += milliseconds;
        }
        self.beside_ms += stats.beside_ms;
        self.exposed_ms += stats.exposed_ms;
        self.took_ms += stats.took_ms;
        self.longest_ms = self.longest_ms.max(stats.took_ms);
    }

    /// So many sends were enough in this part of the runs, of 100.
    pub fn sends_of(&self, percent: usize) -> Option<usize> {
        let all: usize = self.sends.values().sum();
        let mut left = (all * percent).div_ceil(100);
        self.sends.iter().find_map(|(sends, runs)| {
            left = left.saturating_sub(*runs);
            (left == 0).then_some(*sends)
        })
    }

    /// One line of a table.
    pub fn line(&self, scenario: Option<Scenario>) -> String {
        let name = scenario.map_or("all", Scenario::name);
        let runs = self.runs.max(1);
        let number = |sends: Option<usize>| sends.map_or("-".to_owned(), |sends| sends.to_string());
        let has_harm = scenario.is_none_or(Scenario::has_harm);
        let share = |part: u64| match self.exposed_ms {
            all if all > 0 && has_harm => format!("{:5.2}%", 100.0 * ratio(part, all)),
            _ => "     -".to_owned(),
        };
        let attacks = match self.attacks {
            0 => "-".to_owned(),
            all => format!("{}/{all}", self.effective),
        };
        let (bad, beside) = (share(self.attacked_ms), share(self.beside_ms));
        format!(
            "{name:20} {:6} {:6} {:5} {:5} {:5} {:8} {:8} {attacks:>11} {bad} {beside} {:7}",
            self.runs,
            self.failures,
            number(self.sends_of(50)),
            number(self.sends_of(95)),
            number(self.sends.keys().next_back().copied()),
            self.commits / runs,
            self.most_commits,
            self.took_ms / u128::try_from(runs).unwrap_or(1),
        )
    }

    /// What is missed by the runs of a scenario: no attack in it has brought a commit into the room, though
    /// there were runs enough.
    pub fn has_no_attack(&self, scenario: Scenario) -> bool {
        scenario.is_attack() && self.runs >= ENOUGH_FOR_ATTACKS && self.effective == 0
    }

    /// The targets that a scenario misses, by what was asked of the machine (docs/forks.md, "Targets").
    /// Nothing is said of fewer runs than mean something.
    pub fn misses(&self, scenario: Scenario) -> Vec<String> {
        let mut misses = Vec::new();
        if self.runs < ENOUGH_FOR_TARGETS {
            return misses;
        }
        if scenario.has_harm() {
            let bad = 100.0 * ratio(self.attacked_ms, self.exposed_ms.max(1));
            let target = if scenario == Scenario::LoneFounder { 8.0 } else { 3.0 };
            if bad > target {
                misses.push(format!("bad for {bad:.2} % of the time, at most {target} %"));
            }
        }
        if !scenario.is_attack() {
            for (percent, target) in [(50, 1), (95, 6)] {
                if let Some(sends) = self.sends_of(percent).filter(|sends| *sends > target) {
                    misses.push(format!("p{percent} is {sends}, at most {target}"));
                }
            }
        }
        misses
    }

    /// The harms that attacks did, the longest first: what, by which attack, and for which share of the
    /// time, in percent.
    pub fn shares_of_harm(&self) -> Vec<(&str, f64)> {
        let mut harms: Vec<_> = self.harms.iter().collect();
        harms.sort_by_key(|(_, milliseconds)| std::cmp::Reverse(**milliseconds));
        let share = |milliseconds: u64| 100.0 * ratio(milliseconds, self.exposed_ms.max(1));
        harms.into_iter().map(|(harm, ms)| (harm.as_str(), share(*ms))).collect()
    }

    /// What the columns of [`Report::line`] are.
    pub fn head() -> String {
        format!(
            "{:20} {:>6} {:>6} {:>5} {:>5} {:>5} {:>8} {:>8} {:>11} {:>6} {:>6} {:>7}",
            "scenario",
            "runs",
            "failed",
            "p50",
            "p95",
            "most",
            "commits",
            "most",
            "attacks",
            "bad",
            "beside",
            "ms/run"
        )
    }
}

#[allow(clippy::cast_precision_loss)]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.line(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_runs() {
        let mut report =
            Report { sends: BTreeMap::from([(0, 10), (1, 85), (6, 5)]), ..Report::default() };
        assert_eq!(
            (report.sends_of(10), report.sends_of(50), report.sends_of(95)),
            (Some(0), Some(1), Some(1))
        );
        assert_eq!(report.sends_of(96), Some(6));
        let enough = Report { runs: ENOUGH_FOR_TARGETS, ..report.clone() };
        assert!(enough.misses(Scenario::Calm).is_empty());
        let late = Report { sends: BTreeMap::from([(2, 94), (7, 6)]), ..enough };
        let missed = ["p50 is 2, at most 1", "p95 is 7, at most 6"];
        assert_eq!(late.misses(Scenario::Calm), missed);
        // With insiders it takes as long as it takes.
        assert!(late.misses(Scenario::Insiders).is_empty());
        assert!(Report { runs: ENOUGH_FOR_TARGETS - 1, ..late }.misses(Scenario::Calm).is_empty());
        report.sends.clear();
        assert_eq!(report.sends_of(50), None);
    }

    #[test]
    fn too_much_harm_is_missed_and_attacks_that_do_nothing_are_noticed() {
        let (runs, exposed_ms) = (ENOUGH_FOR_TARGETS, 1000);
        let report = Report { runs, exposed_ms, attacked_ms: 40, attacks: 50, ..Report::default() };
        assert_eq!(report.misses(Scenario::Insiders), ["bad for 4.00 % of the time, at most 3 %"]);
        assert!(report.misses(Scenario::LoneFounder).is_empty());
        assert!(report.misses(Scenario::Flood).is_empty());
        assert!(report.has_no_attack(Scenario::Flood));
        assert!(!report.has_no_attack(Scenario::Calm));
        assert!(!Report { effective: 1, ..report }.has_no_attack(Scenario::Flood));
    }
}
