//! Messages of MLS rooms for applications that do not look at the event cache: the SDK's event
//! handlers get them as they came.

use std::sync::Arc;

use matrix_sdk::deserialized_responses::{DecryptedRoomEvent, TimelineEvent, TimelineEventKind};
use matrix_sdk_crypto_mls::DecryptionError;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, api::client::room::get_room_event,
    events::AnySyncTimelineEvent, serde::Raw,
};
use tokio::sync::broadcast;
use tracing::{debug, warn};

use super::Engine;
use crate::{bridge, encryption_info, error::Error};

/// A message of an MLS room that has come with a sync, or has become readable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MlsMessage {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event.
    pub event_id: OwnedEventId,
    /// What it says, or why it cannot be read. After [`DecryptionError::UnknownEpoch`] it comes once
    /// more when that has been settled.
    pub result: Result<DecryptedRoomEvent, Arc<DecryptionError>>,
}

impl Engine {
    pub(crate) async fn decrypt(
        &self,
        room_id: &RoomId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<DecryptedRoomEvent, Error> {
        let machine = self.machine().await?;
        let decrypted = Box::pin(machine.decrypt_room_event(event, room_id)).await?;
        encryption_info::event(machine.olm_machine(), decrypted).await
    }

    /// An event of a room that the SDK does not have, decrypted if it can be.
    pub(crate) async fn fetch(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<TimelineEvent, Error> {
        let request = get_room_event::v3::Request::new(room_id.to_owned(), event_id.to_owned());
        let response = self.sdk.send(request).await.map_err(|error| {
            let status = error.as_client_api_error().map(|error| error.status_code.as_u16());
            match status {
                Some(403 | 404) => Error::NotJoined(room_id.to_owned()),
                _ => error.into(),
            }
        })?;
        let mut event = TimelineEvent::from_plaintext(response.event.cast());
        if bridge::is_message(event.raw()) {
            match self.decrypt(room_id, event.raw()).await {
                Ok(decrypted) => event.kind = TimelineEventKind::Decrypted(decrypted),
                Err(Error::Decryption(reason)) => debug!(%room_id, "Not read yet: {reason}"),
                Err(error) => return Err(error),
            }
        }
        Ok(event)
    }

    pub(crate) fn subscribe_to_messages(&self) -> broadcast::Receiver<MlsMessage> {
        self.messages.subscribe()
    }

    /// Tells of those that are messages, if somebody listens.
    pub(super) async fn tell_of(&self, room_id: &RoomId, timeline: &[Raw<AnySyncTimelineEvent>]) {
        if !self.messages.is_heard() && !self.wants_undecryptable() {
            return;
        }
        for event in timeline.iter().filter(|event| bridge::is_message(event)) {
            if let Ok(Some(event_id)) = event.get_field::<OwnedEventId>("event_id")
                && let Err(error) = Box::pin(self.tell_of_one(room_id, &event_id, event)).await
            {
                warn!(%room_id, %event_id, "A message could not be decrypted: {error}");
            }
        }
    }

    async fn tell_of_one(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<(), Error> {
        let machine = self.machine().await?;
        let result = match Box::pin(machine.decrypt_room_event(event, room_id)).await {
            Ok(event) => Ok(encryption_info::event(machine.olm_machine(), event).await?),
            // Says nothing about the event.
            Err(DecryptionError::Machine(error)) => return Err(error.into()),
            Err(reason) => Err(Arc::new(reason)),
        };
        if let Err(reason) = &result {
            self.note_undecryptable(room_id, event_id, reason);
        }
        let (room_id, event_id) = (room_id.to_owned(), event_id.to_owned());
        self.messages.tell(MlsMessage { room_id, event_id, result });
        Ok(())
    }
}
