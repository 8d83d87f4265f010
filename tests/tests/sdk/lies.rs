//! No way back (protocol §11), whatever the server says; and what it holds back.

use std::sync::{Arc, Mutex};

use matrix_mls_tests::{Account, Exchange, Liar};
use matrix_sdk::ruma::{RoomId, events::room::message::RoomMessageEventContent};
use matrix_sdk_crypto_mls::{MlsError, Notice};
use matrix_sdk_mls::{Error, Room};
use matrix_sdk_ui::timeline::TimelineBuilder;
use serde_json::{Value, json};

use crate::support::{App, homeserver, on_disk, until};

fn hello() -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain("hello")
}

/// The events that were sent in the room so far.
fn sent(liar: &Liar, room: &RoomId) -> Vec<Exchange> {
    let part = format!("/rooms/{}/send/", room.as_str().replace('!', "%21").replace(':', "%3A"));
    let plain = format!("/rooms/{room}/send/");
    let seen = liar.seen();
    seen.into_iter().filter(|it| it.is("PUT", &part) || it.is("PUT", &plain)).collect()
}

fn is_encryption(event: &Value) -> bool {
    event["type"] == "m.room.encryption"
}

/// Sends nothing, because somebody tried to turn MLS off.
async fn refuses(room: &Room) {
    let error = room.send(hello()).await.unwrap_err();
    let ours = Error::of(&error);
    assert!(matches!(ours, Some(Error::Mls(MlsError::Downgraded(_)))), "{error}");
}

#[tokio::test]
async fn a_server_that_turns_mls_off_gets_nothing_any_more() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account, on_disk(&liar.url, folder.path())).await;
    let alice = App::register(&http, "alice").await;
    let room = alice.mls_room(&[&bob]).await;
    let his = bob.room(room.room_id());
    let event_id = room.send(hello()).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    his.send(hello()).await.unwrap();
    assert!(!sent(&liar, room.room_id()).is_empty());

    // The server replaces the room's encryption by Megolm, everywhere.
    let mut notices = bob.client.subscribe_to_mls_notices();
    let room_id = room.room_id().to_owned();
    let downgraded = move |it: &mut Exchange| {
        let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        if it.is("GET", "/state/m.room.encryption") {
            it.response = megolm;
        } else if it.path.ends_with("/state") {
            let events = it.response.as_array_mut().into_iter().flatten();
            events.filter(|event| is_encryption(event)).for_each(|event| {
                event["content"] = megolm.clone();
            });
        } else if it.is("GET", "/sync") && it.path.contains("since") {
            let event = json!({
                "type": "m.room.encryption", "state_key": "", "sender": "@eve:localhost",
                "event_id": "$lie", "origin_server_ts": 1, "content": megolm,
            });
            let rooms = &mut it.response["rooms"]["join"][room_id.as_str()];
            if rooms.is_null() {
                *rooms = json!({ "timeline": { "events": [], "limited": false } });
            }
            rooms["state"]["events"] = json!([event]);
        }
    };
    liar.lie(downgraded.clone());
    bob.sync_once().await;
    let settings = his.encryption_settings().unwrap();
    assert_eq!(settings.algorithm.unwrap().as_ref(), "m.megolm.v1.aes-sha2");
    let is_attempt = |notice: &Notice| matches!(notice, Notice::DowngradeAttempt { .. });
    until("a notice", async || notices.try_recv().is_ok_and(|notice| is_attempt(&notice))).await;

    let before = sent(&liar, room.room_id()).len();
    refuses(&his).await;
    let error = his.send_raw("m.reaction", json!({})).await.unwrap_err();
    assert!(Error::of(&error).is_some());
    assert!(his.is_mls().await.unwrap());
    assert!(!his.send_queue().is_enabled());

    // Nor after a restart.
    drop(his);
    let (account, session) = bob.close().await;
    let bob = App::reopen(account, session, on_disk(&liar.url, folder.path())).await;
    let his = bob.room(room.room_id());
    // The SDK's queue is off before anybody has used the room.
    bob.sync_once().await;
    until("the guarded queue", async || !his.send_queue().is_enabled()).await;
    refuses(&his).await;
    assert_eq!(sent(&liar, room.room_id()).len(), before);
}

