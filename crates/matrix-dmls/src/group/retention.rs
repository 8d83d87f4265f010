//! How many epochs' states are held (protocol §9). What is erased by time is the layer's above, which
//! has the clock.

use std::collections::BTreeMap;

use super::{Group, GroupChanges};
use crate::{credential::Device, ids::NodeId};

/// At most this many states of epochs that have an entered child are held.
pub const MAX_RETAINED_STATES: usize = 64;

impl Group {
    /// Erases what is over the limit: the author with the most retained states loses its oldest, so
    /// that a member that floods the room only hurts itself. No change while the limit is kept.
    ///
    /// Epoch keys stay: what was written there can still be read.
    pub fn enforce_limits(&self) -> GroupChanges {
        self.erase_over(MAX_RETAINED_STATES)
    }

    pub(super) fn erase_over(&self, limit: usize) -> GroupChanges {
        let mut changes = GroupChanges::default();
        let mut by_author: BTreeMap<&Device, Vec<(u64, NodeId)>> = BTreeMap::new();
        let mut retained = 0;
        for node in self.states.keys() {
            let has_child = self.graph.children(node).any(|child| self.states.contains_key(&child));
            if let (true, Some(record)) = (has_child, self.graph.get(node)) {
                by_author
                    .entry(record.author.member.device())
                    .or_default()
                    .push((record.epoch, *node));
                retained += 1;
            }
        }
        // Oldest last, to be popped.
        by_author.values_mut().for_each(|nodes| nodes.sort_by(|a, b| b.cmp(a)));
        while retained > limit {
            let most = by_author.iter_mut().max_by_key(|(_, nodes)| nodes.len());
            let Some((_, node)) = most.and_then(|(_, nodes)| nodes.pop()) else { break };
            changes.extend(self.erase_state(node));
            retained -= 1;
        }
        changes
    }
}
