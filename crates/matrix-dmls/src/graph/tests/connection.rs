//! What somebody has to be given.

use super::scenario::{Scenario, id, name};

/// Two branches at `a`, of which one forks again.
fn scenario() -> Scenario {
    Scenario::new(
        "root: by a +b +c
        a: root by a
        l1: a by b\n l2: l1 by b\n l3: l2 by b
        r1: a by c\n r2: r1 by c\n s2: r1 by b",
    )
}

fn leading_to(wanted: &[&str], known: &[&str]) -> Vec<String> {
    let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect::<Vec<_>>();
    let nodes = scenario().graph().leading_to(&ids(wanted), &ids(known));
    nodes.into_iter().map(name).collect()
}

fn branches_to(nodes: &[&str]) -> Vec<String> {
    let nodes: Vec<_> = nodes.iter().map(|name| id(name)).collect();
    scenario().graph().branches_to(&nodes).into_iter().map(name).collect()
}

#[test]
fn what_lies_below_a_known_node_leads_from_there() {
    assert_eq!(leading_to(&["l3"], &["l1"]), ["l2", "l3"]);
    assert_eq!(leading_to(&["r2", "s2"], &["a"]), ["r1", "r2", "s2"]);
    assert_eq!(leading_to(&["l1"], &["l1"]), Vec::<String>::new());
}

#[test]
fn who_names_both_ends_of_a_way_knows_what_is_between() {
    assert_eq!(leading_to(&["r2"], &["root", "l3"]), ["r1", "r2"]);
    // Who came in further down does not know where the branches part.
    assert_eq!(leading_to(&["r2"], &["l1", "l3"]), Vec::<String>::new());
}

#[test]
fn what_is_not_known_leads_nowhere() {
    assert_eq!(leading_to(&["r2", "nothing"], &["a", "nobody"]), ["r1", "r2"]);
    assert_eq!(leading_to(&["r2"], &["nobody"]), Vec::<String>::new());
    assert_eq!(leading_to(&["root"], &["a"]), Vec::<String>::new());
}

#[test]
fn branches_begin_where_they_part() {
    assert_eq!(branches_to(&["l3", "r2"]), ["a", "l1", "r1", "l2", "r2", "l3"]);
    assert_eq!(branches_to(&["r2", "s2"]), ["r1", "r2", "s2"]);
    assert_eq!(branches_to(&["l2"]), ["l2"]);
    assert_eq!(branches_to(&["l2", "a"]), ["a", "l1", "l2"]);
    assert_eq!(branches_to(&["l2", "nobody"]), Vec::<String>::new());
    assert_eq!(branches_to(&[]), Vec::<String>::new());
}
