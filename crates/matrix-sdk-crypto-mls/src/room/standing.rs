//! What is remembered of standing up for a room (protocol §5).

use matrix_dmls::NodeId;
use serde::{Deserialize, Serialize};

/// At most this many commits are remembered of each kind, the youngest ones. Forgetting one costs
/// another answer to it at worst.
const MAX_REMEMBERED: usize = 64;

/// Part of a [`super::RoomView`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The commit by which the chosen branch goes where this device cannot follow, and when that was
    /// noticed, in milliseconds since 1970.
    pub left_behind: Option<(NodeId, u64)>,
    /// That commit, if the room did not want this device while it stood: there is nothing to object
    /// to, also when the room wants it again.
    pub justified: Option<NodeId>,
    /// Until when our user was not in the room, in milliseconds since 1970.
    pub away_until: Option<u64>,
    /// How often this device has objected to a commit.
    pub objections: Vec<(NodeId, u8)>,
    /// Commits that have added invented devices, and when that was noticed, in milliseconds since
    /// 1970.
    pub repairs: Vec<(NodeId, u64)>,
}

impl Standing {
    /// How often this device has objected to a commit.
    pub fn objections_to(&self, commit: &NodeId) -> u8 {
        self.objections.iter().find(|(node, _)| node == commit).map_or(0, |(_, count)| *count)
    }

    /// When a commit with invented devices was noticed, in milliseconds since 1970.
    pub fn repair_since(&self, commit: &NodeId) -> Option<u64> {
        self.repairs.iter().find(|(node, _)| node == commit).map(|(_, since)| *since)
    }

    pub(crate) fn note_objection(&mut self, commit: NodeId) {
        let count = self.objections_to(&commit).saturating_add(1);
        remember(&mut self.objections, commit, count);
    }

    pub(crate) fn note_repair(&mut self, commit: NodeId, now: u64) {
        remember(&mut self.repairs, commit, now);
    }
}

fn remember<T>(list: &mut Vec<(NodeId, T)>, commit: NodeId, value: T) {
    list.retain(|(node, _)| *node != commit);
    if list.len() >= MAX_REMEMBERED {
        list.remove(0);
    }
    list.push((commit, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objections_are_counted_and_the_oldest_forgotten() {
        let mut standing = Standing::default();
        let node = |byte| NodeId::from_bytes([byte; 32]);
        for _ in 0..300 {
            standing.note_objection(node(0));
        }
        assert_eq!((standing.objections_to(&node(0)), standing.objections_to(&node(1))), (255, 0));
        for byte in 1..=64 {
            standing.note_objection(node(byte));
            standing.note_repair(node(byte), byte.into());
        }
        assert_eq!((standing.objections_to(&node(0)), standing.objections_to(&node(64))), (0, 1));
        assert_eq!(standing.repair_since(&node(64)), Some(64));
        assert_eq!((standing.objections.len(), standing.repairs.len()), (64, 64));
    }
}
