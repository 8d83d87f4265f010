//! What the machine knows of a room, beside its group.

mod foundings;
mod gaps;
mod keys;
mod left_behind;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::{Device, NodeId};
use ruma::{
    OwnedEventId, OwnedUserId, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use serde::{Deserialize, Serialize};

pub use self::{
    foundings::{Anew, Foundings, OtherGroup},
    gaps::{Gap, Gaps, GraphRequest, Walk},
    keys::{KeyRequest, KeyRequests, SpareKey, WantedKey},
    left_behind::{Behind, HeldJoinRequest},
    standing::Standing,
};
use crate::{
    trust::Verdict,
    types::events::{GroupEventContent, MediaFile},
};

/// Plain data, stored as one value per room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomView {
    /// Once a room has been seen as MLS it stays MLS (protocol §11).
    pub mls_since: Option<MlsSince>,
    /// Somebody tried to turn MLS off after that.
    pub downgraded: bool,
    /// The event that tried, if it had an ID.
    pub downgrade_attempt: Option<OwnedEventId>,
    /// Who created the room.
    pub creator: Option<OwnedUserId>,
    /// Everybody's membership, as far as it was seen.
    pub members: BTreeMap<OwnedUserId, MembershipState>,
    /// The application has given the complete member list since we joined.
    pub members_complete: bool,
    /// Who may read what; `shared` until an event says otherwise.
    pub history_visibility: Option<HistoryVisibility>,
    /// How often the keys are to be renewed, in milliseconds.
    pub rotation_period_ms: Option<u64>,
    /// How often the keys are to be renewed, in messages.
    pub rotation_period_msgs: Option<u64>,
    /// The state event that names the group, and its sender.
    pub group: Option<(OwnedUserId, GroupEventContent)>,
    /// When we heard of that event, in milliseconds since 1970.
    #[serde(default)]
    pub group_since: u64,
    /// That event's ID, and when it was sent by its server's clock, in milliseconds since 1970.
    #[serde(default)]
    pub group_event: Option<(OwnedEventId, u64)>,
    /// Who may send that event.
    #[serde(default)]
    pub power: GroupPower,
    /// Who may send commits.
    #[serde(default)]
    pub commit_power: GroupPower,
    /// Until when no commit of ours is tried, in milliseconds since 1970: the server refused one.
    pub commits_refused_until: u64,
    /// Commits of ours that it has refused, oldest first.
    #[serde(default)]
    pub refused: Vec<NodeId>,
    /// We joined by a last-resort key package, so we have to update our keys first.
    pub must_update: bool,
    /// When our keys were last renewed on the branch in use, in milliseconds since 1970.
    pub updated_at: u64,
    /// When a claim of a device's key package failed, in milliseconds since 1970.
    pub failed_claims: BTreeMap<String, u64>,
    /// How far each leaf's owner could be trusted when an epoch with it was entered.
    #[serde(with = "as_list")]
    pub verdicts: BTreeMap<Device, Verdict>,
    /// The epoch that was ours first: an entrance that is in use is never replaced by another.
    pub entrance: Option<NodeId>,
    /// What is remembered of standing up for the room.
    #[serde(default)]
    pub standing: Standing,
    /// What we have done about being outside the epoch that everybody should be in.
    #[serde(default)]
    pub behind: Option<Behind>,
    /// Requests of others to be let in.
    #[serde(default)]
    pub join_requests: Vec<HeldJoinRequest>,
    /// When we have last let a device in that had asked, in milliseconds since 1970.
    #[serde(default)]
    pub let_in: BTreeMap<String, u64>,
    /// What is missing of the room's graph.
    #[serde(default)]
    pub gaps: Gaps,
    /// Epoch keys that others are asked for.
    #[serde(default, skip_serializing_if = "KeyRequests::is_empty")]
    pub keys: KeyRequests,
    /// Commits that wait for the file that they are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<WaitingFile>,
    /// The topmost commits of branches that this device could not enter and that everybody had left who
    /// has committed there, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deserted: Vec<NodeId>,
    /// The nodes that were the room's anchor, at least a week apart, with the times at which that was
    /// noted, in milliseconds since 1970; oldest first. The first one may be older than a year, all
    /// others are younger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<(NodeId, u64)>,
    /// What is remembered of the group being founded anew.
    #[serde(default, skip_serializing_if = "Foundings::is_empty")]
    pub foundings: Foundings,
}

