use ruma::{OwnedEventId, OwnedRoomId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

use super::{
    base64::Bytes,
    commit::{CommitEventContent, MediaFile},
};

/// A part of a room's graph of epochs (protocol §6): for one who asked for it by
/// [`ToDeviceCommitRequestEventContent`](super::ToDeviceCommitRequestEventContent).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.graph", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceGraphEventContent {
    /// The room.
    pub room_id: OwnedRoomId,

    /// The ID of the request that this answers.
    pub request_id: String,

    /// The commits that were asked for, with those that lead to them.
    pub graph: GraphContent,
}

impl ToDeviceGraphEventContent {
    /// An answer.
    pub const fn new(room_id: OwnedRoomId, request_id: String, graph: GraphContent) -> Self {
        Self { room_id, request_id, graph }
    }
}

/// Commits that hang together (protocol §6). Nothing of it has to be believed: hashes tie all of it
/// to an epoch that the recipient knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct GraphContent {
    /// The ratchet tree of the epoch that the first commit makes, if the recipient may not know that
    /// epoch. None if it is a founding commit, from which the roster follows without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Bytes>,

    /// Where that tree is, when it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_file: Option<MediaFile>,

    /// The commits, every one after its parent.
    pub commits: Vec<GraphCommit>,
}

/// One commit of a [`GraphContent`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct GraphCommit {
    /// The event that carries it; a hint.
    pub event_id: OwnedEventId,

    /// How long ago the sender has heard of it, in milliseconds, as far as the sender may be believed:
    /// so that what is old does not become young again by being passed on.
    #[serde(default)]
    pub age: u64,

    /// The event's content, without what only external joiners need.
    pub content: CommitEventContent,
}

impl GraphCommit {
    /// A commit as its event carried it.
    pub fn new(event_id: OwnedEventId, age: u64, mut content: CommitEventContent) -> Self {
        content.group_info = None;
        content.encrypted_group_info = None;
        content.tree = None;
        content.tree_file = None;
        content.relay = false;
        Self { event_id, age, content: content.to_be_sent() }
    }
}