#[tokio::test]
async fn the_creation_event_alone_makes_an_mls_room() {
    let http = homeserver().await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    // Bob's server has never told him that the room is encrypted.
    liar.lie(|it: &mut Exchange| {
        if it.is("GET", "/state/m.room.encryption") {
            it.status = 404;
            it.response = json!({ "errcode": "M_NOT_FOUND", "error": "no" });
        } else if it.path.ends_with("/state") {
            if let Some(events) = it.response.as_array_mut() {
                events.retain(|event| !is_encryption(event));
            }
        } else if it.is("GET", "/sync") {
            for (kind, parts) in [("join", ["state", "timeline"]), ("invite", ["invite_state"; 2])]
            {
                let rooms = it.response.pointer_mut(&format!("/rooms/{kind}"));
                let rooms = rooms.and_then(Value::as_object_mut);
                for (_, room) in rooms.into_iter().flatten() {
                    for part in parts {
                        let events = room.pointer_mut(&format!("/{part}/events"));
                        if let Some(events) = events.and_then(Value::as_array_mut) {
                            events.retain(|event| !is_encryption(event));
                        }
                    }
                }
            }
        }
    });
    let bob = App::first_login(account, crate::support::builder(&liar.url)).await;
    let alice = App::register(&http, "alice").await;
    let room = alice.mls_room(&[&bob]).await;
    let his = bob.room(room.room_id());
    let event_id = room.send(hello()).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    // The SDK would send in the clear.
    assert!(!his.latest_encryption_state().await.unwrap().is_encrypted());
    let event_id = his.send(hello()).await.unwrap().response.event_id;
    assert!(his.is_mls().await.unwrap());
    assert_eq!(alice.reads(room.room_id(), &event_id).await, "hello");
    let event = crate::support::on_server(&alice, room.room_id(), &event_id).await;
    assert_eq!(event["type"], "m.room.encrypted");
}

#[tokio::test]
async fn a_message_whose_welcome_comes_late_becomes_readable_by_itself() {
    let http = homeserver().await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account, crate::support::builder(&liar.url)).await;
    let alice = App::register(&http, "alice").await;
    let room = alice.mls_room(&[&bob]).await;
    bob.client.event_cache().subscribe().unwrap();
    let his = TimelineBuilder::new(&bob.room(room.room_id())).build().await.unwrap();

    // The server holds Bob's to-device events back.
    let held: Arc<Mutex<Vec<Value>>> = Arc::default();
    liar.lie({
        let held = Arc::clone(&held);
        move |it: &mut Exchange| {
            if it.is("GET", "/sync") && it.path.contains("since") {
                let events = it.response.pointer_mut("/to_device/events");
                let events = events.and_then(Value::as_array_mut);
                held.lock().unwrap().extend(events.map(std::mem::take).unwrap_or_default());
            }
        }
    });
    let event_id = room.send(hello()).await.unwrap().response.event_id;
    let is_unreadable = async || {
        let item = his.item_by_event_id(&event_id).await;
        item.is_some_and(|item| item.content().as_message().is_none())
    };
    bob.sync_until("the message", is_unreadable).await;
    bob.sync_until("the Welcome", async || !held.lock().unwrap().is_empty()).await;
    assert!(is_unreadable().await);

    // Then it comes, with a sync that has something else: the SDK drops one that ends where it began.
    liar.lie(move |it: &mut Exchange| {
        let end = it.response["next_batch"].as_str().map(ToOwned::to_owned);
        if it.is("GET", "/sync") && end.is_some_and(|end| !it.path.contains(&end)) {
            let late: Vec<_> = held.lock().unwrap().drain(..).collect();
            let events = it.response.pointer("/to_device/events").and_then(Value::as_array);
            let all = late.into_iter().chain(events.cloned().unwrap_or_default()).collect();
            it.response["to_device"]["events"] = Value::Array(all);
        }
    });
    room.send(hello()).await.unwrap();
    bob.sync_until("the text", async || {
        let item = his.item_by_event_id(&event_id).await;
        item.is_some_and(|item| {
            item.content().as_message().is_some_and(|message| message.body() == "hello")
        })
    })
    .await;
}
