//! What a room is for.

use matrix_sdk_crypto_mls::{Notice, Verdict};
use ruma::uint;
use serde_json::{Value, json};

use crate::support::{
    NOW, SOON, all_agree, all_read, content, homeserver, reads, room_of, tip, user,
};

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

#[tokio::test]
async fn somebody_alone_talks_among_their_own_devices() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 3).await;
    let room = room_of(&mut alice, &mut []).await;

    let note = alice.device(1).unwrap().say(&room, "a note to myself").await.unwrap();
    all_read(&room, &note, "a note to myself", &mut [&mut alice]).await;
    let answer = alice.device(2).unwrap().say(&room, "seen").await.unwrap();
    all_read(&room, &answer, "seen", &mut [&mut alice]).await;
    assert_eq!(note.node, answer.node);
}

#[tokio::test]
async fn a_device_that_updates_its_keys_takes_everybody_along() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 2).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let before = alice.first().say(&room, "before").await.unwrap();
    all_read(&room, &before, "before", &mut [&mut alice, &mut bob]).await;

    bob.first().update_keys(&room).await.unwrap();
    let updated = tip(bob.first(), &room).await;
    assert_ne!(before.node, updated);
    all_agree(&room, updated, &mut [&mut alice, &mut bob]).await;

    let after = alice.device(1).unwrap().say(&room, "after").await.unwrap();
    assert_eq!(after.node, updated);
    all_read(&room, &after, "after", &mut [&mut alice, &mut bob]).await;
    // What was there before can be read again as often as one likes.
    let event = bob.first().event(&room, &before.event_id).unwrap().raw.clone();
    for _ in 0..2 {
        bob.first().read(&room, &event).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_sync_twice_changes_nothing() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&room, "once").await.unwrap();

    // The sync that lets Bob in, and the message in the new epoch with it.
    let bob = bob.first();
    let response = bob.sync_raw(NOW).await.unwrap();
    for _ in 0..2 {
        let update = bob.process_sync(response.clone()).await.unwrap();
        bob.process(&update).await.unwrap();
    }
    reads(bob, &room, &sent.event_id, "once").await;
    let joined =
        bob.notices.iter().filter(|notice| matches!(notice, Notice::Joined { .. })).count();
    assert_eq!((bob.timeline(&room).len(), joined), (1, 1), "{:?}", bob.notices);

    // And one with a commit of somebody else's.
    alice.first().update_keys(&room).await.unwrap();
    let sent = alice.first().say(&room, "twice").await.unwrap();
    let response = bob.sync_raw(SOON).await.unwrap();
    for _ in 0..2 {
        let update = bob.process_sync(response.clone()).await.unwrap();
        bob.process(&update).await.unwrap();
    }
    reads(bob, &room, &sent.event_id, "twice").await;
    let answer = bob.say(&room, "twice is enough").await.unwrap();
    assert_eq!(answer.node, sent.node);
    reads(alice.first(), &room, &answer.event_id, "twice is enough").await;
}

#[tokio::test]
async fn rooms_may_come_before_what_is_sent_directly() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&room, "hello").await.unwrap();

    let bob = bob.first();
    let response = bob.sync_raw(SOON).await.unwrap();
    let update = bob.process_sync(response).await.unwrap();
    assert!(!update.to_device_raw.is_empty(), "the Welcome and the message are in one sync");
    bob.receive_rooms(&update).await.unwrap();
    assert_eq!(bob.status(&room).await.unwrap().map(|status| status.node), None);
    bob.receive_to_device(&update).await.unwrap();
    assert_eq!(tip(bob, &room).await, sent.node);
    bob.process(&update).await.unwrap();
    reads(bob, &room, &sent.event_id, "hello").await;
}

#[tokio::test]
async fn who_was_away_catches_up_although_the_sync_is_limited() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "0").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "0").await;

    let mut last = first;
    for number in 1..=5 {
        alice.first().update_keys(&room).await.unwrap();
        last = alice.first().say(&room, &number.to_string()).await.unwrap();
    }
    // Of the five commits and five messages the sync brings the last message only.
    let bob = bob.first();
    bob.sync_filter.room.timeline.limit = Some(uint!(1));
    let update = bob.sync(SOON).await.unwrap();
    assert!(update.joined[&room].limited && update.joined[&room].timeline.len() == 1);
    reads(bob, &room, &last.event_id, "5").await;
    assert_eq!(tip(bob, &room).await, last.node);
}

#[tokio::test]
async fn relations_stay_outside_and_other_events_inside() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let sent = alice.first().say(&room, "what do you think?").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "what do you think?").await;

    let relation = json!({ "rel_type": "m.annotation", "event_id": sent.event_id, "key": "+" });
    let reaction = json!({ "m.relates_to": relation, "org.example.secret": "yes" });
    let reaction = bob.first().send(&room, "m.reaction", &reaction).await.unwrap();
    let received = alice.first().wait_for(&room, &reaction.event_id).await.unwrap();
    let outside = content(&received.raw);
    assert_eq!(outside["m.relates_to"], relation);
    assert!(!outside.to_string().contains("org.example.secret"));
    let inside = &received.result.as_ref().unwrap().event;
    assert_eq!(inside.get_field::<String>("type").unwrap().unwrap(), "m.reaction");
    let inside: Value = inside.get_field("content").unwrap().unwrap();
    assert_eq!(inside["org.example.secret"], "yes");
    assert_eq!(inside["m.relates_to"], relation);
}
