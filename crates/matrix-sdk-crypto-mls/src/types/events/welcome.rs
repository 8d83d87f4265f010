use matrix_dmls::NodeId;
use ruma::{OwnedEventId, OwnedRoomId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

use super::{base64::Bytes, commit::MediaFile, graph::GraphContent};

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

    /// The event of that epoch's commit, which the recipient has to read before it joins.
    pub epoch_event: OwnedEventId,

    /// MLSMessage(Welcome) cut down to the recipient's own secrets, with an empty
    /// `encrypted_group_info`: its size does not grow with the room.
    pub welcome: Bytes,

    /// What is the same for all recipients, in small rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedWelcome>,

    /// The same in the media repository, in large ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_file: Option<MediaFile>,
}

/// What is the same for all whom one commit adds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct SharedWelcome {
    /// The Welcome's `encrypted_group_info`.
    pub encrypted_group_info: Bytes,
    /// The epoch's ratchet tree; the GroupInfo has its hash.
    pub tree: Bytes,
    /// What else there is of the room's graph, if the committer knows other young tips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphContent>,
}

impl SharedWelcome {
    /// Puts both parts together.
    pub fn new(encrypted_group_info: Vec<u8>, tree: Vec<u8>) -> Self {
        Self { encrypted_group_info: encrypted_group_info.into(), tree: tree.into(), graph: None }
    }
}

impl ToDeviceWelcomeEventContent {
    /// A Welcome with its shared part inline.
    pub fn new(
        room_id: OwnedRoomId,
        epoch: NodeId,
        epoch_event: OwnedEventId,
        welcome: Vec<u8>,
        shared: SharedWelcome,
    ) -> Self {
        Self {
            room_id,
            epoch,
            epoch_event,
            welcome: welcome.into(),
            shared: Some(shared),
            shared_file: None,
        }
    }
}
