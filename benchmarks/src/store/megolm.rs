//! Megolm in a room of the same people, by the same Olm machine.

use anyhow::Result;
use matrix_sdk_crypto::EncryptionSettings;
use ruma::{OwnedRoomId, RoomId};

use super::{BODY, Cost, Options, room, room::Room};
use crate::people;

/// Shares a Megolm session with everybody in a room, and gives the room that it is for.
pub async fn prepare(room: &Room) -> Result<OwnedRoomId> {
    let id = RoomId::parse("!megolm:example.org")?;
    people::open_olm_sessions(&room.olm, &room.people).await?;
    let users = room.people.iter().map(|person| &*person.user_id).chain([room.olm.user_id()]);
    // One session for all messages that are measured.
    let settings = EncryptionSettings { rotation_period_msgs: 10_000, ..Default::default() };
    for request in room.olm.share_room_key(&id, users, settings).await? {
        let response = ruma::api::client::to_device::send_event_to_device::v3::Response::new();
        room.olm.mark_request_as_sent(&request.txn_id, &response).await?;
    }
    Ok(id)
}

/// Encrypts the message in both rooms, in turns.
pub async fn measure(rooms: [(&Room, &OwnedRoomId); 2], options: &Options) -> Result<[Cost; 2]> {
    let content = room::message(BODY)?;
    let mut costs = [Cost::default(), Cost::default()];
    for round in 0..options.warm_up + options.messages {
        for ((room, id), cost) in rooms.iter().zip(&mut costs) {
            let work = room.olm.encrypt_room_event_raw(id, "m.room.message", &content);
            if round < options.warm_up {
                work.await?;
            } else {
                cost.measure(work).await?;
            }
        }
    }
    Ok(costs)
}
