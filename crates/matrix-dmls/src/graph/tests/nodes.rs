//! Nodes, edges, and the way up and down.

use std::sync::Arc;

use super::scenario::{By, Scenario, id, member};
use crate::graph::{Graph, Inserted, NodeStatus};

const TREE: &str = "root: by a +b +c
    x1: root by a\n x2: x1 by c\n x3: x2 by c\n x2b: x1 by b
    y1: root by b";

#[test]
fn a_record_is_new_once_and_upgraded_once() {
    let scenario = Scenario::new(TREE);
    let mut graph = Graph::new();
    let root = scenario.record("root");
    assert!(graph.is_empty());
    assert_eq!(graph.insert(Arc::clone(root), NodeStatus::Seen), Inserted::New);
    assert_eq!(graph.insert(Arc::clone(root), NodeStatus::Seen), Inserted::Known);
    assert_eq!(graph.insert(Arc::clone(root), NodeStatus::Entered), Inserted::Upgraded);
    assert_eq!(graph.insert(Arc::clone(root), NodeStatus::Seen), Inserted::Known);
    assert_eq!(graph.insert(Arc::clone(root), NodeStatus::Entered), Inserted::Known);
    assert_eq!((graph.len(), graph.status(&id("root"))), (1, Some(NodeStatus::Entered)));
    assert_eq!(graph.get(&id("root")), Some(root));
    assert_eq!((graph.get(&id("x1")), graph.status(&id("x1"))), (None, None));
}

#[test]
fn the_graph_can_be_walked() {
    let graph = Scenario::new(TREE).graph();
    assert!(graph.children(&id("root")).eq([id("x1"), id("y1")]));
    assert!(graph.children(&id("x3")).eq([]));
    assert_eq!(graph.parent(&id("x2b")), Some(id("x1")));
    assert_eq!(graph.parent(&id("root")), None);
    assert!(graph.roots().eq([id("root")]));
    assert!(graph.tips().eq([id("x2b"), id("x3"), id("y1")]));
    assert!(graph.ancestors(&id("x3")).eq([id("x2"), id("x1"), id("root")]));
    assert_eq!(graph.descendants(&id("x1")).count(), 3);
    assert!(graph.is_ancestor(&id("root"), &id("x3")));
    assert!(!graph.is_ancestor(&id("x3"), &id("root")));
    assert!(!graph.is_ancestor(&id("x3"), &id("x3")));
    assert!(!graph.is_ancestor(&id("y1"), &id("x3")));
    assert!(format!("{graph:?}").starts_with("Graph { nodes: 6"));
}

#[test]
fn common_ancestors() {
    let graph = Scenario::new(&format!("{TREE}\n other: by a")).graph();
    let common = |nodes: &[&str]| graph.common_ancestor_of(nodes.iter().map(|name| id(name)));
    assert_eq!(graph.common_ancestor(&id("x3"), &id("x2b")), Some(id("x1")));
    assert_eq!(graph.common_ancestor(&id("x3"), &id("x1")), Some(id("x1")));
    assert_eq!(graph.common_ancestor(&id("x1"), &id("x3")), Some(id("x1")));
    assert_eq!(graph.common_ancestor(&id("x3"), &id("x3")), Some(id("x3")));
    assert_eq!(common(&["x3", "x2b", "y1"]), Some(id("root")));
    assert_eq!(common(&["y1", "x3", "x2b"]), Some(id("root")));
    assert_eq!(common(&["x3"]), Some(id("x3")));
    assert_eq!(common(&[]), None);
    assert_eq!(common(&["x3", "other"]), None);
    assert_eq!(common(&["x3", "unknown"]), None);
    assert_eq!(common(&["unknown"]), None);
}

