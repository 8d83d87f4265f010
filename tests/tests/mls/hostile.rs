//! Members who misbehave, and a server that alters what passes through.

use matrix_mls_tests::{DriverError, RoomOptions};
use matrix_sdk_crypto_mls::{AnyOutgoingRequest, DecryptionError, MlsError, Notice};
use ruma::serde::Raw;
use serde_json::{Value, json};

use crate::support::{
    COMMIT, SOON, about_to_add, alice_and_bob, all_read, commit_in_outbox, content, fetch,
    homeserver, reads, refuses, room_of, room_with, send_raw, tip, user,
};

#[tokio::test]
async fn another_users_ciphertext_is_not_taken_as_ones_own() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let sent = alice.first().say(&room, "I, Alice").await.unwrap();
    all_read(&room, &sent, "I, Alice", &mut [&mut alice, &mut bob, &mut carol]).await;

    let copied = content(&fetch(bob.first(), &room, &sent.event_id).await);
    let copy = send_raw(bob.first(), &room, "m.room.encrypted", &copied).await;
    let bobs = bob.id().to_owned();
    for device in [alice.first(), carol.first()] {
        match refuses(device, &room, &copy).await {
            DecryptionError::InvalidSender { sender, .. } => assert_eq!(*sender, bobs),
            other => panic!("{other:?}"),
        }
    }
    reads(carol.first(), &room, &sent.event_id, "I, Alice").await;
}

#[tokio::test]
async fn the_same_message_in_a_second_event_is_a_replay() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&room, "once").await.unwrap();
    all_read(&room, &sent, "once", &mut [&mut alice, &mut bob]).await;

    let again = content(&fetch(alice.first(), &room, &sent.event_id).await);
    let again = send_raw(alice.first(), &room, "m.room.encrypted", &again).await;
    for device in [alice.first(), bob.first()] {
        match refuses(device, &room, &again).await {
            DecryptionError::Replay { first } => assert_eq!(*first, sent.event_id),
            other => panic!("{other:?}"),
        }
        // Also after a restart, and the first one stays what it was.
        device.restart().await.unwrap();
        let event = device.event(&room, &again).unwrap().raw.clone();
        let reason = device.read(&room, &event).await.unwrap_err();
        assert!(matches!(reason, DecryptionError::Replay { .. }), "{reason:?}");
        let event = device.event(&room, &sent.event_id).unwrap().raw.clone();
        device.read(&room, &event).await.unwrap();
    }
}

#[tokio::test]
async fn an_altered_message_is_not_read_and_does_no_harm() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&room, "unaltered").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "unaltered").await;
    let original = content(&fetch(bob.first(), &room, &sent.event_id).await);
    let ciphertext = original["ciphertext"].as_str().unwrap().to_owned();

    // One character each: in the header, in the sender data, in the text, in the last one.
    let length = ciphertext.len();
    for position in [2, length / 4, length / 2, length - 40, length - 4] {
        let mut altered = ciphertext.clone().into_bytes();
        altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
        let mut content = original.clone();
        content["ciphertext"] = String::from_utf8(altered).unwrap().into();
        let event = send_raw(alice.first(), &room, "m.room.encrypted", &content).await;
        let event = bob.first().wait_for(&room, &event).await;
        match event.map(|event| event.result.as_ref().err()) {
            Ok(Some(DecryptionError::Malformed(_) | DecryptionError::WrongRoom)) => {}
            other => panic!("character {position}: {other:?}"),
        }
    }
    for (field, value) in [
        ("ciphertext", json!("")),
        ("ciphertext", json!("not base64!")),
        ("ciphertext", json!(7)),
        ("epoch", json!("A".repeat(43))),
        ("algorithm", json!("m.megolm.v1.aes-sha2")),
    ] {
        let mut content = original.clone();
        content[field] = value;
        let event = send_raw(alice.first(), &room, "m.room.encrypted", &content).await;
        let reason = refuses(bob.first(), &room, &event).await;
        assert!(matches!(reason, DecryptionError::Malformed(_)), "{field}: {reason:?}");
    }
    let next = alice.first().say(&room, "and on").await.unwrap();
    reads(bob.first(), &room, &next.event_id, "and on").await;
}

#[tokio::test]
async fn a_message_from_another_room_is_not_read() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let here = room_of(&mut alice, &mut [&mut bob]).await;
    let there = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&here, "here").await.unwrap();
    reads(bob.first(), &here, &sent.event_id, "here").await;
    let other = alice.first().say(&there, "there").await.unwrap();
    reads(bob.first(), &there, &other.event_id, "there").await;

    let copied = content(&fetch(alice.first(), &here, &sent.event_id).await);
    let copy = send_raw(alice.first(), &there, "m.room.encrypted", &copied).await;
    let reason = refuses(bob.first(), &there, &copy).await;
    assert!(matches!(reason, DecryptionError::WrongRoom), "{reason:?}");
}

