//! Handing decrypted messages to the SDK's event cache, and so to timelines.
//!
//! The SDK decrypts events in its cache by itself, with Megolm and nothing else, and there is no other
//! way to have it replace one. So a message that the MLS machine has read is encrypted again, with a
//! Megolm session that never leaves this device, and the SDK is asked to decrypt it.

mod event;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex as StdMutex},
};

use matrix_sdk::{deserialized_responses::TimelineEvent, event_cache::DecryptionRetryRequest};
use matrix_sdk_base::event_cache::store::EventCacheStoreLockState;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, events::AnySyncTimelineEvent, serde::Raw};
use tokio::sync::Mutex;
use tracing::{debug, warn};

pub(crate) use self::event::is_message;
use self::session::Sessions;
use crate::{
    engine::{Engine, lock},
    error::Error,
};

/// An event is handed over at most so often. More than once only if the SDK has not taken it.
const MAX_TRIES: u32 = 3;

/// What is remembered for the bridge. All of it can be lost: what is missing is found again.
#[derive(Default)]
pub(crate) struct Bridge {
    /// Also held while events are handed over, so that two do not do the same.
    sessions: Mutex<Sessions>,
    tried: StdMutex<BTreeMap<OwnedRoomId, Tried>>,
}

#[derive(Default)]
struct Tried {
    /// Those that the machine cannot read, until it says otherwise.
    unreadable: BTreeSet<OwnedEventId>,
    tries: BTreeMap<OwnedEventId, u32>,
}

impl Bridge {
    /// Something has changed for all of the room's events.
    pub(crate) fn look_again(&self, room_id: &RoomId) {
        lock(&self.tried).remove(room_id);
    }

    /// Something has changed for this event.
    pub(crate) fn forget(&self, room_id: &RoomId, event_id: &EventId) {
        if let Some(tried) = lock(&self.tried).get_mut(room_id) {
            tried.unreadable.remove(event_id);
            tried.tries.remove(event_id);
        }
    }

    fn may_try(&self, room_id: &RoomId, event_id: &EventId) -> bool {
        lock(&self.tried).get(room_id).is_none_or(|tried| {
            !tried.unreadable.contains(event_id)
                && tried.tries.get(event_id).is_none_or(|tries| *tries < MAX_TRIES)
        })
    }

    fn note_unreadable(&self, room_id: &RoomId, event_id: OwnedEventId) {
        lock(&self.tried).entry(room_id.to_owned()).or_default().unreadable.insert(event_id);
    }

    fn note_try(&self, room_id: &RoomId, event_id: OwnedEventId) {
        let mut tried = lock(&self.tried);
        *tried.entry(room_id.to_owned()).or_default().tries.entry(event_id).or_default() += 1;
    }
}

impl Engine {
    /// Hands over what the event cache has of the room in memory, and could be read.
    pub(crate) async fn bridge_room(&self, room_id: &RoomId) {
        if let Err(error) = Box::pin(self.bridge_cached(room_id)).await {
            warn!(%room_id, "Messages could not be handed to the timeline: {error}");
        }
    }

    /// The same for all rooms.
    pub(crate) async fn bridge_all(&self) {
        for room in self.sdk.joined_rooms() {
            self.bridge_room(room.room_id()).await;
        }
    }

    /// Hands an event over that has become readable, wherever in the cache it is.
    pub(crate) async fn bridge_late(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &Raw<AnySyncTimelineEvent>,
    ) {
        if let Err(error) = Box::pin(self.bridge_one(room_id, event_id, event)).await {
            warn!(%room_id, %event_id, "A message could not be handed to the timeline: {error}");
        }
    }

    async fn bridge_cached(&self, room_id: &RoomId) -> Result<(), Error> {
        if !self.sdk.event_cache().has_subscribed() || !self.is_latched(room_id).await? {
            return Ok(());
        }
        let Some(room) = self.sdk.get_room(room_id) else { return Ok(()) };
        let (cache, _handles) = room.event_cache().await.map_err(matrix_sdk::Error::from)?;
        let events = cache.events().await.map_err(matrix_sdk::Error::from)?;
        let events = events.into_iter().filter(event::is_unread).collect();
        self.hand_over(room_id, events).await
    }

    async fn bridge_one(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<(), Error> {
        if !self.sdk.event_cache().has_subscribed() {
            return Ok(());
        }
        let Some(room) = self.sdk.get_room(room_id) else { return Ok(()) };
        let (cache, _handles) = room.event_cache().await.map_err(matrix_sdk::Error::from)?;
        // What is not there is handed over when it comes.
        let cached = cache.find_event(event_id).await.map_err(matrix_sdk::Error::from)?;
        match cached.filter(event::is_unread) {
            Some(cached) => self.hand_over(room_id, vec![cached]).await,
            None => {
                debug!(%room_id, event = event.json().get().len(), "Not in the event cache");
                Ok(())
            }
        }
    }

    /// Decrypts these events, and has the SDK put what they say in their places.
    async fn hand_over(&self, room_id: &RoomId, events: Vec<TimelineEvent>) -> Result<(), Error> {
        let mut sessions = self.bridge.sessions.lock().await;
        let machine = self.machine().await?;
        let olm = machine.olm_machine();
        let mut ready = Vec::new();
        for event in events {
            let Some(event_id) = event.event_id() else { continue };
            if !self.bridge.may_try(room_id, &event_id) {
                continue;
            }
            match Box::pin(machine.decrypt_room_event(event.raw(), room_id)).await {
                Ok(decrypted) => {
                    self.bridge.note_try(room_id, event_id);
                    let session = sessions.of(olm, room_id, &decrypted.encryption_info).await?;
                    let (event, session_id) = event::encrypt(event, &decrypted, session)?;
                    ready.push((event, session_id));
                }
                // Says nothing about the event.
                Err(matrix_sdk_crypto_mls::DecryptionError::Machine(error)) => {
                    return Err(error.into());
                }
                Err(error) => {
                    debug!(%room_id, %event_id, "A message cannot be read: {error}");
                    self.note_undecryptable(room_id, &event_id, &Arc::new(error));
                    self.bridge.note_unreadable(room_id, event_id);
                }
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        sessions.save(olm).await?;
        let mut request = DecryptionRetryRequest {
            room_id: room_id.to_owned(),
            utd_session_ids: BTreeSet::new(),
            refresh_info_session_ids: BTreeSet::new(),
        };
        {
            let store = self.sdk.event_cache_store().lock().await;
            let store = store.map_err(|error| Error::Bridge(error.to_string()))?;
            let (EventCacheStoreLockState::Clean(store) | EventCacheStoreLockState::Dirty(store)) =
                store;
            for (event, session_id) in ready {
                let saved = store.save_event(room_id, event).await;
                saved.map_err(|error| Error::Bridge(error.to_string()))?;
                request.utd_session_ids.insert(session_id);
            }
        }
        self.sdk.event_cache().request_decryption(request);
        Ok(())
    }
}