#[test]
fn a_child_that_comes_first_waits_for_its_parent() {
    let scenario = Scenario::new(TREE);
    let mut graph = Graph::new();
    graph.insert(Arc::clone(scenario.record("x2")), NodeStatus::Seen);
    graph.insert(Arc::clone(scenario.record("root")), NodeStatus::Entered);
    assert!(graph.roots().eq([id("root"), id("x2")]));
    assert!(graph.tips().eq([id("root"), id("x2")]));
    assert!(graph.children(&id("x1")).eq([id("x2")]));
    assert_eq!(graph.parent(&id("x2")), Some(id("x1")));
    assert_eq!(graph.ancestors(&id("x2")).count(), 0);
    assert_eq!(graph.choose_tip(), Some(id("root")));
    graph.insert(Arc::clone(scenario.record("x1")), NodeStatus::Seen);
    assert!(graph.roots().eq([id("root")]));
    assert!(graph.tips().eq([id("x2")]));
    assert_eq!(graph.choose_tip(), Some(id("x2")));
}

#[test]
fn entered_tips_look_past_what_was_only_seen() {
    let scenario = Scenario::new(TREE);
    let mut graph = Graph::new();
    for (node, status) in [
        ("root", NodeStatus::Entered),
        ("x1", NodeStatus::Entered),
        ("x2", NodeStatus::Seen),
        ("x3", NodeStatus::Entered),
        ("x2b", NodeStatus::Seen),
        ("y1", NodeStatus::Entered),
    ] {
        graph.insert(Arc::clone(scenario.record(node)), status);
    }
    assert!(graph.entered_tips().eq([id("x3"), id("y1")]));
}

#[test]
fn rosters_without_a_change_are_shared() {
    let graph = Scenario::new(&format!("{TREE}\n z1: x3 by a +d")).graph();
    let (root, x3) = (graph.roster_of(&id("root")).unwrap(), graph.roster_of(&id("x3")).unwrap());
    assert!(Arc::ptr_eq(&root, &x3));
    let z1 = graph.roster_of(&id("z1")).unwrap();
    assert_eq!((x3.len(), z1.len()), (3, 4));
    assert!(Arc::ptr_eq(root.get(1).unwrap(), z1.get(1).unwrap()));
    assert_eq!(graph.roster_of(&id("unknown")), None);
    // More than are remembered.
    for _ in 0..3 {
        for record in &Scenario::new(TREE).records {
            assert!(graph.clone().roster_of(&record.node).is_some());
        }
    }
}

#[test]
fn a_joiner_s_leaf_may_stand_among_the_additions() {
    let mut scenario = Scenario::new("root: by a +b +c\n x: root ext b");
    let mut record = (**scenario.record("x")).clone();
    record.added.extend(record.updated.take());
    let expected = scenario.rosters[&id("x")].clone();
    assert_eq!(expected.get(1), Some(&member("b")));
    *scenario.records.last_mut().unwrap() = Arc::new(record);
    let graph = scenario.graph();
    assert_eq!(*graph.roster_of(&id("x")).unwrap(), expected);
}

/// A chain of so many nodes that anything that recurses along it overflows its stack.
#[test]
fn a_graph_of_a_hundred_thousand_nodes_is_nothing_special() {
    let mut scenario = Scenario::new("root: by a +b");
    scenario.commit("x", Some("root"), By::Member("b"), &[], &[]);
    let mut graph = scenario.graph();
    let mut record = (**scenario.record("x")).clone();
    for number in 0..100_000u64 {
        record.parent = Some(record.node);
        record.epoch += 1;
        record.node = id(&format!("n{number}"));
        graph.insert(Arc::new(record.clone()), NodeStatus::Seen);
    }
    let tip = record.node;
    assert_eq!(graph.choose_tip(), Some(tip));
    assert_eq!(graph.choose_entered_tip(|_| true), Some(id("x")));
    assert_eq!(graph.roster_of(&tip).unwrap().len(), 2);
    assert_eq!(graph.common_ancestor(&tip, &id("x")), Some(id("x")));
    assert_eq!(graph.committed_below(&id("root")).len(), 1);
    assert!(graph.entered_tips().eq([id("x")]));
}
