//! Who committed below a node.

use std::{collections::BTreeSet, sync::Arc};

use super::scenario::{Scenario, device, id};
use crate::graph::{Graph, NodeStatus};

#[test]
fn commits_below_a_node_on_any_branch_count_but_not_its_own() {
    let graph = Scenario::new(
        "root: by a +b +b/2 +c
        x1: root by b\n x2: x1 by a\n x3: x2 by b\n y1: x1 by b/2\n z1: root by c\n e: x3 ext d",
    )
    .graph();
    let below = |node| graph.committed_below(&id(node));
    let devices = |names: &[&str]| names.iter().map(|name| device(name)).collect::<BTreeSet<_>>();
    assert_eq!(below("x1"), devices(&["a", "b", "b/2", "d"]));
    assert_eq!(below("x2"), devices(&["b", "d"]));
    assert_eq!(below("root"), devices(&["a", "b", "b/2", "c", "d"]));
    assert_eq!(below("e"), devices(&[]));
    assert_eq!(below("unknown"), devices(&[]));
}

#[test]
fn the_entered_children_of_one_device_are_counted() {
    let scenario = Scenario::new(
        "root: by a +b +b/2\n x1: root by b\n x2: root by b\n x3: root by b/2\n x4: root by b\n x5: x1 by b",
    );
    let mut graph = Graph::new();
    for record in &scenario.records {
        let seen = record.node == id("x4");
        let status = if seen { NodeStatus::Seen } else { NodeStatus::Entered };
        graph.insert(Arc::clone(record), status);
    }
    assert_eq!(graph.entered_children_by(&id("root"), &device("b")), 2);
    assert_eq!(graph.entered_children_by(&id("root"), &device("b/2")), 1);
    assert_eq!(graph.entered_children_by(&id("root"), &device("a")), 0);
}
