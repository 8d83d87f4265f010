//! Rooms with users on both servers.

use matrix_mls_tests::{MlsDevice, RoomOptions, User};
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::json;

/// A room that the first user of one server has made, and in which the first of the other one may
/// remove people, too. Nobody has written yet.
pub async fn room_on_both<'a>(a: &mut [&'a mut User], b: &mut [&'a mut User]) -> OwnedRoomId {
    let levels = json!({ "users": { b[0].id(): 50 }, "invite": 0, "kick": 50 });
    let mut options = RoomOptions { power_levels: Some(levels), ..RoomOptions::mls() };
    for user in a.iter().skip(1).chain(b.iter()) {
        options = options.with_invite(user.id());
    }
    let room = a[0].first().create_room(options).await.unwrap();
    for user in a.iter_mut().skip(1).chain(b.iter_mut()) {
        user.join(&room).await.unwrap();
    }
    let everybody: Vec<_> = a.iter().chain(b.iter()).map(|user| user.id().to_owned()).collect();
    for user in a.iter_mut().chain(b.iter_mut()) {
        for device in user.devices() {
            for id in &everybody {
                sees(device, &room, id, true).await;
            }
        }
    }
    room
}

/// Waits until a device has seen that a user is in the room, or is not.
pub async fn sees(device: &mut MlsDevice, room: &RoomId, user: &UserId, joined: bool) {
    let what = format!("{user} {} {room}", if joined { "in" } else { "out of" });
    let has_seen = async |device: &MlsDevice| {
        let members = device.room(room).map(|room| room.members().joined);
        Ok(members.is_some_and(|members| members.contains(user) == joined))
    };
    device.sync_until(&what, has_seen).await.unwrap();
}
