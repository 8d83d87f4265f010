//! What a device's sync brings.

use std::collections::BTreeMap;

use ruma::{
    OneTimeKeyAlgorithm, OwnedRoomId, UInt,
    api::client::sync::sync_events::DeviceLists,
    events::{AnySyncStateEvent, AnySyncTimelineEvent, AnyToDeviceEvent},
    serde::Raw,
};

use serde::{Deserialize, Serialize};

use super::{super::rng::SimRng, Delivery, DeviceName, SimServer, State};

/// What one sync brings: in the types that the machines take.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SimSync {
    /// To-device messages, in order.
    pub to_device: Vec<Raw<AnyToDeviceEvent>>,
    /// Whose devices changed.
    pub device_lists: DeviceLists,
    /// How many one-time keys the server has.
    pub one_time_key_counts: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    /// Of which algorithms the fallback key was not handed out.
    pub unused_fallback_keys: Vec<OneTimeKeyAlgorithm>,
    /// Rooms with news.
    pub rooms: Vec<SimRoomSync>,
}

/// What one sync brings of a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SimRoomSync {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The state before the timeline, when the room is new to the device.
    pub state: Vec<Raw<AnySyncStateEvent>>,
    /// Events in order.
    pub timeline: Vec<Raw<AnySyncTimelineEvent>>,
}

impl SimServer {
    /// Takes what is new for a device.
    pub fn sync(&self, name: &DeviceName) -> SimSync {
        let mut state = self.state();
        let side = state.state_side(&name.0);
        let State {
            devices, rooms: rooms_of_server, changed_users, hidden, without_olm_keys, ..
        } = &mut *state;
        let device = devices.entry(name.clone()).or_default();
        let mut lists = DeviceLists::new();
        let from = std::mem::replace(&mut device.changed_users_synced, changed_users.len());
        let to_device = std::mem::take(&mut device.to_device);
        let timeline = std::mem::take(&mut device.timeline);
        let one_time_key_counts = device.key_counts(*without_olm_keys);
        let unused_fallback_keys = device
            .fallback_keys
            .iter()
            .filter(|(_, key)| !key.used)
            .map(|(algorithm, _)| algorithm.clone())
            .collect();
        lists.changed = changed_users.iter().skip(from).cloned().collect();
        lists.changed.sort();
        lists.changed.dedup();

        let mut rooms: Vec<SimRoomSync> = Vec::new();
        for delivery in timeline {
            let room = &rooms_of_server[&delivery.room_id];
            let event_id = &room.events[delivery.index].event_id;
            if hidden.contains(&(name.clone(), event_id.clone())) {
                continue;
            }
            let event = room.events[delivery.index].to_json();
            if let Some(known) = rooms.iter_mut().find(|known| known.room_id == delivery.room_id) {
                known.timeline.push(event);
                continue;
            }
            let is_new = device.new_rooms.remove(&delivery.room_id);
            let before = if is_new { room.state_before(delivery.index, side) } else { Vec::new() };
            rooms.push(SimRoomSync {
                room_id: delivery.room_id.clone(),
                state: before.into_iter().map(super::SimEvent::to_json).collect(),
                timeline: vec![event],
            });
        }
        SimSync { to_device, device_lists: lists, one_time_key_counts, unused_fallback_keys, rooms }
    }

    /// Whether a sync would bring anything new.
    pub fn has_news_for(&self, name: &DeviceName) -> bool {
        let state = self.state();
        let device = &state.devices[name];
        !device.to_device.is_empty()
            || !device.timeline.is_empty()
            || device.changed_users_synced < state.changed_users.len()
    }

    /// From now on, or no longer, the events of rooms do not reach a device.
    pub fn holds_back_timeline_of(&self, name: &DeviceName, holds: bool) {
        let mut state = self.state();
        state.device(name).holds_timeline = holds;
        state.device(name).release();
    }

    /// From now on, or no longer, to-device messages do not reach a device.
    pub fn holds_back_to_device_of(&self, name: &DeviceName, holds: bool) {
        let mut state = self.state();
        state.device(name).holds_to_device = holds;
        state.device(name).release();
    }

    /// The next to-device messages to a device get lost.
    pub fn loses_to_device_of(&self, name: &DeviceName, count: usize) {
        self.state().device(name).loses_to_device = count;
    }

    /// From now on, or no longer, every to-device message comes twice.
    pub fn doubles_to_device_of(&self, name: &DeviceName, doubles: bool) {
        self.state().device(name).doubles_to_device = doubles;
    }

    /// Changes the order of the to-device messages that a device has not synced.
    pub fn shuffles_to_device_of(&self, name: &DeviceName) {
        let mut state = self.state();
        let mut messages = std::mem::take(&mut state.device(name).to_device);
        state.rng.shuffle(&mut messages);
        state.device(name).to_device = messages;
    }

    /// Changes the order of the events that a device has not synced, but for state.
    pub fn shuffles_timeline_of(&self, name: &DeviceName) {
        self.rearranges_timeline_of(name, |rng, events| rng.shuffle(events));
    }

    /// Turns the order of the events that a device has not synced round, but for state.
    pub fn reverses_timeline_of(&self, name: &DeviceName) {
        self.rearranges_timeline_of(name, |_, events| events.reverse());
    }

    /// Lets the events that a device has not synced come twice, but for state.
    pub fn doubles_timeline_of(&self, name: &DeviceName) {
        let mut state = self.state();
        let State { devices, rooms, .. } = &mut *state;
        let timeline = &mut devices.get_mut(name).expect("the device exists").timeline;
        let is_free = |delivery: &&Delivery| {
            rooms[&delivery.room_id].events[delivery.index].state_key.is_none()
        };
        let copies: Vec<_> = timeline.iter().filter(is_free).cloned().collect();
        timeline.extend(copies);
    }

    fn rearranges_timeline_of(
        &self,
        name: &DeviceName,
        rearrange: impl FnOnce(&mut SimRng, &mut [Delivery]),
    ) {
        let mut state = self.state();
        let State { devices, rooms, rng, .. } = &mut *state;
        let timeline = &mut devices.get_mut(name).expect("the device exists").timeline;
        let is_free = |delivery: &Delivery| {
            rooms[&delivery.room_id].events[delivery.index].state_key.is_none()
        };
        let mut free: Vec<_> = timeline.iter().filter(|d| is_free(d)).cloned().collect();
        rearrange(rng, &mut free);
        let mut free = free.into_iter();
        for place in timeline.iter_mut().filter(|d| is_free(d)) {
            *place = free.next().expect("as many as before");
        }
    }

    /// A device's application has lost all that it had of the rooms: its next sync is the first one.
    pub fn begins_anew(&self, name: &DeviceName) {
        let mut state = self.state();
        let device = state.device(name);
        device.known_rooms.clear();
        device.new_rooms.clear();
        device.timeline.clear();
        device.held_timeline.clear();
        state.show_rooms(name);
    }

    /// Forgets the events that a device has not synced, as a limited timeline does.
    pub fn drops_timeline_of(&self, name: &DeviceName) {
        self.state().device(name).timeline.clear();
    }

    /// Forgets the commits and messages that a device has not synced, but not the state: a limited
    /// timeline brings that apart.
    pub fn drops_messages_of(&self, name: &DeviceName) {
        let mut state = self.state();
        let State { devices, rooms, .. } = &mut *state;
        let is_state = |delivery: &Delivery| {
            rooms[&delivery.room_id].events[delivery.index].state_key.is_some()
        };
        devices.get_mut(name).expect("the device exists").timeline.retain(is_state);
    }
}
