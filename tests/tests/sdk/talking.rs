//! Sending and reading.

use matrix_mls_tests::Account;
use matrix_sdk::ruma::{
    TransactionId,
    events::{
        InitialStateEvent,
        room::{
            encryption::RoomEncryptionEventContent, member::MembershipState,
            message::RoomMessageEventContent,
        },
    },
};
use matrix_sdk_crypto_mls::{DecryptionError, dmls::ALGORITHM};
use matrix_sdk_mls::{Error, NewRooms};
use serde_json::json;

use crate::support::{App, builder, content, homeserver, invite, on_server};

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
    assert_eq!(raw["content"]["algorithm"], ALGORITHM);

    let answer = bob.room(room.room_id());
    let sent = answer.send(RoomMessageEventContent::text_plain("hello yourself")).await.unwrap();
    let text = alice.reads(room.room_id(), &sent.response.event_id).await;
    assert_eq!(text, "hello yourself");
}

#[tokio::test]
async fn raw_events_are_encrypted_and_a_transaction_is_one_event() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let transaction = TransactionId::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let content = json!({ "answer": 42 });
        let sent = room.send_raw("org.example.thing", content).with_transaction_id(&transaction);
        let sent = sent.await.unwrap();
        assert!(sent.encryption_info.is_some());
        ids.push(sent.response.event_id);
    }
    assert_eq!(ids[0], ids[1]);
    let event = on_server(&bob, room.room_id(), &ids[0]).await;
    assert_eq!(event["type"], "m.room.encrypted");
    assert_eq!(event["content"].get("answer"), None);
    let his = bob.room(room.room_id());
    let mut read = None;
    bob.sync_until("the event", async || {
        let event = his.event(&ids[0], None).await.unwrap();
        read = event.encryption_info().is_some().then(|| event.raw().clone());
        read.is_some()
    })
    .await;
    let read = read.unwrap();
    assert_eq!(read.get_field::<String>("type").unwrap().as_deref(), Some("org.example.thing"));
    assert_eq!(content(&read), Some(json!({ "answer": 42 })));
}

#[tokio::test]
async fn rooms_without_mls_are_the_sdks() {
    let http = homeserver().await;
    let mut alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    // In the clear, until encryption is turned on, which is Megolm unless somebody asks for MLS.
    let room = alice.client.create_room(invite(&[&bob])).await.unwrap();
    alice.joined_by(&room, &[&bob]).await;
    let sent = room.send(RoomMessageEventContent::text_plain("in the clear")).await.unwrap();
    let event = on_server(&bob, room.room_id(), &sent.response.event_id).await;
    assert_eq!(event["content"]["body"], "in the clear");
    assert!(sent.encryption_info.is_none());

    alice.keep_syncing();
    room.enable_encryption().await.unwrap();
    let sent = room.send(RoomMessageEventContent::text_plain("with Megolm")).await.unwrap();
    alice.pause().await;
    let event = on_server(&bob, room.room_id(), &sent.response.event_id).await;
    assert_eq!(event["content"]["algorithm"], "m.megolm.v1.aes-sha2");
    assert_eq!(bob.reads(room.room_id(), &sent.response.event_id).await, "with Megolm");
    assert!(!room.is_mls().await.unwrap());
    assert!(!bob.room(room.room_id()).is_mls().await.unwrap());

    // And from then on it is an MLS room for good.
    room.enable_mls().await.unwrap();
    let sent = room.send(RoomMessageEventContent::text_plain("with MLS")).await.unwrap();
    assert_eq!(bob.reads(room.room_id(), &sent.response.event_id).await, "with MLS");
    let event = on_server(&bob, room.room_id(), &sent.response.event_id).await;
    assert_eq!(event["content"]["algorithm"], ALGORITHM);
    let his = bob.room(room.room_id());
    assert!(his.is_mls().await.unwrap());
    his.enable_encryption().await.unwrap();
    let sent = his.send(RoomMessageEventContent::text_plain("still")).await.unwrap();
    let event = on_server(&alice, room.room_id(), &sent.response.event_id).await;
    assert_eq!(event["content"]["algorithm"], ALGORITHM);
}

