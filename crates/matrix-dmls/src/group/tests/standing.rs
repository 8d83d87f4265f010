//! Who confirms a removal, and when (protocol §5).

use std::collections::BTreeSet;

use super::{super::*, device::*};
use crate::roster::Member;

const SECOND: u64 = 1000;

/// A member's confirmations; all commits were heard of at 0.
fn confirmations(device: &TestDevice, unwanted: &[&TestDevice]) -> Vec<Confirmation> {
    let unwanted: BTreeSet<_> = unwanted.iter().map(|device| device.local.device()).collect();
    device.group.confirmations(
        device.local.device(),
        |member| unwanted.contains(member.device()),
        None,
        |_| Some(0),
    )
}

fn everybody_enters(devices: &mut [TestDevice], event: &Event, but: &[&str]) {
    for device in devices {
        let name = &device.local.device().device_id;
        if !but.contains(&name.to_lowercase().as_str()) {
            device.enters(event);
        }
    }
}

/// Alice has removed Mallory, and everybody else has entered that.
fn removal(names: &[&str]) -> (Vec<TestDevice>, TestDevice, Event) {
    let (mut devices, node) = room_of(names);
    let mallory = devices.pop().unwrap();
    let event = devices[0].removes(node, &mallory);
    everybody_enters(&mut devices[1..], &event, &[]);
    (devices, mallory, event)
}

#[test]
fn others_confirm_a_removal_one_after_the_other() {
    let (devices, mallory, event) = removal(&["alice", "bob", "carol", "dave", "mallory"]);
    let mut turns = BTreeSet::new();
    for device in &devices[1..] {
        let [confirmation] = &confirmations(device, &[&mallory])[..] else { panic!() };
        assert_eq!((confirmation.removal, confirmation.on), (event.node, event.node));
        assert!(!confirmation.is_rival);
        turns.insert(confirmation.due);
    }
    assert_eq!(turns, [5 * SECOND, 10 * SECOND, 15 * SECOND].into());
    // Not the author.
    assert_eq!(confirmations(&devices[0], &[&mallory]), []);
}

#[test]
fn two_users_are_enough_and_nobody_does_it_twice() {
    let (mut devices, mallory, event) = removal(&["alice", "bob", "carol", "dave", "mallory"]);
    let by_bob = devices[1].updates(event.node);
    everybody_enters(&mut devices, &by_bob, &["bob"]);
    assert_eq!(confirmations(&devices[1], &[&mallory]), []);
    let [confirmation] = &confirmations(&devices[2], &[&mallory])[..] else { panic!() };
    assert_eq!((confirmation.removal, confirmation.on), (event.node, by_bob.node));
    let by_carol = devices[2].updates(by_bob.node);
    everybody_enters(&mut devices, &by_carol, &["carol"]);
    for device in &devices {
        assert_eq!(confirmations(device, &[&mallory]), []);
    }
}

/// Carol has invented a device of Bob's, which commits below the removal.
#[test]
fn an_invented_device_does_not_confirm_for_its_user() {
    let (mut devices, mallory, event) = removal(&["alice", "bob", "carol", "mallory"]);
    let mut ghost = device("bob2");
    ghost.local = second_device_of_bob();
    let package = ghost.key_package();
    let stuffed = devices[2].adds(event.node, &[&package]);
    ghost.joins(&stuffed, &package);
    let vote = ghost.updates(stuffed.node);
    devices[1].enters(&stuffed);
    devices[1].enters(&vote);
    let [confirmation] = &confirmations(&devices[1], &[&mallory])[..] else { panic!() };
    assert_eq!((confirmation.removal, confirmation.on), (event.node, vote.node));
}

#[test]
fn only_what_the_room_justifies_is_confirmed() {
    let (mut devices, mallory, _) = removal(&["alice", "bob", "carol", "mallory"]);
    assert_eq!(confirmations(&devices[1], &[]), []);
    // Mallory, and Carol with her.
    let node = devices[0].group.graph().roots().next().unwrap();
    let both = devices[0].group.graph().children(&node).next().unwrap();
    let plan = CommitPlan {
        remove: vec![devices[0].leaf(both), devices[2].leaf(both), mallory.leaf(both)],
        ..CommitPlan::default()
    };
    let by_bob = devices[1].commits(both, plan);
    let [alice, _, carol] = &mut devices[..] else { panic!() };
    alice.receives(&by_bob);
    carol.receives(&by_bob);
    assert!(confirmations(alice, &[&mallory]).iter().all(|c| c.removal != by_bob.node));
    // An update removes nobody.
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let update = devices[0].updates(node);
    devices[1].enters(&update);
    assert_eq!(confirmations(&devices[1], &[]), []);
}

