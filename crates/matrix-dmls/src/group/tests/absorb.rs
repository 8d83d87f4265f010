//! What somebody passes on of the graph.

use super::{super::*, device::*};
use crate::{
    error::MalformedError,
    group::absorb::{MAX_PASSED_ON, PassedOn},
    wire::ratchet_tree::ratchet_tree_hash,
};

fn passed_on<'a>(events: &[&'a Event]) -> Vec<PassedOn<'a>> {
    let copy = |event: &&'a Event| PassedOn {
        commit: &event.commit,
        parent_context: &event.parent_context,
    };
    events.iter().map(copy).collect()
}

/// A room that forks at `top`: Alice adds Dave on one branch, Carol goes on with Bob on the other.
struct Forked {
    devices: Vec<TestDevice>,
    dave: TestDevice,
    top: Event,
    left: Event,
    right: Vec<Event>,
}

impl Forked {
    fn new() -> Self {
        let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
        let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
        let mut dave = device("dave");
        let package = dave.key_package();
        let top = carol.updates(node);
        alice.enters(&top);
        bob.enters(&top);
        let left = alice.adds(top.node, &[&package]);
        dave.joins(&left, &package);
        let first = carol.updates(top.node);
        bob.enters(&first);
        let second = bob.updates(first.node);
        for event in [&first, &second] {
            alice.enters(event);
        }
        carol.enters(&second);
        for device in [bob, carol] {
            device.enters(&left);
        }
        Self { devices, dave, top, left, right: vec![first, second] }
    }

    fn chain(&self) -> Vec<&Event> {
        vec![&self.left, &self.top]
    }
}

#[test]
fn a_newcomer_on_a_losing_branch_learns_which_one_the_others_are_on() {
    let Forked { devices, mut dave, top, left, right } = Forked::new();
    let chosen = devices[0].group.chosen_tip();
    assert_eq!(chosen, Some(right[1].node));

    // By itself it knows nothing but its own branch.
    let refused = dave.group.receive(&right[0].commit, &right[0].parent_context);
    assert!(matches!(refused, Err(GroupError::UnknownParent(parent)) if parent == top.node));
    assert_eq!(dave.group.chosen_tip(), Some(left.node));

    let changes = dave.group.absorb_graph(Some(&top.tree), &passed_on(&[&left, &top])).unwrap();
    assert!(changes.states.is_empty() && changes.vaults.is_empty());
    dave.group.apply(changes);
    assert_eq!(dave.group.graph().status(&top.node), Some(NodeStatus::Seen));
    assert_eq!(dave.group.roster(&top.node), devices[0].group.roster(&top.node));
    // Its own epoch's record is everybody's now, and its state is still there.
    assert_eq!(
        dave.group.graph().get(&left.node).unwrap().added,
        devices[0].group.graph().get(&left.node).unwrap().added
    );
    assert!(!dave.group.graph().is_entrance(&left.node));
    assert!(dave.group.state(&left.node).is_some());
    for event in &right {
        let received = dave.receives(event);
        assert!(matches!(received, Received::Seen(_, SeenBecause::NoState, _)), "{received:?}");
    }
    assert_eq!(dave.group.chosen_tip(), chosen);
    assert_eq!(dave.group.sending_tip(), Some(left.node));
}

#[test]
fn the_tree_of_a_held_epoch_is_what_its_commit_had_beside_it() {
    let forked = Forked::new();
    let alice = &forked.devices[0].group;
    for event in [&forked.top, &forked.left, &forked.right[1]] {
        let tree = alice.public_tree(event.node).unwrap();
        assert_eq!(tree, event.tree);
        let key = alice.epoch_key(&event.node).unwrap();
        let context = crate::GroupContext::parse(key.group_context()).unwrap();
        assert_eq!(ratchet_tree_hash(&tree).unwrap(), context.tree_hash);
    }
    let unknown = NodeId::from_bytes([9; 32]);
    assert!(matches!(alice.public_tree(unknown), Err(GroupError::NoState(_))));
}

#[test]
fn the_hash_of_a_tree_with_gaps_is_openmls_s() {
    // Every number of leaves up to 9, then without every second one.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for count in 1..=names.len() {
        let (mut devices, node) = room_of(&names[..count]);
        let check = |device: &TestDevice, node: NodeId| {
            let tree = device.group.public_tree(node).unwrap();
            let key = device.group.epoch_key(&node).unwrap();
            let context = crate::GroupContext::parse(key.group_context()).unwrap();
            assert_eq!(ratchet_tree_hash(&tree).unwrap(), context.tree_hash, "{count}");
        };
        if count == 1 {
            let founded = devices[0].founds();
            check(&devices[0], founded.node);
            continue;
        }
        check(&devices[0], node);
        let updated = devices[1].updates(node);
        devices[0].enters(&updated);
        check(&devices[0], updated.node);
        let remove: Vec<u32> = (1..u32::try_from(count).unwrap()).step_by(2).collect();
        let removed =
            devices[0].commits(updated.node, CommitPlan { remove, ..CommitPlan::default() });
        check(&devices[0], removed.node);
    }
}

