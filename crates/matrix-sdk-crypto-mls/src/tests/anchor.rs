//! Moving the room's anchor (protocol §6, §8).

use std::collections::BTreeMap;

use matrix_dmls::CommitPlan;
use ruma::events::room::member::MembershipState;
use serde_json::{Value, json};

use super::{alice_and_bob, assert_one_epoch, joins, settle};
use crate::testing::{Insider, RoomOptions, SimDevice, SimServer, TestClock};

const GROUP: &str = "io.github.matrix-mls.dmls.v1.group";

fn named_anchor(server: &SimServer, device: &SimDevice) -> Option<String> {
    let events = server.events(device.room());
    let last = events.iter().rev().find(|event| event.event_type == GROUP)?;
    last.content.get("anchor").and_then(Value::as_str).map(ToOwned::to_owned)
}

async fn start(device: &SimDevice) -> String {
    let graph = device.mls().epoch_graph(device.room()).await.unwrap();
    graph.start.unwrap().to_base64()
}

/// All pump and sync for some minutes.
async fn minutes(server: &SimServer, devices: &[&SimDevice], count: usize) {
    for _ in 0..count {
        server.clock().advance(TestClock::MINUTE);
        for device in devices {
            device.pumps().await;
        }
        settle(devices).await;
    }
}

async fn with_carol() -> (SimServer, SimDevice, SimDevice, SimDevice) {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    settle(&[&alice, &bob, &carol]).await;
    (server, alice, bob, carol)
}

#[tokio::test]
async fn it_goes_where_three_users_are_and_two_have_gone_on() {
    let (server, alice, bob, carol) = with_carol().await;
    let all = [&alice, &bob, &carol];
    let three = alice.node().await.unwrap().to_base64();
    minutes(&server, &all, 3).await;
    assert_eq!(named_anchor(&server, &alice), None);
    let before = start(&alice).await;
    bob.updates_keys().await;
    settle(&all).await;
    carol.updates_keys().await;
    settle(&all).await;
    assert!(alice.mls().next_deadline().is_some());
    assert_eq!(bob.mls().next_deadline(), None, "only Alice may");
    minutes(&server, &all, 3).await;
    assert_eq!(named_anchor(&server, &alice), Some(three.clone()));
    for device in all {
        assert_eq!(start(device).await, three);
    }
    assert_ne!(before, three);
    assert_one_epoch(&all).await;
    let count = server.count(alice.room(), GROUP);

    // Once a week, to what is old enough, and not without need.
    minutes(&server, &all, 5).await;
    server.clock().advance(7 * TestClock::DAY);
    minutes(&server, &all, 3).await;
    assert_eq!(server.count(alice.room(), GROUP), count);
    for device in [&alice, &bob] {
        device.updates_keys().await;
        settle(&all).await;
    }
    let old = carol.says("go on").await;
    settle(&all).await;
    minutes(&server, &all, 3).await;
    assert_eq!(server.count(alice.room(), GROUP), count + 1);
    assert_ne!(named_anchor(&server, &alice), Some(three));
    alice.has_read(&old, "go on");
    assert_one_epoch(&all).await;
}

/// With several who may, one does it.
#[tokio::test]
async fn one_of_several_moves_it() {
    let (server, alice, bob, carol) = with_carol().await;
    let all = [&alice, &bob, &carol];
    let levels = serde_json::json!({
        "users": { alice.user_id().as_str(): 100, bob.user_id().as_str(): "100" },
    });
    alice.sets_state("m.room.power_levels", levels);
    settle(&all).await;
    let count = server.count(alice.room(), GROUP);
    for device in [&bob, &carol] {
        device.updates_keys().await;
        settle(&all).await;
    }
    let (at_alice, at_bob) = (alice.mls().next_deadline(), bob.mls().next_deadline());
    assert!(at_alice.is_some() && at_bob.is_some() && at_alice != at_bob);
    assert_eq!(carol.mls().next_deadline(), None);
    minutes(&server, &all, 5).await;
    assert_eq!(server.count(alice.room(), GROUP), count + 1);
    assert!(named_anchor(&server, &alice).is_some());
}

/// A server that refuses is not asked again and again.
#[tokio::test]
async fn who_is_refused_waits() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let options =
        RoomOptions { events: [(GROUP.to_owned(), 100)].into(), ..RoomOptions::default() };
    let alice = alice.creates_room_with(options).await;
    let mut all = vec![alice.clone()];
    for name in ["bob", "carol"] {
        all.push(joins(&server, &alice, name).await);
    }
    let all: Vec<_> = all.iter().collect();
    settle(&all).await;
    for device in &all[1..] {
        device.updates_keys().await;
        settle(&all).await;
    }
    // The server knows of a demotion that Alice has not seen yet.
    server.holds_back_timeline_of(alice.name(), true);
    let levels = serde_json::json!({ "events": { GROUP: 100 }, "users": {} });
    server.forges_event(alice.room(), alice.user_id(), "m.room.power_levels", Some(""), levels);
    let before = server.count(alice.room(), GROUP);
    minutes(&server, &all, 10).await;
    assert_eq!(server.count(alice.room(), GROUP), before);
    assert!(alice.store_outbox().await.is_empty());
    assert_eq!(alice.mls().next_deadline(), None);
}

