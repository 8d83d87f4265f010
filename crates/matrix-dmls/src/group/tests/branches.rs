//! Concurrent commits: both are processed, both stay readable, neither twice.

use super::{super::*, device::*};
use crate::wire::commit::CommitMessage;

#[test]
fn concurrent_commits_are_both_entered_by_everybody_and_both_readable() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let mut dave = device("dave");
    let package = dave.key_package();

    // One with a path, one without, made without knowing of each other.
    let by_alice = alice.updates(node);
    let by_bob = bob.adds(node, &[&package]);
    assert!(CommitMessage::parse(&by_bob.commit).unwrap().path().is_none());
    dave.joins(&by_bob, &package);
    let late = carol.writes(node, "still in the parent");

    // In any order.
    carol.enters(&by_bob);
    carol.enters(&by_alice);
    alice.enters(&by_bob);
    bob.enters(&by_alice);

    all_talk(&mut [alice, bob, carol], by_alice.node);
    all_talk(&mut [alice, bob, carol, &mut dave], by_bob.node);
    assert_eq!(alice.reads(&late), "still in the parent");
    assert!(dave.group.decrypt(&late).is_err());
    assert_ne!(
        alice.group.epoch_key(&by_alice.node).unwrap().encryption_secret(),
        alice.group.epoch_key(&by_bob.node).unwrap().encryption_secret(),
    );

    // All choose alike, and the branches go on.
    let tip = alice.group.chosen_tip().unwrap();
    assert_eq!(bob.group.chosen_tip(), Some(tip));
    assert_eq!(carol.group.chosen_tip(), Some(tip));
    for parent in [by_alice.node, by_bob.node] {
        let event = carol.updates(parent);
        alice.enters(&event);
        bob.enters(&event);
        all_talk(&mut [alice, bob, carol], event.node);
    }
}

#[test]
fn a_commit_is_processed_once() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let event = alice.updates(node);
    let before = bob.clone();
    bob.enters(&event);
    assert!(matches!(bob.receives(&event), Received::Known(_)));

    // Even one who forgets the record and the child cannot derive it again: the parent's vault was
    // punctured. That is what makes keeping branch points harmless.
    let mut forgetful = before;
    let punctured = bob.group.vault(&node).unwrap().clone();
    assert_eq!(punctured.punctures(), 1);
    forgetful.group.apply(GroupChanges {
        vaults: [(node, Some(punctured))].into(),
        ..GroupChanges::default()
    });
    let received = forgetful.receives(&event);
    assert!(
        matches!(received, Received::Seen(_, SeenBecause::Inadmissible(GroupError::Punctured), _)),
        "{received:?}"
    );
    // A sibling is still welcome.
    forgetful.enters(&alice.updates(node));
}

#[test]
fn the_author_cannot_derive_its_own_commit_again_either() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    devices[0].updates(node);
    assert_eq!(devices[0].group.vault(&node).unwrap().punctures(), 1);
}

#[test]
fn nothing_happens_until_the_changes_are_applied() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let event = alice.updates(node);
    for _ in 0..2 {
        let received = bob.group.receive(&event.commit, &event.parent_context).unwrap();
        assert!(matches!(received, Received::Entered(..)));
        assert_eq!(bob.group.chosen_tip(), Some(node));
        assert_eq!(bob.group.vault(&node).unwrap().punctures(), 0);
    }
    // A commit of our own that the server does not take leaves no epoch behind.
    let (mine, changes) = bob.group.commit(node, &bob.local, CommitPlan::default()).unwrap();
    bob.group.apply(changes);
    assert_eq!(bob.group.sending_tip(), Some(node));
    let discarded = bob.group.discard(mine);
    bob.group.apply(discarded);
    bob.enters(&event);
    assert_eq!(bob.group.sending_tip(), Some(event.node));
}

#[test]
fn a_flood_on_one_parent_stops_being_entered() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    for _ in 0..4 {
        bob.enters(&alice.updates(node));
    }
    let fifth = alice.updates(node);
    let received = bob.receives(&fifth);
    assert!(matches!(received, Received::Seen(_, SeenBecause::TooMany, _)), "{received:?}");
}

#[test]
fn without_the_parents_state_a_commit_is_seen_and_the_rest_goes_on() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let late = alice.updates(node);
    let erased = bob.group.erase_state(node);
    bob.group.apply(erased);
    let received = bob.receives(&late);
    assert!(matches!(received, Received::Seen(_, SeenBecause::NoState, _)), "{received:?}");
    assert!(bob.group.graph().contains(&late.node));
    // Messages of the erased node stay readable by its epoch key.
    assert_eq!(bob.reads(&alice.writes(node, "old")), "old");
}

#[test]
fn who_floods_the_room_loses_its_own_branch_points_first() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let by_bob = bob.updates(node);
    alice.enters(&by_bob);
    let mut tip = by_bob.node;
    let mut by_alice = Vec::new();
    for _ in 0..6 {
        tip = alice.updates(tip).node;
        by_alice.push(tip);
    }
    assert!(alice.group.enforce_limits().is_empty());
    // Held with a child: the founding, its addition, bob's, and five of alice's six updates.
    let changes = alice.group.erase_over(3, &std::collections::HashSet::new());
    alice.group.apply(changes);
    assert!(alice.group.state(&by_bob.node).is_some());
    assert!(alice.group.state(&node).is_none());
    assert!(alice.group.state(&by_alice[0]).is_none());
    assert!(alice.group.state(&by_alice[4]).is_some());
    assert!(alice.group.state(&tip).is_some());
    // Nothing of it touches the choice, or what can be read.
    assert_eq!(alice.group.chosen_tip(), Some(tip));
    assert!(alice.group.epoch_key(&node).is_some());
}

#[test]
fn an_unknown_parent_is_named() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let first = alice.updates(node);
    let second = alice.updates(first.node);
    let refused = bob.group.receive(&second.commit, &second.parent_context);
    assert!(matches!(refused, Err(GroupError::UnknownParent(id)) if id == first.node));
    bob.enters(&first);
    bob.enters(&second);
}
