//! How long states, secrets and keys are held (protocol §9).

use std::{collections::HashMap, num::NonZeroU32};

use super::{super::*, device::*};
use crate::extension::HistoryPolicy;

const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// When each commit was heard of.
#[derive(Default)]
struct Times(HashMap<NodeId, u64>);

impl Times {
    fn at(mut self, time: u64, nodes: &[NodeId]) -> Self {
        self.0.extend(nodes.iter().map(|node| (*node, time)));
        self
    }

    fn erase(&self, device: &mut TestDevice, now: u64) {
        let changes = device.group.erase_due(now, |node| self.0.get(node).copied());
        device.group.apply(changes);
    }
}

fn holds(device: &TestDevice, node: NodeId) -> bool {
    assert_eq!(device.group.state(&node).is_some(), device.group.vault(&node).is_some());
    device.group.state(&node).is_some()
}

fn takes_external_commits(device: &TestDevice, node: NodeId) -> bool {
    device.group.vault(&node).unwrap().takes_external_commits()
}

#[test]
fn a_state_goes_after_seven_days() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let updated = alice.updates(node);
    bob.enters(&updated);
    let late = alice.updates(node);
    // From its child on, however old it is itself.
    let times = Times::default().at(0, &[node]).at(100 * DAY, &[updated.node, late.node]);
    times.erase(bob, 107 * DAY - 1);
    assert!(holds(bob, node));
    times.erase(bob, 107 * DAY);
    assert!(!holds(bob, node));
    // The epoch in use stays for ever.
    times.erase(bob, 10_000 * DAY);
    assert!(holds(bob, updated.node));
    let message = alice.writes(node, "still read");
    assert_eq!(bob.reads(&message), "still read");
    let received = bob.receives(&late);
    assert!(matches!(received, Received::Seen(_, SeenBecause::NoState, _)), "{received:?}");
}

#[test]
fn a_state_goes_an_hour_after_everybody_has_committed_below_it() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let by_alice = alice.updates(node);
    bob.enters(&by_alice);
    let by_bob = bob.updates(by_alice.node);
    let times = Times::default().at(0, &[node]).at(MINUTE, &[by_alice.node]);
    let times = times.at(2 * MINUTE, &[by_bob.node]);
    // Carol may still commit there.
    times.erase(bob, DAY);
    assert!(holds(bob, node));
    carol.enters(&by_alice);
    carol.enters(&by_bob);
    let by_carol = carol.updates(by_bob.node);
    bob.enters(&by_carol);
    let times = times.at(5 * HOUR, &[by_carol.node]);
    times.erase(bob, 6 * HOUR - 1);
    assert!(holds(bob, node));
    times.erase(bob, 6 * HOUR);
    assert!(!holds(bob, node));
    // Not all have committed below these.
    for node in [by_alice.node, by_bob.node, by_carol.node] {
        assert!(holds(bob, node));
    }
}

/// Who has left is not waited for.
#[test]
fn only_current_members_count() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let removal = alice.removes(node, carol);
    bob.enters(&removal);
    let by_bob = bob.updates(removal.node);
    let times = Times::default().at(0, &[node, removal.node, by_bob.node]);
    times.erase(bob, HOUR);
    assert!(!holds(bob, node));
    assert!(holds(bob, removal.node));
}

#[test]
fn the_external_secret_goes_an_hour_after_the_first_child() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, _] = devices.as_mut_slice() else { panic!() };
    let first = alice.updates(node);
    let second = alice.updates(first.node);
    bob.enters(&first);
    bob.enters(&second);
    let times = Times::default().at(0, &[node, first.node]).at(DAY, &[second.node]);
    times.erase(bob, DAY + HOUR - 1);
    assert!(takes_external_commits(bob, first.node));
    times.erase(bob, DAY + HOUR);
    assert!(!takes_external_commits(bob, first.node));
    assert!(takes_external_commits(bob, second.node));
    // There is nothing more to erase.
    assert!(bob.group.erase_due(DAY + HOUR, |node| times.0.get(node).copied()).is_empty());

    // Who comes in there now is only seen; at the tip it is entered, and so is a member's commit.
    let record = |event: &Event| Arc::clone(bob.group.graph().get(&event.node).unwrap());
    let comes_in = |name: &str, event: &Event| {
        let mut joiner = device(name);
        let public = PublicState {
            record: &record(event),
            group_info: &event.group_info,
            tree: &event.tree,
        };
        let (joined, changes) = joiner.group.external_commit(&joiner.local, public).unwrap();
        joiner.sends(joined, changes)
    };
    let (dave, erin) = (comes_in("dave", &first), comes_in("erin", &second));
    let received = bob.receives(&dave);
    assert!(matches!(received, Received::Seen(_, SeenBecause::Inadmissible(_), _)), "{received:?}");
    bob.enters(&erin);
    bob.enters(&alice.updates(first.node));
}

