//! As a Graphviz digraph.

use std::fmt::Write as _;

use super::{EpochGraph, names::deed};
use crate::graph::NodeStatus;

impl EpochGraph {
    /// The graph in Graphviz's DOT language. Dashed arrows lead from a commit to the losing tips
    /// that it resolves.
    pub fn to_graphviz(&self) -> String {
        let mut text = String::from(
            "digraph epochs {\n    node [shape=box, fontname=\"sans-serif\", fontsize=10];\n",
        );
        let path = self.chosen_path();
        for node in &self.nodes {
            let id = node.node.to_base64();
            let mut label =
                format!("{} {}\\n{}", node.epoch, node.node.short(), quote(&deed(node)));
            let remarks = self.remarks(node);
            if !remarks.is_empty() {
                label += &format!("\\n({})", remarks.join(", "));
            }
            let mut style = Vec::new();
            if path.contains(&node.node) {
                style.push("bold");
            }
            if node.status == NodeStatus::Seen {
                style.push("dashed");
            }
            let style = style.join(",");
            // Writing to a String does not fail, here and below.
            let _ = writeln!(text, "    \"{id}\" [label=\"{label}\", style=\"{style}\"];");
        }
        let known = |id| self.nodes.iter().any(|node| node.node == id);
        for node in &self.nodes {
            let id = node.node.to_base64();
            if let Some(parent) = node.parent.filter(|parent| known(*parent)) {
                let _ = writeln!(text, "    \"{}\" -> \"{id}\";", parent.to_base64());
            }
            for tip in node.commit.iter().flat_map(|commit| &commit.resolves) {
                if known(*tip) {
                    let tip = tip.to_base64();
                    let _ = writeln!(
                        text,
                        "    \"{id}\" -> \"{tip}\" [style=dashed, constraint=false, label=resolves];"
                    );
                }
            }
        }
        text += "}\n";
        text
    }
}

/// For a quoted string.
fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
