//! What is remembered of a room's group being founded anew (protocol §6).

use matrix_dmls::{InstanceId, NodeId};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::{notice::Obstacle, types::events::GroupEventContent};

/// So many groups are remembered that were left, the youngest ones.
const MAX_LEFT: usize = 32;

/// Part of a [`super::RoomView`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Foundings {
    /// Another group that the room names, while this device stays in its own.
    pub other: Option<OtherGroup>,
    /// The founding that this device has made anew, until the room names it.
    pub anew: Option<Anew>,
    /// When it has made that, in milliseconds since 1970.
    pub anew_at: u64,
    /// The groups of this room that it has left for others, youngest last: it does not go back to one
    /// by itself.
    pub left: Vec<InstanceId>,
}

/// A group that the room names, and that this device is not in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherGroup {
    /// Who has named it first, as far as was seen.
    pub sender: OwnedUserId,
    /// What names it.
    pub content: GroupEventContent,
    /// When we heard of that, in milliseconds since 1970.
    pub since: u64,
    /// The application agrees to follow.
    #[serde(default)]
    pub agreed: bool,
    /// What the application was told last of why it is not followed.
    #[serde(default)]
    pub told: Option<Obstacle>,
}

/// A founding of our own that is to take the place of another group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anew {
    /// The founding commit's epoch.
    pub node: NodeId,
    /// The group that the room named, and who had named it.
    pub instead_of: Option<(OwnedUserId, GroupEventContent)>,
}

impl Foundings {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes note of a group that the room names, and that is not ours.
    pub(crate) fn note_other(
        &mut self,
        sender: OwnedUserId,
        content: GroupEventContent,
        since: u64,
    ) {
        match &mut self.other {
            // Somebody has moved its anchor.
            Some(known)
                if known.content.founding == content.founding
                    && known.content.instance == content.instance =>
            {
                known.content = content;
            }
            other => {
                *other = Some(OtherGroup { sender, content, since, agreed: false, told: None })
            }
        }
    }

    pub(crate) fn note_left(&mut self, instance: InstanceId) {
        self.left.retain(|left| *left != instance);
        if self.left.len() >= MAX_LEFT {
            self.left.remove(0);
        }
        self.left.push(instance);
    }
}
