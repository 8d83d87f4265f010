//! Who is in the group.

use matrix_dmls::ALGORITHM;
use ruma::events::room::history_visibility::HistoryVisibility;
use serde_json::json;

use super::{alice_and_bob, assert_one_epoch, settle, welcomes_sent};
use crate::{
    MlsError, Notice, Readiness,
    store::MlsStore as _,
    testing::{RequestKind, RoomOptions, SimDevice, SimError, SimServer, TestClock},
};

const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

#[tokio::test]
async fn that_a_room_is_an_mls_room_is_told_once() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let is_mls = |notice: &Notice| matches!(notice, Notice::RoomIsMls { .. });
    alice.syncs().await;
    assert_eq!(alice.takes_notices().into_iter().filter(is_mls).count(), 1);
    alice.sets_state("m.room.encryption", json!({ "algorithm": ALGORITHM }));
    alice.syncs().await;
    alice.restarts().await;
    alice.syncs_the_same_again().await;
    assert_eq!(alice.takes_notices().into_iter().filter(is_mls).count(), 0);
}

#[tokio::test]
async fn a_group_is_founded_with_all_devices_of_those_who_are_there() {
    let server = SimServer::new(1);
    let phone = server.device("alice", "PHONE").logs_in().await;
    let tablet = server.device("alice", "TABLET").logs_in().await;
    let laptop = server.device("bob", "LAPTOP").logs_in().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await;
    let phone = phone.creates_room().await;
    phone.invites(&laptop);
    let (tablet, laptop) = (tablet.looks_with(&phone), laptop.joins(&phone).await);
    let desktop = desktop.looks_with(&phone);
    let all = [&phone, &tablet, &laptop, &desktop];
    settle(&all).await;
    let event = phone.says("welcome, all").await;
    settle(&all).await;
    for device in all {
        device.has_read(&event, "welcome, all");
        assert_eq!(device.epoch().await, Some(1), "one commit founded it with everybody");
    }
    let event = desktop.says("thanks").await;
    settle(&all).await;
    for device in all {
        device.has_read(&event, "thanks");
    }
}

#[tokio::test]
async fn all_devices_of_a_member_are_in() {
    let (server, alice, bob) = alice_and_bob().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    settle(&[&alice, &bob, &desktop]).await;
    let event = alice.says("to both of you").await;
    settle(&[&alice, &bob, &desktop]).await;
    bob.has_read(&event, "to both of you");
    desktop.has_read(&event, "to both of you");
    assert_eq!(alice.devices_in_group().await.len(), 3);
}

#[tokio::test]
async fn who_joins_later_reads_from_then_on() {
    let options = RoomOptions { history_window: 100, ..RoomOptions::default() };
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room_with(options).await;
    let before = alice.says("before you came").await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    assert!(carol.status().await.is_none());
    alice.syncs().await;
    let after = alice.says("hello Carol").await;
    settle(&[&alice, &carol]).await;
    carol.has_read(&after, "hello Carol");
    assert_eq!(carol.reason(&before), "BeforeOurJoin");
    assert!(carol.takes_notices().iter().any(|notice| matches!(notice, Notice::Joined { .. })));
    let answer = carol.says("hello Alice").await;
    settle(&[&alice, &carol]).await;
    alice.has_read(&answer, "hello Alice");
}

#[tokio::test]
async fn keys_are_renewed_on_demand() {
    let (_, alice, bob) = alice_and_bob().await;
    let before = alice.epoch().await;
    bob.updates_keys().await;
    settle(&[&alice, &bob]).await;
    assert_eq!(alice.epoch().await, before.map(|epoch| epoch + 1));
    assert_one_epoch(&[&alice, &bob]).await;
    let event = alice.says("renewed").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "renewed");
}

