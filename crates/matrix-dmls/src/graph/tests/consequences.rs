//! §8's consequences, whatever the lengths, devices and accounts: properties. The smallest examples are
//! in `attacks`.

use proptest::prelude::*;

use super::{
    random::config,
    scenario::{By, Scenario, id, name, names_at},
};
use crate::graph::Rule;

/// One commit of an attacker: where, by whom, what, in numbers that fit any scenario.
type Try = (usize, usize, usize, u8);

fn tries() -> impl Strategy<Value = Vec<Try>> {
    prop::collection::vec((0..64usize, 0..64usize, 0..64usize, any::<u8>()), 1..24)
}

/// The user of a device's name.
fn user(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Commits of attackers: on the nodes `from` and on what they have made there. They have the devices
/// of some users, and of all accounts that they add (`n…`); they remove whom they like.
fn attack(scenario: &mut Scenario, from: &[String], attackers: &[String], tries: &[Try]) {
    let mut nodes = from.to_vec();
    for (number, (at, author, target, kind)) in tries.iter().enumerate() {
        let at = nodes[at % nodes.len()].clone();
        let members = names_at(scenario, &at);
        let is_theirs = |name: &&String| {
            name.starts_with('n') || attackers.iter().any(|attacker| attacker == user(name))
        };
        let theirs: Vec<&String> = members.iter().filter(is_theirs).collect();
        let Some(author) = theirs.get(author % theirs.len().max(1)) else { continue };
        let others: Vec<&str> =
            members.iter().filter(|other| other != author).map(String::as_str).collect();
        let (account, device) = (format!("n{number}"), format!("{}/x{number}", user(author)));
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        match kind % 6 {
            0 | 1 => removed.extend(others.get(target % others.len().max(1))),
            2 => removed = others,
            3 => added.push(account.as_str()),
            4 => added.push(device.as_str()),
            _ => {}
        }
        // IDs are above and below those of the others' commits.
        let next = format!("{}{number}", if kind % 2 == 0 { 'A' } else { 'z' });
        scenario.commit(&next, Some(&at), By::Member(author), &removed, &added);
        nodes.push(next);
    }
}

/// The founding of a room, by the first of these.
fn founded(names: &[String]) -> Scenario {
    let added: Vec<_> = names[1..].iter().map(|name| format!("+{name}")).collect();
    Scenario::new(&format!("root: by {} {}", names[0], added.join(" ")))
}

/// k attackers, who are the most senior, each with two devices, and k + 1 others.
fn attackers_and_others(k: usize) -> (Vec<String>, Vec<String>, Vec<String>) {
    let attackers: Vec<_> = (0..k).map(|number| format!("m{number}")).collect();
    let others: Vec<_> = (0..=k).map(|number| format!("o{number}")).collect();
    let second = attackers.iter().map(|attacker| format!("{attacker}/2"));
    let all = attackers.iter().cloned().chain(second).chain(others.iter().cloned());
    let all = all.collect();
    (attackers, others, all)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn k_users_lose_to_k_and_one_more_on_one_branch(k in 1..5usize, tries in tries()) {
        let (attackers, others, all) = attackers_and_others(k);
        let mut scenario = founded(&all);
        attack(&mut scenario, &["root".to_owned()], &attackers, &tries);
        let mut at = "root".to_owned();
        for (number, other) in others.iter().enumerate() {
            let next = format!("o{number}");
            scenario.commit(&next, Some(&at), By::Member(other), &[], &[]);
            at = next;
        }
        prop_assert_eq!(scenario.tip(), at);
    }

    /// The same users, one branch each: two attackers are enough against all of them.
    #[test]
    fn those_who_do_not_come_together_lose_to_two(others in 1..8usize, sweeps in any::<bool>()) {
        let (_, others, all) = attackers_and_others(others.max(2));
        let mut scenario = founded(&all);
        for (number, other) in others.iter().enumerate() {
            scenario.commit(&format!("o{number}"), Some("root"), By::Member(other), &[], &[]);
        }
        let swept: Vec<_> = others.iter().map(String::as_str).filter(|_| sweeps).collect();
        scenario.commit("m0", Some("root"), By::Member("m0"), &swept, &[]);
        prop_assert!(scenario.tip() != "m1");
        scenario.commit("m1", Some("m0"), By::Member("m1"), &[], &[]);
        prop_assert_eq!(scenario.tip(), "m1");
    }

    /// k users are removed, and k others commit below the commit that removes them: it stands, however
    /// far back the removed begin anew, and however often.
    #[test]
    fn a_removal_confirmed_by_more_users_stands(
        k in 1..5usize,
        above in 0..4usize,
        tries in tries(),
    ) {
        let (attackers, others, all) = attackers_and_others(k);
        let mut scenario = founded(&all);
        let mut way = vec!["root".to_owned()];
        for number in 0..above {
            let next = format!("a{number}");
            let author = &all[number % all.len()];
            scenario.commit(&next, way.last().map(String::as_str), By::Member(author), &[], &[]);
            way.push(next);
        }
        let removed: Vec<_> =
            all.iter().filter(|name| name.starts_with('m')).map(String::as_str).collect();
        let at = way.last().map(String::as_str);
        scenario.commit("removal", at, By::Member(&others[0]), &removed, &[]);
        attack(&mut scenario, &way, &attackers, &tries);
        let mut at = "removal".to_owned();
        for (number, other) in others.iter().enumerate().skip(1) {
            let next = format!("o{number}");
            scenario.commit(&next, Some(&at), By::Member(other), &[], &[]);
            at = next;
        }
        prop_assert_eq!(scenario.tip(), at);
    }

    /// One is removed, and nobody has confirmed it yet. What it can do beside that wins only if it
    /// removes its remover and nobody else, and has the lower leaf.
    #[test]
    fn an_unconfirmed_removal_loses_only_to_a_measured_one_by_a_senior(
        is_senior in any::<bool>(),
        swept in prop::collection::btree_set(0..4usize, 0..4),
        length in 1..6usize,
    ) {
        let scenario = if is_senior { "root: by m +a +b +c +d" } else { "root: by a +m +b +c +d" };
        let mut scenario = Scenario::new(scenario);
        scenario.commit("x", Some("root"), By::Member("a"), &["m"], &[]);
        let swept: Vec<_> = swept.into_iter().map(|number| ["a", "b", "c", "d"][number]).collect();
        // All in the last commit.
        let mut at = "root".to_owned();
        for number in 1..=length {
            let removed = if number == length { swept.as_slice() } else { &[] };
            let next = format!("y{number}");
            scenario.commit(&next, Some(&at), By::Member("m"), removed, &[]);
            at = next;
        }
        let steps = scenario.graph().explain();
        let (chosen, by) = (name(steps[0].chosen), steps[0].by);
        let by_step = match swept.as_slice() {
            ["a"] => Rule::Leaf,
            ["a", ..] => Rule::Swept,
            _ => Rule::Removal,
        };
        let wins = by_step == Rule::Leaf && is_senior;
        prop_assert_eq!((chosen.as_str(), by), (if wins { "y1" } else { "x" }, by_step));
    }

    /// Accounts that a branch adds and invites decide nothing where it began, whatever they commit; only
    /// users who were there do.
    #[test]
    fn who_was_not_there_decides_nothing(k in 1..4usize, tries in tries()) {
        let (attackers, others, all) = attackers_and_others(k);
        let mut scenario = founded(&all);
        attack(&mut scenario, &["root".to_owned()], &attackers, &tries);
        scenario.commit("o", Some("root"), By::Member(&others[0]), &[], &[]);
        for step in scenario.graph().explain() {
            if step.at == id("root") {
                let most = step.candidates.iter().map(|candidate| candidate.users).max();
                prop_assert!(most <= Some(k), "{step:?}");
            }
        }
    }
}