#[test]
fn from_the_founding_commit_no_tree_is_needed() {
    let mut alice = device("alice");
    let mut bob = device("bob");
    let founded = alice.founds();
    let package = bob.key_package();
    let added = alice.adds(founded.node, &[&package]);
    bob.joins(&added, &package);
    let changes = bob.group.absorb_graph(None, &passed_on(&[&founded, &added])).unwrap();
    bob.group.apply(changes);
    assert_eq!(bob.group.roster(&founded.node), alice.group.roster(&founded.node));
    assert_eq!(bob.group.graph().roots().collect::<Vec<_>>(), [founded.node]);
}

#[test]
fn an_external_joiner_s_commit_can_be_the_top() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let mut dave = device("dave");
    let mut erin = device("erin");
    let package = erin.key_package();
    let event = alice.updates(node);
    let record = alice.group.graph().get(&event.node).unwrap();
    let state = PublicState { record, group_info: &event.group_info, tree: &event.tree };
    let (joined, changes) = dave.group.external_commit(&dave.local, state).unwrap();
    let top = dave.sends(joined, changes);
    bob.enters(&event);
    bob.enters(&top);
    let added = bob.adds(top.node, &[&package]);
    erin.joins(&added, &package);
    let changes = erin.group.absorb_graph(Some(&top.tree), &passed_on(&[&top, &added])).unwrap();
    erin.group.apply(changes);
    assert_eq!(erin.group.roster(&top.node), bob.group.roster(&top.node));
}

#[test]
fn a_wrong_tree_is_refused() {
    let forked = Forked::new();
    let dave = &forked.dave.group;
    let chain = passed_on(&forked.chain());
    // The control.
    assert!(!dave.absorb_graph(Some(&forked.top.tree), &chain).unwrap().is_empty());
    let absorb = |tree: Option<&[u8]>| dave.absorb_graph(tree, &chain).unwrap_err();
    assert!(matches!(absorb(None), GroupError::Malformed(MalformedError::Missing)));
    assert!(matches!(absorb(Some(&forked.left.tree)), GroupError::WrongTree));
    assert!(matches!(absorb(Some(b"no tree")), GroupError::Malformed(_)));
    // Any byte of it.
    for place in 0..forked.top.tree.len() {
        let mut tree = forked.top.tree.clone();
        tree[place] ^= 0x10;
        assert!(dave.absorb_graph(Some(&tree), &chain).is_err(), "{place}");
    }
}

#[test]
fn an_altered_commit_or_context_is_refused_or_leads_nowhere() {
    let forked = Forked::new();
    let dave = &forked.dave.group;
    let tree = Some(forked.top.tree.as_slice());
    let tags = forked.top.commit.len() - 68;
    for place in 0..tags {
        let mut top = forked.top.clone();
        top.commit[place] ^= 0x10;
        if let Ok(changes) = dave.absorb_graph(tree, &passed_on(&[&forked.left, &top])) {
            assert!(changes.is_empty(), "{place}");
        }
    }
    for place in 0..forked.top.parent_context.len() {
        let mut top = forked.top.clone();
        top.parent_context[place] ^= 0x10;
        assert!(dave.absorb_graph(tree, &passed_on(&[&forked.left, &top])).is_err(), "{place}");
    }
    for place in 0..forked.left.parent_context.len() {
        let mut left = forked.left.clone();
        left.parent_context[place] ^= 0x10;
        assert!(dave.absorb_graph(tree, &passed_on(&[&left, &forked.top])).is_err(), "{place}");
    }
}

#[test]
fn what_leads_to_no_entrance_changes_nothing() {
    let forked = Forked::new();
    let tree = Some(forked.top.tree.as_slice());
    let [alice, ..] = forked.devices.as_slice() else { panic!() };
    let all = [&forked.top, &forked.left, &forked.right[0], &forked.right[1]];
    // Who came in above knows all of it.
    assert!(alice.group.absorb_graph(tree, &passed_on(&all)).unwrap().is_empty());
    // Without the entrance's own commit, or without what is above it.
    let dave = &forked.dave.group;
    assert!(dave.absorb_graph(tree, &passed_on(&[&forked.top])).unwrap().is_empty());
    assert!(dave.absorb_graph(tree, &passed_on(&[&forked.left])).unwrap().is_empty());
    assert!(dave.absorb_graph(tree, &passed_on(&[&forked.right[0]])).unwrap().is_empty());
    assert!(dave.absorb_graph(None, &[]).unwrap().is_empty());
    // Nor does it to one who is in no group.
    let nobody = Group::new(ROOM);
    assert!(nobody.absorb_graph(tree, &passed_on(&all)).unwrap().is_empty());
}

#[test]
fn another_room_s_and_too_many_commits_are_refused() {
    let forked = Forked::new();
    let elsewhere = Group::new("!elsewhere:example.org");
    let refused = elsewhere.absorb_graph(Some(&forked.top.tree), &passed_on(&forked.chain()));
    assert!(matches!(refused, Err(GroupError::WrongRoom)));
    let copy = passed_on(&[&forked.top])[0];
    let refused = forked.dave.group.absorb_graph(None, &vec![copy; MAX_PASSED_ON + 1]);
    assert!(matches!(refused, Err(GroupError::Malformed(MalformedError::TooLarge))));
    assert!(forked.dave.group.absorb_graph(None, &vec![copy; MAX_PASSED_ON]).is_ok());
}