#[tokio::test]
async fn keys_are_renewed_when_the_room_wants_it() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.sets_state(
        "m.room.encryption",
        serde_json::json!({
            "algorithm": ALGORITHM,
            "rotation_period_msgs": 3,
            "rotation_period_ms": 2 * TestClock::HOUR,
        }),
    );
    settle(&[&alice, &bob]).await;
    bob.updates_keys().await;
    settle(&[&alice, &bob]).await;
    let start = alice.epoch().await.unwrap();
    for _ in 0..3 {
        alice.says("in one epoch").await;
    }
    assert_eq!(alice.epoch().await, Some(start));
    alice.says("in the next one").await;
    assert_eq!(alice.epoch().await, Some(start + 1));
    server.clock().advance(2 * TestClock::HOUR + 1);
    alice.says("and in the one after that").await;
    assert_eq!(alice.epoch().await, Some(start + 2));
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn who_is_kicked_is_removed_before_the_next_message() {
    let (server, alice, bob) = alice_and_bob().await;
    let before = alice.says("still among us").await;
    settle(&[&alice, &bob]).await;
    alice.kicks(&bob);
    alice.syncs().await;
    let secret = alice.says("now we can talk").await;
    let more = alice.says("and go on").await;
    assert!(!alice.sees(&bob).await);
    settle(&[&alice, &bob]).await;

    // Even a server that hands him everything gives him nothing.
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    bob.mls().receive_room_events(bob.room(), &[], &events).await.unwrap();
    for event in &events {
        bob.reads_event(bob.room(), event).await.unwrap();
    }
    assert_eq!(bob.reason(&secret), "AfterOurRemoval");
    assert_eq!(bob.reason(&more), "AfterOurRemoval");
    bob.has_read(&before, "still among us");
    let notices = bob.takes_notices();
    assert!(
        notices.iter().any(|notice| matches!(
            notice,
            Notice::Removed { by, .. } if by.device_id == "PHONE"
        )),
        "{notices:?}"
    );
    assert!(matches!(
        bob.mls().prepare_room(bob.room()).await,
        Err(MlsError::Removed { by }) if by == *alice.user_id()
    ));
}

#[tokio::test]
async fn a_kick_that_a_sender_does_not_know_of_is_no_secret() {
    let (_, alice, bob) = alice_and_bob().await;
    // Alice kicks without having synced her own kick: what she knows decides.
    alice.kicks(&bob);
    let event = alice.says("nobody told me").await;
    assert!(alice.sees(&bob).await);
    settle(&[&alice, &bob]).await;
    alice.has_read(&event, "nobody told me");
    alice.says("now I know").await;
    assert!(!alice.sees(&bob).await);
}

#[tokio::test]
async fn who_leaves_and_comes_back_is_in_again() {
    let (_, alice, bob) = alice_and_bob().await;
    bob.leaves();
    alice.syncs().await;
    let without = alice.says("without Bob").await;
    alice.invites(&bob);
    let bob = bob.joins(&bob).await;
    settle(&[&alice, &bob]).await;
    let with = alice.says("with Bob again").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&with, "with Bob again");
    assert!(bob.text(&without).is_none());
    assert_one_epoch(&[&alice, &bob]).await;
    let answer = bob.says("here I am").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&answer, "here I am");
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn who_is_only_invited_is_in_when_the_history_is_for_the_invited() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    alice.syncs().await;
    let early = alice.says("see you soon").await;
    assert!(alice.sees(&bob).await);
    // The Welcome comes before he is in the room: he cannot read its commit yet.
    for _ in 0..8 {
        bob.syncs().await;
    }
    let bob = bob.joins(&alice).await;
    settle(&[&alice, &bob]).await;
    let late = alice.says("there you are").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&late, "there you are");
    // What was said to him before he came, the server shows him.
    let event = server.event(alice.room(), &early).to_json();
    bob.reads_event(bob.room(), &event).await.unwrap();
    bob.has_read(&early, "see you soon");
}

#[tokio::test]
async fn who_is_only_invited_is_not_in_when_the_history_is_for_members() {
    let options =
        RoomOptions { history_visibility: HistoryVisibility::Joined, ..RoomOptions::default() };
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room_with(options).await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    alice.syncs().await;
    alice.says("he is not here yet").await;
    assert!(!alice.sees(&bob).await);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    let event = alice.says("now he is").await;
    assert!(alice.sees(&bob).await);
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "now he is");
}

#[tokio::test]
async fn a_device_without_key_packages_is_reported_and_holds_nobody_up() {
    let (server, alice, bob) = alice_and_bob().await;
    let old = server.device("bob", "OLD").without_mls().logs_in().await;
    alice.syncs().await;
    let event = alice.says("can everybody read this?").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "can everybody read this?");
    let without = alice.tries_to_prepare().await.unwrap();
    assert_eq!(without, [old.name().clone()]);
    let notices = alice.takes_notices();
    assert!(notices.iter().any(|notice| matches!(
        notice,
        Notice::DeviceWithoutMls { device_id, .. } if device_id == "OLD"
    )));
    // It is not asked again for an hour.
    let claims = || {
        let requests = server.requests_of(alice.name());
        requests.iter().filter(|(kind, _)| *kind == RequestKind::KeysClaim).count()
    };
    let asked = claims();
    alice.says("again").await;
    assert_eq!(claims(), asked);
    server.clock().advance(TestClock::HOUR);
    alice.says("much later").await;
    assert_eq!(claims(), asked + 1);
}

