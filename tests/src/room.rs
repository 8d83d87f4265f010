//! Rooms: how they are made, and what a device has seen of them.

use std::collections::{BTreeMap, BTreeSet};

use matrix_sdk_crypto_mls::make_mls_room;
use ruma::{
    OwnedUserId, RoomVersionId, UserId,
    api::client::room::create_room::v3::{Request, RoomPreset},
    events::{
        AnySyncStateEvent, AnySyncTimelineEvent, StateEventType,
        room::{
            create::RoomCreateEventContent,
            member::MembershipState,
            power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent},
        },
    },
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

/// How a room is made. The default is a private room without anything.
#[derive(Clone, Debug, Default)]
pub struct RoomOptions {
    /// Which users are invited at once.
    pub invite: Vec<OwnedUserId>,
    /// The server's preset; without one, Synapse makes a private room.
    pub preset: Option<RoomPreset>,
    /// The room version; without one, the server's default.
    pub room_version: Option<RoomVersionId>,
    /// The room's name.
    pub name: Option<String>,
    /// Additional state, each `{type, state_key, content}`: see [`Self::with_state`].
    pub initial_state: Vec<Value>,
    /// Replaces fields of `m.room.power_levels`.
    pub power_levels: Option<Value>,
    /// Additional fields of `m.room.create`.
    pub creation_content: Option<Value>,
    /// Whether it is an MLS room from its first moment.
    pub mls: bool,
}

impl RoomOptions {
    /// A private room that is an MLS room from its first moment.
    pub fn mls() -> Self {
        Self { mls: true, preset: Some(RoomPreset::PrivateChat), ..Self::default() }
    }

    /// Adds a state event, to be there when the first member joins.
    pub fn with_state(mut self, event_type: &str, state_key: &str, content: Value) -> Self {
        self.initial_state
            .push(json!({ "type": event_type, "state_key": state_key, "content": content }));
        self
    }

    /// Adds an invited user.
    pub fn with_invite(mut self, user: &UserId) -> Self {
        self.invite.push(user.to_owned());
        self
    }

    pub(crate) fn into_request(self) -> Result<Request, serde_json::Error> {
        let mut request = Request::new();
        request.invite = self.invite;
        request.preset = self.preset;
        request.room_version = self.room_version;
        request.name = self.name;
        request.initial_state = self.initial_state.iter().map(raw).collect::<Result<_, _>>()?;
        request.power_level_content_override = self.power_levels.as_ref().map(raw).transpose()?;
        request.creation_content = self.creation_content.as_ref().map(raw).transpose()?;
        if self.mls {
            make_mls_room(&mut request)?;
        }
        Ok(request)
    }
}

/// Any JSON as the content of any event or request.
pub(crate) fn raw<T>(content: &(impl Serialize + ?Sized)) -> Result<Raw<T>, serde_json::Error> {
    Ok(Raw::from_json(to_raw_value(content)?))
}

/// Who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Users that joined.
    pub joined: BTreeSet<OwnedUserId>,
    /// Users that are invited.
    pub invited: BTreeSet<OwnedUserId>,
}

impl Members {
    /// Both, joined first.
    pub fn all(&self) -> impl Iterator<Item = &UserId> {
        self.joined.iter().chain(&self.invited).map(AsRef::as_ref)
    }

    pub(crate) fn insert(&mut self, user: OwnedUserId, membership: &MembershipState) {
        match membership {
            MembershipState::Join => self.joined.insert(user),
            MembershipState::Invite => self.invited.insert(user),
            _ => false,
        };
    }
}

/// What a device has seen of a room through sync.
#[derive(Clone, Debug, Default)]
pub struct RoomState {
    /// The current state events, by type and state key.
    pub state: BTreeMap<(String, String), Raw<AnySyncStateEvent>>,
    /// Every timeline event, in the order in which they came. Where a sync was limited, events are
    /// missing.
    pub timeline: Vec<Raw<AnySyncTimelineEvent>>,
    /// Everybody's membership, those that left included.
    pub memberships: BTreeMap<OwnedUserId, MembershipState>,
}

