//! The driver against a homeserver: what the later tests take for granted.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::Context as _;
use matrix_mls_tests::{Account, Device, DriverError, HttpClient, RoomOptions};
use reqwest::StatusCode;
use ruma::{
    OneTimeKeyAlgorithm, OneTimeKeyId, OwnedOneTimeKeyId, TransactionId, UInt,
    api::{
        Direction,
        client::{
            filter::RoomEventFilter,
            keys::{claim_keys, upload_keys},
            message::get_message_events,
        },
        error::ErrorCode,
    },
    encryption::OneTimeKey,
    events::{StateEventType, room::member::MembershipState},
    serde::Raw,
    uint,
};
use serde_json::{Value, json};

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(5);
const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

async fn homeserver() -> anyhow::Result<HttpClient> {
    let url = env::var("MLS_TEST_HOMESERVER").context("MLS_TEST_HOMESERVER is not set")?;
    Ok(HttpClient::connect(url).await?)
}

/// A new user with one device that has uploaded its keys and synced.
async fn new_user(http: &HttpClient, name: &str) -> anyhow::Result<(Account, Device)> {
    let (account, session) = Account::register(http, name).await?;
    let mut device = Device::new(http, session).await;
    device.sync_once(NOW).await?;
    Ok((account, device))
}

async fn new_device(http: &HttpClient, account: &Account) -> anyhow::Result<Device> {
    let mut device = Device::new(http, account.login().await?).await;
    device.sync_once(NOW).await?;
    Ok(device)
}

fn refused(result: Result<impl Sized, DriverError>) -> Option<(StatusCode, ErrorCode)> {
    let error = result.err()?;
    Some((error.status()?, error.errcode()?.clone()))
}

#[tokio::test]
async fn a_room_fills_and_empties_as_sync_and_members_say() {
    let http = homeserver().await.unwrap();
    let (_, mut alice) = new_user(&http, "alice").await.unwrap();
    let (_, mut bob) = new_user(&http, "bob").await.unwrap();

    let options = RoomOptions {
        power_levels: Some(json!({ "events_default": 0, "events": { "org.example.rare": 50 } })),
        creation_content: Some(json!({ "org.example.create": true })),
        ..RoomOptions::default()
    };
    let options = options
        .with_state("org.example.state", "key", json!({ "a": 1 }))
        .with_invite(bob.user_id());
    let room = alice.create_room(options).await.unwrap();

    let update = bob.sync_once(SOON).await.unwrap();
    assert!(update.invited.contains_key(&room));
    assert_eq!(bob.rooms[&room].membership(bob.user_id()), Some(&MembershipState::Invite));
    let members = alice.members(&room).await.unwrap();
    assert!(members.joined.contains(alice.user_id()) && members.invited.contains(bob.user_id()));

    bob.join(&room).await.unwrap();
    let update = bob.sync_once(SOON).await.unwrap();
    assert!(update.joined.contains_key(&room));
    let seen = bob.room(&room).unwrap();
    assert_eq!(seen.members().joined.len(), 2);
    let state: Value = seen.content(&"org.example.state".into(), "key").unwrap();
    assert_eq!(state, json!({ "a": 1 }));
    let create: Value = seen.content(&StateEventType::RoomCreate, "").unwrap();
    assert_eq!(create["org.example.create"], json!(true));
    let levels = seen.power_levels().unwrap();
    assert!(levels.user_can_kick_user(alice.user_id(), bob.user_id()));
    assert!(!levels.user_can_send_message(bob.user_id(), "org.example.rare".into()));

    // The same transaction is the same event.
    let txn = TransactionId::new();
    let content = json!({ "msgtype": "m.text", "body": "hi" });
    let sent = bob.send_event(&room, "m.room.message", &content, &txn).await.unwrap();
    assert_eq!(bob.send_event(&room, "m.room.message", &content, &txn).await.unwrap(), sent);
    let event = alice.get_event(&room, &sent).await.unwrap();
    assert_eq!(event.get_field::<Value>("content").unwrap(), Some(content));
    alice.sync_once(SOON).await.unwrap();
    let count = alice.rooms[&room]
        .timeline
        .iter()
        .filter(|event| event.get_field("event_id").unwrap() == Some(sent.clone()))
        .count();
    assert_eq!(count, 1);

    // What the server refuses is a typed error.
    let forbidden = Some((StatusCode::FORBIDDEN, ErrorCode::Forbidden));
    let rare = bob.send_event(&room, "org.example.rare", &json!({}), &TransactionId::new()).await;
    assert_eq!(refused(rare), forbidden);
    assert_eq!(refused(bob.kick(&room, alice.user_id()).await), forbidden);
    let large = json!({ "msgtype": "m.text", "body": "x".repeat(100_000) });
    let large = alice.send_event(&room, "m.room.message", &large, &TransactionId::new()).await;
    assert_eq!(refused(large), Some((StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge)));

    alice.kick(&room, bob.user_id()).await.unwrap();
    let update = bob.sync_once(SOON).await.unwrap();
    assert!(update.left.contains_key(&room));
    assert_eq!(bob.rooms[&room].membership(bob.user_id()), Some(&MembershipState::Leave));
    assert_eq!(alice.members(&room).await.unwrap().joined.len(), 1);

    alice.invite(&room, bob.user_id()).await.unwrap();
    bob.leave(&room).await.unwrap();
    alice.ban(&room, bob.user_id()).await.unwrap();
    // Synapse gives a banned user's join the code M_BAD_STATE, so only the status is expected.
    let banned = bob.join(&room).await.unwrap_err();
    assert_eq!(banned.status(), Some(StatusCode::FORBIDDEN));

    let kind = alice.http.wire_log.get("PUT /send/m.room.message");
    assert!(kind.requests == 3 && kind.sent > 100_000 && kind.received > 0, "{kind:?}");
}

