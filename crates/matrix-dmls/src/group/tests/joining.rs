//! Founding, Welcomes, removals, external commits.

use super::{super::*, device::*};
use crate::{epoch_key::DecryptError, extension::HistoryPolicy, wire::commit::CommitMessage};

#[test]
fn a_founder_alone_commits_with_a_path_without_nodes() {
    let mut alice = device("alice");
    let founded = alice.founds();
    let commit = CommitMessage::parse(&founded.commit).unwrap();
    assert_eq!(commit.aad().parent, None);
    assert_eq!(commit.path().unwrap().nodes, 0);
    assert_eq!(alice.group.chosen_tip(), Some(founded.node));
    // And again, alone: the commit secret comes out of no "path" derivation either.
    let updated = alice.updates(founded.node);
    assert_eq!(alice.group.sending_tip(), Some(updated.node));
    all_talk(&mut [&mut alice], updated.node);
}

#[test]
fn who_goes_over_to_another_founding_keeps_what_it_reads_with_and_no_more() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let message = alice.writes(node, "before");
    let instance = extension().instance;
    assert!(bob.group.leave_all_but(&instance).is_empty());
    bob.group.apply(bob.group.leave_all_but(&InstanceId::from_bytes([8; 32])));
    assert_eq!(bob.reads(&message), "before");
    assert!(bob.group.graph().contains(&node) && bob.group.vault(&node).is_none());
    assert_eq!((bob.group.entered().count(), bob.group.sending_tip()), (0, None));
}

#[test]
fn a_founding_commit_can_add_at_once() {
    let (mut alice, mut bob) = (device("alice"), device("bob"));
    let package = bob.key_package();
    let (node, changes) =
        alice.group.found(&alice.local, &extension(), vec![package.key_package.clone()]).unwrap();
    let founded = alice.sends(node, changes);
    bob.joins(&founded, &package);
    all_talk(&mut [&mut alice, &mut bob], node);
}

#[test]
fn an_addition_needs_no_path_and_everybody_goes_on_from_there() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let mut carol = device("carol");
    let package = carol.key_package();
    let added = devices[1].adds(node, &[&package]);
    assert!(CommitMessage::parse(&added.commit).unwrap().path().is_none());
    devices[0].enters(&added);
    carol.joins(&added, &package);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    all_talk(&mut [alice, bob, &mut carol], added.node);

    let updated = carol.updates(added.node);
    alice.enters(&updated);
    bob.enters(&updated);
    all_talk(&mut [alice, bob, &mut carol], updated.node);
    assert_eq!(bob.group.roster(&updated.node), carol.group.roster(&updated.node));
}

#[test]
fn who_is_removed_knows_it_and_cannot_read_on() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let before = alice.writes(node, "with carol");
    let removed = alice.removes(node, carol);
    bob.enters(&removed);
    assert!(matches!(carol.receives(&removed), Received::Seen(_, SeenBecause::RemovesUs, _)));
    let after = bob.writes(removed.node, "without carol");
    assert_eq!(alice.reads(&after), "without carol");
    assert!(matches!(carol.group.decrypt(&after), Err(GroupError::NoEpochKey(_))));
    // Nor do the secrets that carol has open it, even with all that is public of the new epoch.
    let (held, new) =
        (carol.group.epoch_key(&node).unwrap(), bob.group.epoch_key(&removed.node).unwrap());
    let forged = EpochKey::new(
        removed.node,
        new.group_context().to_vec(),
        held.encryption_secret().unwrap().clone(),
        held.sender_data_secret().clone(),
        Arc::clone(new.roster()),
    );
    assert!(matches!(forged.unwrap().decrypt(&after), Err(DecryptError::Aead)));
    // What was said before stays readable.
    assert_eq!(carol.reads(&before), "with carol");
    assert_eq!(carol.group.roster(&removed.node).unwrap().leaf_of(carol.local.device()), None);
}