/// Bob adds two accounts that never were members, lets them commit, and removes them again. In the tree
/// that had them they would have a voice for good.
#[tokio::test]
async fn it_does_not_go_where_accounts_were_invented() {
    let (server, alice, bob) = alice_and_bob().await;
    let members = [&alice, &bob].map(|d| (d.user_id().clone(), MembershipState::Join));
    alice.mls().set_room_members(alice.room(), members).await.unwrap();
    let mut insider = Insider::with_the_keys_of(&bob).await;
    let mut invented =
        [insider.invents("nobody", "ONE").await, insider.invents("noone", "TWO").await];
    let packages: Vec<_> = invented.iter().map(Insider::key_package).collect();
    let add = packages.iter().map(|package| package.key_package.clone()).collect();
    let plan = CommitPlan { add, ..CommitPlan::default() };
    let added = insider.commits(bob.node().await.unwrap(), plan);
    insider.posts(&added);
    let mut on = added.node;
    for (voter, package) in invented.iter_mut().zip(&packages) {
        voter.joins(&added, package);
    }
    for voter in 0..2 {
        let vote = invented[voter].commits(on, CommitPlan::default());
        invented[voter].posts(&vote);
        invented[1 - voter].enters(&vote);
        insider.enters(&vote);
        on = vote.node;
    }
    // The lowest free leaves.
    let removed = insider.commits(on, CommitPlan { remove: vec![2, 3], ..CommitPlan::default() });
    insider.posts(&removed);
    settle(&[&alice]).await;
    assert_eq!(alice.node().await, Some(removed.node));
    minutes(&server, &[&alice], 5).await;
    assert_eq!(named_anchor(&server, &alice), None);
}

/// Two who may do it name another anchor each, on either side of a cut, and each side hears of the
/// other's late.
#[tokio::test]
async fn of_two_anchors_the_younger_counts_in_whatever_order_they_come() {
    let server = SimServer::new(1);
    let events = BTreeMap::from([(GROUP.to_owned(), 0)]);
    let options = RoomOptions { events, ..RoomOptions::default() };
    let alice = server.device("alice", "PHONE").logs_in().await;
    let alice = alice.creates_room_with(options).await;
    alice.says("hello").await;
    let mut all = vec![alice.clone()];
    for name in ["bob", "carol", "dave"] {
        all.push(joins(&server, &alice, name).await);
    }
    let all: Vec<_> = all.iter().collect();
    settle(&all).await;
    let [_, bob, carol, dave] = all.as_slice() else { panic!() };
    let named = server.events(alice.room()).into_iter().rev().find(|e| e.event_type == GROUP);
    let named = named.unwrap().content;
    let user = |device: &SimDevice| device.user_id().clone();
    server.is_cut_into(&[vec![user(&alice), user(bob)], vec![user(carol), user(dave)]]);
    for device in &all {
        device.updates_keys().await;
        settle(&all).await;
    }
    let mut anchors = Vec::new();
    for device in [&alice, *carol] {
        server.clock().advance(TestClock::MINUTE);
        let anchor = device.node().await.unwrap().to_base64();
        let mut content = named.clone();
        content["anchor"] = json!(anchor);
        device.sets_state(GROUP, content);
        settle(&all).await;
        anchors.push(anchor);
    }
    assert_eq!(start(bob).await, anchors[0]);
    assert_eq!(start(dave).await, anchors[1]);
    server.heals();
    settle(&all).await;
    // Carol's side hears of Alice's event last, and does not follow it.
    for device in &all {
        assert_eq!(start(device).await, anchors[1]);
    }
    assert_one_epoch(&all).await;
    // What takes the place of another counts, however wrong its server's clock is.
    let mut event = server.events(alice.room()).into_iter().rev().find(|e| e.event_type == GROUP);
    let event = event.as_mut().unwrap();
    event.replaces = Some(event.event_id.clone());
    event.event_id = ruma::EventId::new_v1(ruma::server_name!("example.org"));
    event.content["anchor"] = json!(anchors[0]);
    event.timestamp = 1;
    alice.mls().receive_room_events(alice.room(), &[], &[event.to_json()]).await.unwrap();
    assert_eq!(start(&alice).await, anchors[0]);
}
