//! From the SDK's syncs to the machine.

use std::sync::Weak;

use matrix_sdk::{
    event_cache::RoomEventCacheGenericUpdate,
    sync::{JoinedRoomUpdate, LeftRoomUpdate, RoomUpdates, State},
};
use matrix_sdk_crypto_mls::{EncryptionSyncChanges, MlsMachine};
use ruma::{
    RoomId,
    api::client::sync::sync_events::DeviceLists,
    events::{AnySyncStateEvent, AnySyncTimelineEvent, AnyToDeviceEvent},
    serde::Raw,
};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    mpsc, oneshot,
};
use tracing::{error, warn};

use super::{
    Engine,
    latch::state_names_mls,
    lock,
    state::{is_about_members, turns_mls_on},
};
use crate::error::Error;

/// What all to-device events of the protocol begin with.
const NAMESPACE: &str = "io.github.matrix-mls.dmls.v1.";

/// Answered when all that had come before was routed.
pub(super) struct Flush(oneshot::Sender<()>);

/// What the router listens to.
pub(super) struct Inputs {
    rooms: Receiver<RoomUpdates>,
    caches: Receiver<RoomEventCacheGenericUpdate>,
    flushes: mpsc::UnboundedReceiver<Flush>,
}

impl Inputs {
    pub(super) fn of(sdk: &matrix_sdk::Client, flushes: mpsc::UnboundedReceiver<Flush>) -> Self {
        Self {
            rooms: sdk.subscribe_to_all_room_updates(),
            caches: sdk.event_cache().subscribe_to_room_generic_updates(),
            flushes,
        }
    }
}

/// Takes to-device events: the SDK waits for it before it goes on with the sync.
pub(super) fn listen(sdk: &matrix_sdk::Client, engine: Weak<Engine>) {
    sdk.add_event_handler(move |event: Raw<AnyToDeviceEvent>| {
        let engine = Weak::clone(&engine);
        async move {
            let event_type = event.get_field::<String>("type").ok().flatten();
            if event_type.is_some_and(|event_type| event_type.starts_with(NAMESPACE))
                && let Some(engine) = engine.upgrade()
                && let Err(error) = Box::pin(engine.take_to_device(event)).await
            {
                error!("A to-device event could not be taken: {error}");
            }
        }
    });
}