#[tokio::test]
async fn a_commit_that_another_user_posts_is_dropped_and_the_authors_counts() {
    let (mut alice, mut bob, mut dave, room, first) = about_to_add().await;

    // Bob has the commit from somewhere before the server has accepted Alice's event.
    let request = commit_in_outbox(alice.first(), &room).await;
    let AnyOutgoingRequest::RoomMessage(put) = request.request() else { unreachable!() };
    let commit: Value = put.body.deserialize_as_unchecked().unwrap();
    let copy = send_raw(bob.first(), &room, COMMIT, &commit).await;
    for device in [alice.first(), bob.first()] {
        // Without its requests: Alice's own event must come later than the copy.
        let response = device.sync_raw(SOON).await.unwrap();
        let update = device.process_sync(response).await.unwrap();
        device.receive_rooms(&update).await.unwrap();
        let notices = device.mls.take_notices();
        let dropped = notices.iter().any(
            |notice| matches!(notice, Notice::CommitDropped { event_id, .. } if *event_id == copy),
        );
        assert!(dropped, "{notices:?}");
        assert_eq!(tip(device, &room).await, first.node);
    }

    alice.first().pump().await.unwrap();
    let second = alice.first().say(&room, "after").await.unwrap();
    assert_ne!(second.node, first.node);
    all_read(&room, &second, "after", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn a_relayed_copy_counts_for_the_author_and_for_those_whom_it_lets_in() {
    let (mut alice, mut bob, mut dave, room, first) = about_to_add().await;

    let request = commit_in_outbox(alice.first(), &room).await;
    let AnyOutgoingRequest::RoomMessage(put) = request.request() else { unreachable!() };
    let mut commit: Value = put.body.deserialize_as_unchecked().unwrap();
    commit["relay"] = true.into();
    let copy = send_raw(bob.first(), &room, COMMIT, &commit).await;
    let response = alice.first().sync_raw(SOON).await.unwrap();
    let update = alice.first().process_sync(response).await.unwrap();
    alice.first().process(&update).await.unwrap();

    let second = alice.first().say(&room, "after").await.unwrap();
    assert_eq!(second.commit_event, Some(copy));
    assert_ne!(second.node, first.node);
    all_read(&room, &second, "after", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn a_posted_commit_that_another_user_posts_again_changes_nothing() {
    let (mut alice, mut bob, room, first) = alice_and_bob().await;

    let commit = content(&fetch(bob.first(), &room, &first.commit_event.unwrap()).await);
    let mut relayed = commit.clone();
    relayed["relay"] = true.into();
    let mut garbled = commit.clone();
    garbled["parent"] = first.node.to_base64().into();
    for content in [commit, relayed, garbled, json!({ "commit": [] }), json!({})] {
        send_raw(bob.first(), &room, COMMIT, &content).await;
    }
    let second = alice.first().say(&room, "after").await.unwrap();
    assert_eq!(second.node, first.node);
    all_read(&room, &second, "after", &mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_room_cannot_be_turned_back() {
    let (mut alice, mut bob, room, before) = alice_and_bob().await;

    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let attempt = alice.first().send_state(&room, "m.room.encryption", "", &megolm).await.unwrap();
    for device in [alice.first(), bob.first()] {
        device
            .sync_until("the attempt", async |device| {
                Ok(device.notices.iter().any(|notice| {
                    matches!(notice, Notice::DowngradeAttempt { event_id, .. }
                        if event_id.as_ref() == Some(&attempt))
                }))
            })
            .await
            .unwrap();
        device.restart().await.unwrap();
        let refused = device.say(&room, "in the clear?").await;
        assert!(matches!(refused, Err(DriverError::Mls(MlsError::Downgraded(_)))), "{refused:?}");
        assert!(device.mls.is_mls_room(&room).await.unwrap());
        let event = device.event(&room, &before.event_id).unwrap().raw.clone();
        device.read(&room, &event).await.unwrap();
    }
}

#[tokio::test]
async fn a_room_that_is_no_mls_room_is_left_alone() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_with(RoomOptions::default(), &mut alice, &mut [&mut bob]).await;
    let refused = alice.first().say(&room, "hello").await;
    assert!(matches!(refused, Err(DriverError::Mls(MlsError::NotMls(_)))), "{refused:?}");
    assert!(!alice.first().mls.is_mls_room(&room).await.unwrap());

    // Until somebody who may turns it into one.
    let algorithm = json!({ "algorithm": matrix_sdk_crypto_mls::dmls::ALGORITHM });
    alice.first().send_state(&room, "m.room.encryption", "", &algorithm).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let sent = alice.first().say(&room, "now").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "now").await;
}

#[tokio::test]
async fn welcomes_that_are_none_are_dropped() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let target = bob.first();
    let nonsense = json!({
        "room_id": room, "epoch": "A".repeat(43), "epoch_event": "$nothing", "welcome": "AAAA",
    });
    for content in [nonsense, json!({}), json!({ "room_id": 3 })] {
        let event = json!({
            "type": "io.github.matrix-mls.dmls.v1.welcome",
            "sender": alice.id(),
            "content": content,
        });
        let update = matrix_mls_tests::SyncUpdate {
            to_device_raw: vec![Raw::new(&event).unwrap().cast_unchecked()],
            ..Default::default()
        };
        target.process(&update).await.unwrap();
    }
    let dropped = |notice: &Notice| matches!(notice, Notice::WelcomeDropped { .. });
    assert!(target.notices.iter().any(dropped), "{:?}", target.notices);
    let sent = alice.first().say(&room, "hello").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "hello").await;
}
