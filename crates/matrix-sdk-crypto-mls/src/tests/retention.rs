//! What has been kept long enough is erased (protocol §9).

use std::{collections::BTreeSet, num::NonZeroU32};

use matrix_dmls::{HistoryPolicy, NodeId};

use super::{alice_and_bob, settle};
use crate::{
    Notice, RoomSettings,
    dmls::TrustRequirement,
    store::{MlsStore, StoredRoom},
    testing::{SimDevice, SimServer, TestClock},
};

async fn stored(device: &SimDevice) -> StoredRoom {
    device.store().load_room(device.room()).await.unwrap().unwrap()
}

async fn stored_states(device: &SimDevice) -> BTreeSet<NodeId> {
    stored(device).await.group.states.into_keys().collect()
}

/// Alice and Bob take turns in making epochs. Gives the epochs with a message in each.
async fn epochs(
    devices: [&SimDevice; 2],
    count: usize,
) -> Vec<(NodeId, ruma::OwnedEventId, String)> {
    let mut epochs = Vec::new();
    for number in 0..count {
        let by = devices[number % 2];
        by.updates_keys().await;
        settle(&devices).await;
        let text = format!("in epoch {number}");
        let event = by.says(&text).await;
        settle(&devices).await;
        epochs.push((by.node().await.unwrap(), event, text));
    }
    epochs
}

#[tokio::test]
async fn states_go_when_everybody_has_passed_them() {
    let (server, alice, bob) = alice_and_bob().await;
    let epochs = epochs([&alice, &bob], 6).await;
    let all: BTreeSet<_> = epochs.iter().map(|(node, ..)| *node).collect();
    assert!(stored_states(&bob).await.is_superset(&all));
    server.clock().advance(TestClock::HOUR);
    bob.syncs().await;
    // Both have committed below all but the last two.
    let left: BTreeSet<_> = epochs[4..].iter().map(|(node, ..)| *node).collect();
    assert_eq!(stored_states(&bob).await, left);
    let vaults: BTreeSet<_> = stored(&bob).await.group.vaults.into_keys().collect();
    assert_eq!(vaults, left);
    // Alice has not synced.
    assert!(stored_states(&alice).await.is_superset(&all));
    // After a restart it is the same, and everything can be read and written.
    bob.restarts().await;
    for (_, event, text) in &epochs {
        bob.has_read(event, text);
        let raw = server.event(bob.room(), event).to_json();
        assert!(bob.mls().decrypt_room_event(&raw, bob.room()).await.is_ok());
    }
    let event = bob.says("and on").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&event, "and on");
}

/// Who was away for longer than a week finds its state of the old epoch erased, but not itself shut
/// out: the others' commits are all there, one below the other.
#[tokio::test]
async fn who_was_away_comes_back() {
    let (server, alice, bob) = alice_and_bob().await;
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    alice.updates_keys().await;
    let event = alice.says("where are you?").await;
    server.clock().advance(8 * TestClock::DAY);
    alice.syncs().await;
    assert_eq!(stored_states(&alice).await.len(), 1);
    server.holds_back_timeline_of(bob.name(), false);
    bob.syncs().await;
    bob.has_read(&event, "where are you?");
    let event = bob.says("here").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&event, "here");
    // Bob's clock for what he has heard only now begins now.
    assert!(stored_states(&bob).await.len() > 1);
    server.clock().advance(8 * TestClock::DAY);
    bob.syncs().await;
    assert_eq!(stored_states(&bob).await.len(), 1);
}

/// Rooms in which nothing happens have their turn too.
#[tokio::test]
async fn quiet_rooms_are_looked_at_by_turns() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.updates_keys().await;
    let mut rooms = vec![alice.clone()];
    for _ in 0..9 {
        let at_alice = alice.creates_room().await;
        at_alice.invites(&bob);
        let at_bob = bob.joins(&at_alice).await;
        at_alice.syncs().await;
        at_alice.says("hello").await;
        at_alice.updates_keys().await;
        settle(&[&at_alice, &at_bob]).await;
        rooms.push(at_alice);
    }
    for room in &rooms {
        assert!(stored_states(room).await.len() > 1);
    }
    server.clock().advance(8 * TestClock::DAY);
    for _ in 0..3 {
        alice.syncs().await;
    }
    for room in &rooms {
        assert_eq!(stored_states(room).await.len(), 1);
    }
}

#[tokio::test]
async fn commit_events_go_after_thirty_days_but_for_the_tips() {
    let (server, alice, bob) = alice_and_bob().await;
    let epochs = epochs([&alice, &bob], 3).await;
    let before = stored(&bob).await;
    for (node, ..) in &epochs {
        assert!(before.commit_events.contains_key(node));
    }
    server.clock().advance(30 * TestClock::DAY);
    bob.syncs().await;
    let after = stored(&bob).await;
    let tip = epochs[2].0;
    assert_eq!(after.commit_events.keys().collect::<Vec<_>>(), [&tip]);
    assert_eq!(after.commit_times.keys().collect::<Vec<_>>(), [&tip]);
    assert!(bob.store().commit(bob.room(), &epochs[0].0).await.unwrap().is_none());
    // The records stay: the choice depends on nothing that is erased.
    assert_eq!(after.group.records.len(), before.group.records.len());
    assert!(bob.status().await.unwrap().is_chosen);
    // Messages still name the event that their epoch is in.
    let event = bob.says("old epoch, new message").await;
    let content = server.event(bob.room(), &event).content;
    assert_eq!(content["epoch_event"], before.commit_events[&tip].as_str());
}

