//! How often a decision can change, and by what (docs/forks.md, "What can be said for it").

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    random::{config, scenario, steps},
    scenario::{By, Scenario, id, name, names_at},
};
use crate::{
    graph::{Candidate, ChoiceStep, NodeStatus, Rule},
    ids::NodeId,
};

/// What somebody does on the tip of a branch.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Update,
    Add,
    Remove(usize),
    Sweep,
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Update),
        1 => Just(Deed::Add),
        4 => (0..64usize).prop_map(Deed::Remove),
        1 => Just(Deed::Sweep),
    ]
}

/// A member of a node's tree commits on it. Gives the new node's name.
fn goes_on(scenario: &mut Scenario, number: usize, at: &str, author: usize, deed: Deed) -> String {
    let members = names_at(scenario, at);
    let author = &members[author % members.len()];
    let others: Vec<&str> =
        members.iter().filter(|other| *other != author).map(String::as_str).collect();
    let (next, new) = (format!("new{number}"), format!("n{number}"));
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    match deed {
        Deed::Update => {}
        Deed::Add => added.push(new.as_str()),
        Deed::Remove(other) => removed.extend(others.get(other % others.len().max(1))),
        Deed::Sweep => removed = others,
    }
    scenario.commit(&next, Some(at), By::Member(author), &removed, &added);
    next
}

/// The example of docs/forks.md. While as many users are on each side, a removal counts against the
/// side on which it is made.
#[test]
fn a_removal_on_an_undecided_fork_can_turn_it_over() {
    let fork = Scenario::new("root: by m +a +b +c\n x: root by a\n y: root by b");
    let explained = |scenario: &Scenario| {
        let steps = scenario.graph().explain();
        let steps: Vec<_> = steps.into_iter().map(|step| (name(step.chosen), step.by)).collect();
        steps
    };
    assert_eq!(explained(&fork), [("x".to_owned(), Rule::Leaf)]);
    let removed = fork.and("x1: x by a -c");
    assert_eq!(explained(&removed), [("y".to_owned(), Rule::Swept)]);
    // Removed there as well: nobody has more against it, and the lower leaf decides as before.
    let both = removed.clone().and("y1: y by b -c");
    assert_eq!(explained(&both), [("x".to_owned(), Rule::Leaf)]);
    // Another user decides it for good, whatever the two do after that.
    let decided = removed.and("x2: x1 by m");
    assert_eq!(explained(&decided), [("x".to_owned(), Rule::Users)]);
    let decided = decided.and("x3: x2 by a -b\n y1: y by b -a");
    assert_eq!(explained(&decided), [("x".to_owned(), Rule::Users)]);
}

proptest! {
    #![proptest_config(config())]

    /// What goes on where everybody is changes decisions above only because it removes somebody, and only
    /// such as were made by step 3 or a later one.
    #[test]
    fn what_goes_on_at_the_tip_undoes_nothing_but_by_removing(
        steps in steps(12),
        author in 0..64usize,
        deed in deeds(),
    ) {
        let mut scenario = scenario(&steps);
        let before = scenario.graph().explain();
        let tip = scenario.tip();
        let new = goes_on(&mut scenario, 0, &tip, author, deed);
        let after = scenario.graph().explain();
        for old in &before {
            let now = after.iter().find(|step| step.at == old.at).unwrap();
            if now.chosen == old.chosen {
                continue;
            }
            prop_assert!(matches!(deed, Deed::Remove(_) | Deed::Sweep), "{old:?} {now:?}");
            prop_assert!(!matches!(old.by, Rule::Users | Rule::Removal), "{old:?} {now:?}");
            // As many users; it has removed one more of them, and now no fewer than who wins.
            fn of(step: &ChoiceStep, node: NodeId) -> &Candidate {
                step.candidates.iter().find(|candidate| candidate.node == node).unwrap()
            }
            let (winner, loser) = (of(now, now.chosen), of(now, old.chosen));
            prop_assert_eq!(winner.users, loser.users);
            prop_assert!(loser.swept > of(old, old.chosen).swept, "{old:?} {now:?}");
            prop_assert!(winner.swept <= loser.swept, "{old:?} {now:?}");
            // The rest of the way is another one.
            return Ok(());
        }
        prop_assert_eq!(scenario.tip(), new);
    }

    /// With n children and m users the winner at a branch point changes at most n (2m + n) times,
    /// whatever all of them do together and for however long.
    #[test]
    fn a_decision_changes_a_bounded_number_of_times(
        branches in 2..4usize,
        deeds in prop::collection::vec((0..64usize, 0..64usize, deeds()), 40),
    ) {
        let mut scenario = Scenario::new("~: by a +b +c");
        let mut graph = scenario.graph();
        let mut tips = vec!["~".to_owned(); branches];
        let mut winners = Vec::new();
        for (number, (branch, author, deed)) in deeds.into_iter().enumerate() {
            let branch = branch % branches;
            tips[branch] = goes_on(&mut scenario, number, &tips[branch], author, deed);
            graph.insert(Arc::clone(scenario.records.last().unwrap()), NodeStatus::Entered);
            let steps = graph.explain();
            winners.extend(steps.first().filter(|step| step.at == id("~")).map(|step| step.chosen));
        }
        let changes = winners.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let users = 3;
        prop_assert!(changes <= branches * (2 * users + branches), "{changes}");
    }
}