impl RoomState {
    /// Who is in the room now.
    pub fn members(&self) -> Members {
        let mut members = Members::default();
        for (user, membership) in &self.memberships {
            members.insert(user.clone(), membership);
        }
        members
    }

    /// A user's membership, if there ever was one.
    pub fn membership(&self, user: &UserId) -> Option<&MembershipState> {
        self.memberships.get(user)
    }

    /// The content of a state event, if there is one and `T` can be read from it.
    pub fn content<T: for<'de> Deserialize<'de>>(
        &self,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Option<T> {
        let event = self.state.get(&(event_type.to_string(), state_key.to_owned()))?;
        event.get_field("content").ok().flatten()
    }

    /// Who may do what, creators included; `None` before the room's creation event was seen.
    pub fn power_levels(&self) -> Option<RoomPowerLevels> {
        let event = self.state.get(&(StateEventType::RoomCreate.to_string(), String::new()))?;
        let create = event.get_field::<RoomCreateEventContent>("content").ok().flatten()?;
        let sender = event.get_field::<OwnedUserId>("sender").ok().flatten()?;
        let rules = create.room_version.rules()?.authorization;
        let creators = [sender].into_iter().chain(create.additional_creators);
        let levels =
            self.content::<RoomPowerLevelsEventContent>(&StateEventType::RoomPowerLevels, "");
        Some(RoomPowerLevels::new(levels.into(), &rules, creators))
    }

    pub(crate) fn add_state(&mut self, event: &Raw<AnySyncStateEvent>) -> serde_json::Result<()> {
        self.apply(event.json())
    }

    pub(crate) fn add_timeline(
        &mut self,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> serde_json::Result<()> {
        self.apply(event.json())?;
        self.timeline.push(event.clone());
        Ok(())
    }

    fn apply(&mut self, event: &RawValue) -> serde_json::Result<()> {
        let fields: EventFields<'_> = serde_json::from_str(event.get())?;
        let Some(state_key) = fields.state_key else { return Ok(()) };
        if fields.event_type == StateEventType::RoomMember.to_string()
            && let Ok(user) = UserId::parse(&state_key)
            && let Ok(content) = serde_json::from_str::<MemberFields>(fields.content.get())
        {
            self.memberships.insert(user, content.membership);
        }
        self.state.insert((fields.event_type, state_key), Raw::from_json(event.to_owned()));
        Ok(())
    }
}

/// What every event has. The content is read only where it is known, because strange content must
/// not stop a sync.
#[derive(Deserialize)]
struct EventFields<'a> {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct MemberFields {
    membership: MembershipState,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, state_key: &str, sender: &str, content: Value) -> Value {
        json!({ "type": event_type, "state_key": state_key, "sender": sender, "content": content })
    }

    #[test]
    fn state_and_timeline_give_members_and_power_levels() {
        let (alice, bob) = (UserId::parse("@a:x").unwrap(), UserId::parse("@b:x").unwrap());
        let mut room = RoomState::default();
        for (event_type, state_key, content) in [
            ("m.room.create", "", json!({ "room_version": "12" })),
            ("m.room.power_levels", "", json!({ "kick": 60, "users": { "@b:x": 50 } })),
            ("m.room.member", "@a:x", json!({ "membership": "join" })),
            ("m.room.member", "@b:x", json!({ "membership": "join" })),
            ("m.room.topic", "", json!({ "membership": 3 })),
        ] {
            room.add_state(&raw(&event(event_type, state_key, "@a:x", content)).unwrap()).unwrap();
        }
        let levels = room.power_levels().unwrap();
        assert!(levels.user_can_kick_user(&alice, &bob));
        assert!(!levels.user_can_kick_user(&bob, &alice));
        assert_eq!(room.members().joined, [alice, bob.clone()].into());

        let kick = event("m.room.member", "@b:x", "@a:x", json!({ "membership": "leave" }));
        room.add_timeline(&raw(&kick).unwrap()).unwrap();
        let text = json!({ "type": "m.room.message", "content": { "body": "hi" } });
        room.add_timeline(&raw(&text).unwrap()).unwrap();
        assert_eq!(room.membership(&bob), Some(&MembershipState::Leave));
        assert_eq!(room.timeline.len(), 2);
    }
}
