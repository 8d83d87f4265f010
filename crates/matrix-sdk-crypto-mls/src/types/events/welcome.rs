use matrix_dmls::NodeId;
use ruma::{OwnedEventId, OwnedRoomId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

use super::{base64::Bytes, graph::GraphContent};

/// A Welcome for one device (protocol §6), sent to it directly. It needs no Olm around it: it is
/// HPKE-encrypted to the key package, and what it says is signed by a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.welcome", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceWelcomeEventContent {
    /// The room.
    pub room_id: OwnedRoomId,

    /// The epoch that the recipient joins in.
    pub epoch: NodeId,

    /// The event of that epoch's commit, which the recipient has to read before it joins: it has what is
    /// the same for all whom it adds, the GroupInfo and the ratchet tree.
    pub epoch_event: OwnedEventId,

    /// MLSMessage(Welcome) cut down to the recipient's own secrets, with an empty
    /// `encrypted_group_info`: its size does not grow with the room.
    pub welcome: Bytes,

    /// What else there is of the room's graph, if the committer knows other young tips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphContent>,
}

impl ToDeviceWelcomeEventContent {
    /// A Welcome without a graph.
    pub fn new(
        room_id: OwnedRoomId,
        epoch: NodeId,
        epoch_event: OwnedEventId,
        welcome: Vec<u8>,
    ) -> Self {
        Self { room_id, epoch, epoch_event, welcome: welcome.into(), graph: None }
    }
}
