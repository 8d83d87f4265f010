//! Objecting to a commit that not everybody can enter (protocol §5).

use super::{super::*, device::*};

const SECOND: u64 = 1000;

fn objection(device: &TestDevice) -> Option<Objection> {
    device.group.objection(&device.local, 0, None)
}

/// Mallory, the most senior, makes a commit that Carol and Dave cannot process.
#[test]
fn who_cannot_enter_the_chosen_branch_objects_beside_it() {
    let (mut devices, node) = room_of(&["mallory", "alice", "bob", "carol", "dave"]);
    let [mallory, alice, bob, carol, dave] = &mut devices[..] else { panic!() };
    let bad = mallory.commits_against(node, CommitPlan::default(), &[&*carol, &*dave]);
    alice.enters(&bad);
    bob.enters(&bad);
    for device in [&mut *carol, &mut *dave] {
        device.only_sees(&bad);
        assert_eq!(device.group.chosen_tip(), Some(bad.node));
        let departure = device.group.departure().unwrap();
        assert_eq!((departure.commit, departure.parent), (bad.node, Some(node)));
        let objection = objection(device).unwrap();
        assert_eq!((objection.commit, objection.on), (bad.node, node));
        assert!((10 * SECOND..70 * SECOND).contains(&objection.due), "{}", objection.due);
    }
    assert_ne!(objection(carol).unwrap().due, objection(dave).unwrap().due);
    // Who can enter it has nothing against it.
    assert_eq!((alice.group.departure(), objection(alice)), (None, None));

    // A tie goes to Mallory; the second one decides.
    let one = carol.updates(node);
    assert_eq!(objection(carol), None, "once is enough");
    for device in [&mut *alice, &mut *bob, &mut *dave, &mut *mallory] {
        device.enters(&one);
        assert_eq!(device.group.chosen_tip(), Some(bad.node));
    }
    assert_eq!(objection(dave).unwrap().on, one.node);
    let two = dave.updates(one.node);
    for device in [&mut *alice, &mut *bob, &mut *carol, &mut *mallory] {
        device.enters(&two);
        assert_eq!(device.group.chosen_tip(), Some(two.node));
        assert_eq!(device.group.departure(), None);
    }
    all_talk(&mut [mallory, alice, bob, carol, dave], two.node);
}

/// Until then nobody asks those to let it in whom it objects to.
#[test]
fn objections_take_longer_in_large_rooms() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    assert_eq!(devices[0].group.objections_take(&node), 70 * SECOND);
    let others: Vec<_> = (0..138).map(|n| device(&format!("device{n}"))).collect();
    let packages: Vec<_> = others.iter().map(TestDevice::key_package).collect();
    let large = devices[0].adds(node, &packages.iter().collect::<Vec<_>>());
    assert_eq!(devices[0].group.objections_take(&large.node), 80 * SECOND);
}

/// Everybody has removed Dave, each beside the others, and Mallory then removes them all. Each of them
/// alone is removed by Mallory and loses to it; together on one branch they win.
#[test]
fn who_has_committed_beside_on_another_branch_objects_on_the_best() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol", "dave", "mallory"]);
    let [alice, bob, carol, dave, mallory] = &mut devices[..] else { panic!() };
    let removals = [&mut *alice, &mut *bob, &mut *carol].map(|device| device.removes(node, dave));
    let remove = [&*alice, bob, carol, dave].map(|device| device.leaf(node)).into();
    let bad = mallory.commits(node, CommitPlan { remove, ..CommitPlan::default() });
    for (place, device) in [&mut *alice, &mut *bob, &mut *carol].into_iter().enumerate() {
        for (other, removal) in removals.iter().enumerate() {
            if other != place {
                device.enters(removal);
            }
        }
        device.only_sees(&bad);
        assert_eq!(device.group.chosen_tip(), Some(bad.node));
    }
    // Alice's leaf is the lowest, so hers is the best of the others.
    assert_eq!(objection(alice), None, "her voice is there already");
    for device in [&*bob, &*carol] {
        assert_eq!(objection(device).unwrap().on, removals[0].node);
    }
    let united = bob.updates(removals[0].node);
    assert_eq!(bob.group.chosen_tip(), Some(united.node));
    for device in [alice, carol] {
        device.enters(&united);
        assert_eq!(device.group.chosen_tip(), Some(united.node));
        assert_eq!(objection(device), None);
    }
}

