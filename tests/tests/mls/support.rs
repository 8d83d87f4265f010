//! What the tests have in common.

use std::env;

use matrix_mls_tests::{HttpClient, MlsDevice, RoomOptions, Sent, User};
use matrix_sdk_crypto_mls::{
    DecryptionError, Notice, RoomSettings,
    dmls::{NodeId, TrustRequirement},
};
use ruma::{EventId, OwnedRoomId, RoomId, TransactionId, events::AnySyncTimelineEvent, serde::Raw};
use serde_json::Value;

/// The homeserver that `cargo xtask test` has started.
pub async fn homeserver() -> HttpClient {
    let url = env::var("MLS_TEST_HOMESERVER").expect("MLS_TEST_HOMESERVER is not set");
    HttpClient::connect(url).await.unwrap()
}

/// A new user with so many devices.
pub async fn user(http: &HttpClient, name: &str, devices: usize) -> User {
    User::register(http, name, devices).await.unwrap()
}

/// Rooms that let every device in, cross-signed or not.
pub fn all_devices() -> RoomSettings {
    let mut settings = RoomSettings::default();
    settings.trust = TrustRequirement::All;
    settings
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
    creator
        .first()
        .sync_until("everybody in the room", async |device| {
            let joined = device.room(&room).map_or(0, |room| room.members().joined.len());
            Ok(joined == others.len() + 1)
        })
        .await
        .unwrap();
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
) -> ruma::OwnedEventId {
    device.send_event(room, event_type, content, &TransactionId::new()).await.unwrap()
}

/// Requires that the machine has reported something.
pub fn has_reported(device: &MlsDevice, what: impl Fn(&Notice) -> bool) -> bool {
    device.notices.iter().any(what)
}