#[tokio::test]
async fn rooms_are_mls_rooms_where_the_application_wants_that() {
    let http = homeserver().await;
    let (account, _) = Account::register(&http, "alice").await.unwrap();
    let all_mls = builder(&http.base_url).new_rooms(NewRooms::Mls);
    let alice = App::first_login(account, all_mls).await;
    let bob = App::register(&http, "bob").await;

    let mut request = invite(&[&bob]);
    let content = RoomEncryptionEventContent::with_recommended_defaults();
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    let asked = alice.client.create_room(request.clone()).await.unwrap();
    assert!(asked.is_mls().await.unwrap());
    let dm = alice.client.create_dm(bob.id()).await.unwrap();
    assert!(dm.is_mls().await.unwrap());
    let plain = alice.client.create_room(invite(&[&bob])).await.unwrap();
    assert!(!plain.is_mls().await.unwrap());
    plain.enable_encryption().await.unwrap();
    assert!(plain.is_mls().await.unwrap());

    // Who does not want it gets what the request says, also if that is MLS.
    request.invite.clear();
    let theirs = bob.client.create_room(request.clone()).await.unwrap();
    assert!(!theirs.is_mls().await.unwrap());
    let content = RoomEncryptionEventContent::new(ALGORITHM.into());
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(content).to_raw_any()];
    let theirs = bob.client.create_room(request).await.unwrap();
    assert!(theirs.is_mls().await.unwrap());
}

#[tokio::test]
async fn members_come_and_go() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let carol = App::register(&http, "carol").await;
    let room = alice.mls_room(&[&bob]).await;
    let first = room.send(RoomMessageEventContent::text_plain("before")).await.unwrap();
    assert_eq!(bob.reads(room.room_id(), &first.response.event_id).await, "before");

    room.invite_user_by_id(carol.id()).await.unwrap();
    alice.joined_by(&room, &[&carol]).await;
    bob.sync_once().await;
    // Whoever speaks next lets her in.
    let his = bob.room(room.room_id());
    let second = his.send(RoomMessageEventContent::text_plain("with Carol")).await.unwrap();
    assert_eq!(carol.reads(room.room_id(), &second.response.event_id).await, "with Carol");
    assert_eq!(alice.reads(room.room_id(), &second.response.event_id).await, "with Carol");
    let hers = carol.room(room.room_id());
    let event = hers.event(&first.response.event_id, None).await.unwrap();
    let error = hers.decrypt_mls_event(event.raw()).await.unwrap_err();
    assert!(matches!(error, Error::Decryption(DecryptionError::BeforeOurJoin)), "{error}");

    room.kick_user(bob.id(), None).await.unwrap();
    alice
        .sync_until("Bob's leaving", async || {
            let bob = room.get_member_no_sync(bob.id()).await.unwrap();
            bob.is_none_or(|bob| *bob.membership() != MembershipState::Join)
        })
        .await;
    let third = room.send(RoomMessageEventContent::text_plain("without Bob")).await.unwrap();
    assert_eq!(carol.reads(room.room_id(), &third.response.event_id).await, "without Bob");
    let roster = room.mls_status().await.unwrap().unwrap().roster;
    let users: Vec<_> = roster.iter().map(|(_, member)| &member.device().user_id).collect();
    assert!(users.iter().all(|user| *user != bob.id().as_str()), "{users:?}");
    assert_eq!(users.len(), 2);
    bob.sync_once().await;
    let error = his.send(RoomMessageEventContent::text_plain("still here?")).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::NotJoined(_))), "{error}");
}

#[tokio::test]
async fn an_application_without_a_timeline_hears_every_message_once() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let mut heard = bob.client.subscribe_to_mls_messages();
    let room = alice.mls_room(&[&bob]).await;
    let mut sent = Vec::new();
    for words in ["one", "two", "three"] {
        let content = RoomMessageEventContent::text_plain(words);
        sent.push((room.send(content).await.unwrap().response.event_id, words.to_owned()));
    }
    let mut messages = Vec::new();
    bob.sync_until("three messages", async || {
        while let Ok(message) = heard.try_recv() {
            assert_eq!(message.room_id, room.room_id());
            // One whose epoch is not known yet comes again.
            if let Ok(event) = message.result {
                let content = content(&event.event).unwrap();
                messages.push((message.event_id, content["body"].as_str().unwrap().to_owned()));
            }
        }
        messages.len() >= 3
    })
    .await;
    assert_eq!(messages, sent);
}
