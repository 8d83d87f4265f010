//! §8's consequences on random graphs, and the comparison with the reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::{
    random::{DEVICES, config, scenario, steps},
    reference::Reference,
    scenario::{By, Scenario, device, id, name},
};
use crate::{
    graph::{ChoiceStep, Graph, NodeStatus},
    ids::NodeId,
};

const ROOT: &str = "~";

fn everything(scenario: &Scenario) -> BTreeSet<NodeId> {
    scenario.records.iter().map(|record| record.node).collect()
}

fn pick(scenario: &Scenario, number: usize) -> NodeId {
    scenario.records[number % scenario.records.len()].node
}

/// The steps that two explanations share, by branch point.
fn chosen_at(steps: &[ChoiceStep], at: NodeId) -> Option<&ChoiceStep> {
    steps.iter().find(|step| step.at == at)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_choice_is_the_reference_s(steps in steps(12), anchor in any::<prop::sample::Index>()) {
        let scenario = scenario(&steps);
        let reference = Reference { scenario: &scenario, allowed: everything(&scenario) };
        let mut graph = scenario.graph();
        prop_assert_eq!(graph.choose_tip(), Some(reference.descend(id(ROOT))));

        let anchor = pick(&scenario, anchor.index(scenario.records.len()));
        graph.set_anchor(Some(anchor));
        prop_assert_eq!(graph.choose_tip(), Some(reference.descend(anchor)));
    }

    #[test]
    fn the_confined_choice_is_the_reference_s(
        steps in steps(12),
        entered in prop::collection::vec(any::<bool>(), 12),
        held in prop::collection::vec(any::<bool>(), 12),
    ) {
        let scenario = scenario(&steps);
        let mut graph = Graph::new();
        let (mut allowed, mut holds) = (BTreeSet::new(), BTreeSet::new());
        for ((record, entered), held) in scenario.records.iter().zip(entered).zip(held) {
            let status = if entered { NodeStatus::Entered } else { NodeStatus::Seen };
            graph.insert(Arc::clone(record), status);
            if held { holds.insert(record.node); }
            if held && entered { allowed.insert(record.node); }
        }
        let all = Reference { scenario: &scenario, allowed: everything(&scenario) };
        let chosen = all.descend(id(ROOT));
        let reference = Reference { scenario: &scenario, allowed };
        let expected = if reference.allowed.contains(&chosen) {
            Some(chosen)
        } else {
            (!reference.allowed.is_empty()).then(|| reference.descend(id(ROOT)))
        };
        prop_assert_eq!(graph.choose_entered_tip(|node| holds.contains(node)), expected);
    }

    #[test]
    fn any_order_and_any_status_gives_the_same_graph(
        (steps, order) in steps(12).prop_flat_map(|steps| {
            let order: Vec<usize> = (0..=steps.len()).collect();
            (Just(steps), Just(order).prop_shuffle())
        }),
        entered in any::<u16>(),
    ) {
        let scenario = scenario(&steps);
        let mut graph = Graph::new();
        for number in order {
            let status =
                if entered >> number & 1 == 1 { NodeStatus::Entered } else { NodeStatus::Seen };
            graph.insert(Arc::clone(&scenario.records[number]), status);
        }
        let in_order = scenario.graph();
        prop_assert_eq!(graph.choose_tip(), in_order.choose_tip());
        prop_assert_eq!(graph.explain(), in_order.explain());
        prop_assert!(graph.tips().eq(in_order.tips()));
        prop_assert!(graph.roots().eq([id(ROOT)]));
    }

    #[test]
    fn rosters_are_replayed_exactly(steps in steps(12), order in any::<prop::sample::Index>()) {
        let scenario = scenario(&steps);
        let graph = scenario.graph();
        // From somewhere in the middle on, so that cached and uncached replays mix.
        let count = scenario.records.len();
        for number in (0..count).map(|number| (number + order.index(count)) % count) {
            let node = scenario.records[number].node;
            prop_assert_eq!(&*graph.roster_of(&node).unwrap(), &scenario.rosters[&node]);
        }
    }

    #[test]
    fn an_update_on_the_chosen_tip_keeps_it_chosen(steps in steps(12), author in 0..64usize) {
        let mut scenario = scenario(&steps);
        let tip = scenario.tip();
        let authors = members(&scenario, &tip);
        scenario.commit("new", Some(&tip), By::Member(&authors[author % authors.len()]), &[], &[]);
        prop_assert_eq!(scenario.tip(), "new");
    }

    #[test]
    fn a_swing_voter_cannot_make_the_tip_flip_back_and_forth(
        steps in steps(10),
        branches in [0..64usize, 0..64usize],
        voter in 0..64usize,
    ) {
        let mut scenario = scenario(&steps);
        let mut at = branches.map(|number| name(pick(&scenario, number)));
        let on_both: Vec<_> = members(&scenario, &at[0])
            .into_iter()
            .filter(|voter| members(&scenario, &at[1]).contains(voter))
            .collect();
        prop_assume!(!on_both.is_empty());
        let voter = &on_both[voter % on_both.len()];
        let mut decisions = Vec::new();
        for round in 0..4 {
            for (number, at) in at.iter_mut().enumerate() {
                let next = format!("new{round}{number}");
                scenario.commit(&next, Some(at), By::Member(voter), &[], &[]);
                *at = next;
            }
            let graph = scenario.graph();
            // Which branch the tip is on, and every decision that was there before.
            let chosen: Vec<_> = graph.explain().into_iter().map(|s| (s.at, s.chosen)).collect();
            decisions.push(chosen);
        }
        // Once it has voted on both sides, nothing that it adds there changes anything.
        prop_assert!(decisions.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_branch_far_back_changes_no_choice_further_down(
        steps in steps(12),
        branch in (0..64usize, 0..64usize, 1..6usize),
    ) {
        let mut scenario = scenario(&steps);
        let before = scenario.graph().explain();
        let (parent, author, length) = branch;
        let top = pick(&scenario, parent);
        let authors = members(&scenario, &name(top));
        let author = &authors[author % authors.len()];
        let mut at = name(top);
        for number in 0..length {
            let others = members(&scenario, &at);
            let others: Vec<_> =
                others.iter().filter(|name| *name != author).map(String::as_str).collect();
            let next = format!("new{number}");
            scenario.commit(&next, Some(&at), By::Member(author), &others, &[]);
            at = next;
        }
        let graph = scenario.graph();
        let after = graph.explain();
        for step in &after {
            let is_above = step.at == top || graph.is_ancestor(&step.at, &top);
            if !is_above && let Some(old) = chosen_at(&before, step.at) {
                prop_assert_eq!(old, step);
            }
        }
    }

    #[test]
    fn a_single_member_that_forks_far_back_loses_against_two_who_went_on(
        back in 0..6usize,
        length in 1..8usize,
        accounts in 0..4usize,
        sweeps in any::<bool>(),
    ) {
        // m is the founder: the most senior leaf, which would win every tie.
        let mut scenario = Scenario::new("c0: by m +a +b +c");
        for (number, author) in (1..=8).zip(["a", "b"].into_iter().cycle()) {
            let (node, parent) = (format!("c{number}"), format!("c{}", number - 1));
            scenario.commit(&node, Some(&parent), By::Member(author), &[], &[]);
        }
        let removed: &[&str] = if sweeps { &["a", "b", "c"] } else { &[] };
        let added: Vec<_> = (0..accounts).map(|number| format!("n{number}")).collect();
        let added: Vec<_> = added.iter().map(String::as_str).collect();
        scenario.commit("m0", Some(&format!("c{back}")), By::Member("m"), removed, &added);
        for number in 1..length {
            let author = added.get(number % (accounts + 1)).copied().unwrap_or("m");
            let (node, parent) = (format!("m{number}"), format!("m{}", number - 1));
            scenario.commit(&node, Some(&parent), By::Member(author), &[], &[]);
        }
        prop_assert_eq!(scenario.tip(), "c8");
    }
}

/// Those of the scenario's device names that have a leaf at a node.
fn members(scenario: &Scenario, node: &str) -> Vec<String> {
    let roster = &scenario.rosters[&id(node)];
    DEVICES
        .into_iter()
        .filter(|name| roster.leaf_of(&device(name)).is_some())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_random_scenarios_reach_every_step_of_the_rule() {
    let mut runner = TestRunner::new(config());
    let mut reached = BTreeMap::new();
    for _ in 0..300 {
        let steps = steps(12).new_tree(&mut runner).unwrap().current();
        for step in scenario(&steps).graph().explain() {
            *reached.entry(format!("{:?}", step.by)).or_insert(0) += 1;
        }
    }
    assert!(reached.len() == 5 && reached.values().all(|times| *times >= 10), "{reached:?}");
}
