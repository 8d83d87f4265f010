//! Rooms: state, membership, power levels, who sees what.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId, RoomId,
    events::{
        AnyTimelineEvent,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
    serde::Raw,
};
use serde_json::{Value, json};

use super::{Delivery, DeviceName, SimServer, State};
use crate::{clock::Clock as _, dmls::ALGORITHM};

/// The largest event that the server takes, in bytes.
const MAX_EVENT: usize = 65_536;

/// An event of a room.
#[derive(Clone, Debug)]
pub struct SimEvent {
    /// Its ID.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its content.
    pub content: Value,
    /// When it came, in milliseconds since 1970.
    pub timestamp: u64,
    /// The state event that was there before.
    pub replaces: Option<OwnedEventId>,
}

impl SimEvent {
    /// The event as sync gives it.
    pub fn to_json<T>(&self) -> Raw<T> {
        let mut json = json!({
            "type": self.event_type,
            "event_id": self.event_id,
            "sender": self.sender,
            "origin_server_ts": self.timestamp,
            "content": self.content,
        });
        if let Some(state_key) = &self.state_key {
            json["state_key"] = state_key.as_str().into();
        }
        if let Some(replaces) = &self.replaces {
            json["unsigned"] = json!({ "replaces_state": replaces });
        }
        Raw::from_json(serde_json::value::to_raw_value(&json).unwrap())
    }
}

/// What a new room is like.
#[derive(Clone, Debug)]
pub struct RoomOptions {
    /// The `m.room.encryption` event's content; none without.
    pub encryption: Option<Value>,
    /// Who may read what.
    pub history_visibility: HistoryVisibility,
    /// The power level that some event types need.
    pub events: BTreeMap<String, i64>,
    /// How many events from before one's join a join brings. The rest has to be asked for.
    pub history_window: usize,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self {
            encryption: Some(json!({ "algorithm": ALGORITHM })),
            history_visibility: HistoryVisibility::Shared,
            events: BTreeMap::new(),
            history_window: 0,
        }
    }
}

pub(super) struct Room {
    pub(super) events: Vec<SimEvent>,
    /// By event, on which side of a cut it was made that the others have not heard of it.
    pub(super) made_on: BTreeMap<usize, u32>,
    /// Events that no device of a user gets any more.
    pub(super) soft_failed: BTreeSet<(usize, OwnedUserId)>,
    state: BTreeMap<(String, String), usize>,
    history_window: usize,
}

impl Room {
    /// A state event as a side of a cut has it.
    fn state_event(&self, event_type: &str, state_key: &str, side: u32) -> Option<&SimEvent> {
        if side == 0 || self.made_on.is_empty() {
            let key = (event_type.to_owned(), state_key.to_owned());
            return self.events.get(*self.state.get(&key)?);
        }
        let found = self.events.iter().enumerate().rev().find(|(index, event)| {
            event.event_type == event_type
                && event.state_key.as_deref() == Some(state_key)
                && self.is_seen_on(side, *index)
        });
        found.map(|(_, event)| event)
    }

    pub(super) fn membership(&self, user: &OwnedUserId, side: u32) -> MembershipState {
        self.state_event("m.room.member", user.as_str(), side)
            .map_or(MembershipState::Leave, SimEvent::membership)
    }

    /// Everybody's membership as a side of a cut has it.
    pub(super) fn members(&self, side: u32) -> BTreeMap<OwnedUserId, MembershipState> {
        let users = self.state.keys().filter(|(event_type, _)| event_type == "m.room.member");
        let users = users.filter_map(|(_, user)| OwnedUserId::try_from(user.as_str()).ok());
        users.map(|user| (user.clone(), self.membership(&user, side))).collect()
    }

    /// The state before an event as a side of a cut has it, in order.
    pub(super) fn state_before(&self, index: usize, side: u32) -> Vec<&SimEvent> {
        let mut state = BTreeMap::new();
        let seen = self.events.iter().enumerate().take(index);
        for (_, event) in seen.filter(|(index, _)| self.is_seen_on(side, *index)) {
            if let Some(key) = &event.state_key {
                state.insert((&event.event_type, key), event);
            }
        }
        state.into_values().collect()
    }

