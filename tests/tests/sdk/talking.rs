//! Sending and reading.

use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;

use crate::support::{App, homeserver, on_server};

#[tokio::test]
async fn two_applications_talk_in_a_room_that_one_has_made() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    assert!(room.is_mls().await.unwrap());

    let sent = room.send(RoomMessageEventContent::text_plain("hello")).await.unwrap();
    let event_id = sent.response.event_id;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    assert_eq!(alice.reads(room.room_id(), &event_id).await, "hello");
    let raw = on_server(&bob, room.room_id(), &event_id).await;
    assert_eq!(raw["type"], "m.room.encrypted");
    assert_eq!(raw["content"]["algorithm"], matrix_sdk_crypto_mls::dmls::ALGORITHM);

    let answer = bob.room(room.room_id());
    let sent = answer.send(RoomMessageEventContent::text_plain("hello yourself")).await.unwrap();
    let text = alice.reads(room.room_id(), &sent.response.event_id).await;
    assert_eq!(text, "hello yourself");
}
