//! What the tests have in common.

use std::{collections::BTreeSet, env, sync::Arc, time::Duration};

use matrix_mls_tests::{HttpClient, MlsDevice, RoomOptions, Sent, User};
use matrix_sdk_crypto_mls::{
    AnyOutgoingRequest, DecryptionError, OutgoingRequest, Readiness, RoomSettings,
    dmls::{Member, NodeId, TrustRequirement},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, TransactionId, UserId,
    api::{
        Direction,
        client::{filter::RoomEventFilter, message::get_message_events},
    },
    events::AnySyncTimelineEvent,
    serde::Raw,
    uint,
};
use serde_json::Value;

/// The type of commit events.
pub const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";
/// A sync that does not wait.
pub const NOW: Duration = Duration::ZERO;
/// A sync that waits until there is something.
pub const SOON: Duration = Duration::from_secs(5);

/// How far clocks are set forward at once.
pub const TURN: Duration = Duration::from_secs(10);
/// Of a clock that is set forward.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The same.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The homeserver that `cargo xtask test` has started.
pub async fn homeserver() -> HttpClient {
    let url = env::var("MLS_TEST_HOMESERVER").expect("MLS_TEST_HOMESERVER is not set");
    HttpClient::connect(url).await.unwrap()
}

/// A new user with so many devices.
pub async fn user(http: &HttpClient, name: &str, devices: usize) -> User {
    User::register(http, name, devices).await.unwrap()
}

/// The same, with settings for the rooms that the user founds.
pub async fn user_with(
    http: &HttpClient,
    name: &str,
    devices: usize,
    settings: RoomSettings,
) -> User {
    User::register_with(http, name, devices, settings).await.unwrap()
}

/// Rooms that let every device in, cross-signed or not.
pub fn all_devices() -> RoomSettings {
    let mut settings = RoomSettings::default();
    settings.trust = TrustRequirement::All;
    settings
}

/// Alice and Bob, with one device each, in a room where she has said "before" and he has read it.
pub async fn alice_and_bob() -> (User, User, OwnedRoomId, Sent) {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "before").await;
    (alice, bob, room, first)
}

/// A room that the first user has made and the others have joined. Nobody has written yet.
pub async fn room_of(creator: &mut User, others: &mut [&mut User]) -> OwnedRoomId {
    room_with(RoomOptions::mls(), creator, others).await
}

/// The same, with other options.
pub async fn room_with(
    options: RoomOptions,
    creator: &mut User,
    others: &mut [&mut User],
) -> OwnedRoomId {
    let options = others.iter().fold(options, |options, user| options.with_invite(user.id()));
    let room = creator.first().create_room(options).await.unwrap();
    for user in others.iter_mut() {
        user.join(&room).await.unwrap();
    }
    for device in creator.devices() {
        device
            .sync_until("everybody in the room", async |device| {
                let joined = device.room(&room).map_or(0, |room| room.members().joined.len());
                Ok(joined == others.len() + 1)
            })
            .await
            .unwrap();
    }
    room
}

/// Requires that every device of these users reads a message.
pub async fn all_read(room: &RoomId, sent: &Sent, text: &str, users: &mut [&mut User]) {
    for user in users {
        for device in user.devices() {
            reads(device, room, &sent.event_id, text).await;
        }
    }
}

/// Requires that a device reads a message.
pub async fn reads(device: &mut MlsDevice, room: &RoomId, event: &EventId, text: &str) {
    let name = format!("{device:?}");
    let event = device.wait_for(room, event).await.unwrap();
    match &event.result {
        Ok(_) => assert_eq!(event.body().as_deref(), Some(text), "{name}"),
        Err(error) => panic!("{name} cannot read {text:?}: {error}"),
    }
}

/// Waits for a message and gives the reason why a device cannot read it.
pub async fn refuses<'a>(
    device: &'a mut MlsDevice,
    room: &RoomId,
    event: &EventId,
) -> &'a DecryptionError {
    let event = device.wait_for(room, event).await.unwrap();
    event.result.as_ref().expect_err("it has read what it must not read")
}

/// The epoch that a device sends in.
pub async fn tip(device: &MlsDevice, room: &RoomId) -> NodeId {
    device.status(room).await.unwrap().expect("not in the group").node
}

/// Requires that all devices of these users end in the same epoch.
pub async fn all_agree(room: &RoomId, node: NodeId, users: &mut [&mut User]) {
    for user in users {
        for device in user.devices() {
            device
                .sync_until(&format!("the tip {}", node.short()), async |device| {
                    Ok(device.status(room).await?.is_some_and(|status| status.node == node))
                })
                .await
                .unwrap();
        }
    }
}

