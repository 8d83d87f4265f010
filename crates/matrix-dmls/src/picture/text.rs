//! As text, with lines from the box-drawing block.

use std::fmt;

use super::{
    EpochGraph, EpochNode,
    layout::Row,
    names::{deed, harmless},
};
use crate::graph::{NodeStatus, Rule};

impl fmt::Display for EpochGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.layout();
        let digits = self.nodes.iter().map(|node| node.epoch).max().unwrap_or_default().to_string();
        for row in &layout.rows {
            let Some(node) = self.nodes.get(row.index) else { continue };
            write!(
                f,
                "{} {:>digits$} {} {}",
                lanes(row, layout.lanes, symbol(node)),
                node.epoch,
                harmless(&node.node.short()),
                deed(node),
                digits = digits.len() + 1,
            )?;
            let remarks = self.remarks(node);
            if !remarks.is_empty() {
                write!(f, " ← {}", remarks.join(", "))?;
            }
            writeln!(f)?;
            if !row.opens.is_empty() {
                writeln!(f, "{}", branches(row, layout.lanes).trim_end())?;
            }
        }
        for step in &self.steps {
            let candidates: Vec<_> = step
                .candidates
                .iter()
                .map(|candidate| {
                    let leaf = candidate.leaf.map_or("joiner".to_owned(), |leaf| leaf.to_string());
                    let (node, users) = (candidate.node.short(), candidate.users);
                    format!("{node} (users {users}, swept {}, leaf {leaf})", candidate.swept)
                })
                .collect();
            let (at, chosen) = (step.at.short(), step.chosen.short());
            writeln!(f, "at {at}: {chosen} {} of {}", why(step.by), candidates.join(", "))?;
        }
        Ok(())
    }
}

const fn why(rule: Rule) -> &'static str {
    match rule {
        Rule::Users => "has most users",
        Rule::Removal => "removed its rival",
        Rule::Swept => "removed fewest users",
        Rule::Leaf => "has the lowest leaf",
        Rule::Id => "has the lowest ID",
    }
}

/// Filled while its state is held, dotted if it never was.
const fn symbol(node: &EpochNode) -> char {
    match (node.status, node.held) {
        (NodeStatus::Entered, true) => '●',
        (NodeStatus::Entered, false) => '○',
        (NodeStatus::Seen, _) => '◌',
    }
}

fn lanes(row: &Row, width: usize, symbol: char) -> String {
    let at = |lane| match lane {
        lane if lane == row.lane => symbol,
        lane if row.passing.contains(&lane) => '│',
        _ => ' ',
    };
    (0..width).flat_map(|lane| [at(lane), ' ']).collect()
}

/// The line below a row, where its branches leave.
fn branches(row: &Row, width: usize) -> String {
    let first = row.opens.iter().copied().chain([row.lane]).min().unwrap_or_default();
    let last = row.opens.iter().copied().chain([row.lane]).max().unwrap_or_default();
    let at = |lane: usize| {
        let (left, right) = (lane > first && lane <= last, lane >= first && lane < last);
        let up = lane == row.lane || row.passing.contains(&lane);
        let down = row.opens.contains(&lane)
            || row.passing.contains(&lane)
            || (lane == row.lane && row.goes_on);
        let corner = match (up, down, left, right) {
            (true, true, true, true) => '┼',
            (true, true, false, true) => '├',
            (true, true, true, false) => '┤',
            (true, true, false, false) => '│',
            (false, true, true, true) => '┬',
            (false, true, true, false) => '╮',
            (false, true, false, true) => '╭',
            (_, _, false, false) => ' ',
            _ => '─',
        };
        [corner, if right { '─' } else { ' ' }]
    };
    (0..width).flat_map(at).collect()
}