#[tokio::test]
async fn whose_server_cannot_be_reached_is_asked_again_soon() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    settle(&[&alice, &bob, &carol]).await;
    server.is_cut_between(&[alice.user_id(), bob.user_id()], &[carol.user_id()]);
    alice.says("Carol cannot be asked").await;
    assert_eq!(alice.tries_to_prepare().await.unwrap(), [carol.name().clone()]);
    let notices = alice.takes_notices();
    assert!(notices.iter().any(|notice| matches!(
        notice,
        Notice::DeviceWithoutMls { device_id, reason, .. }
            if device_id == "TABLET" && reason.contains("server could not be reached")
    )));

    // Not with every message, but much sooner than a device that has nothing to give.
    let claims = || {
        let requests = server.requests_of(alice.name());
        requests.iter().filter(|(kind, _)| *kind == RequestKind::KeysClaim).count()
    };
    let asked = claims();
    alice.says("nor so soon again").await;
    assert_eq!(claims(), asked);
    server.heals();
    server.clock().advance(TestClock::MINUTE);
    let event = alice.says("welcome, Carol").await;
    assert_eq!(claims(), asked + 1);
    settle(&[&alice, &bob, &carol]).await;
    carol.has_read(&event, "welcome, Carol");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_device_that_has_only_its_last_resort_package_updates_first() {
    let (server, alice, _) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    server.drops_one_time_keys(carol.name(), KEY_PACKAGE, false);
    alice.syncs().await;
    alice.says("hello").await;
    let added = alice.epoch().await.unwrap();
    carol.syncs().await;
    assert_eq!(carol.epoch().await, Some(added));
    let event = carol.says("hello from fresh keys").await;
    assert_eq!(carol.epoch().await, Some(added + 1));
    settle(&[&alice, &carol]).await;
    alice.has_read(&event, "hello from fresh keys");
    // Once is enough.
    carol.says("more").await;
    assert_eq!(carol.epoch().await, Some(added + 1));
}

#[tokio::test]
async fn key_packages_are_replenished() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let count = || server.one_time_key_count(alice.name(), KEY_PACKAGE);
    assert_eq!(count(), 50);
    let uploads = || {
        let requests = server.requests_of(alice.name());
        requests.iter().filter(|(kind, _)| *kind == RequestKind::KeysUpload).count()
    };
    alice.syncs().await;
    assert_eq!(uploads(), 1, "nothing is missing");
    server.drops_one_time_keys(alice.name(), KEY_PACKAGE, false);
    alice.syncs().await;
    assert_eq!((count(), uploads()), (50, 2));
    // The last-resort package is replaced when it was handed out, and when it is old.
    server.drops_one_time_keys(alice.name(), KEY_PACKAGE, true);
    alice.syncs().await;
    assert_eq!((count(), uploads()), (50, 3));
    alice.syncs().await;
    assert_eq!(uploads(), 3);
    server.clock().advance(31 * TestClock::DAY);
    alice.syncs().await;
    assert_eq!((count(), uploads()), (50, 4));
}

#[tokio::test]
async fn a_deleted_device_is_removed_by_the_next_message() {
    let (server, alice, bob) = alice_and_bob().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    settle(&[&alice, &bob, &desktop]).await;
    alice.says("to all").await;
    settle(&[&alice, &bob, &desktop]).await;
    server.deletes_device(desktop.name());
    alice.syncs().await;
    let event = alice.says("not to the desktop").await;
    assert!(!alice.sees(&desktop).await && alice.sees(&bob).await);
    settle(&[&alice, &bob, &desktop]).await;
    bob.has_read(&event, "not to the desktop");
    assert_eq!(desktop.reason(&event), "AfterOurRemoval");
}

