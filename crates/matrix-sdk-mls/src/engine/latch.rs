//! Whether a room is an MLS room, which it stays (protocol §11).

use matrix_sdk::RoomState;
use matrix_sdk_base::deserialized_responses::RawAnySyncOrStrippedState;
use matrix_sdk_crypto_mls::dmls::ALGORITHM;
use ruma::{RoomId, api::client::state::get_state_event_for_key, events::StateEventType};
use serde_json::{Value, value::RawValue};
use tracing::warn;

use super::{Engine, lock};
use crate::error::Error;

impl Engine {
    /// Whether the room is an MLS room: by the machine's latch, and if that does not know it yet, by
    /// the room's state. An error is no "no": nothing may be sent then.
    pub(crate) async fn is_mls(&self, room_id: &RoomId) -> Result<bool, Error> {
        if self.is_latched(room_id).await? {
            return Ok(true);
        }
        let Some(room) = self.sdk.get_room(room_id) else { return Ok(false) };
        if room.state() != RoomState::Joined {
            return Ok(false);
        }
        let mut named = state_names_mls(&room);
        // The SDK believes for ever what the state said when it asked; what comes after that, comes
        // with a sync, and so to the router.
        if !named && room.encryption_state().is_unknown() {
            room.request_encryption_state().await?;
            named = state_names_mls(&room);
        }
        if !named {
            named = !lock(&self.latches).contains_key(room_id)
                && self.creation_names_mls(&room).await?;
        }
        if named {
            self.complete(room_id).await?;
            return self.is_latched(room_id).await;
        }
        lock(&self.latches).entry(room_id.to_owned()).or_insert(false);
        Ok(false)
    }

    /// Whether the machine has seen the room as an MLS room.
    pub(crate) async fn is_latched(&self, room_id: &RoomId) -> Result<bool, Error> {
        if lock(&self.latches).get(room_id) == Some(&true) {
            return Ok(true);
        }
        self.look_at_latch(room_id).await
    }

    /// The same, asking the machine.
    pub(super) async fn look_at_latch(&self, room_id: &RoomId) -> Result<bool, Error> {
        let latched = Box::pin(self.machine().await?.is_mls_room(room_id)).await?;
        if latched && lock(&self.latches).insert(room_id.to_owned(), true) != Some(true) {
            self.guard_send_queue(room_id);
        }
        Ok(latched)
    }

    /// Looks at all rooms, once after the start.
    pub(super) async fn look_at_all_latches(&self) {
        for room in self.sdk.joined_rooms() {
            if let Err(error) = self.is_latched(room.room_id()).await {
                warn!(room_id = %room.room_id(), "Is it an MLS room? {error}");
            }
        }
    }

    /// Turns the SDK's send queue off if the room's state names another algorithm now: it would send
    /// with that. With ours it refuses.
    pub(super) fn guard_send_queue(&self, room_id: &RoomId) {
        let Some(room) = self.sdk.get_room(room_id) else { return };
        let algorithm = room.encryption_settings().and_then(|settings| settings.algorithm);
        if algorithm.is_some_and(|algorithm| algorithm.as_ref() != ALGORITHM) {
            room.send_queue().set_enabled(false);
        }
    }

    /// Whether the room's creation event names MLS (MSC4245), which the SDK does not look at.
    async fn creation_names_mls(&self, room: &matrix_sdk::Room) -> Result<bool, Error> {
        let stored = room.get_state_event(StateEventType::RoomCreate, "").await?;
        if let Some(RawAnySyncOrStrippedState::Sync(event)) = stored {
            let content = event.get_field::<Box<RawValue>>("content")?;
            return Ok(content.is_some_and(|content| names_mls(&content)));
        }
        let request = get_state_event_for_key::v3::Request::new(
            room.room_id().to_owned(),
            StateEventType::RoomCreate,
            String::new(),
        );
        let response = self.sdk.send(request).await?;
        Ok(names_mls(&response.event_or_content))
    }
}

/// Whether the room's encryption is MLS, by the state that the SDK has.
pub(super) fn state_names_mls(room: &matrix_sdk::Room) -> bool {
    let algorithm = room.encryption_settings().and_then(|settings| settings.algorithm);
    algorithm.is_some_and(|algorithm| algorithm.as_ref() == ALGORITHM)
}

fn names_mls(content: &RawValue) -> bool {
    let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
    ["encryption_algorithm", "org.matrix.msc4245.encryption_algorithm"]
        .iter()
        .any(|name| content.get(name).and_then(Value::as_str) == Some(ALGORITHM))
}
