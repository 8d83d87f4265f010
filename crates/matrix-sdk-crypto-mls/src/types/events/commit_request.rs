use std::collections::BTreeMap;

use matrix_dmls::NodeId;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

/// Asks another device for commits that the room's history does not have (protocol §6), signed by the
/// asking device's Matrix key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.commit_request", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceCommitRequestEventContent {
    /// The room.
    pub room_id: OwnedRoomId,

    /// A random name for the request, which the answer has.
    pub request_id: String,

    /// The epochs whose commits are wanted, at most [`Self::MAX_NODES`].
    pub nodes: Vec<NodeId>,

    /// Epochs that the asking device knows, at most [`Self::MAX_TIPS`]: where it came in, and the tips
    /// below.
    pub tips: Vec<NodeId>,

    /// The device's signature over [`Self::signed_json`]: user, `ed25519:` and the device ID, unpadded
    /// base64.
    #[serde(default)]
    pub signatures: BTreeMap<OwnedUserId, BTreeMap<String, String>>,
}

impl ToDeviceCommitRequestEventContent {
    /// The most epochs that one request asks for.
    pub const MAX_NODES: usize = 10;

    /// The most epochs that one request says are known.
    pub const MAX_TIPS: usize = 32;

    /// The longest name of a request, in bytes.
    pub const MAX_REQUEST_ID: usize = 64;

    /// A request that is not signed yet.
    pub const fn new(
        room_id: OwnedRoomId,
        request_id: String,
        nodes: Vec<NodeId>,
        tips: Vec<NodeId>,
    ) -> Self {
        Self { room_id, request_id, nodes, tips, signatures: BTreeMap::new() }
    }

    /// Whether it asks for no more than one request may.
    pub const fn is_within_limits(&self) -> bool {
        self.nodes.len() <= Self::MAX_NODES
            && self.tips.len() <= Self::MAX_TIPS
            && self.request_id.len() <= Self::MAX_REQUEST_ID
    }

    /// What the device signs: the canonical JSON of the content without its signatures.
    ///
    /// # Errors
    ///
    /// None with what the fields can have; the type of the conversion.
    pub fn signed_json(&self) -> Result<String, serde_json::Error> {
        let Self { room_id, request_id, nodes, tips, signatures: _ } = self;
        serde_json::to_string(&Signed { nodes, request_id, room_id, tips })
    }
}

/// In the order of canonical JSON; there is nothing in it but strings.
#[derive(Serialize)]
struct Signed<'a> {
    nodes: &'a [NodeId],
    request_id: &'a str,
    room_id: &'a RoomId,
    tips: &'a [NodeId],
}
