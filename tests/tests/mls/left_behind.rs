//! Devices that nobody has let in, or whose Welcome was lost: they come in by themselves, or ask.

use std::time::{Duration, Instant};

use matrix_mls_tests::{MlsDevice, Sent, User};
use ruma::{OwnedRoomId, RoomId};

use crate::support::{
    MINUTE, NOW, SOON, alice_and_bob, all_agree, all_read, all_talk, commits, devices_in,
    homeserver, reads, room_of, time_passes, time_unites, tip, user,
};

/// How long asking and being let in takes: 10 s until a device asks, 20 s until it is answered; and
/// some more.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_device_that_logs_in_where_nobody_is_online_sends_at_once() {
    let (mut alice, mut bob, room, _) = alice_and_bob().await;
    let before = commits(alice.first(), &room).await.len();

    // From here on only the new device does anything.
    let desktop = bob.log_in().await.unwrap();
    desktop.sync(SOON).await.unwrap();
    let begin = Instant::now();
    let sent = desktop.say(&room, "from my new device").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(sent.without_mls.is_empty(), "{sent:?}");
    assert_eq!(commits(desktop, &room).await.len(), before + 1);

    all_read(&room, &sent, "from my new device", &mut [&mut alice, &mut bob]).await;
    all_agree(&room, sent.node, &mut [&mut alice, &mut bob]).await;
    let id = bob.id().to_owned();
    assert_eq!(devices_in(alice.first(), &room, &id).await, 2);
    let answer = alice.first().say(&room, "I see").await.unwrap();
    all_read(&room, &answer, "I see", &mut [&mut alice, &mut bob]).await;
}

/// The sync that brings a device its Welcome and the first message after it loses the Welcome.
async fn loses_the_welcome(device: &mut MlsDevice, room: &RoomId, first: &Sent) {
    let response = device.sync_raw(SOON).await.unwrap();
    let mut update = device.process_sync(response).await.unwrap();
    assert!(!update.to_device_raw.is_empty());
    update.to_device_raw.clear();
    device.process(&update).await.unwrap();
    assert!(device.status(room).await.unwrap().is_none());
    // A message in an epoch that has this device waits for the Welcome, which might come yet.
    assert!(device.event(room, &first.event_id).unwrap().is_waiting());
}

/// Alice, Bob and Dave; Dave's Welcome got lost.
async fn without_a_welcome() -> (User, User, User, OwnedRoomId) {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut dave]).await;
    let first = alice.first().say(&room, "hello").await.unwrap();
    loses_the_welcome(dave.first(), &room, &first).await;
    // The others do not notice.
    reads(bob.first(), &room, &first.event_id, "hello").await;
    (alice, bob, dave, room)
}

#[tokio::test]
async fn who_lost_the_welcome_and_has_something_to_say_comes_in_by_itself() {
    let (mut alice, mut bob, mut dave, room) = without_a_welcome().await;
    let sent = dave.first().say(&room, "here I am").await.unwrap();
    all_read(&room, &sent, "here I am", &mut [&mut alice, &mut bob, &mut dave]).await;
    let id = dave.id().to_owned();
    assert_eq!(devices_in(alice.first(), &room, &id).await, 1);
    let answer = bob.first().say(&room, "there he is").await.unwrap();
    all_read(&room, &answer, "there he is", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn who_lost_the_welcome_asks_and_is_let_in() {
    let (mut alice, mut bob, mut dave, room) = without_a_welcome().await;
    let before = commits(alice.first(), &room).await.len();
    let begin = Instant::now();
    while dave.first().status(&room).await.unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "Dave is not let in");
        dave.first().sync(Duration::from_secs(1)).await.unwrap();
        alice.first().sync(NOW).await.unwrap();
        bob.first().sync(NOW).await.unwrap();
    }
    assert!(begin.elapsed() > Duration::from_secs(20));
    assert_eq!(commits(alice.first(), &room).await.len(), before + 1);
    let node = tip(dave.first(), &room).await;
    all_agree(&room, node, &mut [&mut alice, &mut bob, &mut dave]).await;
    let answer = bob.first().say(&room, "welcome back").await.unwrap();
    all_read(&room, &answer, "welcome back", &mut [&mut alice, &mut bob, &mut dave]).await;
}

/// Two ask at the same time, and one member lets both in, with one commit.
#[tokio::test]
async fn two_who_ask_are_let_in_by_one_commit_of_one_member() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let mut erin = user(&http, "erin", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut dave, &mut erin]).await;
    let first = alice.first().say(&room, "hello").await.unwrap();
    for user in [&mut dave, &mut erin] {
        loses_the_welcome(user.first(), &room, &first).await;
    }
    reads(bob.first(), &room, &first.event_id, "hello").await;
    let before = commits(alice.first(), &room).await.len();

    let everybody = &mut [&mut alice, &mut bob, &mut dave, &mut erin];
    let node = time_unites(&room, everybody, 2 * MINUTE).await;
    time_passes(everybody, 10 * MINUTE).await;
    assert_eq!(commits(everybody[0].first(), &room).await.len(), before + 1);
    all_agree(&room, node, everybody).await;
    all_talk(&room, everybody).await;
}
