//! What a room's state says of it.

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::ALGORITHM;
use ruma::{
    OwnedUserId, RoomId,
    events::{
        StaticEventContent,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::{COMMIT, EventHead};
use crate::{
    notice::Notice,
    room::{GroupPower, MlsSince, RoomView},
    types::events::GroupEventContent,
};

/// Fields of state events. Anybody can send anything, so every event is read for its own fields
/// only, and where several matter, one that is not what it should be does not hide the others.
#[derive(Deserialize)]
struct MemberContent {
    membership: MembershipState,
}

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: HistoryVisibility,
}

#[derive(Deserialize)]
struct EncryptionContent {
    algorithm: Option<Value>,
    encryption_algorithm: Option<Value>,
    /// MSC4245 has no stable name yet.
    #[serde(rename = "org.matrix.msc4245.encryption_algorithm")]
    unstable_encryption_algorithm: Option<Value>,
    room_version: Option<Value>,
    additional_creators: Option<Value>,
    rotation_period_ms: Option<Value>,
    rotation_period_msgs: Option<Value>,
}

#[derive(Deserialize)]
struct PowerLevelsContent {
    #[serde(default)]
    events: BTreeMap<String, Value>,
    #[serde(default)]
    users: BTreeMap<String, Value>,
    state_default: Option<Value>,
    events_default: Option<Value>,
    users_default: Option<Value>,
}

impl PowerLevelsContent {
    /// Who may send an event type, which needs this level unless it is named.
    fn apply(&self, power: &mut GroupPower, event_type: &str, default: i64) {
        let needed = level(self.events.get(event_type)).unwrap_or(default);
        let users = self
            .users
            .iter()
            .filter(|(_, value)| level(Some(value)).is_some_and(|level| level >= needed))
            .filter_map(|(user, _)| OwnedUserId::try_from(user.as_str()).ok())
            .collect();
        power.everybody = level(self.users_default.as_ref()).unwrap_or(0) >= needed;
        power.levels = Some((needed, users));
    }
}

/// A power level; old rooms have them as strings.
fn level(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_i64(),
    }
}

/// From room version 12 on, those who made a room have all power in it.
fn creators(sender: &OwnedUserId, content: &EncryptionContent) -> BTreeSet<OwnedUserId> {
    let version = content.room_version.as_ref().and_then(Value::as_str);
    let version: Option<u32> = version.and_then(|version| version.parse().ok());
    if version.is_none_or(|version| version < 12) {
        return BTreeSet::new();
    }
    let additional = content.additional_creators.as_ref().and_then(Value::as_array);
    let additional = additional.into_iter().flatten().filter_map(Value::as_str);
    additional.filter_map(|user| user.try_into().ok()).chain([sender.clone()]).collect()
}

/// Where a state event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The state before the timeline, as the server takes it for true.
    State,
    /// The timeline, in which an event from another server may be late.
    Timeline,
}

