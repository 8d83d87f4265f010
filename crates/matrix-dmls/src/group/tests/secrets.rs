//! What lies where: nothing in OpenMLS's entries may redo a commit or read a message.

use super::{super::*, device::*};

fn contains(entries: &crate::storage::Entries, secret: &[u8; 32]) -> bool {
    // msgpack writes bytes above 127 with a prefix, so look for the sequence as it is stored too.
    let stored: Vec<u8> = rmp_serde::to_vec(&secret.to_vec()).unwrap()[3..].to_vec();
    entries.iter().any(|(_, _, value)| {
        value.windows(32).any(|window| window == secret)
            || value.windows(stored.len()).any(|window| window == stored)
    })
}

#[test]
fn openmls_holds_handles_only() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let event = devices[0].updates(node);
    devices[1].enters(&event);
    for device in &devices[..2] {
        let state = device.group.state(&event.node).unwrap();
        let key = device.group.epoch_key(&event.node).unwrap();
        assert!(!contains(&state.entries, key.encryption_secret().unwrap().as_bytes()));
        assert!(!contains(&state.entries, key.sender_data_secret().as_bytes()));
        // The test can find what is there: our own public signature key is in the tree.
        assert!(contains(&state.entries, &device.local.member().signature_key));
    }
}

#[test]
fn a_child_keeps_nothing_of_its_parent() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let mut at = node;
    for _ in 0..5 {
        let event = devices[0].updates(at);
        devices[1].enters(&event);
        at = event.node;
    }
    for device in &devices {
        let (first, last) = (device.group.state(&node).unwrap(), device.group.state(&at).unwrap());
        assert!(last.entries.len() <= first.entries.len(), "{first:?} {last:?}");
    }
}

#[test]
fn joining_leaves_no_key_package_behind() {
    let (devices, node) = room_of(&["alice"]);
    let alice = devices.into_iter().next().unwrap();
    let bob = device("bob");
    for last_resort in [false, true] {
        let package = new_key_package(&bob.local, last_resort).unwrap();
        assert_eq!(package.private.len(), 1);
        let mut room = alice.clone();
        let added = room.adds(node, &[&package]);
        let mut joiner = bob.clone();
        joiner.joins(&added, &package);
        let (_, _, private) = package.private.iter().next().unwrap();
        let state = joiner.group.state(&added.node).unwrap();
        assert!(state.entries.iter().all(|(_, _, value)| value != private));
    }
}

#[test]
fn states_and_vaults_survive_storage() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let event = devices[0].updates(node);
    let bob = &mut devices[1];
    let state: NodeState = rmp_serde::from_slice(
        &rmp_serde::to_vec_named(&**bob.group.state(&node).unwrap()).unwrap(),
    )
    .unwrap();
    let vault = rmp_serde::to_vec_named(bob.group.vault(&node).unwrap()).unwrap();
    let mut changes = bob.group.erase_state(node);
    bob.group.apply(changes.clone());
    changes.states.insert(node, Some(Arc::new(state)));
    changes.vaults.insert(node, Some(rmp_serde::from_slice(&vault).unwrap()));
    bob.group.apply(changes);
    bob.enters(&event);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    all_talk(&mut [alice, bob], event.node);
}

/// No pending commit with its secrets, no keys of another epoch, whoever entered however.
#[test]
fn a_node_has_one_epochs_secrets() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let updated = alice.updates(node);
    bob.enters(&updated);
    let mut carol = device("carol");
    let package = carol.key_package();
    let added = bob.adds(updated.node, &[&package]);
    alice.enters(&added);
    carol.joins(&added, &package);
    let mut dave = device("dave");
    let record = Arc::clone(alice.group.graph().get(&added.node).unwrap());
    let public = PublicState { record: &record, group_info: &added.group_info, tree: &added.tree };
    let (joined, changes) = dave.group.external_commit(&dave.local, public).unwrap();
    let external = dave.sends(joined, changes);
    alice.enters(&external);

    for (device, node) in [
        (&*alice, updated.node),
        (bob, updated.node),
        (bob, added.node),
        (&carol, added.node),
        (alice, joined),
        (&dave, joined),
    ] {
        let state = device.group.state(&node).unwrap();
        let of = |table| state.entries.iter().filter(move |(number, ..)| *number == table);
        let [group_state, key_pairs] = [9, 16].map(|table| of(table).collect::<Vec<_>>());
        assert_eq!(key_pairs.len(), 1);
        assert!(group_state.len() == 1 && group_state[0].2.len() < 20, "{group_state:?}");
        for other in [2, 3, 4, 14, 15, 17, 18] {
            assert_eq!(of(other).count(), 0, "table {other}");
        }
    }
}