    /// A user's memberships: from which event on it had which.
    fn memberships(&self, user: &OwnedUserId, side: u32) -> Vec<(usize, MembershipState)> {
        let is_theirs = |event: &SimEvent| {
            event.event_type == "m.room.member" && event.state_key.as_deref() == Some(user.as_str())
        };
        self.events
            .iter()
            .enumerate()
            .filter(|(index, event)| is_theirs(event) && self.is_seen_on(side, *index))
            .map(|(index, event)| (index, event.membership()))
            .collect()
    }

    /// Whether an event invites somebody who has joined meanwhile on another side of a cut: the
    /// authorisation rules let nobody do that, so it counts nowhere else when the network is whole.
    fn is_refused_invitation(&self, index: usize) -> bool {
        let event = &self.events[index];
        let key = |user: &String| (event.event_type.clone(), user.clone());
        let known = event.state_key.as_ref().and_then(|user| self.state.get(&key(user)));
        event.event_type == "m.room.member"
            && event.membership() == MembershipState::Invite
            && known.is_some_and(|known| self.events[*known].membership() == MembershipState::Join)
    }

    /// Whether a user on a side of a cut may see an event.
    pub(super) fn is_visible(&self, user: &OwnedUserId, side: u32, index: usize) -> bool {
        if !self.is_seen_on(side, index) || self.soft_failed.contains(&(index, user.clone())) {
            return false;
        }
        let memberships = self.memberships(user, side);
        let at = memberships.iter().rev().find(|(from, _)| *from <= index).map(|(_, m)| m);
        let later = memberships
            .iter()
            .any(|(from, membership)| *from > index && *membership == MembershipState::Join);
        let own = memberships.iter().any(|(from, _)| *from == index);
        let visibility = self
            .state_event("m.room.history_visibility", "", side)
            .and_then(|event| event.content.get("history_visibility")?.as_str())
            .map_or(HistoryVisibility::Shared, HistoryVisibility::from);
        own || at == Some(&MembershipState::Join)
            || match visibility {
                HistoryVisibility::WorldReadable => true,
                HistoryVisibility::Shared => later,
                HistoryVisibility::Invited => later && at == Some(&MembershipState::Invite),
                _ => false,
            }
    }

    fn power_of(&self, user: &OwnedUserId) -> i64 {
        self.state_event("m.room.power_levels", "", 0)
            .and_then(|event| event.content.get("users")?.get(user.as_str())?.as_i64())
            .unwrap_or_default()
    }

    fn power_for(&self, event_type: &str, default: i64) -> i64 {
        self.state_event("m.room.power_levels", "", 0)
            .and_then(|event| event.content.get("events")?.get(event_type)?.as_i64())
            .unwrap_or(default)
    }
}

impl SimEvent {
    fn membership(&self) -> MembershipState {
        let membership = self.content.get("membership").and_then(Value::as_str);
        membership.map_or(MembershipState::Leave, MembershipState::from)
    }
}

impl SimServer {
    /// Makes a room, with its creator in it.
    pub fn creates_room(&self, creator: &OwnedUserId, options: RoomOptions) -> OwnedRoomId {
        let mut state = self.state();
        let id = state.next_id();
        let room_id = RoomId::parse(format!("!room{id}:example.org")).unwrap();
        let room = Room {
            events: Vec::new(),
            made_on: BTreeMap::new(),
            soft_failed: BTreeSet::new(),
            state: BTreeMap::new(),
            history_window: options.history_window,
        };
        state.rooms.insert(room_id.clone(), room);
        let now = self.clock.now();
        let mut put = |event_type: &str, state_key: &str, content: Value| {
            state.append(&room_id, creator, event_type, Some(state_key), content, now);
        };
        put("m.room.create", "", json!({ "room_version": "11" }));
        put("m.room.member", creator.as_str(), json!({ "membership": "join" }));
        let users = json!({ creator.as_str(): 100 });
        put("m.room.power_levels", "", json!({ "users": users, "events": options.events }));
        let visibility = options.history_visibility.as_str();
        put("m.room.history_visibility", "", json!({ "history_visibility": visibility }));
        if let Some(encryption) = options.encryption {
            put("m.room.encryption", "", encryption);
        }
        room_id
    }

