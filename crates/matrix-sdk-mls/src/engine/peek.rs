//! Looking at what waits for this device on the server, and leaving it there.

use std::{collections::BTreeMap, time::Duration};

use matrix_sdk::config::RequestConfig;
use matrix_sdk_crypto_mls::{EncryptionSyncChanges, types::events::ToDeviceWelcomeEventContent};
use ruma::{
    OwnedRoomId, RoomId, TransactionId,
    api::client::{
        filter::{EventFormat, Filter, FilterDefinition, RoomFilter},
        sync::sync_events::{self, DeviceLists},
    },
    events::{AnyToDeviceEvent, StaticEventContent},
    presence::PresenceState,
    serde::Raw,
};
use serde::Deserialize;
use tracing::debug;

use super::Engine;
use crate::error::Error;

#[derive(Deserialize)]
struct Addressed {
    room_id: OwnedRoomId,
}

impl Engine {
    /// A sync without rooms that takes nothing away: it names no token, so it confirms no to-device
    /// event, and they stay for the application's syncs. The first hundred of them are in it.
    pub(super) async fn peek(&self) -> Result<sync_events::v3::Response, Error> {
        let mut rooms = RoomFilter::default();
        rooms.rooms = Some(Vec::new());
        let mut filter = FilterDefinition::default();
        filter.room = rooms;
        filter.account_data = Filter::ignore_all();
        // Synapse answers the same request with the same words for two minutes.
        filter.account_data.not_types = vec![TransactionId::new().to_string()];
        filter.presence = Filter::ignore_all();
        filter.event_format = EventFormat::Client;
        let mut request = sync_events::v3::Request::new();
        request.filter = Some(sync_events::v3::Filter::FilterDefinition(filter));
        request.set_presence = PresenceState::Offline;
        request.timeout = Some(Duration::ZERO);
        let response = self.sdk.send(request).with_request_config(RequestConfig::short_retry());
        Ok(response.await?)
    }

    /// Takes the Welcomes to a room that wait for the application's next sync, which gets them again.
    /// The machine has one that it has used already, and what it is for is in the store that both
    /// share. Nothing else is taken: what asks for an answer is the application's to answer.
    pub(crate) async fn take_waiting_welcomes(&self, room_id: &RoomId) -> Result<(), Error> {
        let response = self.peek().await?;
        let events = response.to_device.events;
        let welcomes: Vec<_> =
            events.into_iter().filter(|event| is_welcome(event, room_id)).collect();
        debug!(%room_id, count = welcomes.len(), "Welcomes that wait for a sync");
        if welcomes.is_empty() {
            return Ok(());
        }
        // Whether we, and who sends it, are in the room may also wait for a sync.
        self.complete(room_id).await?;
        let machine = self.machine().await?;
        let changes = EncryptionSyncChanges {
            to_device_events: &welcomes,
            changed_devices: &DeviceLists::new(),
            one_time_keys_counts: &BTreeMap::new(),
            unused_fallback_keys: None,
        };
        Box::pin(machine.receive_sync_changes(changes)).await?;
        Box::pin(self.pump()).await
    }
}

fn is_welcome(event: &Raw<AnyToDeviceEvent>, room_id: &RoomId) -> bool {
    let event_type = event.get_field::<String>("type").ok().flatten();
    let content = event.get_field::<Addressed>("content").ok().flatten();
    event_type.as_deref() == Some(ToDeviceWelcomeEventContent::TYPE)
        && content.is_some_and(|content| content.room_id == room_id)
}