/// A commit whose event has come, and which is in a file that has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFile {
    /// The file.
    pub file: MediaFile,
    /// The event.
    pub event_id: OwnedEventId,
    /// Who has sent it.
    pub sender: OwnedUserId,
    /// When it came, in milliseconds since 1970.
    pub since: u64,
}

/// Who may send an event type: the one that says which group is the room's, and where the choice
/// starts (protocol §6), or commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPower {
    /// The creators, where the room's version gives them all power whatever the levels say.
    pub creators: BTreeSet<OwnedUserId>,
    /// The level that it takes, and the users that have it; none before `m.room.power_levels` was seen.
    pub levels: Option<(i64, BTreeSet<OwnedUserId>)>,
    /// Whether everybody has that level.
    pub everybody: bool,
}

impl GroupPower {
    /// The users that may, as far as they can be told one by one.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        let levels = self.levels.iter().flat_map(|(_, users)| users);
        self.creators.iter().chain(levels).map(|user| &**user)
    }

    /// Whether a user may.
    pub fn includes(&self, user: &UserId) -> bool {
        self.everybody || self.users().any(|one| one == user)
    }
}

/// What made a room an MLS room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlsSince {
    /// The algorithm.
    pub algorithm: String,
    /// Who sent the event that names it: that user's device founds the group.
    pub sender: OwnedUserId,
}

impl RoomView {
    /// The users whose devices are to be in the group (protocol §5).
    pub fn wanted_users(&self) -> impl Iterator<Item = &UserId> {
        let invited_too = self.history_visibility != Some(HistoryVisibility::Joined);
        self.members.iter().filter_map(move |(user, membership)| match membership {
            MembershipState::Join => Some(&**user),
            MembershipState::Invite if invited_too => Some(&**user),
            _ => None,
        })
    }

    /// Whether there is evidence that the user is not, or no longer, in the room.
    pub fn is_gone(&self, user: &str) -> bool {
        let Ok(user) = <&UserId>::try_from(user) else {
            // Nobody with an ID that is none can be in a room.
            return true;
        };
        match self.members.get(user) {
            Some(MembershipState::Join) => false,
            Some(MembershipState::Invite) => {
                self.history_visibility == Some(HistoryVisibility::Joined)
            }
            Some(_) => true,
            None => self.members_complete,
        }
    }

    /// Whether the user may send commits, as far as that is known (protocol §5, §11).
    pub fn may_commit(&self, user: &UserId) -> bool {
        self.commit_power.levels.is_none() || self.commit_power.includes(user)
    }

    /// Whether the user has joined.
    pub fn is_joined(&self, user: &str) -> bool {
        <&UserId>::try_from(user)
            .is_ok_and(|user| self.members.get(user) == Some(&MembershipState::Join))
    }

    /// Whether the user has joined or is invited.
    pub fn may_join(&self, user: &UserId) -> bool {
        matches!(self.members.get(user), Some(MembershipState::Join | MembershipState::Invite))
    }

    /// All whose devices the OlmMachine has to know.
    pub fn tracked_users(&self) -> BTreeSet<OwnedUserId> {
        self.wanted_users().map(ToOwned::to_owned).collect()
    }
}

/// Maps with structs as keys are not JSON; written as a list.
pub(crate) mod as_list {
    use std::collections::BTreeMap;

    use matrix_dmls::Device;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        map: &BTreeMap<Device, T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Device, T>, D::Error> {
        Vec::deserialize(deserializer).map(|list| list.into_iter().collect())
    }
}
