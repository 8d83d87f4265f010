//! What a room is for.

use matrix_sdk_crypto_mls::{DecryptionError, Verdict};

use crate::support::{all_agree, all_read, homeserver, reads, refuses, room_of, tip, user};

#[tokio::test]
async fn everybody_reads_what_anybody_writes_on_every_device() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 2).await;
    let mut bob = user(&http, "bob", 2).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;

    let first = alice.first().say(&room, "who is there?").await.unwrap();
    assert_eq!(first.without_mls, []);
    all_read(&room, &first, "who is there?", &mut [&mut alice, &mut bob, &mut carol]).await;

    let second = bob.device(1).unwrap().say(&room, "Bob, on my second device").await.unwrap();
    let text = "Bob, on my second device";
    all_read(&room, &second, text, &mut [&mut alice, &mut bob, &mut carol]).await;
    let third = carol.first().say(&room, "Carol").await.unwrap();
    all_read(&room, &third, "Carol", &mut [&mut alice, &mut bob, &mut carol]).await;

    // One commit was enough for all of it, and everybody is where it led.
    assert_eq!(first.node, third.node);
    all_agree(&room, first.node, &mut [&mut alice, &mut bob, &mut carol]).await;
    let status = alice.first().status(&room).await.unwrap().unwrap();
    assert_eq!((status.roster.len(), status.epoch), (5, 1));

    // Who wrote it is shown, and how far that is known.
    let received = carol.first().event(&room, &second.event_id).unwrap();
    let info = &received.result.as_ref().unwrap().encryption_info;
    assert_eq!(info.sender.user_id, bob.id().as_str());
    assert_eq!(info.sender.device_id, bob.device(1).unwrap().session.device_id.as_str());
    assert_eq!((info.verdict, info.generation_reused), (Verdict::CrossSigned, false));
}