/// Lets time pass for all devices of these users, ten seconds at a turn, by setting their clocks forward.
pub async fn time_passes(users: &mut [&mut User], time: Duration) {
    let mut passed = Duration::ZERO;
    while passed < time {
        passed += TURN;
        for user in users.iter_mut() {
            for device in user.devices() {
                device.set_forward(TURN);
                device.sync(NOW).await.unwrap();
            }
        }
    }
}

/// Lets time pass until all devices of these users send in the same epoch, which is given: at most so
/// much time.
pub async fn time_unites(room: &RoomId, users: &mut [&mut User], at_most: Duration) -> NodeId {
    let mut passed = Duration::ZERO;
    loop {
        let mut tips = BTreeSet::new();
        for user in users.iter_mut() {
            for device in user.devices() {
                tips.insert(device.status(room).await.unwrap().map(|status| status.node));
            }
        }
        if let (1, Some(Some(tip))) = (tips.len(), tips.first()) {
            return *tip;
        }
        assert!(passed < at_most, "still apart after {passed:?}: {tips:?}");
        time_passes(users, TURN).await;
        passed += TURN;
    }
}

/// Each of these users says something that all devices read.
pub async fn all_talk(room: &RoomId, users: &mut [&mut User]) {
    for speaker in 0..users.len() {
        let text = format!("all in, says {speaker}");
        let sent = users[speaker].first().say(room, &text).await.unwrap();
        all_read(room, &sent, &text, users).await;
    }
}

/// An event as another device fetches it.
pub async fn fetch(
    device: &MlsDevice,
    room: &RoomId,
    event: &EventId,
) -> Raw<AnySyncTimelineEvent> {
    device.get_event(room, event).await.unwrap().cast()
}

/// The content of an event.
pub fn content(event: &Raw<AnySyncTimelineEvent>) -> Value {
    event.get_field("content").unwrap().unwrap()
}

/// Sends any content as an event, as a client without scruples would.
pub async fn send_raw(
    device: &MlsDevice,
    room: &RoomId,
    event_type: &str,
    content: &Value,
) -> OwnedEventId {
    device.send_event(room, event_type, content, &TransactionId::new()).await.unwrap()
}

/// A room's events of these types that a member can fetch, oldest first.
pub async fn events(
    device: &MlsDevice,
    room: &RoomId,
    types: &[&str],
) -> Vec<Raw<AnySyncTimelineEvent>> {
    let mut request = get_message_events::v3::Request::new(room.to_owned(), Direction::Forward);
    let mut filter = RoomEventFilter::default();
    filter.types = Some(types.iter().copied().map(ToOwned::to_owned).collect());
    request.filter = filter;
    request.limit = uint!(100);
    let response = device.messages(request).await.unwrap();
    response.chunk.into_iter().map(Raw::cast).collect()
}

/// The events of a room's commits, oldest first.
pub async fn commits(device: &MlsDevice, room: &RoomId) -> Vec<OwnedEventId> {
    let events = events(device, room, &[COMMIT]).await;
    events.iter().map(|event| event.get_field("event_id").unwrap().unwrap()).collect()
}

/// Gets a room ready up to the commit that this needs, and gives the commit's request. It is not
/// sent.
pub async fn commit_in_outbox(device: &mut MlsDevice, room: &RoomId) -> OutgoingRequest {
    for _ in 0..10 {
        let readiness = device.mls.prepare_room(room).await.unwrap();
        assert_eq!(readiness, Readiness::NeedsRequests);
        device.device.pump().await.unwrap();
        let requests = device.mls.outgoing_requests().await.unwrap();
        for request in requests {
            if matches!(request.request(), AnyOutgoingRequest::RoomMessage(_)) {
                return request;
            }
            device.send_mls_request(&request).await.unwrap();
        }
    }
    panic!("the room wants no commit");
}

/// How many of a user's devices are in the group, as a device sees it.
pub async fn devices_in(device: &MlsDevice, room: &RoomId, user: &UserId) -> usize {
    let status = device.status(room).await.unwrap().expect("not in the group");
    let of_user = |(_, member): &(_, &Arc<Member>)| member.device().user_id == user.as_str();
    status.roster.iter().filter(of_user).count()
}

/// Alice and Bob talk, and Dave has joined, whom nobody has added yet: Alice will, as soon as she
/// wants to send. Also what was said before.
pub async fn about_to_add() -> (User, User, User, OwnedRoomId, Sent) {
    let (mut alice, bob, room, first) = alice_and_bob().await;
    let mut dave = user(&homeserver().await, "dave", 1).await;
    alice.first().invite(&room, dave.id()).await.unwrap();
    dave.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    (alice, bob, dave, room, first)
}
