//! Messages: every one ends up decrypted, or with a reason why not.

use matrix_sdk_crypto_mls::{DecryptedRoomEvent, DecryptionError, Verdict};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, events::AnySyncTimelineEvent, serde::Raw};
use serde_json::Value;

use super::MlsDevice;
use crate::{error::DriverError, sync::SyncUpdate};

/// An encrypted event as this device has it.
#[derive(Debug)]
pub struct TimelineEvent {
    /// Its ID.
    pub event_id: OwnedEventId,
    /// Who sent it, as the server says.
    pub sender: OwnedUserId,
    /// The event as it came.
    pub raw: Raw<AnySyncTimelineEvent>,
    /// What it says, or why it cannot be read.
    pub result: Result<DecryptedRoomEvent, DecryptionError>,
}

impl TimelineEvent {
    /// The text of the message, if it could be read and is one.
    pub fn body(&self) -> Option<String> {
        body(self.result.as_ref().ok()?)
    }

    /// Whether it may still become readable by itself.
    pub fn is_waiting(&self) -> bool {
        matches!(self.result, Err(DecryptionError::UnknownEpoch(_)))
    }
}

/// The text of a decrypted message.
fn body(event: &DecryptedRoomEvent) -> Option<String> {
    let content: Value = event.event.get_field("content").ok()??;
    content.get("body")?.as_str().map(ToOwned::to_owned)
}

impl MlsDevice {
    /// The encrypted events of a room that this device has received, in the order in which they
    /// came.
    pub fn timeline(&self, room: &RoomId) -> &[TimelineEvent] {
        self.timelines.get(room).map(Vec::as_slice).unwrap_or_default()
    }

    /// An encrypted event that this device has received.
    pub fn event(&self, room: &RoomId, event_id: &EventId) -> Option<&TimelineEvent> {
        self.timeline(room).iter().find(|event| event.event_id == event_id)
    }

    /// Decrypts an event from anywhere and leaves the timeline as it is.
    pub async fn read(
        &self,
        room: &RoomId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<DecryptedRoomEvent, DecryptionError> {
        self.mls.decrypt_room_event(event, room).await
    }

    /// Decrypts the encrypted events that a sync brought.
    pub(super) async fn decrypt_update(&mut self, update: &SyncUpdate) -> Result<(), DriverError> {
        for (room, news) in update.joined.iter().chain(&update.left) {
            for event in &news.timeline {
                if event.get_field::<String>("type")?.as_deref() == Some("m.room.encrypted") {
                    self.show(room, event).await?;
                }
            }
        }
        Ok(())
    }

    /// Decrypts again what came from devices that were not known then: a device and its first message
    /// can come with the same sync, before anybody has asked for the device's keys.
    pub(super) async fn look_again(&mut self) -> Result<(), DriverError> {
        let is_unknown = |event: &TimelineEvent| {
            let verdict = event.result.as_ref().ok().map(|event| event.encryption_info.verdict);
            verdict == Some(Verdict::UnknownDevice)
        };
        let mut unknown = Vec::new();
        for (room, timeline) in &self.timelines {
            let events = timeline.iter().filter(|event| is_unknown(event));
            unknown.extend(events.map(|event| (room.clone(), event.raw.clone())));
        }
        for (room, event) in unknown {
            self.show(&room, &event).await?;
        }
        Ok(())
    }

    /// Decrypts an event into the timeline. Where it is there already, only its result is new.
    pub(super) async fn show(
        &mut self,
        room: &RoomId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<(), DriverError> {
        let event_id = event.get_field::<OwnedEventId>("event_id")?;
        let sender = event.get_field::<OwnedUserId>("sender")?;
        let Some((event_id, sender)) = event_id.zip(sender) else { return Ok(()) };
        let result = match self.mls.decrypt_room_event(event, room).await {
            // Says nothing about the event: it has to be given to the machine again.
            Err(DecryptionError::Machine(error)) => return Err(error.into()),
            result => result,
        };
        let timeline = self.timelines.entry(room.to_owned()).or_default();
        match timeline.iter_mut().find(|known| known.event_id == event_id) {
            Some(known) => known.result = result,
            None => timeline.push(TimelineEvent { event_id, sender, raw: event.clone(), result }),
        }
        Ok(())
    }
}
