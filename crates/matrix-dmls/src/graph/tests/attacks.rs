//! What a member that is removed, or goes rogue, can and cannot do (§8's consequences).

use super::scenario::{By, Scenario};

/// m founded the room, and is removed by a; b confirmed that.
const REMOVED: &str = "root: by m +a +b +c\n x1: root by a -m\n x2: x1 by b";

#[test]
fn a_removed_device_gains_nothing_by_growing_an_old_branch() {
    let mut scenario = Scenario::new(REMOVED);
    let mut at = "root".to_owned();
    for number in 0..200 {
        let next = format!("m{number}");
        scenario.commit(&next, Some(&at), By::Member("m"), &[], &[]);
        at = next;
    }
    assert_eq!(scenario.tip(), "x2");
}

#[test]
fn nor_by_adding_accounts_of_its_own_there() {
    let mut scenario = Scenario::new(REMOVED);
    let accounts: Vec<_> = (0..20).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = accounts.iter().map(String::as_str).collect();
    scenario.commit("m", Some("root"), By::Member("m"), &["a", "b"], &names);
    let mut at = "m".to_owned();
    for account in &accounts {
        let next = format!("m-{account}");
        scenario.commit(&next, Some(&at), By::Member(account), &[], &[]);
        at = next;
    }
    assert_eq!(scenario.tip(), "x2");
}

#[test]
fn nor_by_more_devices_of_its_own_user() {
    let scenario = Scenario::new(
        "root: by m +m/2 +m/3 +a +b
        x1: root by a -m -m/2 -m/3\n x2: x1 by b
        m1: root by m -a -b\n m2: m1 by m/2\n m3: m2 by m/3",
    );
    assert_eq!(scenario.tip(), "x2");
}

#[test]
fn retaliation_that_sweeps_the_room_loses_to_one_removal() {
    let scenario = Scenario::new(
        "root: by m +a +b +c
        x: root by a -m
        m: root by m -a -b -c",
    );
    assert_eq!(scenario.tip(), "x");
}

#[test]
fn measured_retaliation_by_a_senior_wins_until_the_removal_is_confirmed() {
    // What the documentation admits.
    let scenario = Scenario::new("root: by m +a +b +c\n x: root by a -m\n m: root by m -a");
    assert_eq!(scenario.tip(), "m");
    assert_eq!(scenario.and("x1: x by c").tip(), "x1");
}

#[test]
fn as_many_accomplices_as_honest_users_win() {
    // n accomplices who were members win against n or fewer honest users (with m itself: n + 1).
    let scenario = Scenario::new(
        "root: by m +o +a +b +c
        x1: root by a -m\n x2: x1 by b
        m1: root by m -a\n m2: m1 by o",
    );
    assert_eq!(scenario.tip(), "m2");
    assert_eq!(scenario.and("x3: x2 by c").tip(), "x3");
}

#[test]
fn a_late_branch_of_a_lone_founder_is_passed_by_the_anchor() {
    let scenario = Scenario::new(
        "root: by m\n x1: root by m +a +b +c\n x2: x1 by a\n x3: x2 by b
        y1: root by m",
    );
    // Nobody but m has a voice at the root.
    let mut graph = scenario.graph();
    graph.set_anchor(Some(super::scenario::id("x1")));
    assert_eq!(graph.choose_tip(), Some(super::scenario::id("x3")));

    let scenario = scenario.and("y2: y1 by m +a +b\n y3: y2 by a\n y4: y3 by b");
    let mut graph = scenario.graph();
    graph.set_anchor(Some(super::scenario::id("x1")));
    assert_eq!(graph.choose_tip(), Some(super::scenario::id("x3")));
}

#[test]
fn after_a_partition_the_side_with_more_active_users_wins_whoever_began() {
    let mut scenario = Scenario::new("root: by a +b +c +d +e");
    // a and b rotate all day, c, d and e commit once each.
    let mut at = "root".to_owned();
    for number in 0..100 {
        let (next, author) = (format!("x{number}"), ["a", "b"][number % 2]);
        scenario.commit(&next, Some(&at), By::Member(author), &[], &[]);
        at = next;
    }
    assert_eq!(scenario.tip(), "x99");
    let scenario = scenario.and("y1: root by e\n y2: y1 by d\n y3: y2 by c");
    assert_eq!(scenario.tip(), "y3");
    // A sub-fork of the losing side changes nothing, nor does one of the winning side but there.
    let scenario = scenario.and("x50a: x50 by b\n y1a: y1 by e");
    assert_eq!(scenario.tip(), "y3");
}
