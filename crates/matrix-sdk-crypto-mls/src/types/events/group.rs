use matrix_dmls::{InstanceId, NodeId};
use ruma::events::{EmptyStateKey, macros::EventContent};
use serde::{Deserialize, Serialize};

/// Which group is the room's (protocol §6): a state event with an empty state key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.group", kind = State, state_key_type = EmptyStateKey)]
#[non_exhaustive]
pub struct GroupEventContent {
    /// The founding commit's epoch.
    pub founding: NodeId,
    /// The instance in the group's extension.
    pub instance: InstanceId,
    /// The epoch from which everybody's choice starts (protocol §8), once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<NodeId>,
}

impl GroupEventContent {
    /// Names a group.
    pub const fn new(founding: NodeId, instance: InstanceId) -> Self {
        Self { founding, instance, anchor: None }
    }
}