/// What newcomers need to choose as the others do is kept as long as they need it, and no longer.
#[tokio::test]
async fn commit_events_between_young_branches_are_kept() {
    let (server, alice, bob) = alice_and_bob().await;
    let before = epochs([&alice, &bob], 2).await;
    // Two branches, on one of which somebody goes on much later.
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    let (on_alices, on_bobs) = (alice.node().await.unwrap(), bob.node().await.unwrap());
    settle(&[&alice, &bob]).await;
    let chosen = bob.node().await.unwrap();
    let loser = if chosen == on_alices { on_bobs } else { on_alices };
    let has = |node: NodeId| {
        let bob = bob.clone();
        async move { bob.store().commit(bob.room(), &node).await.unwrap().is_some() }
    };
    server.clock().advance(25 * TestClock::DAY);
    alice.updates_keys().await;
    settle(&[&alice, &bob]).await;
    let tip = bob.node().await.unwrap();
    server.clock().advance(6 * TestClock::DAY);
    bob.syncs().await;
    // The other branch is not young any more, so its end is kept as a tip, and no way to it.
    assert!(has(tip).await && has(loser).await);
    assert!(!has(before[1].0).await && !has(chosen).await);

    // Another fork there, a month after that commit.
    server.clock().advance(23 * TestClock::DAY);
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    settle(&[&alice, &bob]).await;
    server.clock().advance(2 * TestClock::DAY);
    bob.syncs().await;
    assert!(has(tip).await);
    // A week after the fork nobody has to be told of it.
    server.clock().advance(6 * TestClock::DAY);
    bob.syncs().await;
    assert!(!has(tip).await);
}

#[tokio::test]
async fn events_that_wait_in_vain_are_given_up() {
    let (server, alice, bob) = alice_and_bob().await;
    // A message in an epoch that Bob never hears of.
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    let lost = alice.says("lost").await;
    server.drops_timeline_of(bob.name());
    let raw = server.event(bob.room(), &lost).to_json();
    let reason = bob.mls().decrypt_room_event(&raw, bob.room()).await.unwrap_err();
    assert!(matches!(reason, crate::DecryptionError::UnknownEpoch(_)), "{reason:?}");
    let waiting = || async { bob.store().queued_event_count(bob.room()).await.unwrap() };
    assert_eq!(waiting().await, 1);
    server.clock().advance(30 * TestClock::DAY - 1);
    bob.mls().receive_room_events(bob.room(), &[], &[]).await.unwrap();
    assert_eq!(waiting().await, 1);
    bob.takes_notices();
    server.clock().advance(TestClock::DAY + 1);
    bob.mls().receive_room_events(bob.room(), &[], &[]).await.unwrap();
    assert_eq!(waiting().await, 0);
    let notices = bob.mls().take_notices();
    let given_up = notices
        .iter()
        .any(|notice| matches!(notice, Notice::NotReadable { event_id, .. } if *event_id == lost));
    assert!(given_up, "{notices:?}");
}

#[tokio::test]
async fn replaced_last_resort_packages_go_after_thirty_days() {
    let (server, alice, _) = alice_and_bob().await;
    let account = alice.store().load_account().await.unwrap().unwrap();
    let first = account.last_resort.unwrap();
    server.clock().advance(31 * TestClock::DAY);
    alice.syncs().await;
    alice.pumps().await;
    let account = alice.store().load_account().await.unwrap().unwrap();
    assert_ne!(account.last_resort, Some(first));
    assert!(alice.store().key_package(&first).await.unwrap().is_some());
    server.clock().advance(30 * TestClock::DAY);
    alice.syncs().await;
    assert!(alice.store().key_package(&first).await.unwrap().is_none());
    let refs = alice.store().key_package_refs().await.unwrap();
    assert!(refs.contains(&account.last_resort.unwrap()));
}

#[tokio::test]
async fn epoch_keys_go_as_the_history_policy_says() {
    let server = SimServer::new(1);
    let settings = RoomSettings {
        trust: TrustRequirement::All,
        history: HistoryPolicy::Days(NonZeroU32::new(14).unwrap()),
        ..RoomSettings::default()
    };
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let alice = alice.creates_room().await;
    let first = alice.says("a fortnight").await;
    alice.updates_keys().await;
    let second = alice.says("and as long as nobody commits").await;
    let decrypt = async |event| {
        let raw = server.event(alice.room(), event).to_json();
        alice.mls().decrypt_room_event(&raw, alice.room()).await
    };
    server.clock().advance(14 * TestClock::DAY - 1);
    alice.syncs().await;
    assert!(decrypt(&first).await.is_ok());
    server.clock().advance(TestClock::HOUR);
    alice.syncs().await;
    let reason = decrypt(&first).await.unwrap_err();
    assert!(matches!(reason, crate::DecryptionError::KeysExpired), "{reason:?}");
    assert!(decrypt(&second).await.is_ok());
    server.clock().advance(100 * TestClock::DAY);
    alice.restarts().await;
    alice.syncs().await;
    assert!(decrypt(&second).await.is_ok());
}