#[tokio::test]
async fn a_limited_sync_says_so_and_messages_fill_the_gap() {
    let http = homeserver().await.unwrap();
    let (_, mut alice) = new_user(&http, "alice").await.unwrap();
    let room = alice.create_room(RoomOptions::default()).await.unwrap();
    alice.sync_once(SOON).await.unwrap();

    alice.sync_filter.room.timeline.limit = Some(uint!(2));
    for number in 0..5 {
        let event_type = if number % 2 == 0 { "org.example.even" } else { "org.example.odd" };
        let content = json!({ "number": number });
        alice.send_event(&room, event_type, &content, &TransactionId::new()).await.unwrap();
    }
    // The same sync can be asked for again until it was processed.
    let first = alice.sync_raw(SOON).await.unwrap();
    let again = alice.sync_raw(SOON).await.unwrap();
    let events = |response: &ruma::api::client::sync::sync_events::v3::Response| {
        response.rooms.join[&room].timeline.events.len()
    };
    assert_eq!(events(&first), events(&again));
    let update = alice.process_sync(again).await.unwrap();
    let seen = &update.joined[&room];
    assert!(seen.limited && seen.timeline.len() == 2);

    let mut request = get_message_events::v3::Request::new(room.clone(), Direction::Backward);
    request.from = seen.prev_batch.clone();
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["org.example.even".to_owned()]);
    request.filter = filter;
    let missed = alice.messages(request).await.unwrap().chunk;
    assert_eq!(missed.len(), 2, "numbers 0 and 2; 4 was in the timeline");
}

