//! What branches cost: choosing a tip, puncturing a branch point, merging.

mod choice;
mod merge;
mod pprf;

use anyhow::Result;

use crate::report::Report;

/// How large, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// The group's devices.
    pub devices: usize,
    /// How often everything is measured.
    pub runs: usize,
    /// Nodes in the graph in which a tip is chosen.
    pub nodes: usize,
    /// Tips in it.
    pub tips: usize,
    /// Commits that are processed on one node.
    pub commits: usize,
}

impl Options {
    /// What the bounds are for.
    pub const fn full(devices: usize) -> Self {
        Self { devices, runs: 100, nodes: 1000, tips: 32, commits: 64 }
    }

    /// As little as possible, to see that it runs.
    pub const fn tiny(devices: usize) -> Self {
        Self { devices, runs: 3, nodes: 100, tips: 8, commits: 8 }
    }
}

/// Measures. `tell` hears what is being done.
///
/// # Errors
///
/// When something does not work; a missed bound is no error.
pub fn run(options: &Options, tell: &dyn Fn(&str)) -> Result<Report> {
    tell("Choosing a tip");
    let chosen = choice::measure(options)?;
    tell("Puncturing");
    let punctured = pprf::measure(options)?;
    tell(&format!("Merging two branches of {} devices", options.devices));
    let merged = merge::measure(options)?;
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    let setting = format!(
        "{profile} profile, {} {}; medians (95th percentiles) of {} runs each",
        std::env::consts::OS,
        std::env::consts::ARCH,
        options.runs,
    );
    let rows = chosen.into_iter().chain([punctured]).chain(merged).collect();
    Ok(Report { setting: vec![setting], rows, comparison: Vec::new() })
}
