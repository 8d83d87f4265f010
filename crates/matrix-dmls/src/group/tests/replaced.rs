//! Keys that were replaced: by a new credential (protocol §4), or on another branch (§8).

use super::{super::*, device::*};

#[test]
fn the_highest_seq_is_known_from_every_branch_and_from_rosters() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = &mut devices[..] else { panic!() };
    let bobs = bob.local.device().clone();
    assert_eq!(alice.group.graph().highest_seq(&bobs), Some(1));

    // Bob has lost his store, and comes back with a new key.
    let mut back = device("bob");
    back.local = local_with_seq("bob", 2);
    assert_eq!(*back.local.device(), bobs);
    let package = back.key_package();
    let plan = CommitPlan {
        remove: vec![bob.leaf(node)],
        add: vec![package.key_package.clone()],
        ..CommitPlan::default()
    };
    let replaced = alice.commits(node, plan);
    let update = carol.updates(node);
    carol.enters(&replaced);
    back.joins(&replaced, &package);
    for device in [&*alice, &*carol, &back] {
        assert_eq!(device.group.graph().highest_seq(&bobs), Some(2));
    }
    assert_eq!(carol.group.graph().highest_seq(local("dave").device()), None);

    // The leaf of the old key is not the new one's.
    alice.enters(&update);
    let (old, new) = (bob.local.identity(), back.local.identity());
    let roster = alice.group.roster(&update.node).unwrap();
    assert!(roster.leaf_of_identity(old).is_some() && roster.leaf_of_identity(new).is_none());
    let roster = alice.group.roster(&replaced.node).unwrap();
    assert!(roster.leaf_of_identity(old).is_none() && roster.leaf_of_identity(new).is_some());
    all_talk(&mut [alice, carol, &mut back], replaced.node);
}

/// A removal of the old leaf says nothing against the new one.
#[test]
fn who_came_back_is_not_voted_out_by_the_removal_of_its_old_leaf() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol", "dave"]);
    let [alice, bob, carol, dave] = &mut devices[..] else { panic!() };
    let mut back = device("bob");
    back.local = local_with_seq("bob", 2);
    let package = back.key_package();
    let leaf = bob.leaf(node);
    let plan = CommitPlan {
        remove: vec![leaf],
        add: vec![package.key_package.clone()],
        ..CommitPlan::default()
    };
    let replaced = alice.commits(node, plan);
    let only_removed = carol.removes(node, bob);
    dave.enters(&replaced);
    dave.enters(&only_removed);
    assert_eq!(dave.group.chosen_tip(), Some(replaced.node));
    let confirmations = |unwanted: fn(&crate::Member) -> bool| {
        dave.group.confirmations(dave.local.device(), unwanted, None, |_| Some(0)).len()
    };
    assert_eq!(confirmations(|member| member.identity.seq < 2), 0);
    // Control: were Bob unwanted, whatever his key, it would be confirmed.
    assert_eq!(confirmations(|member| member.device().device_id == "BOB"), 1);
}

#[test]
fn an_update_is_lost_on_the_other_branch_only() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = &mut devices[..] else { panic!() };
    let (by_alice, by_bob) = (alice.updates(node), bob.updates(node));
    let own = bob.local.device().clone();
    let lost = |group: &Group, node: &NodeId| group.graph().has_lost_update(node, &own);
    for device in [&mut *bob, &mut *carol] {
        device.enters(&by_alice);
    }
    carol.enters(&by_bob);
    assert!(lost(&bob.group, &by_alice.node) && lost(&carol.group, &by_alice.node));
    assert!(!lost(&bob.group, &by_bob.node));
    assert!(!carol.group.graph().has_lost_update(&by_alice.node, carol.local.device()));
    // He renews them here too.
    let again = bob.updates(by_alice.node);
    carol.enters(&again);
    assert!(!lost(&carol.group, &again.node));
    assert!(lost(&carol.group, &by_alice.node));
    assert!(lost(&carol.group, &node));
}
