//! Welcomes that come early, late, twice, never, or from the wrong place.

use serde_json::{Value, json};

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::{
    Notice, Readiness,
    testing::{Fault, RequestKind, SimDevice, SimServer, SimSync, TestClock},
};

const WELCOME: &str = "io.github.matrix-mls.dmls.v1.welcome";

#[tokio::test]
async fn a_welcome_before_the_room_is_held() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.looks_with(&alice);
    alice.syncs().await;
    let early = alice.says("before you are here").await;
    carol.syncs().await;
    assert!(carol.takes_notices().is_empty());
    let carol = carol.joins(&alice).await;
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    let event = carol.says("here I am").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.has_read(&event, "here I am");
    carol.reads_event(carol.room(), &server.event(carol.room(), &early).to_json()).await.unwrap();
    carol.has_read(&early, "before you are here");
}

#[tokio::test]
async fn a_welcome_is_held_over_a_restart() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.looks_with(&alice);
    alice.syncs().await;
    alice.says("before you are here").await;
    carol.syncs().await;
    carol.restarts().await;
    // The commit that it names has to be asked for, and after a restart again.
    server.next_goes_wrong(carol.name(), RequestKind::GetEvent, Fault::RequestLost);
    let carol = carol.joins(&alice).await;
    carol.restarts().await;
    assert_eq!(carol.readiness().await, Readiness::NeedsRequests);
    carol.pumps().await;
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_welcome_after_messages_makes_them_readable() {
    for rooms_first in [false, true] {
        let (server, alice, bob) = alice_and_bob().await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        carol.takes_rooms_first(rooms_first);
        alice.invites(&carol);
        let carol = carol.joins(&alice).await;
        alice.syncs().await;
        server.holds_back_to_device_of(carol.name(), true);
        let event = alice.says("can you hear me?").await;
        alice.updates_keys().await;
        let later = alice.says("can you hear me now?").await;
        settle(&[&alice, &bob, &carol]).await;
        assert_eq!(carol.reason(&event), "UnknownEpoch");
        assert!(carol.status().await.is_none());
        server.holds_back_to_device_of(carol.name(), false);
        settle(&[&alice, &bob, &carol]).await;
        carol.has_read(&event, "can you hear me?");
        carol.has_read(&later, "can you hear me now?");
        assert_one_epoch(&[&alice, &bob, &carol]).await;
    }
}

#[tokio::test]
async fn a_message_that_came_before_the_welcome_was_usable_is_not_forgotten() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.looks_with(&alice);
    alice.syncs().await;
    server.holds_back_to_device_of(carol.name(), true);
    alice.says("come in").await;
    alice.updates_keys().await;
    alice.updates_keys().await;
    // All of these commits lie before her join, and no later event names them.
    let carol = carol.joins(&alice).await;
    let event = alice.says("did you find your way?").await;
    carol.syncs().await;
    server.holds_back_to_device_of(carol.name(), false);
    settle(&[&alice, &bob, &carol]).await;
    carol.has_read(&event, "did you find your way?");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

/// As above, but the newcomer's device has seen the room from its founding on.
#[tokio::test]
async fn a_welcome_after_messages_makes_them_readable_for_a_new_device() {
    let (server, alice, bob) = alice_and_bob().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    // It fetches the whole history.
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    desktop.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    alice.syncs().await;
    server.holds_back_to_device_of(desktop.name(), true);
    let event = alice.says("can you hear me?").await;
    settle(&[&alice, &bob, &desktop]).await;
    assert_eq!(desktop.reason(&event), "UnknownEpoch");
    server.holds_back_to_device_of(desktop.name(), false);
    settle(&[&alice, &bob, &desktop]).await;
    desktop.has_read(&event, "can you hear me?");
}

#[tokio::test]
async fn without_a_welcome_a_device_is_not_in_and_disturbs_nobody() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    server.loses_to_device_of(carol.name(), 1);
    let event = alice.says("you will not hear this").await;
    settle(&[&alice, &bob, &carol]).await;
    assert_eq!(carol.reason(&event), "UnknownEpoch");
    assert!(carol.status().await.is_none());
    // The others are not disturbed.
    let event = bob.says("we do").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.has_read(&event, "we do");
}

