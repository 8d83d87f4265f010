//! Things get lost, are refused, or stop in the middle.

use std::collections::BTreeMap;

use matrix_mls_tests::{DriverError, MlsDevice};
use matrix_sdk_crypto_mls::{AnyOutgoingRequest, MlsError, Notice};
use reqwest::StatusCode;
use ruma::{
    OneTimeKeyAlgorithm, OwnedEventId, RoomId, api::client::keys::claim_keys,
    events::StateEventType,
};
use serde_json::Value;

use crate::support::{
    COMMIT, NOW, SOON, about_to_add, alice_and_bob, all_read, commit_in_outbox, commits,
    homeserver, reads, room_of, tip, user,
};

#[tokio::test]
async fn a_member_whose_commits_the_server_refuses_still_reads_and_writes() {
    let (mut alice, mut bob, room, first) = alice_and_bob().await;

    let levels = StateEventType::RoomPowerLevels;
    let mut content: Value = alice.first().room(&room).unwrap().content(&levels, "").unwrap();
    content["events"][COMMIT] = 100.into();
    alice.first().send_state(&room, "m.room.power_levels", "", &content).await.unwrap();

    bob.first().update_keys(&room).await.unwrap();
    let refused = bob.first().refusals.pop().and_then(|error| error.status());
    assert_eq!(refused, Some(StatusCode::FORBIDDEN));
    let reported = |notice: &Notice| matches!(notice, Notice::CommitRefused { .. });
    assert!(bob.first().notices.iter().any(reported), "{:?}", bob.first().notices);
    assert_eq!(tip(bob.first(), &room).await, first.node);

    let second = bob.first().say(&room, "I can write").await.unwrap();
    assert_eq!(second.node, first.node);
    reads(alice.first(), &room, &second.event_id, "I can write").await;
    alice.first().update_keys(&room).await.unwrap();
    let third = alice.first().say(&room, "and read").await.unwrap();
    assert_ne!(third.node, first.node);
    reads(bob.first(), &room, &third.event_id, "and read").await;

    // But never to somebody who has to be removed first.
    bob.first().restart().await.unwrap();
    let mut content = content.clone();
    content["kick"] = 0.into();
    alice.first().send_state(&room, "m.room.power_levels", "", &content).await.unwrap();
    alice.first().leave(&room).await.unwrap();
    bob.first()
        .sync_until("Alice's leaving", async |device| {
            Ok(device.room(&room).is_some_and(|room| room.members().joined.len() == 1))
        })
        .await
        .unwrap();
    let refused = bob.first().say(&room, "alone").await;
    assert!(matches!(refused, Err(DriverError::Mls(MlsError::CommitsRefused))), "{refused:?}");
}

/// Sends the commit, and lets the client stop before it hears that the server has it.
async fn commit_and_stop(device: &mut MlsDevice, room: &RoomId) -> OwnedEventId {
    let request = commit_in_outbox(device, room).await;
    let AnyOutgoingRequest::RoomMessage(put) = request.request() else { unreachable!() };
    let event = device.http.send(put.clone()).await.unwrap().event_id;
    device.restart().await.unwrap();
    event
}