/// Mallory has the lower leaf, so its retaliation wins the tie, until the removal is confirmed.
#[test]
fn a_removal_that_lost_to_its_victim_is_confirmed_where_it_is() {
    let (mut devices, node) = room_of(&["mallory", "alice", "bob", "carol"]);
    let (mallory, others) = devices.split_first_mut().unwrap();
    let removal = others[0].removes(node, mallory);
    let retaliation = mallory.removes(node, &others[0]);
    others[0].receives(&retaliation);
    for device in &mut others[1..] {
        device.enters(&removal);
        device.enters(&retaliation);
        assert_eq!(device.group.chosen_tip(), Some(retaliation.node));
    }
    let at_bob = confirmations(&others[1], &[mallory]);
    let [confirmation] = &at_bob[..] else { panic!("{at_bob:?}") };
    assert_eq!((confirmation.removal, confirmation.on), (removal.node, removal.node));
    assert!(confirmation.is_rival);

    let confirmed = others[1].updates(confirmation.on);
    others[2].enters(&confirmed);
    for device in &others[1..] {
        assert_eq!(device.group.chosen_tip(), Some(confirmed.node));
    }
    // Carol is the second.
    let at_carol = confirmations(&others[2], &[mallory]);
    let [confirmation] = &at_carol[..] else { panic!("{at_carol:?}") };
    assert_eq!(confirmation.on, confirmed.node);
    assert!(!confirmation.is_rival);
    // Nobody confirms the retaliation, since the room does not want Alice removed.
    assert!(at_carol.iter().all(|c| c.removal != retaliation.node));
}

/// A branch that lost, and whose removal the winner has made too, is left alone.
#[test]
fn a_rival_that_has_nothing_to_say_is_left_alone() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol", "mallory"]);
    let mallory = devices.pop().unwrap();
    let [alice, bob, carol] = &mut devices[..] else { panic!() };
    let (one, two) = (alice.removes(node, &mallory), bob.removes(node, &mallory));
    carol.enters(&one);
    carol.enters(&two);
    let at_carol = confirmations(carol, &[&mallory]);
    let [confirmation] = &at_carol[..] else { panic!("{at_carol:?}") };
    assert_eq!(Some(confirmation.removal), carol.group.chosen_tip());
}

#[test]
fn further_devices_of_a_user_come_later() {
    let mut phone = device("alice");
    let founded = phone.founds();
    let (mut one, mut two) = (device("bob"), device("bob2"));
    // Another device of Bob's.
    two.local = second_device_of_bob();
    let mut mallory = device("mallory");
    let packages = [one.key_package(), two.key_package(), mallory.key_package()];
    let added = phone.adds(founded.node, &packages.iter().collect::<Vec<_>>());
    one.joins(&added, &packages[0]);
    two.joins(&added, &packages[1]);
    mallory.joins(&added, &packages[2]);
    let removal = phone.removes(added.node, &mallory);
    one.enters(&removal);
    two.enters(&removal);
    let due = |device: &TestDevice| confirmations(device, &[&mallory])[0].due;
    assert_eq!((due(&one), due(&two)), (5 * SECOND, 65 * SECOND));
    let confirmed = one.updates(removal.node);
    two.enters(&confirmed);
    assert_eq!(confirmations(&two, &[&mallory]), []);
}

#[test]
fn times_that_nobody_knows_are_no_times() {
    let (devices, mallory, _) = removal(&["alice", "bob", "mallory"]);
    let bob = &devices[1];
    let unwanted = |member: &Member| member.device() == mallory.local.device();
    assert_eq!(bob.group.confirmations(bob.local.device(), unwanted, None, |_| None), []);
    let late = bob.group.confirmations(bob.local.device(), unwanted, None, |_| Some(u64::MAX));
    assert_eq!(late[0].due, u64::MAX);
}