#[tokio::test]
async fn key_queries_show_devices_identities_and_signatures() {
    let http = homeserver().await.unwrap();
    let (alices, mut alice) = new_user(&http, "alice").await.unwrap();
    let (bobs, bob) = new_user(&http, "bob").await.unwrap();
    alice.bootstrap_cross_signing(&alices).await.unwrap();
    bob.bootstrap_cross_signing(&bobs).await.unwrap();

    // A second device of Alice's is announced to the first and can be signed by it.
    let mut second = new_device(&http, &alices).await.unwrap();
    let update = alice.sync_once(SOON).await.unwrap();
    assert!(update.device_lists.changed.contains(&alice.session.user_id));
    alice.verify_own_device(&second.session.device_id).await.unwrap();
    second.track_users([alice.user_id()]).await.unwrap();
    second.sync_once(NOW).await.unwrap();

    bob.track_users([alice.user_id()]).await.unwrap();
    let devices = bob.olm.get_user_devices(alice.user_id(), None).await.unwrap();
    assert_eq!(devices.keys().count(), 2);
    assert!(devices.devices().all(|device| device.is_cross_signed_by_owner()));
    bob.verify_user(alice.user_id()).await.unwrap();
    let identity = bob.olm.get_identity(alice.user_id(), None).await.unwrap().unwrap();
    assert!(identity.is_verified());
    let device =
        bob.olm.get_device(alice.user_id(), &second.session.device_id, None).await.unwrap();
    assert!(device.unwrap().is_cross_signing_trusted());

    // Olm sessions open over the same loop.
    bob.open_olm_sessions([alice.user_id()]).await.unwrap();
    assert!(bob.olm.get_missing_sessions([alice.user_id()].into_iter()).await.unwrap().is_none());

    alice.delete_device(&alices, &second.session.device_id).await.unwrap();
    let gone = second.sync_once(NOW).await;
    assert_eq!(refused(gone), Some((StatusCode::UNAUTHORIZED, ErrorCode::from("M_UNKNOWN_TOKEN"))));
    let unknown = alice.verify_own_device("NOSUCHDEVICE".into()).await;
    assert!(matches!(unknown, Err(DriverError::UnknownDevice(..))));
}

#[tokio::test]
async fn one_time_keys_of_our_own_algorithm_are_handed_out_once_and_the_fallback_always() {
    let http = homeserver().await.unwrap();
    let (_, mut alice) = new_user(&http, "alice").await.unwrap();
    let (_, bob) = new_user(&http, "bob").await.unwrap();
    let algorithm = OneTimeKeyAlgorithm::from(KEY_PACKAGE);
    let key = |name: &str| -> (OwnedOneTimeKeyId, Raw<OneTimeKey>) {
        let value = json!({
            "key": name,
            "signatures": { alice.session.user_id.clone(): { "ed25519:X": "c2ln" } },
        });
        let id = OneTimeKeyId::from_parts(algorithm.clone(), name.into());
        (id, Raw::new(&value).unwrap().cast_unchecked())
    };

    let mut request = upload_keys::v3::Request::new();
    request.one_time_keys = [key("one"), key("two")].into();
    request.fallback_keys = [key("last")].into();
    let counts = alice.http.send(request).await.unwrap().one_time_key_counts;
    assert_eq!(counts.get(&algorithm), Some(&uint!(2)));
    assert!(counts.get(&OneTimeKeyAlgorithm::SignedCurve25519) > Some(&UInt::MIN));

    let update = alice.sync_once(NOW).await.unwrap();
    assert_eq!(update.one_time_key_counts.get(&algorithm), Some(&uint!(2)));
    assert!(update.unused_fallback_keys.unwrap().contains(&algorithm));

    let (user, device) = (alice.session.user_id.clone(), alice.session.device_id.clone());
    let mut claimed = Vec::new();
    for _ in 0..4 {
        let wanted = BTreeMap::from([(device.clone(), algorithm.clone())]);
        let request = claim_keys::v3::Request::new([(user.clone(), wanted)].into());
        let response = bob.http.send(request).await.unwrap();
        let keys = &response.one_time_keys[&user][&device];
        assert_eq!(keys.len(), 1);
        let (id, value) = keys.first_key_value().unwrap();
        assert_eq!(id.algorithm(), algorithm);
        claimed.push(value.get_field::<String>("key").unwrap().unwrap());
    }
    claimed[..2].sort();
    assert_eq!(claimed, ["one", "two", "last", "last"]);

    let update = alice.sync_once(NOW).await.unwrap();
    assert_eq!(update.one_time_key_counts.get(&algorithm).copied().unwrap_or_default(), UInt::MIN);
    assert!(!update.unused_fallback_keys.unwrap().contains(&algorithm));
}
