//! Sync: from the server's response to what the machines and the tests look at.

use std::{collections::BTreeMap, time::Duration};

use matrix_sdk_common::deserialized_responses::ProcessedToDeviceEvent;
use matrix_sdk_crypto::EncryptionSyncChanges;
use ruma::{
    OneTimeKeyAlgorithm, OwnedRoomId, UInt,
    api::client::sync::sync_events::{
        DeviceLists,
        v3::{Filter, Request, Response, State, StateEvents, Timeline},
    },
    events::{
        AnyStrippedStateEvent, AnySyncStateEvent, AnySyncTimelineEvent, AnyToDeviceEvent,
        room::member::MembershipState,
    },
    presence::PresenceState,
    serde::Raw,
};

use crate::{device::Device, error::DriverError, room::RoomState};

/// How much longer than the long poll the server may take.
const SLACK: Duration = Duration::from_secs(30);

/// What one sync brought.
#[derive(Clone, Debug, Default)]
pub struct SyncUpdate {
    /// Where the next sync goes on from.
    pub next_batch: String,
    /// To-device events as the server sent them, in order.
    pub to_device_raw: Vec<Raw<AnyToDeviceEvent>>,
    /// The same as the Olm machine left them: decrypted with the sender's device, or as they came.
    pub to_device: Vec<ProcessedToDeviceEvent>,
    /// Whose devices changed.
    pub device_lists: DeviceLists,
    /// How many one-time keys the server still has, by algorithm.
    pub one_time_key_counts: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    /// The algorithms of which the server's fallback key was not handed out yet.
    pub unused_fallback_keys: Option<Vec<OneTimeKeyAlgorithm>>,
    /// Rooms that the user is in.
    pub joined: BTreeMap<OwnedRoomId, RoomUpdate>,
    /// Rooms that the user left or was removed from.
    pub left: BTreeMap<OwnedRoomId, RoomUpdate>,
    /// Rooms that the user is invited to, with the few state events that an invitation shows.
    pub invited: BTreeMap<OwnedRoomId, Vec<Raw<AnyStrippedStateEvent>>>,
}

/// What one sync brought of one room.
#[derive(Clone, Debug, Default)]
pub struct RoomUpdate {
    /// State from before the timeline.
    pub state: Vec<Raw<AnySyncStateEvent>>,
    /// Events in order, state changes among them.
    pub timeline: Vec<Raw<AnySyncTimelineEvent>>,
    /// Whether events before this timeline were left out.
    pub limited: bool,
    /// Where `/messages` goes on backwards from the start of the timeline.
    pub prev_batch: Option<String>,
}

impl Device {
    /// Syncs once, waiting up to `timeout` for something new: [`sync_raw`](Self::sync_raw),
    /// [`process_sync`](Self::process_sync), [`pump`](Self::pump).
    pub async fn sync_once(&mut self, timeout: Duration) -> Result<SyncUpdate, DriverError> {
        let response = self.sync_raw(timeout).await?;
        let update = self.process_sync(response).await?;
        self.pump().await?;
        Ok(update)
    }

    /// Asks the server what is new and changes nothing here: asking again brings the same events.
    ///
    /// The server forgets to-device events once it is asked with a later token.
    pub async fn sync_raw(&self, timeout: Duration) -> Result<Response, DriverError> {
        let mut request = Request::new();
        request.since = self.sync_token.clone();
        request.timeout = Some(timeout);
        request.filter = Some(Filter::FilterDefinition(self.sync_filter.clone()));
        // Presence of test users is noise.
        request.set_presence = PresenceState::Offline;
        Ok(self.http.send_within(request, timeout + SLACK).await?)
    }

    /// Gives a response to the Olm machine and to the rooms, and sends nothing.
    ///
    /// The Olm machine comes first: when it fails, neither the token nor the rooms have moved, and
    /// the same sync can be tried again.
    pub async fn process_sync(&mut self, response: Response) -> Result<SyncUpdate, DriverError> {
        let to_device_raw = response.to_device.events;
        let changes = EncryptionSyncChanges {
            to_device_events: to_device_raw.clone(),
            changed_devices: &response.device_lists,
            one_time_keys_counts: &response.device_one_time_keys_count,
            unused_fallback_keys: response.device_unused_fallback_key_types.as_deref(),
            next_batch_token: Some(response.next_batch.clone()),
        };
        let (to_device, _) =
            self.olm.receive_sync_changes(changes, &self.decryption_settings).await?;

        let mut update = SyncUpdate {
            next_batch: response.next_batch.clone(),
            to_device_raw,
            to_device,
            device_lists: response.device_lists,
            one_time_key_counts: response.device_one_time_keys_count,
            unused_fallback_keys: response.device_unused_fallback_key_types,
            ..SyncUpdate::default()
        };
        for (room, joined) in response.rooms.join {
            let known = self.rooms.entry(room.clone()).or_default();
            update.joined.insert(room, known.take_in(joined.state, joined.timeline)?);
        }
        for (room, left) in response.rooms.leave {
            let known = self.rooms.entry(room.clone()).or_default();
            update.left.insert(room, known.take_in(left.state, left.timeline)?);
        }
        for (room, invited) in response.rooms.invite {
            let known = self.rooms.entry(room.clone()).or_default();
            known.memberships.insert(self.session.user_id.clone(), MembershipState::Invite);
            update.invited.insert(room, invited.invite_state.events);
        }
        self.sync_token = Some(response.next_batch);
        Ok(update)
    }
}

impl RoomState {
    fn take_in(&mut self, state: State, timeline: Timeline) -> serde_json::Result<RoomUpdate> {
        // `state_after` is never asked for; a server that sends it nevertheless says the same with
        // other words.
        let state = match state {
            State::Before(StateEvents { events, .. })
            | State::After(StateEvents { events, .. }) => events,
            _ => Vec::new(),
        };
        for event in &state {
            self.add_state(event)?;
        }
        for event in &timeline.events {
            self.add_timeline(event)?;
        }
        Ok(RoomUpdate {
            state,
            timeline: timeline.events,
            limited: timeline.limited,
            prev_batch: timeline.prev_batch,
        })
    }
}
