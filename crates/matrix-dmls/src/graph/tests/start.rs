//! Where the choice starts: anchor, root, entrances.

use std::sync::Arc;

use super::scenario::{Scenario, device, id, member};
use crate::{
    InstanceId,
    graph::{Graph, Inserted, NodeStatus},
};

const TWO_BRANCHES: &str = "root: by a +b +c
    x1: root by a\n x2: x1 by c\n x3: x2 by c
    y1: root by b";

#[test]
fn nothing_known_no_tip() {
    let mut graph = Graph::new();
    assert_eq!((graph.start(), graph.choose_tip()), (None, None));
    assert!(graph.explain().is_empty());
    assert_eq!(graph.choose_entered_tip(|_| true), None);
    graph.set_root(Some(id("root")));
    graph.set_anchor(Some(id("anchor")));
    assert_eq!(graph.choose_tip(), None);
}

#[test]
fn what_is_beside_the_anchor_does_not_count() {
    let mut graph = Scenario::new(TWO_BRANCHES).graph();
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    graph.set_anchor(Some(id("y1")));
    assert_eq!(graph.choose_tip(), Some(id("y1")));
    graph.set_anchor(Some(id("unknown")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    graph.set_anchor(None);
    assert_eq!(graph.choose_tip(), Some(id("x3")));
}

#[test]
fn an_anchor_below_another_founding_is_ignored() {
    let text = format!("{TWO_BRANCHES}\n false: by m +a\n false1: false by m");
    let mut graph = Scenario::new(&text).graph();
    graph.set_root(Some(id("root")));
    graph.set_anchor(Some(id("false1")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
}

#[test]
fn the_named_founding_is_the_root_and_others_are_dropped() {
    let text = format!("{TWO_BRANCHES}\n false: by m +a\n false1: false by m");
    let mut graph = Scenario::new(&text).graph();
    // While none is named, the lowest epoch and node ID.
    assert_eq!(graph.choose_tip(), Some(id("false1")));
    graph.set_root(Some(id("root")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    // The named one is not known: the others are wrong nevertheless.
    graph.set_root(Some(id("other")));
    assert_eq!(graph.choose_tip(), None);
}

#[test]
fn where_no_root_is_known_the_choice_starts_in_the_named_instance() {
    let text = format!("{TWO_BRANCHES}\n false: by m +a\n false1: false by m");
    let scenario = Scenario::new(&text);
    let (ours, other) = (InstanceId::from_bytes([9; 32]), InstanceId::from_bytes([8; 32]));
    let mut graph = Graph::new();
    for name in ["root", "x1", "x2", "x3", "y1", "false", "false1"] {
        let mut record = (**scenario.record(name)).clone();
        if name.starts_with("false") {
            record.extension.instance = other;
        }
        graph.insert(Arc::new(record), NodeStatus::Entered);
    }
    assert!(graph.set_instance(Some(ours)) && !graph.set_instance(Some(ours)));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    graph.set_instance(Some(other));
    assert_eq!(graph.choose_tip(), Some(id("false1")));
    graph.set_instance(Some(InstanceId::from_bytes([7; 32])));
    assert_eq!(graph.choose_tip(), None);
    // Who has come in somewhere, or knows the founding, is not led elsewhere by that.
    graph.set_root(Some(id("x2")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
}

/// The nodes that a device knows that joined by a Welcome at x2.
fn joined_late(scenario: &Scenario) -> Graph {
    let mut graph = Graph::new();
    graph.insert(Arc::clone(scenario.record("x3")), NodeStatus::Entered);
    graph.insert(Arc::clone(scenario.record("x2")), NodeStatus::Entered);
    graph
}

#[test]
fn an_entrance_needs_its_roster() {
    let scenario = Scenario::new(TWO_BRANCHES);
    let mut graph = joined_late(&scenario);
    assert_eq!(graph.choose_tip(), None);
    assert_eq!(graph.roster_of(&id("x3")), None);
    graph.set_roster(id("x2"), 3, Arc::new(scenario.rosters[&id("x2")].clone()));
    assert_eq!((graph.start(), graph.choose_tip()), (Some(id("x2")), Some(id("x3"))));
    assert_eq!(*graph.roster_of(&id("x3")).unwrap(), scenario.rosters[&id("x3")]);
}

#[test]
fn an_entrance_in_use_gives_way_to_what_is_found_above_it() {
    let scenario = Scenario::new(TWO_BRANCHES);
    let mut graph = joined_late(&scenario);
    graph.set_roster(id("x2"), 3, Arc::new(scenario.rosters[&id("x2")].clone()));
    graph.set_root(Some(id("x2")));
    // A commit whose parent is unknown connects nothing.
    graph.insert(Arc::clone(scenario.record("x1")), NodeStatus::Seen);
    assert_eq!(graph.start(), Some(id("x2")));
    assert!(graph.roots().eq([id("x1")]));
    graph.insert(Arc::clone(scenario.record("y1")), NodeStatus::Seen);
    graph.insert(Arc::clone(scenario.record("root")), NodeStatus::Seen);
    assert_eq!((graph.start(), graph.choose_tip()), (Some(id("root")), Some(id("x3"))));
    assert!(graph.roots().eq([id("root")]));
}

#[test]
fn an_unconnected_entrance_does_not_replace_the_one_in_use() {
    let scenario = Scenario::new(TWO_BRANCHES);
    let mut graph = joined_late(&scenario);
    for node in ["x2", "y1"] {
        graph.insert(Arc::clone(scenario.record(node)), NodeStatus::Entered);
        graph.set_roster(id(node), 0, Arc::new(scenario.rosters[&id(node)].clone()));
    }
    // Nobody said which is in use: the lower epoch.
    assert_eq!(graph.choose_tip(), Some(id("y1")));
    graph.set_root(Some(id("x2")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    graph.set_anchor(Some(id("y1")));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
}

#[test]
fn a_newcomer_s_oldest_node_may_lack_its_commit() {
    let scenario = Scenario::new(TWO_BRANCHES).and("x0: root by c");
    let mut graph = Graph::new();
    for node in ["x3", "y1", "x1", "x2"] {
        graph.insert(Arc::clone(scenario.record(node)), NodeStatus::Seen);
    }
    assert!(graph.roots().eq([id("x1"), id("y1")]));
    graph.set_roster(id("root"), 1, Arc::new(scenario.rosters[&id("root")].clone()));
    assert!(graph.roots().eq([id("root")]));
    assert!(graph.contains(&id("root")) && graph.get(&id("root")).is_none());
    assert_eq!((graph.len(), graph.status(&id("root"))), (5, Some(NodeStatus::Seen)));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
    assert_eq!(graph.common_ancestor(&id("x3"), &id("y1")), Some(id("root")));
    // The commit itself comes later.
    let root = Arc::clone(scenario.record("root"));
    assert_eq!(graph.insert(root, NodeStatus::Entered), Inserted::New);
    assert_eq!((graph.len(), graph.status(&id("root"))), (5, Some(NodeStatus::Entered)));
    assert_eq!(graph.choose_tip(), Some(id("x3")));
}

#[test]
fn left_behind_it_sends_on_the_best_branch_that_it_holds() {
    let scenario = Scenario::new(
        "root: by a +b +c +d +e
        x1: root by a\n x2: x1 by b\n x3: x2 by c
        y1: root by e\n y2: y1 by d
        z1: root by b\n z2: z1 by a +f",
    );
    let mut graph = scenario.graph();
    let on = |nodes: &'static [&str]| move |node: &_| nodes.iter().any(|name| id(name) == *node);
    assert_eq!(graph.choose_entered_tip(|_| true), Some(id("x3")));
    assert_eq!(graph.choose_entered_tip(on(&["root", "y1", "y2", "z1", "z2"])), Some(id("z2")));
    assert_eq!(graph.choose_entered_tip(on(&["root", "y1", "y2", "z1"])), Some(id("z1")));
    // The commits that it does not hold count for the branch that it holds a part of.
    assert_eq!(graph.choose_entered_tip(on(&["x1", "y1", "y2"])), Some(id("x1")));
    assert_eq!(graph.choose_entered_tip(on(&["root"])), Some(id("root")));
    assert_eq!(graph.choose_entered_tip(|_| false), None);
    // What lies beside the anchor does not count here either.
    graph.set_anchor(Some(id("x1")));
    assert_eq!(graph.choose_entered_tip(on(&["root", "y2"])), None);
}

#[test]
fn deserted_branches_are_passed_by_and_count_all_the_same() {
    let scenario = Scenario::new(
        "root: by a +b +c +d +e
        w: root by a
        x1: w by b\n x2: x1 by c
        y1: w by e
        z1: root by d\n z2: z1 by e",
    );
    let mut graph = scenario.graph();
    let desert = |graph: &mut Graph, names: &[&str]| {
        graph.set_deserted(names.iter().map(|name| id(name)).collect())
    };
    let on = |nodes: &'static [&str]| move |node: &_| nodes.iter().any(|name| id(name) == *node);
    assert_eq!(graph.choose_tip(), Some(id("x2")));
    assert!(desert(&mut graph, &["x1"]));
    assert!(!desert(&mut graph, &["x1"]));
    // Without the voices in it `z1` would have more.
    assert_eq!(graph.choose_tip(), Some(id("y1")));
    // Where one is left there is nothing to decide.
    assert_eq!(graph.explain().len(), 1);
    assert_eq!(graph.choose_entered_tip(|_| true), Some(id("y1")));
    // Where nothing else is held that is better than nothing.
    assert_eq!(graph.choose_entered_tip(on(&["x1", "x2"])), Some(id("x2")));
    assert_eq!(graph.choose_entered_tip(on(&["x1", "z1"])), Some(id("z1")));
    // What has no other branch beside it ends above.
    desert(&mut graph, &["x1", "y1"]);
    assert_eq!(graph.choose_tip(), Some(id("w")));
    // Nothing above the start is looked at.
    desert(&mut graph, &["w"]);
    assert_eq!(graph.choose_tip(), Some(id("z2")));
    graph.set_anchor(Some(id("x1")));
    assert_eq!(graph.choose_tip(), Some(id("x2")));
    assert_eq!(graph.choose_entered_tip(|_| true), Some(id("x2")));
}

#[test]
fn a_given_roster_beats_a_replayed_one() {
    // Both are the same when everybody is honest; it must only be one of them, always.
    let scenario = Scenario::new("root: by a +b\n x1: root by a\n x2: x1 by b");
    let mut graph = scenario.graph();
    assert_eq!(*graph.roster_of(&id("x2")).unwrap(), scenario.rosters[&id("x2")]);
    let other =
        Arc::new([(0, member("a")), (1, member("b")), (2, member("d"))].into_iter().collect());
    graph.set_roster(id("x1"), 2, other);
    assert_eq!(graph.roster_of(&id("x2")).unwrap().leaf_of(&device("d")), Some(2));
    assert_eq!(graph.roster_of(&id("root")).unwrap().leaf_of(&device("d")), None);
}
