//! As a drawing.

use std::{collections::HashMap, fmt::Write as _};

use super::{EpochGraph, names::deed};
use crate::graph::NodeStatus;

const ROW: usize = 30;
const LANE: usize = 24;
const MARGIN: usize = 20;
/// What a character of the text takes at most, in the same unit.
const CHARACTER: usize = 8;

const STYLE: &str = "
  svg { background: #fff; color: #1c1c1e; font: 13px ui-monospace, monospace; }
  @media (prefers-color-scheme: dark) { svg { background: #1c1c1e; color: #f2f2f7; } }
  text { fill: currentColor; dominant-baseline: central; }
  path { fill: none; stroke: #8e8e93; stroke-width: 2; }
  path.chosen { stroke: #0a84ff; stroke-width: 3; }
  path.resolves { stroke-dasharray: 3 4; stroke-width: 1; }
  circle { fill: #8e8e93; stroke: #8e8e93; stroke-width: 2; }
  circle.chosen { fill: #0a84ff; stroke: #0a84ff; }
  circle.erased, circle.seen { fill: none; }
  circle.seen { stroke-dasharray: 2 3; }
";

impl EpochGraph {
    /// The graph as an SVG document of its own: a row for each epoch, the chosen branch on the left.
    /// A filled circle is an epoch whose state is held, an empty one was entered, a dotted one only
    /// seen. Thin dotted lines lead from a commit to the losing tips that it resolves.
    pub fn to_svg(&self) -> String {
        let layout = self.layout();
        let path = self.chosen_path();
        let places: HashMap<_, _> = layout
            .rows
            .iter()
            .enumerate()
            .filter_map(|(number, row)| {
                let place = (MARGIN + row.lane * LANE, MARGIN + number * ROW);
                Some((self.nodes.get(row.index)?.node, place))
            })
            .collect();
        let (mut lines, mut marks) = (String::new(), String::new());
        let text_at = MARGIN + layout.lanes * LANE;
        let mut longest = 0;
        for node in &self.nodes {
            let Some((x, y)) = places.get(&node.node).copied() else { continue };
            let class = if path.contains(&node.node) { "chosen" } else { "other" };
            // Writing to a String does not fail, here and below.
            if let Some((from_x, from_y)) = node.parent.and_then(|id| places.get(&id).copied()) {
                let bend = from_y + ROW / 2;
                let turn = from_y + ROW;
                let _ = writeln!(
                    lines,
                    "<path class=\"{class}\" d=\"M{from_x} {from_y} C{from_x} {bend} {x} {bend} {x} {turn} L{x} {y}\"/>"
                );
            }
            for tip in node.commit.iter().flat_map(|commit| &commit.resolves) {
                if let Some((tip_x, tip_y)) = places.get(tip) {
                    let _ = writeln!(
                        lines,
                        "<path class=\"resolves\" d=\"M{x} {y} L{tip_x} {tip_y}\"/>"
                    );
                }
            }
            let state = match (node.status, node.held) {
                (NodeStatus::Entered, true) => "held",
                (NodeStatus::Entered, false) => "erased",
                (NodeStatus::Seen, _) => "seen",
            };
            let mut label = format!("{} {} {}", node.epoch, node.node.short(), deed(node));
            let remarks = self.remarks(node);
            if !remarks.is_empty() {
                label += &format!(" ← {}", remarks.join(", "));
            }
            longest = longest.max(label.chars().count());
            let (title, label) = (node.node.to_base64(), escape(&label));
            let _ = writeln!(
                marks,
                "<circle class=\"{class} {state}\" cx=\"{x}\" cy=\"{y}\" r=\"6\"><title>{title}</title></circle>\n\
                 <text x=\"{text_at}\" y=\"{y}\">{label}</text>"
            );
        }
        let width = text_at + longest * CHARACTER + MARGIN;
        let height = 2 * MARGIN + layout.rows.len().saturating_sub(1) * ROW;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n\
             <title>Epoch graph</title>\n<style>{STYLE}</style>\n{lines}{marks}</svg>\n"
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