    /// `PUT /rooms/{}/send`; an HTTP status if it is refused.
    pub fn send_event(
        &self,
        by: &DeviceName,
        room_id: &RoomId,
        event_type: &str,
        txn_id: &OwnedTransactionId,
        content: Value,
    ) -> Result<OwnedEventId, u16> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(event_id) = state.device(by).transactions.get(txn_id) {
            return Ok(event_id.clone());
        }
        if content.to_string().len() > MAX_EVENT {
            return Err(413);
        }
        let side = state.state_side(&by.0);
        let room = state.rooms.get(room_id).ok_or(404_u16)?;
        if room.membership(&by.0, side) != MembershipState::Join
            || room.power_of(&by.0) < room.power_for(event_type, 0)
        {
            return Err(403);
        }
        let event_id = state.append(room_id, &by.0, event_type, None, content, now);
        state.device(by).transactions.insert(txn_id.clone(), event_id.clone());
        Ok(event_id)
    }

    /// `PUT /rooms/{}/state`; an HTTP status if it is refused.
    pub fn send_state(
        &self,
        by: &OwnedUserId,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> Result<OwnedEventId, u16> {
        let now = self.clock.now();
        let mut state = self.state();
        let side = state.state_side(by);
        let room = state.rooms.get(room_id).ok_or(404_u16)?;
        if room.membership(by, side) != MembershipState::Join
            || room.power_of(by) < room.power_for(event_type, 50)
        {
            return Err(403);
        }
        Ok(state.append(room_id, by, event_type, Some(state_key), content, now))
    }

    /// `GET /rooms/{}/event/{}`.
    pub(super) fn get_event(
        &self,
        by: &DeviceName,
        room_id: &RoomId,
        event_id: &OwnedEventId,
    ) -> Result<Raw<AnyTimelineEvent>, u16> {
        let state = self.state();
        let room = state.rooms.get(room_id).ok_or(404_u16)?;
        let found = room.events.iter().position(|event| event.event_id == *event_id);
        let index = found.ok_or(404_u16)?;
        let event = &room.events[index];
        if !state.may_get(by, room, index) {
            return Err(404);
        }
        Ok(event.to_json())
    }

    /// Changes a user's membership; an HTTP status if `by` may not.
    ///
    /// # Errors
    ///
    /// The status with which the server refuses it.
    pub fn set_membership(
        &self,
        by: &OwnedUserId,
        room_id: &RoomId,
        user: &OwnedUserId,
        membership: &MembershipState,
    ) -> Result<OwnedEventId, u16> {
        let now = self.clock.now();
        let mut state = self.state();
        let side = state.state_side(by);
        let room = state.rooms.get(room_id).ok_or(404_u16)?;
        let (theirs, before) = (room.membership(by, side), room.membership(user, side));
        let joined = theirs == MembershipState::Join;
        let allowed = match membership {
            MembershipState::Join => by == user && before == MembershipState::Invite,
            MembershipState::Invite => joined && before == MembershipState::Leave,
            MembershipState::Leave if by == user => {
                matches!(before, MembershipState::Join | MembershipState::Invite)
            }
            MembershipState::Leave | MembershipState::Ban => joined && room.power_of(by) >= 50,
            _ => false,
        };
        if !allowed {
            return Err(403);
        }
        let content = json!({ "membership": membership });
        Ok(state.append(room_id, by, "m.room.member", Some(user.as_str()), content, now))
    }

    /// Puts any event into a room, as a hostile server can.
    pub fn forges_event(
        &self,
        room_id: &RoomId,
        sender: &OwnedUserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let now = self.clock.now();
        self.state().append(room_id, sender, event_type, state_key, content, now)
    }

    /// A user's membership, by the youngest event that any side of a cut has.
    pub fn membership(&self, room_id: &RoomId, user: &OwnedUserId) -> MembershipState {
        self.state().rooms[room_id].membership(user, 0)
    }

    /// All events of a room.
    pub fn events(&self, room_id: &RoomId) -> Vec<SimEvent> {
        self.state().rooms[room_id].events.clone()
    }

    /// One event of a room.
    pub fn event(&self, room_id: &RoomId, event_id: &OwnedEventId) -> SimEvent {
        let state = self.state();
        let mut events = state.rooms[room_id].events.iter();
        events.find(|event| event.event_id == *event_id).expect("the event exists").clone()
    }

    /// How many events of a type there are in a room.
    pub fn count(&self, room_id: &RoomId, event_type: &str) -> usize {
        let state = self.state();
        state.rooms[room_id].events.iter().filter(|event| event.event_type == event_type).count()
    }
}

