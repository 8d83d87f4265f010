//! Where the anchor goes (protocol §6, §8).

use std::collections::HashMap;

use super::{super::*, device::*};

const DAY: u64 = 24 * 3600 * 1000;

fn next_anchor(
    device: &TestDevice,
    now: u64,
    moved_at: u64,
    times: &HashMap<NodeId, u64>,
) -> Option<NodeId> {
    device.group.next_anchor(now, moved_at, |_| false, |node| times.get(node).copied())
}

fn at_day(days: u64, node: NodeId, times: &mut HashMap<NodeId, u64>) {
    times.insert(node, days * DAY);
}

#[test]
fn first_where_three_users_are_and_two_have_gone_on_then_weekly() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = &mut devices[..] else { panic!() };
    let mut times = HashMap::new();
    at_day(0, node, &mut times);
    let next = |device: &TestDevice, now: u64, moved: u64, times: &HashMap<NodeId, u64>| {
        next_anchor(device, now * DAY, moved * DAY, times)
    };
    assert_eq!(next(alice, 100, 0, &times), None);
    let one = alice.updates(node);
    bob.enters(&one);
    carol.enters(&one);
    at_day(1, one.node, &mut times);
    // One user has gone on, however often.
    let two = alice.updates(one.node);
    bob.enters(&two);
    carol.enters(&two);
    at_day(1, two.node, &mut times);
    assert_eq!(next(alice, 100, 0, &times), None);
    let three = bob.updates(two.node);
    alice.enters(&three);
    carol.enters(&three);
    at_day(2, three.node, &mut times);
    // The founding has one user only; the addition three. At once, however young it is.
    for device in [&*alice, bob, carol] {
        assert_eq!(next(device, 2, 0, &times), Some(node));
    }
    let moved = 2;
    for device in [&mut *alice, bob, carol] {
        let founding = device.group.graph().roots().next();
        device.group.set_root(founding, Some(node));
    }
    assert_eq!(next(alice, moved + 6, moved, &times), None);
    // Below the second one only Bob has committed.
    assert_eq!(next(alice, moved + 7, moved, &times), Some(one.node));
    let four = carol.updates(three.node);
    alice.enters(&four);
    at_day(3, four.node, &mut times);
    assert_eq!(next(alice, moved + 7, moved, &times), Some(two.node));
    // But only nodes that are old enough.
    times.insert(two.node, 3 * DAY);
    assert_eq!(next(alice, moved + 7, moved, &times), Some(one.node));
    times.insert(one.node, 3 * DAY);
    assert_eq!(next(alice, moved + 7, moved, &times), None);
}

#[test]
fn it_stays_while_two_users_are_all() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = &mut devices[..] else { panic!() };
    let one = alice.updates(node);
    bob.enters(&one);
    let two = bob.updates(one.node);
    alice.enters(&two);
    let three = alice.updates(two.node);
    bob.enters(&three);
    assert_eq!(next_anchor(alice, 1000 * DAY, 0, &HashMap::new()), None);
}

/// Bob adds two who do not exist, lets them commit, and removes them again.
#[test]
fn it_does_not_go_where_somebody_is_invented() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = &mut devices[..] else { panic!() };
    let mut invented = [device("nobody"), device("noone")];
    let packages = invented.each_ref().map(TestDevice::key_package);
    let added = bob.adds(node, &packages.iter().collect::<Vec<_>>());
    alice.enters(&added);
    let mut on = added.node;
    for (device, package) in invented.iter_mut().zip(&packages) {
        device.joins(&added, package);
    }
    for voter in 0..2 {
        let update = invented[voter].updates(on);
        for device in [&mut *alice, &mut *bob, &mut invented[1 - voter]] {
            device.enters(&update);
        }
        on = update.node;
    }
    let remove = vec![invented[0].leaf(on), invented[1].leaf(on)];
    let removed = bob.commits(on, CommitPlan { remove, ..CommitPlan::default() });
    alice.enters(&removed);
    let next = |is_invented: bool| {
        let is_invented = |member: &crate::Member| {
            let is_them = |device: &TestDevice| member.device() == device.local.device();
            is_invented && invented.iter().any(is_them)
        };
        alice.group.next_anchor(DAY, 0, is_invented, |_| None)
    };
    assert_eq!((next(false), next(true)), (Some(added.node), None));
}

/// What is on a losing branch moves nothing, and who is left behind does not either.
#[test]
fn only_the_chosen_branch_counts() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = &mut devices[..] else { panic!() };
    let one = alice.updates(node);
    let rival = bob.updates(node);
    alice.enters(&rival);
    bob.enters(&one);
    carol.enters(&one);
    carol.enters(&rival);
    // One author on each branch.
    assert_eq!(next_anchor(carol, DAY, 0, &HashMap::new()), None);
    let erased = carol.group.erase_state(carol.group.chosen_tip().unwrap());
    let on = carol.group.chosen_tip().unwrap();
    let author = if on == one.node { &mut *alice } else { &mut *bob };
    let next = author.updates(on);
    carol.group.apply(erased);
    carol.receives(&next);
    assert_ne!(carol.group.sending_tip(), carol.group.chosen_tip());
    assert_eq!(next_anchor(carol, DAY, 0, &HashMap::new()), None);
}
