//! What is forgotten changes no choice.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    random::{config, scenario, steps},
    scenario::{Scenario, device, id},
};
use crate::{
    graph::{Graph, NodeStatus},
    ids::NodeId,
};

const ROOT: &str = "~";

/// As a group does it.
fn compact(graph: &mut Graph, oldest: NodeId) {
    let gone = graph.above_and_beside(&oldest);
    let roster = graph.roster_of(&oldest).unwrap();
    let summary = Arc::new(graph.summed_up(&oldest, &gone));
    graph.forget(&gone);
    graph.set_summary(summary);
    graph.set_roster(oldest, 0, roster);
    graph.set_root(Some(oldest));
}

/// Takes a commit as a group does; whether it was taken.
fn receive(graph: &mut Graph, scenario: &Scenario, place: usize) -> bool {
    let record = &scenario.records[place];
    let known = record.parent.is_none_or(|parent| graph.contains(&parent));
    if known {
        graph.insert(Arc::clone(record), NodeStatus::Seen);
    }
    known
}

proptest! {
    #![proptest_config(config())]

    /// Some commits are known when the rest is forgotten, others come later: below the oldest node,
    /// above it, and beside it.
    #[test]
    fn the_choice_is_the_same(
        steps in steps(12),
        early in prop::collection::vec(any::<bool>(), 13),
        anchor in any::<prop::sample::Index>(),
        up in 0_usize..4,
        twice: bool,
    ) {
        let scenario = scenario(&steps);
        let mut whole = Graph::new();
        let mut late = Vec::new();
        for (place, is_early) in early.iter().enumerate().take(scenario.records.len()) {
            if place > 0 && !is_early || !receive(&mut whole, &scenario, place) {
                late.push(place);
            }
        }
        whole.set_root(Some(id(ROOT)));
        let known: Vec<_> = scenario.records.iter().map(|r| r.node).filter(|n| whole.contains(n)).collect();
        let anchor = known[anchor.index(known.len())];
        whole.set_anchor(Some(anchor));
        let above: Vec<_> = std::iter::once(anchor).chain(whole.ancestors(&anchor)).collect();
        let oldest = above[up.min(above.len() - 1)];

        let mut small = whole.clone();
        if twice {
            // From further up first.
            compact(&mut small, above[(up + 1).min(above.len() - 1)]);
        }
        compact(&mut small, oldest);
        prop_assert_eq!(small.len(), whole.descendants(&oldest).count() + 1);
        prop_assert_eq!(small.choose_tip(), whole.choose_tip());
        for place in late {
            receive(&mut whole, &scenario, place);
            let record = &scenario.records[place];
            let is_taken = receive(&mut small, &scenario, place);
            // Nothing is refused that could count, and what is on a forgotten node is known to be late.
            prop_assert_eq!(is_taken, whole.is_at_or_below(&oldest, &record.node));
            let parent = record.parent.unwrap();
            let was_known = known.contains(&parent);
            prop_assert!(is_taken || !was_known || small.is_forgotten(&parent, record.epoch - 1));
            prop_assert!(!is_taken || !small.is_forgotten(&parent, record.epoch - 1));
            prop_assert_eq!(small.start(), whole.start());
            prop_assert_eq!(small.choose_tip(), whole.choose_tip());
            prop_assert_eq!(format!("{:?}", small.explain()), format!("{:?}", whole.explain()));
        }
        for node in whole.descendants(&oldest).chain([oldest]) {
            prop_assert_eq!(small.roster_of(&node), whole.roster_of(&node));
        }
        for name in super::random::DEVICES {
            prop_assert!(small.highest_seq(&device(name)) <= whole.highest_seq(&device(name)));
        }
    }
}

#[test]
fn a_device_that_only_forgotten_commits_name_keeps_its_seq() {
    let scenario = Scenario::new(
        "~: by a +b +c
         1: ~ by b -c
         2: 1 by a
         x: ~ by c",
    );
    let mut graph = scenario.graph();
    graph.set_root(Some(id(ROOT)));
    graph.set_anchor(Some(id("1")));
    compact(&mut graph, id("2"));
    assert_eq!(graph.highest_seq(&device("c")), Some(1));
    // x has the number of 1, and is told by that; had the branch gone on, it would be by name.
    assert!(graph.is_forgotten(&id("x"), 2) && graph.is_forgotten(&id(ROOT), 1));
    assert!(!graph.is_forgotten(&id("2"), 3) && !graph.is_forgotten(&id("3"), 4));
    let text = rmp_serde::to_vec_named(graph.summary().unwrap()).unwrap();
    assert_eq!(rmp_serde::from_slice::<crate::Summary>(&text).unwrap(), **graph.summary().unwrap());
}