#[tokio::test]
async fn a_device_list_that_cannot_be_fetched_removes_nobody() {
    let (server, alice, bob) = alice_and_bob().await;
    server.cannot_ask_for_keys_of(bob.user_id(), true);
    server.deletes_device(bob.name());
    alice.syncs().await;
    // For a moment it is waited for.
    assert!(matches!(
        alice.tries_to_say("anybody there?").await,
        Err(SimError::Machine(MlsError::NotReady(Readiness::NeedsRequests)))
    ));
    server.clock().advance(TestClock::MINUTE);
    let event = alice.says("anybody there?").await;
    assert!(alice.sees(&bob).await);
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "anybody there?");
    server.cannot_ask_for_keys_of(bob.user_id(), false);
    alice.pumps().await;
    alice.says("so he is gone").await;
    assert!(!alice.sees(&bob).await);
}

/// Somebody else has let the device in. It is not in the list that Alice has, which is out of date.
#[tokio::test]
async fn a_device_that_an_old_list_lacks_is_not_removed() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.says("welcome").await;
    settle(&[&alice, &bob, &carol]).await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    carol.syncs().await;
    server.cannot_ask_for_keys_of(bob.user_id(), true);
    carol.says("welcome, desktop").await;
    let all = [&alice, &bob, &carol, &desktop];
    settle(&all).await;
    assert!(alice.sees(&desktop).await);

    server.clock().advance(TestClock::MINUTE);
    // For a moment the list is waited for.
    assert!(matches!(
        alice.tries_to_say("are you there?").await,
        Err(SimError::Machine(MlsError::NotReady(Readiness::NeedsRequests)))
    ));
    server.clock().advance(TestClock::MINUTE);
    let before = alice.epoch().await;
    let event = alice.says("are you there?").await;
    assert!(alice.sees(&desktop).await);
    assert_eq!(alice.epoch().await, before);
    settle(&all).await;
    desktop.has_read(&event, "are you there?");

    // Control: a list that is up to date and lacks it is evidence.
    server.cannot_ask_for_keys_of(bob.user_id(), false);
    server.deletes_device(desktop.name());
    alice.syncs().await;
    alice.says("so it is gone").await;
    assert!(!alice.sees(&desktop).await);
}

#[tokio::test]
async fn a_device_that_comes_while_one_writes_is_in_the_next_message() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.tries_to_prepare().await.unwrap();
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    alice.syncs().await;
    // What was ready is not any more.
    let content = serde_json::json!({ "body": "wait" });
    assert!(matches!(
        alice.encrypts_and_sends(&content).await,
        Err(SimError::Machine(MlsError::NotReady(Readiness::NeedsRequests)))
    ));
    let event = alice.says("to all").await;
    settle(&[&alice, &bob, &desktop]).await;
    desktop.has_read(&event, "to all");
}

#[tokio::test]
async fn a_room_without_mls_is_left_alone() {
    let server = SimServer::new(1);
    let options = RoomOptions { encryption: None, ..RoomOptions::default() };
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room_with(options).await;
    assert!(!alice.mls().is_mls_room(alice.room()).await.unwrap());
    assert!(matches!(
        alice.tries_to_say("hello").await,
        Err(SimError::Machine(MlsError::NotMls(_)))
    ));
    assert_eq!(welcomes_sent(&server, &alice), 0);
}

/// An invitation from a server that has not heard of the joining comes late to those who have.
#[tokio::test]
async fn who_has_joined_is_not_invited_by_what_comes_late() {
    for joins_first in [false, true] {
        let (server, alice, bob) = alice_and_bob().await;
        let carol = server.device("carol", "DEVICE").logs_in().await;
        let user = |device: &SimDevice| vec![device.user_id().clone()];
        let there = [user(&bob), user(&carol)].concat();
        server.is_cut_into(&[user(&alice), there]);
        bob.invites(&carol);
        let carol = if joins_first {
            let carol = carol.joins(&bob).await;
            alice.invites(&carol);
            carol
        } else {
            alice.invites(&carol);
            carol.joins(&bob).await
        };
        let all = [&alice, &bob, &carol];
        settle(&[&bob, &carol]).await;
        server.heals();
        settle(&all).await;
        for device in all {
            let room = device.store().load_room(device.room()).await.unwrap().unwrap();
            assert!(room.view.is_joined("@carol:example.org"), "{device:?}, {joins_first}");
        }
        let event = alice.says("are you there?").await;
        settle(&all).await;
        carol.has_read(&event, "are you there?");
    }
}