impl State {
    /// Whether a device gets an event when it asks for it.
    pub(super) fn may_get(&self, by: &DeviceName, room: &Room, index: usize) -> bool {
        let event = &room.events[index];
        room.is_visible(&by.0, self.state_side(&by.0), index)
            && !self.is_cut(&by.0, &event.sender)
            && !self.hidden.contains(&(by.clone(), event.event_id.clone()))
    }

    /// Adds an event and puts it into the inboxes of those who are to see it.
    pub(super) fn append(
        &mut self,
        room_id: &RoomId,
        sender: &OwnedUserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
        timestamp: u64,
    ) -> OwnedEventId {
        let event_id = OwnedEventId::try_from(format!("$event{}", self.next_id())).unwrap();
        let side = self.state_side(sender);
        let room = self.rooms.get_mut(room_id).expect("the room exists");
        let index = room.events.len();
        let replaced = state_key.and_then(|key| room.state_event(event_type, key, side));
        let replaces = replaced.map(|event| event.event_id.clone());
        room.events.push(SimEvent {
            event_id: event_id.clone(),
            event_type: event_type.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            sender: sender.clone(),
            content,
            timestamp,
            replaces,
        });
        if let Some(state_key) = state_key
            && !room.is_refused_invitation(index)
        {
            room.state.insert((event_type.to_owned(), state_key.to_owned()), index);
        }
        if side != 0 {
            room.made_on.insert(index, side);
        }
        let names: Vec<_> = self.devices.keys().cloned().collect();
        for name in names {
            self.deliver(room_id, index, &name);
        }
        event_id
    }

    pub(super) fn deliver(&mut self, room_id: &RoomId, index: usize, to: &DeviceName) {
        let side = self.state_side(&to.0);
        let room = &self.rooms[room_id];
        if !room.is_seen_on(side, index) {
            return;
        }
        let event = &room.events[index];
        let is_own_membership = event.event_type == "m.room.member"
            && event.state_key.as_deref() == Some(to.0.as_str());
        let membership = room.membership(&to.0, side);
        let joined = membership == MembershipState::Join;
        let knows = self.devices[to].known_rooms.contains(room_id);
        if is_own_membership && joined && !knows {
            self.enter_room(room_id, index, to);
            return;
        }
        let leaves = is_own_membership && knows && !joined;
        let sees = joined && knows;
        if !leaves && !sees {
            return;
        }
        // What the state is a server works out by itself, whatever came late.
        let cut = self.is_cut(&event.sender, &to.0) && event.state_key.is_none();
        let device = self.device(to);
        let delivery = Delivery { room_id: room_id.to_owned(), index };
        if cut || device.holds_timeline {
            device.held_timeline.push_back(delivery);
        } else {
            device.timeline.push_back(delivery);
        }
        if leaves {
            device.known_rooms.remove(room_id);
        }
    }

    /// A device sees a room for the first time, or again.
    fn enter_room(&mut self, room_id: &RoomId, join: usize, to: &DeviceName) {
        let side = self.state_side(&to.0);
        let room = &self.rooms[room_id];
        let first = join.saturating_sub(room.history_window);
        let visible: Vec<_> = (first..=join)
            .filter(|index| room.is_visible(&to.0, side, *index))
            .map(|index| Delivery { room_id: room_id.to_owned(), index })
            .collect();
        let device = self.device(to);
        device.known_rooms.insert(room_id.to_owned());
        device.new_rooms.insert(room_id.to_owned());
        device.timeline.extend(visible);
    }

    /// A new device sees the rooms that its user is in.
    pub(super) fn show_rooms(&mut self, to: &DeviceName) {
        let side = self.state_side(&to.0);
        let rooms: Vec<_> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.membership(&to.0, side) == MembershipState::Join)
            .map(|(room_id, room)| (room_id.clone(), room.events.len() - 1))
            .collect();
        for (room_id, last) in rooms {
            self.enter_room(&room_id, last, to);
        }
    }
}