/// The end of a branch that lost goes too; that of the chosen one never.
#[test]
fn a_losing_branch_goes() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let by_alice = alice.updates(node);
    let by_bob = bob.updates(node);
    alice.enters(&by_bob);
    bob.enters(&by_alice);
    let tip = alice.group.sending_tip().unwrap();
    let loser = if tip == by_alice.node { by_bob.node } else { by_alice.node };
    let times = Times::default().at(0, &[node]).at(DAY, &[by_alice.node, by_bob.node]);
    times.erase(alice, 8 * DAY - 1);
    assert!(holds(alice, loser));
    times.erase(alice, 8 * DAY);
    assert!(!holds(alice, loser));
    assert!(holds(alice, tip));
    // What was written there stays readable.
    assert!(alice.group.epoch_key(&loser).is_some());
    assert_eq!(alice.group.chosen_tip(), Some(tip));
    assert_eq!(alice.group.graph().tips().count(), 2);
}

/// A room whose history policy changes on the way: founded and joined with the first, the last two
/// epochs with the second.
fn with_policies(first: HistoryPolicy, second: HistoryPolicy) -> (TestDevice, [NodeId; 4]) {
    let mut alice = device("alice");
    let founded = alice.founds_with(&GroupExtension { history: first, ..extension() }).node;
    let second_epoch = alice.updates(founded).node;
    let changed = GroupExtension { history: second, ..extension() };
    let plan = CommitPlan { extension: Some(changed), ..CommitPlan::default() };
    let third = alice.commits(second_epoch, plan).node;
    let fourth = alice.updates(third).node;
    (alice, [founded, second_epoch, third, fourth])
}

fn readable(device: &TestDevice, nodes: [NodeId; 4]) -> [bool; 4] {
    nodes.map(|node| device.group.epoch_key(&node).is_some())
}

#[test]
fn epoch_keys_go_as_their_epochs_policy_says() {
    let week = HistoryPolicy::Days(NonZeroU32::new(7).unwrap());
    let (mut alice, nodes) = with_policies(week, HistoryPolicy::Keep);
    let [a, b, c, d] = nodes;
    let times = Times::default().at(0, &[a, b]).at(DAY, &[c]).at(2 * DAY, &[d]);
    times.erase(&mut alice, 7 * DAY - 1);
    assert_eq!(readable(&alice, nodes), [true; 4]);
    times.erase(&mut alice, 7 * DAY);
    assert_eq!(readable(&alice, nodes), [false, true, true, true]);
    times.erase(&mut alice, 1000 * DAY);
    assert_eq!(readable(&alice, nodes), [false, false, true, true]);
}

/// Any member can change the policy. What was written under another one is not touched by that.
#[test]
fn a_stricter_policy_does_not_reach_back() {
    let day = HistoryPolicy::Days(NonZeroU32::MIN);
    for second in [day, HistoryPolicy::None] {
        let (mut alice, nodes) = with_policies(HistoryPolicy::Keep, second);
        let [a, b, c, d] = nodes;
        let times = Times::default().at(0, &[a, b, c, d]);
        times.erase(&mut alice, 1000 * DAY);
        assert_eq!(readable(&alice, nodes), [true, true, false, true]);
    }
}

#[test]
fn without_history_an_epoch_key_goes_with_the_state() {
    let (mut alice, nodes) = with_policies(HistoryPolicy::None, HistoryPolicy::None);
    let [a, b, c, d] = nodes;
    let times = Times::default().at(0, &[a, b, c]).at(DAY, &[d]);
    // Alone in the room, Alice has passed all but the last two at once.
    times.erase(&mut alice, HOUR);
    assert_eq!(nodes.map(|node| holds(&alice, node)), [false, false, true, true]);
    assert_eq!(readable(&alice, nodes), [false, false, true, true]);
    times.erase(&mut alice, DAY + HOUR);
    assert_eq!(readable(&alice, nodes), [false, false, false, true]);
}

/// However long the room was, and however many branches lost.
#[test]
fn the_limit_holds_for_losing_branches_too() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let mut tip = node;
    let mut all = vec![node];
    for _ in 0..8 {
        let rivals = [bob.updates(tip), bob.updates(tip)];
        let update = alice.updates(tip);
        bob.enters(&update);
        for rival in &rivals {
            alice.enters(rival);
            all.push(rival.node);
        }
        tip = update.node;
        all.push(tip);
    }
    let in_use = alice.group.sending_tip().unwrap();
    let changes = alice.group.erase_over(10, &std::collections::HashSet::new());
    alice.group.apply(changes);
    let held: Vec<_> = all.into_iter().filter(|node| holds(alice, *node)).collect();
    assert_eq!(held.len(), 10 + usize::from(held.contains(&in_use)));
    assert!(held.contains(&in_use));
    // Bob has flooded, so most that is gone was his; what is left is the youngest.
    let by_bob = held.iter().filter(|node| {
        let record = alice.group.graph().get(node).unwrap();
        record.author.member.device() == bob.local.device()
    });
    assert!(by_bob.count() <= 6);
}

#[test]
fn nothing_is_erased_without_an_epoch_in_use() {
    let mut alice = device("alice");
    Times::default().erase(&mut alice, 1000 * DAY);
    let founded = alice.founds().node;
    // Times that nobody knows are long ago, clocks that go backwards are harmless.
    Times::default().erase(&mut alice, 1000 * DAY);
    assert!(holds(&alice, founded));
    let updated = alice.updates(founded).node;
    Times::default().at(DAY, &[founded, updated]).erase(&mut alice, 0);
    assert!(holds(&alice, founded));
    Times::default().erase(&mut alice, 1000 * DAY);
    assert!(!holds(&alice, founded));
    assert!(holds(&alice, updated));
}
