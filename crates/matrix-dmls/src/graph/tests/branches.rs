//! The five steps of the rule, one by one.

use super::scenario::{Scenario, id, name};
use crate::graph::Rule;

/// The tip, and which step decided at each branch point on the way.
fn decided(text: &str) -> (String, Vec<Rule>) {
    let scenario = Scenario::new(text);
    let rules = scenario.graph().explain().into_iter().map(|step| step.by).collect();
    (scenario.tip(), rules)
}

fn expect(text: &str, tip: &str, by: Rule) {
    assert_eq!(decided(text), (tip.to_owned(), vec![by]));
}

#[test]
fn a_chain_needs_no_decision() {
    let chain = "root: by a +b\n x1: root by b\n x2: x1 by a";
    assert_eq!(decided(chain), ("x2".to_owned(), vec![]));
}

#[test]
fn an_ordinary_race_goes_to_the_lower_leaf() {
    expect("root: by a +b +c\n x: root by c\n y: root by b", "y", Rule::Leaf);
}

#[test]
fn one_author_s_two_commits_are_decided_by_id() {
    expect("root: by a +b\n y: root by b\n x: root by b", "x", Rule::Id);
}

#[test]
fn two_joiners_are_decided_by_id_and_lose_to_a_member() {
    expect("root: by a\n y: root ext c\n x: root ext b", "x", Rule::Id);
    expect("root: by a\n x: root ext b\n y: root by a\n y1: y by a", "y1", Rule::Users);
    // A device that comes back has a voice, but no leaf of its own to be senior with.
    expect("root: by a +b\n x: root ext a\n y: root by b", "y", Rule::Leaf);
}

#[test]
fn more_active_users_win() {
    let text = "root: by a +b +c +d
        a1: root by a\n a2: a1 by b
        d1: root by d\n d2: d1 by c\n d3: d2 by b";
    expect(text, "d3", Rule::Users);
}

#[test]
fn one_user_counts_once_with_many_devices_and_many_commits() {
    let text = "root: by a +a/2 +a/3 +b +c
        a1: root by a\n a2: a1 by a/2\n a3: a2 by a/3\n a4: a3 by a\n a5: a4 by a/2
        c1: root by c\n c2: c1 by b";
    expect(text, "c2", Rule::Users);
}

#[test]
fn who_is_no_leaf_at_the_branch_point_has_no_voice() {
    let text = "root: by a +b +c
        a1: root by a +n/1 +n/2 +o\n a2: a1 by n/1\n a3: a2 by o
        c1: root by c\n c2: c1 by b";
    expect(text, "c2", Rule::Users);
    // The same device ID with another device key is another device.
    let text = "root: by a +b +c
        a1: root by a -b +b'\n a2: a1 by b'
        c1: root by c\n c2: c1 by b";
    expect(text, "c2", Rule::Users);
}

#[test]
fn a_removal_beats_the_removed_also_when_that_is_senior() {
    expect("root: by m +a\n a: root by a -m\n m: root by m", "a", Rule::Removal);
    // Removed further down.
    expect("root: by m +a\n a: root by a\n a1: a by a -m\n m: root by m", "a1", Rule::Removal);
    // Removed on behalf of someone who has no voice.
    let text = "root: by m +a\n a: root by a +n\n a1: a by n -m\n m: root by m";
    expect(text, "a1", Rule::Removal);
}

#[test]
fn a_removal_that_puts_the_removed_back_is_none() {
    expect("root: by m +a\n a: root by a -m +m\n m: root by m", "m", Rule::Leaf);
    // Coming back by an external commit removes one's own old leaf.
    let text = "root: by m +a +b\n b: root by b\n b1: b ext m\n m: root by m\n m1: m by b";
    expect(text, "m1", Rule::Leaf);
    // Put back by a later commit: removed all the same.
    let text = "root: by m +a\n a: root by a -m\n a1: a by a +m\n m: root by m";
    expect(text, "a1", Rule::Removal);
}

#[test]
fn a_removal_only_counts_among_the_tied() {
    // x removes the author of z, but y has more users than x, and so has z.
    let text = "root: by a +b +c +d
        x: root by a -c
        y: root by b\n y1: y by d
        z: root by c\n z1: z by a";
    expect(text, "y1", Rule::Leaf);
}

#[test]
fn who_is_removed_in_a_circle_is_not_out() {
    let text = "root: by a +b +c
        x: root by a -b\n y: root by b -c\n z: root by c -a";
    expect(text, "x", Rule::Leaf);
}

#[test]
fn the_one_whom_nobody_removes_stays() {
    let text = "root: by a +b +c
        x: root by a -b\n y: root by b\n z: root by c -a";
    expect(text, "z", Rule::Removal);
}

#[test]
fn removing_someone_who_has_no_leaf_at_the_branch_point_protects_nobody() {
    let text = "root: by a +b
        x: root by a +n\n x1: x by a -n
        y: root ext n\n y1: y by b -a";
    expect(text, "y1", Rule::Removal);
}

#[test]
fn an_author_removed_by_another_of_its_own_branches_is_out() {
    let text = "root: by a +b
        x: root by a\n y: root by a\n y1: y by b -a\n x1: x by b";
    expect(text, "y1", Rule::Removal);
}

#[test]
fn the_side_that_removed_fewer_users_wins_a_tie() {
    let text = "root: by m +a +b +c\n m: root by m -b -c\n a: root by a -b";
    expect(text, "a", Rule::Swept);
    // Two devices of one user count once; strangers do not count.
    let text = "root: by m +a +b +b/2 +c
        m: root by m -b -c
        a: root by a -b -b/2 +n\n a1: a by a -n";
    expect(text, "a1", Rule::Swept);
}

#[test]
fn the_tree_of_each_branch_point_decides_there() {
    // n is a leaf at a1, though not at root.
    let text = "root: by a +b +c
        c: root by c
        a1: root by a +n\n x: a1 by n\n y: a1 by c\n y1: y by n";
    let (tip, rules) = decided(text);
    assert_eq!((tip.as_str(), rules), ("y1", vec![Rule::Users, Rule::Users]));
}

#[test]
fn the_explanation_has_the_numbers() {
    let scenario = Scenario::new(
        "root: by m +a +b +c
        m: root by m -a -b -c\n a: root by a -m\n n: root ext n",
    );
    let [step] = scenario.graph().explain().try_into().unwrap();
    assert_eq!((step.at, step.chosen, step.by), (id("root"), id("a"), Rule::Swept));
    let numbers: Vec<_> = step
        .candidates
        .into_iter()
        .map(|candidate| (name(candidate.node), candidate.users, candidate.swept, candidate.leaf))
        .collect();
    assert_eq!(
        numbers,
        [
            ("a".to_owned(), 1, 1, Some(1)),
            ("m".to_owned(), 1, 3, Some(0)),
            ("n".to_owned(), 0, 0, None)
        ]
    );
}