#[tokio::test]
async fn a_welcome_that_comes_twice_counts_once() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    server.doubles_to_device_of(carol.name(), true);
    alice.says("hello hello").await;
    settle(&[&alice, &bob, &carol]).await;
    // And once more by the same sync, and when everything has gone on.
    carol.syncs_the_same_again().await;
    alice.updates_keys().await;
    settle(&[&alice, &bob, &carol]).await;
    let notices = carol.takes_notices();
    let joined = notices.iter().filter(|n| matches!(n, Notice::Joined { .. })).count();
    let dropped = notices.iter().filter(|n| matches!(n, Notice::WelcomeDropped { .. })).count();
    assert_eq!((joined, dropped), (1, 0), "{notices:?}");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_welcome_is_replayed_in_vain() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello").await;
    let sync = server.sync(carol.name());
    let welcome = welcome_in(&sync);
    take(&carol, &sync).await;
    settle(&[&alice, &bob, &carol]).await;
    let node = carol.node().await;

    // Now, after an update, and after she was removed and came back.
    server.forges_to_device(carol.name(), welcome.clone());
    carol.syncs().await;
    assert_eq!(carol.node().await, node);
    carol.updates_keys().await;
    let node = carol.node().await;
    server.forges_to_device(carol.name(), welcome.clone());
    carol.syncs().await;
    assert_eq!(carol.node().await, node);
    carol.restarts().await;
    server.forges_to_device(carol.name(), welcome);
    carol.syncs().await;
    assert_eq!(carol.node().await, node);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_welcome_for_an_unknown_key_package_is_reported() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    // Meant for Carol, and opened by Dave, who is in the room too.
    let dave = server.device("dave", "WATCH").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    alice.says("hello Carol").await;
    let sync = server.sync(carol.name());
    server.forges_to_device(dave.name(), welcome_in(&sync));
    dave.syncs().await;
    let notices = dave.takes_notices();
    assert!(
        notices.iter().any(|notice| matches!(
            notice,
            Notice::WelcomeDropped { sender, .. } if sender == alice.user_id()
        )),
        "{notices:?}"
    );
    assert!(dave.status().await.is_none());
    // His own works afterwards.
    alice.syncs().await;
    alice.says("hello Dave").await;
    settle(&[&alice, &bob, &dave]).await;
    assert_one_epoch(&[&alice, &bob, &dave]).await;
}

#[tokio::test]
async fn a_welcome_with_another_commit_is_refused_and_uses_nothing_up() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    let other = alice.creates_room().await;
    for room in [&alice, &other] {
        room.invites(&carol);
        carol.looks_with(room).joins(room).await;
    }
    let (carol, carol_there) = (carol.looks_with(&alice), carol.looks_with(&other));
    alice.syncs().await;
    // Alice welcomes her to one room; the server says it was to the other.
    alice.says("hello here").await;
    other.says("hello there").await;
    let sync = server.sync(carol.name());
    let welcomes = welcomes_in(&sync);
    let here = welcomes.iter().find(|w| w["content"]["room_id"] == alice.room().as_str()).unwrap();
    let there = welcomes.iter().find(|w| w["content"]["room_id"] == other.room().as_str()).unwrap();
    let mut wrong = here.clone();
    for field in ["room_id", "epoch", "epoch_event"] {
        wrong["content"][field] = there["content"][field].clone();
    }
    let mut forged = sync.clone();
    forged.to_device.clear();
    take(&carol, &forged).await;
    server.forges_to_device(carol.name(), wrong);
    carol.syncs().await;
    assert!(carol_there.status().await.is_none());
    let dropped = |notice: &Notice| matches!(notice, Notice::WelcomeDropped { .. });
    assert!(carol.takes_notices().iter().any(dropped));
    // The true ones still work: nothing was used up.
    server.forges_to_device(carol.name(), here.clone());
    server.forges_to_device(carol.name(), there.clone());
    carol.syncs().await;
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&other, &carol_there]).await;
}

