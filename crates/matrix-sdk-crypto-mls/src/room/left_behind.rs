//! What is kept of a room for those who are outside its group (protocol §6, §8).

use std::collections::BTreeMap;

use matrix_dmls::{KeyPackageRef, Member, NodeId};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::types::events::ToDeviceJoinRequestEventContent;

/// What this device has done about being outside the epoch that everybody should be in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behind {
    /// Since when it is outside, in milliseconds since 1970; none while it is inside again.
    pub since: Option<u64>,
    /// How often it has tried to get in, by a join request or an external commit.
    pub tries: u32,
    /// When it has tried last, in milliseconds since 1970.
    pub tried_at: u64,
    /// Whether that was an external commit.
    pub external: bool,
    /// Whether it has tried an external commit at all since it was inside.
    pub has_tried_external: bool,
    /// When it has last looked for the group in the room's history, in milliseconds since 1970.
    pub looked_back_at: u64,
    /// The epoch that it has asked to be let into last.
    pub tip: Option<NodeId>,
    /// It has something to send, and had that after its last try.
    pub wants_to_send: bool,
    /// The first try is not before this time, in milliseconds since 1970, unless there is something to
    /// send.
    pub not_before: u64,
    /// The key packages in its last request, by the device that it was sent to, and when they were
    /// made, in milliseconds since 1970.
    pub key_packages: BTreeMap<String, (KeyPackageRef, u64)>,
}

/// A request to be let in that this device may answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldJoinRequest {
    /// Who sent it, as the server says, and the key package too.
    pub sender: OwnedUserId,
    /// Who the key package makes a leaf of.
    pub member: Member,
    /// What it says. Its signature was verified.
    pub content: ToDeviceJoinRequestEventContent,
    /// When the device's first request came that was not answered yet, in milliseconds since 1970.
    pub received_at: u64,
    /// When its last one came, which this is.
    #[serde(default)]
    pub renewed_at: u64,
}
