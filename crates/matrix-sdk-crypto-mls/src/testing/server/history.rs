//! A room's history: pages of it, what is withheld of it, and what is taken out.

use ruma::{OwnedEventId, OwnedUserId, RoomId, api::client::message::get_message_events, uint};
use serde_json::json;

use super::{DeviceName, SimServer};
use crate::clock::Clock as _;

impl SimServer {
    /// `GET /rooms/{}/messages`, backwards; an HTTP status if it is refused.
    pub(super) fn get_messages(
        &self,
        by: &DeviceName,
        request: &get_message_events::v3::Request,
    ) -> Result<get_message_events::v3::Response, u16> {
        let state = self.state();
        let room = state.rooms.get(&request.room_id).ok_or(404_u16)?;
        let before = match &request.from {
            Some(token) => token.parse().map_err(|_| 400_u16)?,
            None => room.events.len(),
        };
        let limit = usize::try_from(u64::from(request.limit.min(uint!(100)))).unwrap();
        let types = request.filter.types.as_ref();
        let mut response = get_message_events::v3::Response::new();
        response.start = before.to_string();
        for index in (0..before.min(room.events.len())).rev() {
            if response.chunk.len() == limit {
                response.end = Some((index + 1).to_string());
                break;
            }
            let event = &room.events[index];
            if types.is_none_or(|types| types.contains(&event.event_type))
                && state.may_get(by, room, index)
            {
                response.chunk.push(event.to_json());
            }
        }
        Ok(response)
    }

    /// From now on, or no longer, a device does not get an event, however it asks: its server withholds
    /// it, or has soft-failed it. When it is no longer withheld it can be asked for, but does not come
    /// by itself.
    pub fn withholds_from(&self, name: &DeviceName, event_id: &OwnedEventId, withholds: bool) {
        let mut state = self.state();
        let entry = (name.clone(), event_id.clone());
        if withholds {
            state.hidden.insert(entry);
        } else {
            state.hidden.remove(&entry);
        }
    }

    /// Somebody redacts an event: its content is gone, for all who have not seen it.
    pub fn redacts(&self, by: &OwnedUserId, room_id: &RoomId, event_id: &OwnedEventId) {
        let now = self.clock.now();
        let mut state = self.state();
        let room = state.rooms.get_mut(room_id).expect("the room exists");
        let event = room.events.iter_mut().find(|event| event.event_id == *event_id);
        event.expect("the event exists").content = json!({});
        let content = json!({ "redacts": event_id });
        state.append(room_id, by, "m.room.redaction", None, content, now);
    }

    /// Whether a device gets an event when it asks for it, or for the room's history.
    pub fn shows(&self, name: &DeviceName, room_id: &RoomId, event_id: &OwnedEventId) -> bool {
        let state = self.state();
        let room = state.rooms.get(room_id).expect("the room exists");
        let index = room.events.iter().position(|event| event.event_id == *event_id);
        index.is_some_and(|index| state.may_get(name, room, index))
    }

    /// The last event of a type in a room.
    pub fn last_event(&self, room_id: &RoomId, event_type: &str) -> OwnedEventId {
        let events = self.events(room_id);
        let mut events = events.iter().rev().filter(|event| event.event_type == event_type);
        events.next().expect("there is such an event").event_id.clone()
    }
}
