//! Forgetting records of commits that can have no say any more (protocol §9).

use std::sync::Arc;

use super::{Group, GroupChanges};
use crate::{extension::HistoryPolicy, graph::NodeStatus, group::GraphEntry, ids::NodeId};

impl Group {
    /// Forgets all records but those of `oldest` and what lies below it. What is needed of the others
    /// is kept with the record of `oldest`: its roster, and a [`Summary`](crate::Summary).
    ///
    /// The choice is the same before and after, for whatever commits may still come, as long as it
    /// starts at `oldest` or below it. So the caller gives a node that has been the room's anchor, or
    /// above it, for long enough that it will not become one again.
    ///
    /// No change if the choice starts elsewhere, if there is nothing to forget, or while there is a
    /// state, a vault, or a key that its history policy will erase of what would be forgotten. Keys
    /// that are kept stay, and read their messages.
    pub fn compact(&self, oldest: NodeId) -> GroupChanges {
        let mut changes = GroupChanges::default();
        let graph = &self.graph;
        let starts_below = graph.start().is_some_and(|start| graph.is_at_or_below(&oldest, &start));
        let (Some(record), Some(roster)) = (graph.get(&oldest), graph.roster_of(&oldest)) else {
            return changes;
        };
        let gone = graph.above_and_beside(&oldest);
        if !starts_below || gone.is_empty() || gone.iter().any(|node| self.is_needed(node)) {
            return changes;
        }
        let entry = GraphEntry {
            record: Arc::clone(record),
            status: graph.status(&oldest).unwrap_or(NodeStatus::Seen),
            roster: Some(roster),
            summary: Some(Arc::new(graph.summed_up(&oldest, &gone))),
        };
        changes.records.insert(oldest, entry);
        changes.forgotten = gone;
        changes
    }

    /// Whether something is held of a node that needs its record.
    fn is_needed(&self, node: &NodeId) -> bool {
        let policy = self.graph.get(node).map(|record| record.extension.history);
        let key_is_to_go = policy.is_some_and(|policy| policy != HistoryPolicy::Keep)
            && self.epoch_keys.contains_key(node);
        let is_parent = |pending: &NodeId| {
            self.pending.get(pending).is_some_and(|p| p.node.record.parent == Some(*node))
        };
        self.states.contains_key(node)
            || self.vaults.contains_key(node)
            || key_is_to_go
            || self.pending.keys().any(is_parent)
    }
}
