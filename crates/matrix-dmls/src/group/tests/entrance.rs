//! Coming in, or coming back, by what stands in a commit's event; being added again.

use super::{super::*, device::*};

fn parts(event: &Event) -> PublicParts<'_> {
    PublicParts {
        commit: &event.commit,
        parent_context: &event.parent_context,
        group_info: &event.group_info,
        tree: &event.tree,
    }
}

fn sees(device: &mut TestDevice, event: &Event) {
    let (node, changes) = device.group.see_entrance(parts(event)).unwrap();
    assert_eq!(node, event.node);
    device.group.apply(changes);
}

fn comes_in(device: &mut TestDevice, on: &Event) -> Event {
    let (node, changes) = device.group.external_commit_on(&device.local, parts(on)).unwrap();
    device.sends(node, changes)
}

#[test]
fn a_stranger_sees_an_epoch_goes_down_from_it_and_comes_in() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let first = alice.updates(node);
    bob.enters(&first);
    let second = bob.updates(first.node);
    alice.enters(&second);

    let mut eve = device("eve");
    assert!(eve.group.external_commit_on(&eve.local, parts(&first)).is_err());
    sees(&mut eve, &first);
    assert!(matches!(eve.receives(&second), Received::Seen(_, SeenBecause::NoState, _)));
    assert_eq!(eve.group.chosen_tip(), Some(second.node));
    assert_eq!(eve.group.sending_tip(), None);
    assert_eq!(eve.group.roster(&second.node), alice.group.roster(&second.node));
    let event = comes_in(&mut eve, &second);
    alice.enters(&event);
    bob.enters(&event);
    all_talk(&mut [alice, bob, &mut eve], event.node);

    // An epoch that a joiner has made is as good a place to begin.
    let mut dave = device("dave");
    sees(&mut dave, &event);
    assert_eq!(dave.group.roster(&event.node), eve.group.roster(&event.node));
    let event = comes_in(&mut dave, &event);
    for device in [&mut *alice, &mut *bob, &mut eve] {
        device.enters(&event);
    }
    all_talk(&mut [alice, bob, &mut eve, &mut dave], event.node);
}

#[test]
fn only_the_author_can_show_its_epoch() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let first = alice.updates(node);
    bob.enters(&first);
    let second = bob.updates(first.node);
    alice.enters(&second);
    let eve = device("eve");
    let refused = |event: &Event| eve.group.see_entrance(parts(event)).unwrap_err();
    // The control.
    assert!(eve.group.see_entrance(parts(&second)).is_ok());
    // Another epoch's GroupInfo, another epoch's tree, and what is altered.
    let info = Event { group_info: first.group_info.clone(), ..second.clone() };
    refused(&info);
    refused(&Event { tree: first.tree.clone(), ..second.clone() });
    let both = Event { tree: first.tree.clone(), ..info };
    refused(&both);
    for at in (0..second.group_info.len()).step_by(17) {
        let mut altered = second.clone();
        altered.group_info[at] ^= 1;
        refused(&altered);
    }
    let mut altered = second.clone();
    let last = altered.commit.len() - 40;
    altered.commit[last] ^= 1;
    refused(&altered);
}

#[test]
fn who_has_lost_its_states_comes_back_over_its_own_leaf() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let gone = carol.group.erase_state(node);
    carol.group.apply(gone);
    let updated = alice.updates(node);
    bob.enters(&updated);
    assert!(matches!(carol.receives(&updated), Received::Seen(_, SeenBecause::NoState, _)));

    // Not with another key.
    let mut other = device("carol");
    sees(&mut other, &updated);
    let twin = local_with_seq("carol", 2);
    assert!(other.group.external_commit_on(&twin, parts(&updated)).is_err());

    let event = comes_in(carol, &updated);
    let record = Arc::clone(carol.group.graph().get(&event.node).unwrap());
    assert_eq!((record.removed.len(), record.removes_without_readding().count()), (1, 0));
    alice.enters(&event);
    bob.enters(&event);
    all_talk(&mut [alice, bob, carol], event.node);
}

#[test]
fn a_device_is_added_again_with_the_same_key_in_place_of_its_leaf() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let package = carol.key_package();
    let plan = CommitPlan {
        remove: vec![carol.leaf(node)],
        add: vec![package.key_package.clone()],
        ..CommitPlan::default()
    };
    let event = alice.commits(node, plan);
    bob.enters(&event);
    assert!(matches!(carol.receives(&event), Received::Seen(_, SeenBecause::RemovesUs, _)));
    carol.joins(&event, &package);
    all_talk(&mut [alice, bob, carol], event.node);
}
