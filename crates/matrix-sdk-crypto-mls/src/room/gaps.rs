use std::collections::BTreeMap;

use matrix_dmls::NodeId;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

/// What is missing of a room's graph, and how far it was looked for (protocol §10). All times are in
/// milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gaps {
    /// Epochs that somebody has named and that are not known here.
    pub nodes: BTreeMap<NodeId, Gap>,
    /// How far the room's history was looked through, while it is.
    pub walk: Option<Walk>,
    /// Our requests to other devices, the youngest last.
    pub requests: Vec<GraphRequest>,
    /// Commits that are missing in the room, and when it is our turn to post them again.
    pub relays: BTreeMap<NodeId, u64>,
    /// Commits that were posted again, and when we heard of it.
    pub relayed: BTreeMap<NodeId, u64>,
}

/// An epoch that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose device has named it.
    pub named_by: OwnedUserId,
    /// Which device, where that is certain.
    pub device: Option<OwnedDeviceId>,
    /// The event that is said to have its commit.
    pub hint: Option<OwnedEventId>,
    /// How many missing commits, each named by the one before, were fetched by such hints on the way
    /// here.
    pub hops: u8,
    /// Whether more depends on it than what lies above the epoch where we came in.
    pub needed: bool,
    /// When it was named first.
    pub since: u64,
    /// The room's history does not have it.
    pub searched: bool,
    /// How often other devices were asked for it.
    pub tries: u8,
    /// Not asked for again before this time.
    pub next: u64,
}

/// A way back through the room's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// The server's name for the place; none at the beginning, the end of the timeline.
    pub from: Option<String>,
    /// How many pages were read.
    pub pages: u32,
    /// How many requests have failed.
    pub failures: u32,
    /// It is for a device that has no commit and looks where the group is.
    #[serde(default)]
    pub for_entrance: bool,
}

/// A request for commits that may be answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphRequest {
    /// Its name.
    pub id: String,
    /// Who was asked.
    pub asked: OwnedUserId,
    /// When.
    pub at: u64,
    /// It was answered.
    pub answered: bool,
}

impl Gap {
    /// How often other devices are asked for an epoch.
    pub(crate) const MAX_TRIES: u8 = 5;

    /// Whether it is still looked for.
    pub(crate) const fn is_open(&self) -> bool {
        self.needed && self.tries < Self::MAX_TRIES
    }
}

impl Gaps {
    /// Whether there is nothing to do or to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many open gaps a device has named.
    pub(crate) fn named_by(&self, user: &UserId, device: Option<&OwnedDeviceId>) -> usize {
        self.nodes
            .values()
            .filter(|gap| gap.is_open() && gap.named_by == user && gap.device.as_ref() == device)
            .count()
    }

    /// Forgets the oldest of those that nothing more is done about. Whether there was one.
    pub(crate) fn forget_one(&mut self) -> bool {
        let closed = self.nodes.iter().filter(|(_, gap)| !gap.is_open());
        let oldest = closed.min_by_key(|(_, gap)| gap.since).map(|(node, _)| *node);
        oldest.is_some_and(|oldest| self.nodes.remove(&oldest).is_some())
    }
}
