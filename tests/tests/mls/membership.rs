//! The group follows the room: who comes, and with which devices.

use matrix_mls_tests::RoomOptions;
use matrix_sdk_crypto_mls::{DecryptionError, Notice};
use ruma::uint;
use serde_json::json;

use crate::support::{
    NOW, SOON, all_devices, all_read, devices_in, fetch, homeserver, reads, refuses, room_of,
    room_with, user, user_with,
};

#[tokio::test]
async fn who_joins_late_reads_from_then_on_and_nothing_from_before() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut dave = user(&http, "dave", 2).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let founding = alice.first().say(&room, "founding").await.unwrap();
    reads(bob.first(), &room, &founding.event_id, "founding").await;
    bob.first().update_keys(&room).await.unwrap();
    let before = bob.first().say(&room, "before Dave").await.unwrap();

    alice.first().invite(&room, dave.id()).await.unwrap();
    dave.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let after = alice.first().say(&room, "hello Dave").await.unwrap();
    all_read(&room, &after, "hello Dave", &mut [&mut alice, &mut bob, &mut dave]).await;
    for device in dave.devices() {
        for event in [&founding.event_id, &before.event_id] {
            let reason = refuses(device, &room, event).await;
            assert!(matches!(reason, DecryptionError::BeforeOurJoin), "{reason:?}");
        }
    }
    let answer = dave.device(1).unwrap().say(&room, "hello everybody").await.unwrap();
    assert_eq!(answer.node, after.node);
    all_read(&room, &answer, "hello everybody", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn who_joins_late_is_told_of_events_that_waited_in_vain() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let room = room_of(&mut alice, &mut []).await;
    let before = alice.first().say(&room, "before").await.unwrap();
    alice.first().update_keys(&room).await.unwrap();
    alice.first().invite(&room, dave.id()).await.unwrap();
    dave.first().sync_filter.room.timeline.limit = Some(uint!(1));
    dave.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let after = alice.first().say(&room, "after").await.unwrap();
    let dave = dave.first();
    reads(dave, &room, &after.event_id, "after").await;

    // Dave scrolls up. He has not seen the commits from before yet, and fetches them.
    let event = fetch(dave, &room, &before.event_id).await;
    // Unless they were fetched when he joined: which of the two comes first is the network's to say.
    let mut reason = &dave.read(&room, &event).await.unwrap_err();
    if !matches!(reason, DecryptionError::BeforeOurJoin) {
        assert!(matches!(reason, DecryptionError::UnknownEpoch(_)), "{reason:?}");
        dave.pump().await.unwrap();
        reason = refuses(dave, &room, &before.event_id).await;
    }
    assert!(matches!(reason, DecryptionError::BeforeOurJoin), "{reason:?}");
    reads(dave, &room, &after.event_id, "after").await;
}

#[tokio::test]
async fn who_is_invited_reads_from_the_invitation_on() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let room = room_of(&mut alice, &mut []).await;
    alice.first().invite(&room, dave.id()).await.unwrap();
    alice.first().sync(SOON).await.unwrap();

    // The Welcome comes while Dave may not read the commit yet.
    let sent = alice.first().say(&room, "do come in").await.unwrap();
    dave.first().sync(SOON).await.unwrap();
    dave.first().sync(NOW).await.unwrap();
    assert!(dave.first().status(&room).await.unwrap().is_none());
    dave.join(&room).await.unwrap();
    reads(dave.first(), &room, &sent.event_id, "do come in").await;
}

#[tokio::test]
async fn where_history_begins_with_joining_so_does_the_group() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let content = json!({ "history_visibility": "joined" });
    let options = RoomOptions::mls().with_state("m.room.history_visibility", "", content);
    let room = room_with(options, &mut alice, &mut []).await;
    alice.first().invite(&room, dave.id()).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    alice.first().say(&room, "not for Dave").await.unwrap();
    assert_eq!(devices_in(alice.first(), &room, dave.id()).await, 0);

    dave.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let sent = alice.first().say(&room, "for Dave").await.unwrap();
    reads(dave.first(), &room, &sent.event_id, "for Dave").await;
    assert_eq!(devices_in(alice.first(), &room, dave.id()).await, 1);
}

#[tokio::test]
async fn a_new_device_is_let_in_and_a_deleted_one_is_removed() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "one device each").await.unwrap();
    all_read(&room, &first, "one device each", &mut [&mut alice, &mut bob]).await;

    bob.log_in().await.unwrap();
    let id = bob.device(1).unwrap().session.device_id.clone();
    alice.first().wait_for_device(bob.id(), &id, true).await.unwrap();
    let second = alice.first().say(&room, "Bob has two").await.unwrap();
    all_read(&room, &second, "Bob has two", &mut [&mut alice, &mut bob]).await;
    let reason = refuses(bob.device(1).unwrap(), &room, &first.event_id).await;
    assert!(matches!(reason, DecryptionError::BeforeOurJoin), "{reason:?}");
    assert_eq!(devices_in(alice.first(), &room, bob.id()).await, 2);

    let account = bob.account.clone();
    bob.first().delete_device(&account, &id).await.unwrap();
    let gone = bob.take_device(1).unwrap();
    alice.first().wait_for_device(bob.id(), &id, false).await.unwrap();
    let third = alice.first().say(&room, "and one again").await.unwrap();
    all_read(&room, &third, "and one again", &mut [&mut alice, &mut bob]).await;
    assert_eq!(devices_in(alice.first(), &room, bob.id()).await, 1);
    assert!(!gone.holds(&room, third.node).await.unwrap());
}

#[tokio::test]
async fn a_device_that_its_owner_has_not_signed_waits_outside() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let mut unsigned = bob.log_in_unsigned().await.unwrap();
    let id = unsigned.session.device_id.clone();
    alice.first().wait_for_device(bob.id(), &id, true).await.unwrap();

    let sent = alice.first().say(&room, "to signed devices").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "to signed devices").await;
    assert_eq!(devices_in(alice.first(), &room, bob.id()).await, 1);
    unsigned.sync(SOON).await.unwrap();
    assert!(unsigned.status(&room).await.unwrap().is_none());

    let owner = bob.id().to_owned();
    bob.first().wait_for_device(&owner, &id, true).await.unwrap();
    bob.first().verify_own_device(&id).await.unwrap();
    alice
        .first()
        .sync_until("the owner's signature", async |device| {
            let found = device.olm.get_device(&owner, &id, None).await?;
            Ok(found.is_some_and(|found| found.is_cross_signed_by_owner()))
        })
        .await
        .unwrap();
    let sent = alice.first().say(&room, "signed now").await.unwrap();
    reads(&mut unsigned, &room, &sent.event_id, "signed now").await;
}

#[tokio::test]
async fn a_room_may_let_every_device_in() {
    let http = homeserver().await;
    let mut alice = user_with(&http, "alice", 1, all_devices()).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut unsigned = bob.log_in_unsigned().await.unwrap();
    let room = room_of(&mut alice, &mut [&mut bob]).await;

    let sent = alice.first().say(&room, "to all").await.unwrap();
    reads(&mut unsigned, &room, &sent.event_id, "to all").await;
    assert_eq!(devices_in(alice.first(), &room, bob.id()).await, 2);
    // The requirement is the room's, not the sender's: Bob's own default is another.
    let answer = bob.first().say(&room, "indeed").await.unwrap();
    assert_eq!(answer.node, sent.node);
    reads(&mut unsigned, &room, &answer.event_id, "indeed").await;
    let was_welcome = |notice: &Notice| matches!(notice, Notice::Joined { .. });
    assert!(unsigned.notices.iter().any(was_welcome));
}
