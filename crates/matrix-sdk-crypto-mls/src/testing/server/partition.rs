//! Homeservers that are cut off from one another.
//!
//! There is one server in memory; on which side of a cut a user is says which homeserver it would be
//! on. A cut by [`SimServer::is_cut_between`] lets the room's state through, one by
//! [`SimServer::is_cut_into`] nothing: each side goes on with the state that it knows, and what it does
//! to the room the others learn when the network is whole again. Then the younger of two state events
//! counts, whichever side it is from.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedUserId, RoomId, events::room::member::MembershipState};

use super::{Delivery, SimEvent, SimServer, State, rooms::Room};

impl SimServer {
    /// Cuts the network: users on different sides do not see one another's events and to-device
    /// messages, nor get one another's key packages, until [`SimServer::heals`]. Changes of the room's
    /// state are seen on both sides.
    pub fn is_cut_between(&self, one: &[&OwnedUserId], other: &[&OwnedUserId]) {
        let mut state = self.state();
        for (side, users) in [(1, one), (2, other)] {
            state.sides.extend(users.iter().map(|user| ((*user).clone(), side)));
        }
    }

    /// Cuts the network into any number of sides, between which nothing passes until
    /// [`SimServer::heals`]: no event, not even of state, no to-device message, no key. Who is on none
    /// of them sees everything. What was cut before is whole again first.
    pub fn is_cut_into(&self, sides: &[Vec<OwnedUserId>]) {
        self.heals();
        let mut state = self.state();
        state.cuts_state = true;
        for (side, users) in (1..).zip(sides) {
            state.sides.extend(users.iter().map(|user| (user.clone(), side)));
        }
    }

    /// Whether, when the network is whole again, devices are spared the events of those whom their side
    /// has removed meanwhile, as homeservers do ("soft failure"). They never get them then, not even
    /// when they ask.
    pub fn soft_fails(&self, soft_fails: bool) {
        self.state().soft_fails = soft_fails;
    }

    /// These users never get an event of a room, not even when they ask for it: their homeserver
    /// withholds it.
    pub fn withholds_from_users(
        &self,
        room_id: &RoomId,
        event_id: &OwnedEventId,
        users: &[OwnedUserId],
    ) {
        let mut state = self.state();
        let State { rooms, devices, .. } = &mut *state;
        let room = rooms.get_mut(room_id).expect("the room exists");
        let Some(index) = room.events.iter().position(|event| event.event_id == *event_id) else {
            return;
        };
        room.soft_failed.extend(users.iter().map(|user| (index, user.clone())));
        for (_, device) in devices.iter_mut().filter(|((user, _), _)| users.contains(user)) {
            let keeps =
                |delivery: &Delivery| delivery.room_id != *room_id || delivery.index != index;
            device.timeline.retain(keeps);
            device.held_timeline.retain(keeps);
        }
    }

    /// Whether there are events of a room that somebody never gets.
    pub fn withholds_anything(&self, room_id: &RoomId) -> bool {
        !self.state().rooms[room_id].soft_failed.is_empty()
    }

    /// The network is whole again: what could not be delivered comes now.
    pub fn heals(&self) {
        let mut state = self.state();
        let sides = std::mem::take(&mut state.sides);
        state.cuts_state = false;
        let side = |user: &OwnedUserId| sides.get(user).copied().unwrap_or_default();
        let room_ids: Vec<_> = state.rooms.keys().cloned().collect();
        let names: Vec<_> = state.devices.keys().cloned().collect();
        for room_id in room_ids {
            let Some(room) = state.rooms.get_mut(&room_id) else { continue };
            let late = std::mem::take(&mut room.made_on);
            for (index, from) in late {
                for name in names.iter().filter(|name| ![0, from].contains(&side(&name.0))) {
                    let room = &state.rooms[&room_id];
                    let event = &room.events[index];
                    let refused = state.soft_fails
                        && event.state_key.is_none()
                        && room.membership(&event.sender, 0) != MembershipState::Join;
                    if refused {
                        let room = state.rooms.get_mut(&room_id).unwrap();
                        room.soft_failed.insert((index, name.0.clone()));
                    } else {
                        state.deliver(&room_id, index, name);
                    }
                }
            }
        }
        for device in state.devices.values_mut() {
            device.release();
        }
    }

    /// All events of a room that a user's homeserver has.
    pub fn events_seen_by(&self, room_id: &RoomId, by: &OwnedUserId) -> Vec<SimEvent> {
        let state = self.state();
        let (room, side) = (&state.rooms[room_id], state.state_side(by));
        let events = room.events.iter().enumerate();
        events.filter(|(index, _)| room.is_seen_on(side, *index)).map(|(_, e)| e.clone()).collect()
    }

    /// Everybody's membership, as a user's homeserver has it: `GET /rooms/{}/members`.
    pub fn members_as_seen_by(
        &self,
        room_id: &RoomId,
        by: &OwnedUserId,
    ) -> BTreeMap<OwnedUserId, MembershipState> {
        let state = self.state();
        state.rooms[room_id].members(state.state_side(by))
    }
}

impl State {
    /// On which side of a cut a user is; 0 if on none.
    pub(super) fn side(&self, user: &OwnedUserId) -> u32 {
        self.sides.get(user).copied().unwrap_or_default()
    }

    /// On which side of a cut that separates the state too.
    pub(super) fn state_side(&self, user: &OwnedUserId) -> u32 {
        if self.cuts_state { self.side(user) } else { 0 }
    }

    pub(super) fn is_cut(&self, one: &OwnedUserId, other: &OwnedUserId) -> bool {
        match (self.side(one), self.side(other)) {
            (0, _) | (_, 0) => false,
            (one, other) => one != other,
        }
    }
}

impl Room {
    /// Whether a side sees an event; 0 sees all.
    pub(super) fn is_seen_on(&self, side: u32, index: usize) -> bool {
        side == 0 || self.made_on.get(&index).is_none_or(|made_on| *made_on == side)
    }
}