#[tokio::test]
async fn a_forged_welcome_does_not_push_the_true_one_out() {
    for garbage in [json!("AAAA"), Value::Null] {
        let (server, alice, bob) = alice_and_bob().await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        alice.invites(&carol);
        let carol = carol.looks_with(&alice);
        alice.syncs().await;
        // Held, since she has not joined.
        alice.says("come in").await;
        let sync = server.sync(carol.name());
        let true_one = welcome_in(&sync);
        take(&carol, &sync).await;
        // Mallory knows the epoch, which stands in the room.
        let mut forged = true_one.clone();
        forged["sender"] = json!("@mallory:example.org");
        if garbage.is_null() {
            // One that parses, for a key package that she does not have.
            let other = server.device("carol", "OTHER").logs_in().await;
            alice.syncs().await;
            alice.says("come in, both").await;
            forged["content"]["welcome"] =
                welcome_in(&server.sync(other.name()))["content"]["welcome"].clone();
        } else {
            forged["content"]["welcome"] = garbage;
        }
        server.forges_to_device(carol.name(), forged);
        carol.syncs().await;
        let carol = carol.joins(&alice).await;
        settle(&[&alice, &bob, &carol]).await;
        assert!(carol.status().await.is_some());
        // What happened before she was in the room she learns by the first message.
        bob.says("there you are").await;
        settle(&[&alice, &bob, &carol]).await;
        assert_one_epoch(&[&alice, &bob, &carol]).await;
    }
}

#[tokio::test]
async fn a_welcome_that_can_never_be_used_is_dropped_after_a_month() {
    let (server, alice, _) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.looks_with(&alice);
    alice.syncs().await;
    alice.says("come in").await;
    carol.syncs().await;
    server.clock().advance(31 * TestClock::DAY);
    let carol = carol.joins(&alice).await;
    carol.syncs().await;
    let dropped = |notice: &Notice| matches!(notice, Notice::WelcomeDropped { .. });
    assert!(carol.takes_notices().iter().any(dropped));
}

#[tokio::test]
async fn many_rooms_and_welcomes_in_any_order() {
    let server = SimServer::new(7);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let mut rooms = Vec::new();
    for _ in 0..5 {
        let room = alice.creates_room().await;
        room.invites(&bob);
        bob.joins(&room).await;
        alice.syncs().await;
        room.says("hello").await;
        rooms.push(room);
    }
    server.shuffles_to_device_of(bob.name());
    settle(&[&alice, &bob]).await;
    for room in rooms {
        assert_one_epoch(&[&room, &bob.looks_with(&room)]).await;
    }
}

fn welcomes_in(sync: &SimSync) -> Vec<Value> {
    let events = sync.to_device.iter().map(|e| serde_json::from_str(e.json().get()).unwrap());
    events.filter(|event: &Value| event["type"] == WELCOME).collect()
}

fn welcome_in(sync: &SimSync) -> Value {
    welcomes_in(sync).pop().expect("a Welcome")
}

/// Gives a sync that was looked into to its device.
async fn take(device: &SimDevice, sync: &SimSync) {
    device.takes(sync).await.unwrap();
    device.pumps().await;
}

#[tokio::test]
async fn commits_that_came_before_the_welcome_are_entered_with_it() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    // She does not know of him yet, and he sees the founding.
    server.holds_back_timeline_of(alice.name(), true);
    alice.says("to myself").await;
    bob.syncs().await;
    server.holds_back_timeline_of(alice.name(), false);
    server.holds_back_to_device_of(bob.name(), true);
    alice.syncs().await;
    alice.says("hello").await;
    alice.updates_keys().await;
    let event = alice.says("with new keys").await;
    bob.syncs().await;
    assert_eq!(bob.node().await, None, "he has no Welcome");
    server.holds_back_to_device_of(bob.name(), false);
    bob.syncs().await;
    assert_one_epoch(&[&alice, &bob]).await;
    bob.has_read(&event, "with new keys");
}

/// Also those of a branch that has lost, which nobody sends on: what was said there can be read.
#[tokio::test]
async fn lost_branches_that_came_before_the_welcome_are_entered_with_it() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&bob);
    alice.invites(&carol);
    let (bob, carol) = (bob.joins(&alice).await, carol.joins(&alice).await);
    // She does not know of them yet, and they see the founding.
    server.holds_back_timeline_of(alice.name(), true);
    alice.says("to myself").await;
    carol.syncs().await;
    server.holds_back_timeline_of(alice.name(), false);
    server.holds_back_to_device_of(carol.name(), true);
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    // Both renew their keys at once, and say something before they hear of one another.
    let mut said = Vec::new();
    for device in [&alice, &bob] {
        device.updates_keys().await;
        said.push(device.says("with new keys").await);
    }
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
    carol.syncs().await;
    assert_eq!(carol.node().await, None, "she has no Welcome");
    server.holds_back_to_device_of(carol.name(), false);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    said.iter().for_each(|event| carol.has_read(event, "with new keys"));
}
