//! Whoever is removed cannot read on, whatever they get hold of.

use matrix_mls_tests::{DriverError, MlsDevice};
use matrix_sdk_crypto_mls::{
    DecryptionError, MlsError,
    dmls::{EpochKey, NodeId},
    types::events::MlsEncryptedEventContent,
};
use ruma::{OwnedEventId, RoomId, events::AnySyncTimelineEvent, serde::Raw};

use crate::support::{COMMIT, SOON, all_read, events, homeserver, reads, room_of, user};

/// The commits and messages of a room, oldest first, as a member fetches them.
async fn history(member: &MlsDevice, room: &RoomId) -> Vec<Raw<AnySyncTimelineEvent>> {
    events(member, room, &[COMMIT, "m.room.encrypted"]).await
}

fn message(event: &Raw<AnySyncTimelineEvent>) -> Option<MlsEncryptedEventContent> {
    event.get_field("content").ok().flatten()
}

/// The keys of all epochs that a device has been in.
async fn epoch_keys(device: &MlsDevice, room: &RoomId) -> Vec<EpochKey> {
    let stored = device.mls.store().load_room(room).await.unwrap().unwrap();
    stored.group.epoch_keys.into_values().flatten().map(|key| (*key).clone()).collect()
}

#[tokio::test]
async fn a_kicked_user_reads_nothing_on_even_with_every_event_in_hand() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 2).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 2).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let before = alice.first().say(&room, "with Carol").await.unwrap();
    all_read(&room, &before, "with Carol", &mut [&mut alice, &mut bob, &mut carol]).await;

    alice.first().kick(&room, carol.id()).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let without = alice.first().say(&room, "without Carol").await.unwrap();
    all_read(&room, &without, "without Carol", &mut [&mut alice, &mut bob]).await;
    bob.first().update_keys(&room).await.unwrap();
    let later = bob.first().say(&room, "still without").await.unwrap();
    all_read(&room, &later, "still without", &mut [&mut alice, &mut bob]).await;
    let nodes: [NodeId; 3] = [before.node, without.node, later.node];
    assert!(nodes[0] != nodes[1] && nodes[1] != nodes[2]);

    // Carol gets everything that the server has, from a member.
    let events = history(bob.first(), &room).await;
    for device in carol.devices() {
        device.sync(SOON).await.unwrap();
        device.mls.receive_room_events(&room, &[], &events).await.unwrap();
        device.pump().await.unwrap();
        let mut refused = 0;
        for event in &events {
            let Some(content) = message(event) else { continue };
            match device.read(&room, event).await {
                Ok(_) => assert_eq!(content.epoch, before.node),
                Err(DecryptionError::AfterOurRemoval) => {
                    assert_ne!(content.epoch, before.node);
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 2);

        // Nor do the keys help that Carol has, under whatever name.
        let keys = epoch_keys(device, &room).await;
        assert!(!keys.is_empty() && !device.holds(&room, without.node).await.unwrap());
        let current = epoch_keys(bob.first(), &room).await;
        for content in events.iter().filter_map(message) {
            let is_before = content.epoch == before.node;
            for key in &keys {
                assert_eq!(key.decrypt(&content.ciphertext.0).is_ok(), is_before);
            }
            // All that is public of the epoch, with the secrets that Carol has.
            let public = current.iter().find(|key| key.node() == content.epoch).unwrap();
            for key in &keys {
                let mut parts = public.to_parts();
                parts.tree = key.tree().clone();
                parts.sender_data_secret = key.sender_data_secret().clone();
                let forged = EpochKey::from_parts(parts).unwrap();
                assert_eq!(forged.decrypt(&content.ciphertext.0).is_ok(), is_before);
            }
        }

        // And it is told, rather than to send into the void.
        let refused = device.say(&room, "hello?").await;
        assert!(matches!(refused, Err(DriverError::Mls(MlsError::Removed { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn who_leaves_is_removed_by_whoever_writes_next_and_may_come_back() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let first = alice.first().say(&room, "all of us").await.unwrap();
    all_read(&room, &first, "all of us", &mut [&mut alice, &mut bob, &mut carol]).await;

    carol.first().leave(&room).await.unwrap();
    bob.first().sync(SOON).await.unwrap();
    let second = bob.first().say(&room, "she is gone").await.unwrap();
    all_read(&room, &second, "she is gone", &mut [&mut alice, &mut bob]).await;
    assert_ne!(first.node, second.node);

    alice.first().invite(&room, carol.id()).await.unwrap();
    carol.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let third = alice.first().say(&room, "welcome back").await.unwrap();
    all_read(&room, &third, "welcome back", &mut [&mut alice, &mut bob, &mut carol]).await;
    let event = history(alice.first(), &room).await.into_iter().find(|event| {
        event.get_field::<OwnedEventId>("event_id").unwrap().as_ref() == Some(&second.event_id)
    });
    let reason = carol.first().read(&room, &event.unwrap()).await.unwrap_err();
    assert!(matches!(reason, DecryptionError::AfterOurRemoval), "{reason:?}");
    reads(carol.first(), &room, &first.event_id, "all of us").await;
}
