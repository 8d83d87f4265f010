//! Repairing beside a commit that has stuffed the tree (protocol §5).

use std::collections::BTreeSet;

use super::{super::*, device::*};
use crate::credential::Device;

const SECOND: u64 = 1000;

/// Mallory has added devices that nobody has, and all the others have entered that.
fn stuffed(names: &[&str]) -> (Vec<TestDevice>, NodeId, Event, BTreeSet<Device>) {
    let (mut devices, node) = room_of(names);
    let invented: Vec<_> = (0..10).map(|n| device(&format!("nobody{n}"))).collect();
    let packages: Vec<_> = invented.iter().map(TestDevice::key_package).collect();
    let mallory = devices.iter().position(|d| d.local.device().device_id == "MALLORY").unwrap();
    let event = devices[mallory].adds(node, &packages.iter().collect::<Vec<_>>());
    for (place, device) in devices.iter_mut().enumerate() {
        if place != mallory {
            device.enters(&event);
        }
    }
    let invented = invented.iter().map(|d| d.local.device().clone()).collect();
    (devices, node, event, invented)
}

fn repair(device: &TestDevice, invented: &BTreeSet<Device>) -> Option<Repair> {
    let is_invented = |member: &crate::Member| invented.contains(member.device());
    device.group.repair(device.local.device(), is_invented, |_| false, |_| Some(0))
}

#[test]
fn everybody_has_its_turn_beside_the_commit_until_it_has_lost() {
    let (mut devices, node, event, invented) = stuffed(&["mallory", "alice", "bob", "carol"]);
    let mut turns = BTreeSet::new();
    for device in &devices[1..] {
        let repair = repair(device, &invented).unwrap();
        assert_eq!((repair.commit, repair.on, repair.is_done), (event.node, node, false));
        assert_eq!(repair.invented.len(), 10);
        assert_eq!(repair.author, *devices[0].local.device());
        turns.insert(repair.due.unwrap());
    }
    assert_eq!(turns, [5 * SECOND, 10 * SECOND, 15 * SECOND].into());
    // Not against oneself.
    assert_eq!(repair(&devices[0], &invented), None);

    // One alone does not prevail against Mallory's lower leaf, two do.
    let one = devices[1].updates(node);
    for device in &mut devices[2..] {
        device.enters(&one);
        assert_eq!(device.group.chosen_tip(), Some(event.node));
    }
    let done = repair(&devices[1], &invented).unwrap();
    assert_eq!((done.on, done.is_done, done.due), (one.node, true, None));
    let next = repair(&devices[2], &invented).unwrap();
    assert_eq!((next.on, next.is_done), (one.node, false));
    let two = devices[2].updates(next.on);
    devices[1].enters(&two);
    devices[3].enters(&two);
    for device in &devices[1..] {
        assert_eq!(device.group.chosen_tip(), Some(two.node));
        assert_eq!(repair(device, &invented), None);
    }
}

/// Had they gone below, the invented devices would outvote them there.
#[test]
fn the_invented_devices_have_no_voice_beside() {
    let (mut devices, node, event, invented) = stuffed(&["alice", "bob", "carol", "mallory"]);
    let below = devices[2].updates(event.node);
    for place in [0, 1] {
        devices[place].enters(&below);
    }
    // Carol, who did not know better, is counted on both sides.
    let on = repair(&devices[0], &invented).unwrap().on;
    let one = devices[0].updates(on);
    devices[1].enters(&one);
    assert_eq!(devices[1].group.graph().parent(&one.node), Some(node));
    let on = repair(&devices[1], &invented).unwrap().on;
    let two = devices[1].updates(on);
    devices[2].enters(&one);
    devices[2].enters(&two);
    let carol = repair(&devices[2], &invented);
    if let Some(carol) = carol {
        assert_eq!(carol.on, two.node);
        let three = devices[2].updates(carol.on);
        devices[0].enters(&two);
        devices[0].enters(&three);
        assert_eq!(devices[0].group.chosen_tip(), Some(three.node));
    }
    assert_eq!(repair(&devices[2], &invented), None);
}

#[test]
fn there_is_nothing_to_repair_without_evidence_or_without_the_parents_state() {
    let (mut devices, node, event, invented) = stuffed(&["alice", "bob", "mallory"]);
    assert_eq!(repair(&devices[0], &BTreeSet::new()), None);
    let alice = &devices[0];
    let is_invented = |member: &crate::Member| invented.contains(member.device());
    let own = alice.local.device();
    assert_eq!(alice.group.repair(own, is_invented, |id| *id == event.node, |_| Some(0)), None);
    let unheard = alice.group.repair(own, is_invented, |_| false, |_| None).unwrap();
    assert_eq!((unheard.due, unheard.is_done), (None, false));
    // What somebody has removed already is no matter any more.
    let plan = CommitPlan { remove: (3..13).collect(), ..CommitPlan::default() };
    let removed = devices[1].commits(event.node, plan);
    let mut informed = devices[0].clone();
    informed.enters(&removed);
    assert_eq!(repair(&informed, &invented), None);

    let erased = devices[0].group.erase_state(node);
    devices[0].group.apply(erased);
    assert_eq!(repair(&devices[0], &invented), None);
    assert!(devices[0].group.suspects().all(|(node, _)| node != event.node));
}

/// What somebody has removed below is not confirmed there.
#[test]
fn nothing_is_confirmed_below() {
    let (mut devices, _, event, invented) = stuffed(&["alice", "bob", "carol", "mallory"]);
    let plan = CommitPlan { remove: vec![4, 5], ..CommitPlan::default() };
    let removal = devices[1].commits(event.node, plan);
    let alice = &mut devices[0];
    alice.enters(&removal);
    let unwanted = |member: &crate::Member| invented.contains(member.device());
    let confirmations = |avoid: Option<&NodeId>| {
        alice.group.confirmations(alice.local.device(), unwanted, avoid, |_| Some(0)).len()
    };
    assert_eq!((confirmations(None), confirmations(Some(&event.node))), (1, 0));
}
