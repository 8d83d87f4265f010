//! As a Mermaid flowchart.

use std::fmt::Write as _;

use super::{EpochGraph, names::deed};
use crate::graph::NodeStatus;

impl EpochGraph {
    /// The graph as a Mermaid flowchart, which many forges and editors show. Dotted arrows lead from
    /// a commit to the losing tips that it resolves.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        let number = |id| self.nodes.iter().position(|node| node.node == id);
        let path = self.chosen_path();
        for (index, node) in self.nodes.iter().enumerate() {
            let mut label = format!("{} {}<br/>", node.epoch, node.node.short());
            label += &escape(&deed(node));
            let remarks = self.remarks(node);
            if !remarks.is_empty() {
                label += &format!("<br/>({})", remarks.join(", "));
            }
            let class = match node.status {
                _ if path.contains(&node.node) => "chosen",
                NodeStatus::Entered => "entered",
                NodeStatus::Seen => "seen",
            };
            // Writing to a String does not fail, here and below.
            let _ = writeln!(text, "    n{index}[\"{label}\"]:::{class}");
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(parent) = node.parent.and_then(number) {
                let _ = writeln!(text, "    n{parent} --> n{index}");
            }
            for tip in node.commit.iter().flat_map(|commit| &commit.resolves) {
                if let Some(tip) = number(*tip) {
                    let _ = writeln!(text, "    n{index} -. resolves .-> n{tip}");
                }
            }
        }
        text += "    classDef chosen stroke-width:3px\n";
        text += "    classDef entered stroke-width:1px\n";
        text += "    classDef seen stroke-dasharray:4\n";
        text
    }
}

/// Everything that has a meaning in a label, as an entity.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if character.is_alphanumeric() || " @:._-/,=+…".contains(character) {
            escaped.push(character);
        } else {
            let _ = write!(escaped, "#{};", u32::from(character));
        }
    }
    escaped
}