/// Eve has invented a device of Bob's, which commits beside what Bob cannot enter.
#[test]
fn an_invented_device_does_not_object_for_its_user() {
    let (mut devices, node) = room_of(&["mallory", "eve", "bob"]);
    let [mallory, eve, bob] = &mut devices[..] else { panic!() };
    let mut ghost = device("bob2");
    ghost.local = second_device_of_bob();
    let package = ghost.key_package();
    let stuffed = eve.adds(node, &[&package]);
    ghost.joins(&stuffed, &package);
    let vote = ghost.updates(stuffed.node);
    let bad = mallory.commits_against(node, CommitPlan::default(), &[&*bob]);
    bob.enters(&stuffed);
    bob.enters(&vote);
    bob.only_sees(&bad);
    assert_eq!(bob.group.chosen_tip(), Some(bad.node));
    assert_eq!(objection(bob).unwrap().on, vote.node);
    // Control: what Bob has committed there himself is enough.
    bob.updates(stuffed.node);
    assert_eq!(objection(bob), None);
}

#[test]
fn nobody_objects_to_its_own_user_or_without_the_parents_state() {
    let mut phone = device("alice");
    let founded = phone.founds();
    let (mut one, mut two) = (device("bob"), device("bob2"));
    two.local = second_device_of_bob();
    let packages = [one.key_package(), two.key_package()];
    let added = phone.adds(founded.node, &packages.iter().collect::<Vec<_>>());
    one.joins(&added, &packages[0]);
    two.joins(&added, &packages[1]);
    let removal = one.removes(added.node, &two);
    let mut victim = two.clone();
    victim.only_sees(&removal);
    assert_eq!(victim.group.departure().unwrap().parent, Some(added.node));
    assert_eq!(objection(&victim), None);

    // Control: from another user the same is objected to.
    let removal = phone.removes(added.node, &two);
    two.only_sees(&removal);
    assert_eq!(two.group.chosen_tip(), Some(removal.node));
    assert_eq!(objection(&two).unwrap().commit, removal.node);
    // Nothing is done beside what is to be repaired further up.
    assert_eq!(two.group.objection(&two.local, 0, Some(&removal.node)), None);

    let erased = two.group.erase_state(added.node);
    two.group.apply(erased);
    assert_eq!((two.group.departure(), objection(&two)), (None, None), "it holds nothing");
}

/// The state of an epoch that was entered may be gone, which is nobody's fault.
#[test]
fn what_was_entered_once_is_not_objected_to() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = &mut devices[..] else { panic!() };
    let update = alice.updates(node);
    bob.enters(&update);
    let erased = bob.group.erase_state(update.node);
    bob.group.apply(erased);
    let departure = bob.group.departure().unwrap();
    assert_eq!((departure.commit, departure.parent), (update.node, None));
    assert_eq!(objection(bob), None);
}

/// One removal with an addition of the same device puts it back; a Welcome is under way.
#[test]
fn who_is_put_back_at_once_does_not_object() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = &mut devices[..] else { panic!() };
    let package = bob.key_package();
    let plan = CommitPlan {
        remove: vec![bob.leaf(node)],
        add: vec![package.key_package.clone()],
        ..CommitPlan::default()
    };
    let event = alice.commits(node, plan);
    bob.only_sees(&event);
    assert_eq!(bob.group.departure().unwrap().parent, Some(node));
    assert_eq!(objection(bob), None);
    bob.joins(&event, &package);
    assert_eq!(bob.group.departure(), None);
}
