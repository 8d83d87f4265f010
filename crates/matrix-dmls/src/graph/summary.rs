//! What is left of commits that can have no say any more, and are forgotten (protocol §9).

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::Graph;
use crate::{credential::Device, ids::NodeId};

/// At most this many forgotten nodes are remembered by name (protocol §12).
const MAX_BESIDE: usize = 4096;

/// The `seq` of at most this many devices is remembered, the highest ones (protocol §12).
const MAX_SEQS: usize = 4096;

/// What a graph remembers of the records above and beside its oldest node that it has forgotten. No
/// choice depends on it: it says of late commits that they are late, and of old key packages that they
/// are old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The epoch number of the oldest node. No node with a lower one lies below it.
    epoch: u64,
    /// Forgotten nodes that have this number or a higher one.
    beside: BTreeSet<NodeId>,
    /// The highest `seq` of each device's credentials (protocol §4).
    seqs: Vec<(Device, u64)>,
}

impl Graph {
    /// Whether a node, which has this epoch number, was forgotten or lies above what is known: nothing
    /// on it can count any more (protocol §9).
    pub fn is_forgotten(&self, node: &NodeId, epoch: u64) -> bool {
        let is_old =
            |summary: &Arc<Summary>| epoch < summary.epoch || summary.beside.contains(node);
        !self.contains(node) && self.summary.as_ref().is_some_and(is_old)
    }

    /// What was forgotten, if anything was.
    pub fn summary(&self) -> Option<&Arc<Summary>> {
        self.summary.as_ref()
    }

    /// The known nodes that are neither `oldest` nor below it.
    pub(crate) fn above_and_beside(&self, oldest: &NodeId) -> BTreeSet<NodeId> {
        let below: HashSet<_> = self.descendants(oldest).chain([*oldest]).collect();
        self.nodes.keys().filter(|node| !below.contains(*node)).copied().collect()
    }

    /// The summary once these nodes are forgotten; with what was summed up before.
    pub(crate) fn summed_up(&self, oldest: &NodeId, gone: &BTreeSet<NodeId>) -> Summary {
        let epoch = self.epoch(oldest).unwrap_or_default();
        let before = self.summary.iter().flat_map(|summary| &summary.beside);
        let is_late = |node: &NodeId| self.epoch(node).is_some_and(|number| number >= epoch);
        let beside = gone.iter().filter(|node| is_late(node)).chain(before);
        let mut seqs: Vec<_> = self.voters.seqs().map(|(who, seq)| (who.clone(), seq)).collect();
        seqs.sort_unstable_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
        seqs.truncate(MAX_SEQS);
        Summary { epoch, beside: beside.take(MAX_BESIDE).copied().collect(), seqs }
    }

    /// Takes over what was summed up.
    pub(crate) fn set_summary(&mut self, summary: Arc<Summary>) {
        for (device, seq) in &summary.seqs {
            self.voters.note_seq(device, *seq);
        }
        self.summary = Some(summary);
    }

    /// Forgets nodes: the graph is what it would be if they had never been put in.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<NodeId>) {
        let mut left = Self { root: self.root, anchor: self.anchor, ..Self::default() };
        if let Some(summary) = &self.summary {
            left.set_summary(Arc::clone(summary));
        }
        for (id, node) in self.nodes.iter().filter(|(id, _)| !gone.contains(*id)) {
            if let Some(roster) = &node.given_roster {
                left.set_roster(*id, node.epoch, Arc::clone(roster));
            }
            if let Some(commit) = &node.commit {
                left.insert(Arc::clone(&commit.record), node.status);
            }
        }
        *self = left;
    }
}
