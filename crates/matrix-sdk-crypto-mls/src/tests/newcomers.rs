//! Devices that were added on one branch and have to choose as those do who know all of them.

use ruma::{
    OwnedEventId, events::AnyToDeviceEvent, events::room::history_visibility::HistoryVisibility,
    serde::Raw,
};
use serde_json::{Value, value::to_raw_value};

use super::{
    assert_one_epoch,
    missing::{COMMIT, requests},
    settle,
};
use crate::testing::{Fault, RequestKind, RoomOptions, SimDevice, SimServer, SimSync, TestClock};

const GRAPH: &str = "io.github.matrix-mls.dmls.v1.graph";
const WELCOME: &str = "io.github.matrix-mls.dmls.v1.welcome";

/// A room whose history nobody can read from before joining: what a newcomer does not know, it can
/// have from members only.
async fn room_of(names: &[&str]) -> (SimServer, Vec<SimDevice>) {
    let server = SimServer::new(1);
    let options =
        RoomOptions { history_visibility: HistoryVisibility::Joined, ..RoomOptions::default() };
    let alice = server.device(names[0], "DEVICE").logs_in().await;
    let mut devices = vec![alice.creates_room_with(options).await];
    for name in &names[1..] {
        let device = joins(&server, &devices[0], name).await;
        devices[0].syncs().await;
        devices[0].says("welcome").await;
        devices.push(device);
        settle(&devices.iter().collect::<Vec<_>>()).await;
    }
    // So that the branches do not part at the founding commit, which needs no tree.
    devices[0].updates_keys().await;
    settle(&devices.iter().collect::<Vec<_>>()).await;
    assert_one_epoch(&devices.iter().collect::<Vec<_>>()).await;
    (server, devices)
}

async fn joins(server: &SimServer, by: &SimDevice, name: &str) -> SimDevice {
    let device = server.device(name, "DEVICE").logs_in().await;
    by.invites(&device);
    device.joins(by).await
}

/// The tip that a device takes for the right one, whether it can send there or not.
async fn chosen(device: &SimDevice) -> matrix_dmls::NodeId {
    let graph = device.mls().epoch_graph(device.room()).await.unwrap();
    graph.chosen.expect("there is a group")
}

/// Alters the messages of a type that a sync brings.
fn alter(sync: &mut SimSync, event_type: &str, change: impl Fn(&mut Value)) -> usize {
    let mut count = 0;
    for event in &mut sync.to_device {
        let mut json: Value = serde_json::from_str(event.json().get()).unwrap();
        if json["type"] == event_type {
            count += 1;
            change(&mut json["content"]);
            *event = Raw::<AnyToDeviceEvent>::from_json(to_raw_value(&json).unwrap());
        }
    }
    count
}

/// Two branches that all know, and Carol is added on one of them.
#[tokio::test]
async fn a_welcome_tells_of_the_other_branches() {
    for with_the_graph in [true, false] {
        let (server, devices) = room_of(&["alice", "bob"]).await;
        let [alice, bob] = devices.as_slice() else { panic!() };
        alice.starts_to_update_keys().await;
        bob.starts_to_update_keys().await;
        alice.pumps().await;
        bob.pumps().await;
        settle(&[alice, bob]).await;
        let carol = joins(&server, alice, "carol").await;
        alice.syncs().await;
        alice.says("welcome").await;
        let mut sync = server.sync(carol.name());
        let altered = alter(&mut sync, WELCOME, |content| {
            let content = content.as_object_mut().unwrap();
            assert!(content.contains_key("graph"));
            if !with_the_graph {
                content.remove("graph");
            }
        });
        assert_eq!(altered, 1);
        carol.takes(&sync).await.unwrap();
        let tips = carol.status().await.unwrap().tips.len();
        assert_eq!(tips, if with_the_graph { 2 } else { 1 });
        if with_the_graph {
            // It is what all have, and nobody had to be asked.
            assert_eq!(tips, alice.status().await.unwrap().tips.len());
            carol.pumps().await;
            assert_eq!(requests(&carol, RequestKind::CommitRequest), 0);
        }
        settle(&[alice, bob, &carol]).await;
        assert_one_epoch(&[alice, bob, &carol]).await;
    }
}

#[tokio::test]
async fn without_other_branches_a_welcome_has_no_graph() {
    let (server, devices) = room_of(&["alice", "bob"]).await;
    let [alice, _] = devices.as_slice() else { panic!() };
    let carol = joins(&server, alice, "carol").await;
    alice.syncs().await;
    alice.says("welcome").await;
    let mut sync = server.sync(carol.name());
    let count = alter(&mut sync, WELCOME, |content| assert!(content.get("graph").is_none()));
    assert_eq!(count, 1);
}

#[tokio::test]
async fn old_branches_are_not_told_to_newcomers() {
    let (server, devices) = room_of(&["alice", "bob"]).await;
    let [alice, bob] = devices.as_slice() else { panic!() };
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    settle(&[alice, bob]).await;
    server.clock().advance(8 * TestClock::DAY);
    let carol = joins(&server, alice, "carol").await;
    alice.syncs().await;
    alice.says("welcome").await;
    let mut sync = server.sync(carol.name());
    let count = alter(&mut sync, WELCOME, |content| assert!(content.get("graph").is_none()));
    assert_eq!(count, 1);
}