#[test]
fn removal_addition_and_policy_in_one_commit() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let mut dave = device("dave");
    let package = dave.key_package();
    let mut policy = extension();
    policy.history = HistoryPolicy::Days(std::num::NonZero::new(30).unwrap());
    let event = alice.commits(
        node,
        CommitPlan {
            remove: vec![carol.leaf(node)],
            add: vec![package.key_package.clone()],
            extension: Some(policy.clone()),
            ..CommitPlan::default()
        },
    );
    bob.enters(&event);
    dave.joins(&event, &package);
    assert_eq!(bob.group.graph().get(&event.node).unwrap().extension, policy);
    // The new member takes the lowest free leaf, which is the removed one's.
    assert_eq!(dave.leaf(event.node), 2);
    all_talk(&mut [alice, bob, &mut dave], event.node);

    // Nothing but the history may change.
    let mut other = policy;
    other.instance = InstanceId::from_bytes([8; 32]);
    let plan = CommitPlan { extension: Some(other), ..CommitPlan::default() };
    let refused = bob.group.commit(event.node, &bob.local, plan);
    assert!(matches!(refused, Err(GroupError::IllFormed(_))), "{refused:?}");
}

#[test]
fn an_external_commit_lets_a_device_in() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let updated = alice.updates(node);
    bob.enters(&updated);

    let mut eve = device("eve");
    let record = Arc::clone(alice.group.graph().get(&updated.node).unwrap());
    let public =
        PublicState { record: &record, group_info: &updated.group_info, tree: &updated.tree };
    let (joined, changes) = eve.group.external_commit(&eve.local, public).unwrap();
    let event = eve.sends(joined, changes);
    alice.enters(&event);
    bob.enters(&event);
    all_talk(&mut [alice, bob, &mut eve], joined);
    let later = eve.updates(joined);
    alice.enters(&later);
    bob.enters(&later);
    all_talk(&mut [alice, bob, &mut eve], later.node);

    // Once the external secret is erased, a further one there is only seen.
    let mut mallory = device("mallory");
    let (again, changes) = mallory.group.external_commit(&mallory.local, public).unwrap();
    let event = mallory.sends(again, changes);
    let mut vault = bob.group.vault(&updated.node).unwrap().clone();
    vault.erase_external_secret();
    bob.group.apply(GroupChanges {
        vaults: [(updated.node, Some(vault))].into(),
        ..GroupChanges::default()
    });
    let received = bob.receives(&event);
    assert!(matches!(received, Received::Seen(_, SeenBecause::Inadmissible(_), _)));
    alice.enters(&event);
}

#[test]
fn a_welcome_belongs_to_one_commit_and_one_key_package() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let carol = device("carol");
    let package = carol.key_package();
    let good = alice.adds(node, &[&package]);
    let other = bob.updates(node);

    let mut wrong_commit = good.clone();
    wrong_commit.commit = other.commit.clone();
    let refused = carol.tries_to_join(&wrong_commit, &package);
    assert!(matches!(refused, Err(GroupError::WelcomeMismatch)), "{refused:?}");

    let mut wrong_tree = good.clone();
    wrong_tree.tree = other.tree;
    assert!(carol.tries_to_join(&wrong_tree, &package).is_err());

    let mut other_package = carol.key_package();
    other_package.reference = package.reference;
    let refused = carol.tries_to_join(&good, &other_package);
    assert!(matches!(refused, Err(GroupError::NoMatchingKeyPackage)), "{refused:?}");

    // None of it has used the key package up.
    let mut carol = carol;
    carol.joins(&good, &package);
}

#[test]
fn a_key_package_may_be_welcomed_on_both_branches() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let mut carol = device("carol");
    let package = carol.key_package();
    let (by_alice, by_bob) = (alice.adds(node, &[&package]), bob.adds(node, &[&package]));
    alice.enters(&by_bob);
    bob.enters(&by_alice);
    carol.joins(&by_alice, &package);
    carol.joins(&by_bob, &package);
    for event in [by_alice, by_bob] {
        all_talk(&mut [alice, bob, &mut carol], event.node);
    }
}
