//! Devices whose applications are closed and opened again, with everything on disk.

use matrix_mls_tests::{DriverError, User};
use matrix_sdk_crypto_mls::{AnyOutgoingRequest, RoomSettings};
use serde_json::Value;

use crate::support::{
    NOW, all_agree, all_read, commit_in_outbox, homeserver, reads, room_of, tip, user,
};

#[tokio::test]
async fn devices_go_on_from_disk_where_they_were() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let on_disk = async |name: &str, devices| {
        let settings = RoomSettings::default();
        User::register_on_disk(&http, name, devices, settings, folder.path()).await.unwrap()
    };
    let mut alice = on_disk("alice", 2).await;
    let mut bob = on_disk("bob", 1).await;
    let mut carol = on_disk("carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "one").await.unwrap();
    all_read(&room, &first, "one", &mut [&mut alice, &mut bob]).await;

    // Everybody at once; nothing was in flight.
    let mut alice = alice.stop().await.unwrap().start().await.unwrap();
    let stopped_bob = bob.stop().await.unwrap();
    assert_eq!(tip(alice.first(), &room).await, first.node);
    let second = alice.first().say(&room, "two").await.unwrap();
    assert_eq!((second.node, second.generation), (first.node, first.generation + 1));

    // Adding somebody, stopped between the commit and its being sent, while Bob is away.
    alice.first().invite(&room, carol.id()).await.unwrap();
    carol.join(&room).await.unwrap();
    let carol_id = carol.id().to_owned();
    alice
        .first()
        .sync_until("Carol in the room", async |device| {
            Ok(device.room(&room).is_some_and(|room| room.members().joined.contains(&carol_id)))
        })
        .await
        .unwrap();
    let commit = commit_in_outbox(alice.first(), &room).await;
    let mut alice = alice.stop().await.unwrap().start().await.unwrap();
    assert_eq!(tip(alice.first(), &room).await, first.node);
    let again = alice.first().mls.outgoing_requests().await.unwrap();
    let again = again.iter().find(|request| request.request_id() == commit.request_id()).unwrap();
    assert!(matches!(again.request(), AnyOutgoingRequest::RoomMessage(_)));
    let third = alice.first().say(&room, "three").await.unwrap();
    assert_ne!(third.node, first.node);

    // Bob catches up with a message of the old epoch, a commit and a message of the new one.
    let mut bob = stopped_bob.start().await.unwrap();
    reads(bob.first(), &room, &second.event_id, "two").await;
    all_read(&room, &third, "three", &mut [&mut alice, &mut bob, &mut carol]).await;
    all_agree(&room, third.node, &mut [&mut alice, &mut bob, &mut carol]).await;

    // The newcomer's join is on disk too, and old messages are readable with what is there.
    let mut carol = carol.stop().await.unwrap().start().await.unwrap();
    let mut bob = bob.stop().await.unwrap().start().await.unwrap();
    let fourth = carol.first().say(&room, "four").await.unwrap();
    assert_eq!(fourth.node, third.node);
    all_read(&room, &fourth, "four", &mut [&mut alice, &mut bob, &mut carol]).await;
    let texts = ["one", "two", "three", "four"];
    let bob = bob.first();
    assert_eq!(bob.timeline(&room).len(), texts.len());
    for (event, text) in bob.timeline(&room).iter().zip(texts) {
        let again = bob.read(&room, &event.raw).await.unwrap();
        let content: Value = again.event.get_field("content").unwrap().unwrap();
        assert_eq!(content["body"], text);
    }
}

#[tokio::test]
async fn what_is_in_memory_cannot_be_stopped() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    alice.first().sync(NOW).await.unwrap();
    let error = alice.stop().await.unwrap_err();
    assert!(matches!(error, DriverError::NotOnDisk(..)), "{error}");
}
