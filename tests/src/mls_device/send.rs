//! Sending: getting the room ready, encrypting, and the event itself.

use std::time::Duration;

use matrix_sdk_crypto_mls::{MlsError, Readiness, dmls::NodeId};
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedUserId, RoomId, TransactionId,
    events::AnyMessageLikeEventContent, serde::Raw,
};
use serde::Serialize;
use serde_json::json;

use super::MlsDevice;
use crate::{error::DriverError, room::raw};

/// How often a room is tried to get ready. Three are usual: key packages, commit, ready.
const ATTEMPTS: usize = 20;

/// How long a sync waits for a Welcome.
const PAUSE: Duration = Duration::from_secs(1);

/// A message that the server has accepted.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its event.
    pub event_id: OwnedEventId,
    /// The epoch that it is encrypted in.
    pub node: NodeId,
    /// The event of that epoch's commit.
    pub commit_event: Option<OwnedEventId>,
    /// How many messages the device has sent in that epoch before.
    pub generation: u32,
    /// Members' devices that cannot read it.
    pub without_mls: Vec<(OwnedUserId, OwnedDeviceId)>,
}

impl MlsDevice {
    /// Sends a text message.
    pub async fn say(&mut self, room: &RoomId, text: &str) -> Result<Sent, DriverError> {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(room, "m.room.message", &content).await
    }

    /// Encrypts an event and sends it, after bringing the group up to date if that is needed.
    pub async fn send(
        &mut self,
        room: &RoomId,
        event_type: &str,
        content: &(impl Serialize + ?Sized),
    ) -> Result<Sent, DriverError> {
        let content: Raw<AnyMessageLikeEventContent> = raw(content)?;
        for _ in 0..ATTEMPTS {
            let without_mls = self.get_ready(room).await?;
            let encrypted = self.mls.encrypt_room_event_raw(room, event_type, &content).await;
            let encrypted = match encrypted {
                // Something happened in between, so the room has to be made ready again.
                Err(MlsError::NotReady(_)) => continue,
                encrypted => encrypted?,
            };
            let txn = TransactionId::new();
            let event_id =
                self.device.send_event(room, "m.room.encrypted", &encrypted.content, &txn).await?;
            return Ok(Sent {
                event_id,
                node: encrypted.node,
                commit_event: encrypted.content.get_field("epoch_event")?,
                generation: encrypted.generation,
                without_mls,
            });
        }
        Err(DriverError::NeverReady(room.to_owned(), ATTEMPTS))
    }

    /// Gets a room ready to be sent to, and says which devices will not be able to read.
    pub async fn get_ready(
        &mut self,
        room: &RoomId,
    ) -> Result<Vec<(OwnedUserId, OwnedDeviceId)>, DriverError> {
        for _ in 0..ATTEMPTS {
            match self.mls.prepare_room(room).await? {
                Readiness::Ready { without_mls, .. } => return Ok(without_mls),
                Readiness::NeedsRequests => self.pump().await?,
                // Whoever is in the group lets us in: that comes with a sync.
                _ => drop(self.sync(PAUSE).await?),
            }
        }
        Err(DriverError::NeverReady(room.to_owned(), ATTEMPTS))
    }

    /// Renews this device's keys in the room's group.
    pub async fn update_keys(&mut self, room: &RoomId) -> Result<(), DriverError> {
        self.get_ready(room).await?;
        self.mls.update_keys(room).await?;
        self.pump().await
    }
}