/// Takes one update after the other until the engine is gone. What the event cache says comes last:
/// its events were in updates that have come before.
pub(super) async fn run(engine: Weak<Engine>, mut inputs: Inputs) {
    loop {
        tokio::select! {
            biased;
            updates = inputs.rooms.recv() => {
                let Some(engine) = engine.upgrade() else { return };
                match updates {
                    Ok(updates) => Box::pin(engine.route(updates)).await,
                    Err(RecvError::Lagged(missed)) => {
                        warn!(missed, "Syncs were missed");
                        engine.note_gap_everywhere();
                    }
                    Err(RecvError::Closed) => return,
                }
            }
            flush = inputs.flushes.recv() => {
                let Some(Flush(done)) = flush else { return };
                // Who has asked may have gone.
                done.send(()).ok();
            }
            update = inputs.caches.recv() => {
                let Some(engine) = engine.upgrade() else { return };
                match update {
                    Ok(update) => Box::pin(engine.bridge_room(&update.room_id)).await,
                    Err(RecvError::Lagged(_)) => Box::pin(engine.bridge_all()).await,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }
}

impl Engine {
    /// Waits until the router has had what the SDK has told it.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.flushes.send(Flush(done)).is_ok() {
            wait.await.ok();
        }
    }

    async fn take_to_device(&self, event: Raw<AnyToDeviceEvent>) -> Result<(), Error> {
        let machine = self.machine().await?;
        machine
            .receive_sync_changes(EncryptionSyncChanges {
                to_device_events: &[event],
                changed_devices: &DeviceLists::new(),
                // Nothing is said about them here; see `keys`.
                one_time_keys_counts: &Default::default(),
                unused_fallback_keys: None,
            })
            .await?;
        self.take_notices(&machine).await;
        self.wake.notify_one();
        Ok(())
    }

    async fn route(&self, updates: RoomUpdates) {
        match self.machine().await {
            Ok(machine) => {
                for (room_id, update) in &updates.joined {
                    if let Err(error) = self.route_joined(&machine, room_id, update).await {
                        error!(%room_id, "What a sync brought could not be taken: {error}");
                        // Whatever it was, it is in the room's state and history.
                        lock(&self.completeness).want(room_id);
                    }
                }
                for (room_id, update) in &updates.left {
                    if let Err(error) = self.route_left(&machine, room_id, update).await {
                        error!(%room_id, "What a sync brought could not be taken: {error}");
                    }
                }
                Box::pin(self.take_notices(&machine)).await;
            }
            Err(error) => {
                error!("A sync could not be taken: {error}");
                self.note_gap_everywhere();
            }
        }
        self.wake.notify_one();
    }

    async fn route_joined(
        &self,
        machine: &MlsMachine,
        room_id: &RoomId,
        update: &JoinedRoomUpdate,
    ) -> Result<(), Error> {
        let timeline: Vec<_> =
            update.timeline.events.iter().map(|event| event.raw().clone()).collect();
        if !self.concerns(room_id, &update.state, &timeline).await? {
            return Ok(());
        }
        take(machine, room_id, &update.state, &timeline).await?;
        self.note_change(room_id);
        self.look_at_latch(room_id).await?;
        self.tell_of(room_id, &timeline).await;
        let (State::Before(state) | State::After(state)) = &update.state;
        let mut completeness = lock(&self.completeness);
        // The state before a timeline can be wrong about members (protocol §5).
        if update.timeline.limited || state.iter().any(is_about_members) {
            completeness.want(room_id);
        } else {
            completeness.touch(room_id);
        }
        Ok(())
    }

    async fn route_left(
        &self,
        machine: &MlsMachine,
        room_id: &RoomId,
        update: &LeftRoomUpdate,
    ) -> Result<(), Error> {
        let timeline: Vec<_> =
            update.timeline.events.iter().map(|event| event.raw().clone()).collect();
        if self.concerns(room_id, &update.state, &timeline).await? {
            take(machine, room_id, &update.state, &timeline).await?;
            lock(&self.completeness).forget(room_id);
            self.note_change(room_id);
        }
        Ok(())
    }

    /// Whether the room is, or becomes with this, an MLS room.
    async fn concerns(
        &self,
        room_id: &RoomId,
        state: &State,
        timeline: &[Raw<AnySyncTimelineEvent>],
    ) -> Result<bool, Error> {
        let (State::Before(state) | State::After(state)) = state;
        Ok(self.is_latched(room_id).await?
            || state.iter().any(turns_mls_on)
            || timeline.iter().any(turns_mls_on))
    }

    /// Something was missed, and nobody knows in which rooms.
    fn note_gap_everywhere(&self) {
        let mut completeness = lock(&self.completeness);
        for (room_id, latched) in lock(&self.latches).iter() {
            if *latched {
                completeness.want(room_id);
            }
        }
        // One may have become an MLS room by what was missed, which the SDK has taken in.
        for room in self.sdk.joined_rooms() {
            if state_names_mls(&room) {
                completeness.want(room.room_id());
            }
        }
    }
}

async fn take(
    machine: &MlsMachine,
    room_id: &RoomId,
    state: &State,
    timeline: &[Raw<AnySyncTimelineEvent>],
) -> Result<(), Error> {
    let none: &[Raw<AnySyncStateEvent>] = &[];
    match state {
        State::Before(state) => {
            Box::pin(machine.receive_room_events(room_id, state, timeline)).await?;
        }
        // Where the timeline names older state, this overrules it.
        State::After(state) => {
            Box::pin(machine.receive_room_events(room_id, none, timeline)).await?;
            Box::pin(machine.receive_room_events(room_id, state, &[])).await?;
        }
    }
    Ok(())
}