/// Takes a state event at the time `now`; gives what the application is to be told.
/// `names_ours` says whether a group is the one that this device is in; none if it is in none.
pub(super) fn apply_state(
    view: &mut RoomView,
    room_id: &RoomId,
    (source, head): (Source, &EventHead),
    now: u64,
    names_ours: impl Fn(&GroupEventContent) -> Option<bool>,
) -> Option<Notice> {
    let state_key = head.state_key.as_ref()?;
    if head.event_type == "m.room.member" {
        let user = OwnedUserId::try_from(state_key.as_str()).ok()?;
        if let Some(MemberContent { membership }) = head.content() {
            // Who has joined cannot be invited, whichever came first (Matrix specification, authorisation
            // rules, "m.room.member"): the inviting server had not heard of the joining.
            let is_late = source == Source::Timeline
                && membership == MembershipState::Invite
                && view.is_joined(user.as_str());
            if !is_late {
                view.members.insert(user, membership);
            }
        }
        return None;
    }
    if !state_key.is_empty() {
        return None;
    }
    match head.event_type.as_str() {
        "m.room.create" => {
            let content = head.content::<EncryptionContent>()?;
            view.creator = Some(head.sender.clone());
            view.power.creators = creators(&head.sender, &content);
            view.commit_power.creators.clone_from(&view.power.creators);
            let named = content.encryption_algorithm.or(content.unstable_encryption_algorithm);
            if named.is_some_and(|algorithm| algorithm == ALGORITHM) {
                return latch(view, room_id, &head.sender);
            }
        }
        "m.room.encryption" => {
            let content = head.content::<EncryptionContent>()?;
            if content.algorithm.is_some_and(|algorithm| algorithm == ALGORITHM) {
                view.rotation_period_ms = content.rotation_period_ms.and_then(|v| v.as_u64());
                view.rotation_period_msgs = content.rotation_period_msgs.and_then(|v| v.as_u64());
                return latch(view, room_id, &head.sender);
            }
            let known = view.downgraded && view.downgrade_attempt == head.event_id;
            if view.mls_since.is_none() || known {
                return None;
            }
            view.downgraded = true;
            view.downgrade_attempt.clone_from(&head.event_id);
            return Some(Notice::DowngradeAttempt {
                room_id: room_id.to_owned(),
                event_id: head.event_id.clone(),
            });
        }
        "m.room.power_levels" => {
            if let Some(content) = head.content::<PowerLevelsContent>() {
                let state_default = level(content.state_default.as_ref()).unwrap_or(50);
                content.apply(&mut view.power, GroupEventContent::TYPE, state_default);
                let events_default = level(content.events_default.as_ref()).unwrap_or(0);
                content.apply(&mut view.commit_power, COMMIT, events_default);
            }
        }
        "m.room.history_visibility" => {
            if let Some(VisibilityContent { history_visibility }) = head.content() {
                view.history_visibility = Some(history_visibility);
            }
        }
        GroupEventContent::TYPE => {
            if let Some(content) = head.content::<GroupEventContent>() {
                let is_ours = names_ours(&content);
                name_group(view, head, content, now, is_ours);
            }
        }
        _ => {}
    }
    None
}

/// The room names its group. What comes later in a timeline need not be later: when two servers were cut
/// off from one another, either side's event comes late to the other. As in state resolution the
/// younger of two counts then, by its server's clock, unless one has taken the other's place.
///
/// Who is in another group stays there, and goes by what named that, until it follows (protocol §6).
fn name_group(
    view: &mut RoomView,
    head: &EventHead,
    content: GroupEventContent,
    now: u64,
    is_ours: Option<bool>,
) {
    let this = head.event_id.clone().map(|id| (head.sent_at().unwrap_or_default(), id));
    let known = view.group_event.clone().map(|(id, sent_at)| (sent_at, id));
    if let (Some(this), Some(known)) = (&this, &known)
        && this < known
        && head.replaces().as_ref() != Some(&known.1)
    {
        return;
    }
    view.group_event = this.map(|(sent_at, id)| (id, sent_at));
    let is_another =
        view.group.as_ref().is_some_and(|(_, known)| known.instance != content.instance);
    match is_ours {
        Some(false) => {
            return view.foundings.note_other(head.sender.clone(), content, now);
        }
        Some(true) => {
            view.foundings.other = None;
            view.foundings.anew = None;
        }
        // What was seen of another group from outside does not matter any more.
        None if is_another => view.entrance = None,
        None => {}
    }
    let group = Some((head.sender.clone(), content));
    if view.group != group {
        view.group = group;
        view.group_since = now;
    }
}

fn latch(view: &mut RoomView, room_id: &RoomId, sender: &OwnedUserId) -> Option<Notice> {
    if view.mls_since.is_some() {
        return None;
    }
    let (algorithm, sender) = (ALGORITHM.to_owned(), sender.clone());
    view.mls_since = Some(MlsSince { algorithm, sender });
    Some(Notice::RoomIsMls { room_id: room_id.to_owned() })
}