/// Alice and Bob add Carol at once, and Carol comes in by Bob's commit, which loses.
async fn added_twice() -> (SimServer, Vec<SimDevice>, SimDevice, OwnedEventId, OwnedEventId) {
    let (server, devices) = room_of(&["alice", "bob"]).await;
    let [alice, bob] = devices.as_slice() else { panic!() };
    let carol = joins(&server, alice, "carol").await;
    alice.syncs().await;
    bob.syncs().await;
    let from_bob = bob.says("Bob welcomes you").await;
    carol.syncs().await;
    carol.has_read(&from_bob, "Bob welcomes you");
    let from_alice = alice.says("Alice welcomes you").await;
    settle(&[alice, bob]).await;
    assert_one_epoch(&[alice, bob]).await;
    assert_ne!(alice.node().await, carol.node().await);
    (server, devices, carol, from_alice, from_bob)
}

#[tokio::test]
async fn who_is_added_twice_at_once_ends_where_the_others_are() {
    let (_, devices, carol, from_alice, from_bob) = added_twice().await;
    let [alice, bob] = devices.as_slice() else { panic!() };
    let all = [alice, bob, &carol];
    settle(&all).await;
    assert_one_epoch(&all).await;
    assert!(requests(&carol, RequestKind::CommitRequest) > 0);
    for device in all {
        device.has_read(&from_alice, "Alice welcomes you");
        device.has_read(&from_bob, "Bob welcomes you");
    }
    let event = carol.says("thank you both").await;
    settle(&all).await;
    alice.has_read(&event, "thank you both");
    bob.has_read(&event, "thank you both");
    assert_one_epoch(&all).await;
}

/// The control: without an answer Carol stays on the branch that loses. And a wrong answer is none.
#[tokio::test]
async fn without_the_graph_who_is_added_twice_is_somewhere_else() {
    let (server, devices, carol, ..) = added_twice().await;
    let [alice, bob] = devices.as_slice() else { panic!() };
    for device in [alice, bob] {
        server.next_goes_wrong(device.name(), RequestKind::Graph, Fault::Refused);
        // Nor does she get what connects the branches out of the room.
        for _ in 0..20 {
            server.next_goes_wrong(device.name(), RequestKind::Commit, Fault::Refused);
        }
    }
    settle(&[alice, bob, &carol]).await;
    assert!(requests(&carol, RequestKind::CommitRequest) > 0);
    assert_ne!(carol.node().await, alice.node().await);
    assert_ne!(chosen(&carol).await, chosen(alice).await);

    // The next answer has another tree, and the one after that an altered commit.
    let alterations: [fn(&mut Value); 2] = [
        |content| content["graph"]["tree"] = "AAAA".into(),
        |content| {
            let context = &mut content["graph"]["commits"][0]["content"]["parent_context"];
            let text = context.as_str().unwrap();
            *context = format!("AB{}", &text[2..]).into();
        },
    ];
    for alteration in alterations {
        let mut altered = 0;
        for _ in 0..20 {
            server.clock().advance(TestClock::MINUTE);
            carol.pumps().await;
            alice.syncs().await;
            bob.syncs().await;
            let mut sync = server.sync(carol.name());
            altered += alter(&mut sync, GRAPH, alteration);
            carol.takes(&sync).await.unwrap();
            if altered > 0 {
                break;
            }
        }
        assert!(altered > 0);
        assert_ne!(chosen(&carol).await, chosen(alice).await);
    }
    // A true one comes after all.
    for device in [alice, bob] {
        server.nothing_goes_wrong_any_more(device.name());
    }
    for _ in 0..10 {
        server.clock().advance(TestClock::HOUR);
        settle(&[alice, bob, &carol]).await;
    }
    assert_eq!(chosen(&carol).await, chosen(alice).await);
    assert_one_epoch(&[alice, bob, &carol]).await;
}

/// Carol is added on the smaller side of a partition. When it heals she has to know that the others
/// are elsewhere, although she was never there.
#[tokio::test]
async fn who_is_added_on_a_losing_branch_learns_where_the_others_are() {
    for with_the_graph in [true, false] {
        let (server, devices) = room_of(&["alice", "bob", "dave", "erin"]).await;
        let [alice, bob, dave, erin] = devices.as_slice() else { panic!() };
        let carol = server.device("carol", "DEVICE").logs_in().await;
        let right = [bob, dave, erin];
        server.is_cut_between(
            &[alice.user_id(), carol.user_id()],
            &right.map(|device| device.user_id()),
        );
        alice.invites(&carol);
        let carol = carol.joins(alice).await;
        alice.syncs().await;
        let said = alice.says("welcome").await;
        settle(&[alice, &carol]).await;
        carol.has_read(&said, "welcome");
        for device in right {
            // Carol's devices are not to be had over there; one does not wait for them for ever.
            device.syncs().await;
            device.readiness().await;
            device.pumps().await;
            server.clock().advance(TestClock::MINUTE / 4);
            device.updates_keys().await;
            settle(&right).await;
        }
        let right_tip = chosen(bob).await;

        if !with_the_graph {
            server.holds_back_to_device_of(carol.name(), true);
        }
        server.heals();
        let all = [alice, bob, dave, erin, &carol];
        settle(&all).await;
        for device in [alice, bob, dave, erin] {
            assert_eq!(chosen(device).await, right_tip);
        }
        assert_eq!(chosen(&carol).await == right_tip, with_the_graph);
        if !with_the_graph {
            continue;
        }
        assert!(!carol.status().await.unwrap().is_chosen);
        // Meanwhile she is not mute for long.
        server.clock().advance(TestClock::MINUTE / 6);
        let answer = carol.says("I am still over here").await;
        settle(&all).await;
        alice.has_read(&answer, "I am still over here");
        // Somebody lets her in again there.
        server.clock().advance(2 * TestClock::HOUR);
        let event = bob.says("come over").await;
        settle(&all).await;
        carol.has_read(&event, "come over");
        assert_one_epoch(&all).await;
        assert!(server.count(alice.room(), COMMIT) > 0);
    }
}
