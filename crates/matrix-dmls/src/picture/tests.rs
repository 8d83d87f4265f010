use std::sync::Arc;

use insta::assert_snapshot;

use super::{EpochGraph, names::harmless};
use crate::{
    graph::{
        Graph, NodeStatus,
        tests::scenario::{Scenario, id},
    },
    record::CommitRecord,
};

/// A race, a longer branch that loses, a device that comes back by itself, and a commit that was only
/// seen.
fn race() -> EpochGraph {
    let scenario = Scenario::new(
        "root: by a +b +c +d
         x: root by a -d
         y: root by b +e
         x1: x by c
         y1: y by b
         y2: y1 by b
         x2: x1 ext b
         x3: x2 by a +e +f +g +h
         z: root by c",
    );
    let mut graph = scenario.graph();
    let mut seen = CommitRecord::clone(scenario.record("x3"));
    seen.node = id("x4");
    seen.parent = Some(id("x3"));
    seen.epoch += 1;
    seen.resolves = vec![id("y2"), id("z")];
    graph.insert(Arc::new(seen), NodeStatus::Seen);
    picture(&graph)
}

/// As somebody has it who holds everything that was entered.
fn picture(graph: &Graph) -> EpochGraph {
    let mut picture = EpochGraph::new(graph);
    for node in &mut picture.nodes {
        node.held = node.status == NodeStatus::Entered;
        node.readable = node.held;
    }
    picture
}

#[test]
fn as_text() {
    assert_snapshot!(race());
}

#[test]
fn as_mermaid() {
    assert_snapshot!(race().to_mermaid());
}

#[test]
fn as_graphviz() {
    assert_snapshot!(race().to_graphviz());
}

#[test]
fn as_svg() {
    assert_snapshot!(race().to_svg());
}

/// A device that cannot enter the chosen branch sends on the other one.
#[test]
fn left_behind() {
    let mut graph = race();
    for node in &mut graph.nodes {
        node.held = node.node == id("y2");
        node.readable &= node.node != id("root");
    }
    graph.sending = Some(id("y2"));
    assert_snapshot!(graph);
}

#[test]
fn an_empty_graph() {
    let empty = picture(&Graph::new());
    assert_eq!(empty.to_string(), "");
    assert!(empty.tips().is_empty());
    assert!(empty.to_svg().ends_with("</svg>\n"));
}

#[test]
fn many_branches_at_one_node_and_below_them() {
    let graph = picture(
        &Scenario::new(
            "root: by a +b +c +d +e
             p: root by a
             q: root by b
             r: root by c
             s: root by d
             q1: q by b
             q2: q by c
             p1: p by e
             r1: r by c
             t: p1 by a
             u: p1 by b",
        )
        .graph(),
    );
    assert_snapshot!(graph);
    assert_eq!(graph.tips(), ["q1", "q2", "r1", "s", "t", "u"].map(id).into());
}

/// Nodes that do not hang together, as a newcomer has them.
#[test]
fn fragments() {
    let scenario = Scenario::new(
        "root: by a +b
         gap: root by b
         x: gap by a
         y: x by b",
    );
    let mut graph = Graph::new();
    for name in ["root", "x", "y"] {
        graph.insert(Arc::clone(scenario.record(name)), NodeStatus::Entered);
    }
    graph.set_roster(id("alone"), 9, Arc::default());
    assert_snapshot!(picture(&graph));
}

#[test]
fn the_last_epochs_with_what_they_hang_on() {
    let last = race().last(3);
    let ids: Vec<_> = last.nodes.iter().map(|node| node.node).collect();
    assert_eq!(ids, ["x1", "y1", "x2", "y2", "x3", "x4"].map(id));
    assert_snapshot!(last);
}

/// Whoever can look at a picture is not to be fooled by a name in it.
#[test]
fn names_from_others_are_harmless() {
    let nasty = "\u{1b}[2J\n\"]<b>&\\{}|\u{202e}`#;";
    let quiet = r#"\u{1b}[2J\u{a}"]<b>&\{}|\u{202e}`#;"#;
    assert_eq!(harmless(nasty), quiet);
    assert_eq!(harmless(&"x".repeat(41)), format!("{}…", "x".repeat(40)));
    assert_eq!(harmless("@ähm:例え.jp"), "@ähm:例え.jp");

    let mut graph = race();
    for node in &mut graph.nodes {
        if let Some(commit) = &mut node.commit {
            commit.author.device_id = nasty.to_owned();
        }
    }
    let text = graph.to_string();
    assert!(text.contains(quiet));
    assert!(!text.contains(['\u{1b}', '\u{202e}']));
    assert_eq!(text.lines().count(), race().to_string().lines().count());
    let mermaid = graph.to_mermaid();
    assert_eq!(mermaid.lines().count(), race().to_mermaid().lines().count());
    assert!(mermaid.lines().all(|line| line.matches('"').count() % 2 == 0));
    assert!(!mermaid.contains("<b>"));
    let dot = graph.to_graphviz();
    assert!(dot.contains(r#"\\u{a}\"]<b>"#));
    let svg = graph.to_svg();
    assert!(!svg.contains("<b>"));
    assert!(svg.contains("&quot;]&lt;b&gt;&amp;"));
}

/// Wide and deep graphs are drawn without recursion and without more lanes than there are branches.
#[test]
fn large_graphs() {
    let mut text = String::from("root: by a +b +c\n");
    let mut parent = "root".to_owned();
    for n in 0..600 {
        let by = ["a", "b", "c"][n % 3];
        text += &format!("n{n}: {parent} by {by}\n");
        if n % 7 == 0 {
            text += &format!("side{n}: {parent} by {}\n", ["b", "c", "a"][n % 3]);
        }
        parent = format!("n{n}");
    }
    let graph = picture(&Scenario::new(&text).graph());
    assert_eq!(graph.nodes.len(), 601 + 86);
    assert!(graph.layout().lanes <= 3, "{}", graph.layout().lanes);
    assert_eq!(graph.layout().rows.len(), graph.nodes.len());
    assert!(!graph.to_string().is_empty());
}