#[tokio::test]
async fn a_client_that_stops_before_its_commit_is_confirmed_sends_it_again_as_the_same_event() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let event = commit_and_stop(alice.first(), &room).await;
    assert_eq!(commits(bob.first(), &room).await.len(), 2);

    // The outbox is sent before anything is synced: the server recognises the transaction.
    alice.first().pump().await.unwrap();
    assert_eq!(commits(bob.first(), &room).await.last(), Some(&event));
    assert_eq!(commits(bob.first(), &room).await.len(), 2);
    let sent = alice.first().say(&room, "as if nothing had happened").await.unwrap();
    assert_eq!(sent.commit_event.as_ref(), Some(&event));
    let text = "as if nothing had happened";
    all_read(&room, &sent, text, &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn a_client_that_stops_before_its_commit_is_confirmed_finds_it_in_the_next_sync() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let event = commit_and_stop(alice.first(), &room).await;

    alice.first().sync(NOW).await.unwrap();
    assert_eq!(commits(bob.first(), &room).await.len(), 2);
    let sent = alice.first().say(&room, "found it").await.unwrap();
    assert_eq!(sent.commit_event.as_ref(), Some(&event));
    all_read(&room, &sent, "found it", &mut [&mut alice, &mut bob, &mut dave]).await;
    assert_eq!(commits(bob.first(), &room).await.len(), 2);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_sync_is_no_error() {
    let (mut alice, _, mut dave, room, _) = about_to_add().await;
    let device = alice.first();
    let request = commit_in_outbox(device, &room).await;
    let AnyOutgoingRequest::RoomMessage(put) = request.request() else { unreachable!() };
    let response = device.http.send(put.clone()).await.unwrap();
    // Another task syncs meanwhile.
    device.sync(SOON).await.unwrap();
    device.mls.mark_request_as_sent(request.request_id(), &response).await.unwrap();
    let sent = device.say(&room, "in whatever order").await.unwrap();
    reads(dave.first(), &room, &sent.event_id, "in whatever order").await;
}

#[tokio::test]
async fn a_client_that_stops_before_the_welcome_is_sent_sends_it_later() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let device = alice.first();
    let request = commit_in_outbox(device, &room).await;
    device.send_mls_request(&request).await.unwrap();
    device.restart().await.unwrap();

    dave.first().sync(SOON).await.unwrap();
    assert!(dave.first().status(&room).await.unwrap().is_none());
    alice.first().pump().await.unwrap();
    dave.first().wait_to_join(&room).await.unwrap();
    let sent = dave.first().say(&room, "just in time").await.unwrap();
    all_read(&room, &sent, "just in time", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn after_a_restart_everything_is_as_it_was() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 2).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    all_read(&room, &first, "before", &mut [&mut alice, &mut bob]).await;
    for device in alice.devices().chain(bob.devices()) {
        device.restart().await.unwrap();
        let event = device.event(&room, &first.event_id).unwrap().raw.clone();
        device.read(&room, &event).await.unwrap();
    }
    let second = alice.first().say(&room, "after").await.unwrap();
    // The count goes on, so no key is used twice.
    assert_eq!((second.node, second.generation), (first.node, first.generation + 1));
    all_read(&room, &second, "after", &mut [&mut alice, &mut bob]).await;
    let uploads = |device: &MlsDevice| device.http.wire_log.get("POST /keys/upload").requests;
    let before = uploads(bob.first());
    bob.first().restart().await.unwrap();
    bob.first().sync(NOW).await.unwrap();
    assert_eq!(uploads(bob.first()), before, "key packages are uploaded once");
}

#[tokio::test]
async fn a_device_without_one_time_key_packages_joins_by_its_last_resort() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    // Somebody takes all fifty, and is then given the last resort.
    let used = take_key_packages(alice.first(), bob.first(), 51).await;
    assert_eq!(take_key_packages(alice.first(), bob.first(), 1).await, used);
    let sent = alice.first().say(&room, "hello").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "hello").await;
    // Others may have been let in by the same keys, so the first thing it does is to renew them.
    let answer = bob.first().say(&room, "with keys of my own").await.unwrap();
    assert_ne!(answer.node, sent.node);
    reads(alice.first(), &room, &answer.event_id, "with keys of my own").await;
    // There are fifty more, and another last resort.
    bob.first().sync(NOW).await.unwrap();
    let last = take_key_packages(alice.first(), bob.first(), 51).await;
    assert_ne!(last, used);
    assert_eq!(take_key_packages(alice.first(), bob.first(), 1).await, last);
}

/// Claims so many key packages of a device, and gives the last one.
async fn take_key_packages(by: &MlsDevice, of: &MlsDevice, count: usize) -> Value {
    let algorithm = OneTimeKeyAlgorithm::from("io.github.matrix-mls.dmls.v1.key_package.1");
    let (user, device) = (of.user_id().to_owned(), of.session.device_id.clone());
    let wanted = BTreeMap::from([(user, BTreeMap::from([(device, algorithm)]))]);
    let mut last = Value::Null;
    for _ in 0..count {
        let request = claim_keys::v3::Request::new(wanted.clone());
        let claimed = by.http.send(request).await.unwrap().one_time_keys;
        let keys = claimed.into_values().flat_map(BTreeMap::into_values).flatten();
        last = serde_json::from_str(keys.last().expect("there is one").1.json().get()).unwrap();
    }
    last
}
