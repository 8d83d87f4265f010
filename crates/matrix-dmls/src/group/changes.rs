//! What an operation changes. Nothing is persisted in the middle of one: the caller stores these
//! changes in one transaction, then applies them, so a crash or a full disk tears nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::node::{NodeState, PendingCommit};
use crate::{
    epoch_key::EpochKey,
    graph::{NodeStatus, Summary},
    ids::NodeId,
    record::CommitRecord,
    roster::Roster,
    schedule::Vault,
};

/// A commit's record as the graph has it.
#[derive(Clone, Debug)]
pub struct GraphEntry {
    /// The record.
    pub record: Arc<CommitRecord>,
    /// Whether its state was computed.
    pub status: NodeStatus,
    /// The roster, where it does not follow from the parent's: at the founding commit, and where we
    /// joined.
    pub roster: Option<Arc<Roster>>,
    /// Of the oldest node, what is left of the records that were forgotten.
    pub summary: Option<Arc<Summary>>,
}

/// Upserts (`Some`) and deletions (`None`), by node. `Default` is no change.
#[derive(Clone, Debug, Default)]
pub struct GroupChanges {
    /// New or upgraded records.
    pub records: BTreeMap<NodeId, GraphEntry>,
    /// Records that go. They go before others come.
    pub forgotten: BTreeSet<NodeId>,
    /// States.
    pub states: BTreeMap<NodeId, Option<Arc<NodeState>>>,
    /// Vaults: also without their state, when a child was derived there.
    pub vaults: BTreeMap<NodeId, Option<Vault>>,
    /// Epoch keys.
    pub epoch_keys: BTreeMap<NodeId, Option<Arc<EpochKey>>>,
    /// Commits of our own that are not accepted yet.
    pub pending: BTreeMap<NodeId, Option<Arc<PendingCommit>>>,
}

impl GroupChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.is_only_keys() && self.epoch_keys.is_empty()
    }

    /// Whether nothing changes but epoch keys.
    pub fn is_only_keys(&self) -> bool {
        self.records.is_empty()
            && self.forgotten.is_empty()
            && self.states.is_empty()
            && self.vaults.is_empty()
            && self.pending.is_empty()
    }

    /// Adds later changes: where both change the same thing, the later one counts.
    pub fn extend(&mut self, later: Self) {
        self.records.retain(|node, _| !later.forgotten.contains(node));
        self.forgotten.retain(|node| !later.records.contains_key(node));
        self.forgotten.extend(later.forgotten);
        self.records.extend(later.records);
        self.states.extend(later.states);
        self.vaults.extend(later.vaults);
        self.epoch_keys.extend(later.epoch_keys);
        self.pending.extend(later.pending);
    }

    /// A node that was entered.
    pub(super) fn enter(&mut self, node: &super::node::NewNode, roster: Option<Arc<Roster>>) {
        let id = node.record.node;
        self.records.insert(
            id,
            GraphEntry {
                record: Arc::clone(&node.record),
                status: NodeStatus::Entered,
                roster,
                summary: None,
            },
        );
        self.states.insert(id, Some(Arc::clone(&node.state)));
        self.vaults.insert(id, Some(node.vault.clone()));
        self.epoch_keys.insert(id, Some(Arc::clone(&node.epoch_key)));
    }
}
