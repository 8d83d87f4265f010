//! §8's rule once more, word by word and without a thought for speed. Shares no code with the
//! graph: its rosters come from the scenario, and everything is computed anew wherever it is needed.

use std::collections::BTreeSet;

use super::scenario::Scenario;
use crate::{credential::Device, ids::NodeId, record::CommitRecord};

pub(super) struct Reference<'a> {
    pub(super) scenario: &'a Scenario,
    /// Which nodes the descent is confined to lead to; all, for the ordinary choice.
    pub(super) allowed: BTreeSet<NodeId>,
}

impl Reference<'_> {
    /// "Descend into the winner until a node without children: that is the tip."
    pub(super) fn descend(&self, v: NodeId) -> NodeId {
        let children: Vec<NodeId> = self
            .children(v)
            .into_iter()
            .filter(|c| self.subtree(*c).iter().any(|s| self.allowed.contains(&s.node)))
            .collect();
        if children.is_empty() { v } else { self.descend(self.winner(v, children)) }
    }

    fn children(&self, v: NodeId) -> Vec<NodeId> {
        let records = self.scenario.records.iter();
        records.filter(|record| record.parent == Some(v)).map(|record| record.node).collect()
    }

    /// S(c): "the commits of its subtree, c included".
    fn subtree(&self, c: NodeId) -> Vec<&CommitRecord> {
        let mut all = vec![self.record(c)];
        for child in self.children(c) {
            all.extend(self.subtree(child));
        }
        all
    }

    fn record(&self, c: NodeId) -> &CommitRecord {
        self.scenario.records.iter().find(|record| record.node == c).unwrap()
    }

    fn author(&self, c: NodeId) -> &Device {
        self.record(c).author.member.device()
    }

    fn is_leaf(&self, v: NodeId, device: &Device) -> bool {
        self.scenario.rosters[&v].iter().any(|(_, member)| member.device() == device)
    }

    /// Whether some commit in S(c) removes the leaf of `device` in v's tree "without putting it back
    /// itself": the tree before has it, the tree after has not.
    fn removes(&self, v: NodeId, c: NodeId, device: &Device) -> bool {
        self.is_leaf(v, device)
            && self.subtree(c).iter().any(|commit| {
                self.is_leaf(commit.parent.unwrap(), device) && !self.is_leaf(commit.node, device)
            })
    }

    /// Step 1.
    fn users(&self, v: NodeId, c: NodeId) -> usize {
        let authors = self.subtree(c).into_iter().map(|commit| commit.author.member.device());
        let users = authors.filter(|device| self.is_leaf(v, device)).map(|device| &device.user_id);
        users.collect::<BTreeSet<_>>().len()
    }

    /// Step 3.
    fn swept(&self, v: NodeId, c: NodeId) -> usize {
        let leaves = self.scenario.rosters[&v].iter().map(|(_, member)| member.device());
        let users =
            leaves.filter(|device| self.removes(v, c, device)).map(|device| &device.user_id);
        users.collect::<BTreeSet<_>>().len()
    }

    fn winner(&self, v: NodeId, mut tied: Vec<NodeId>) -> NodeId {
        let most = tied.iter().map(|c| self.users(v, *c)).max().unwrap();
        tied.retain(|c| self.users(v, *c) == most);

        let is_out = |c2: &NodeId| {
            tied.iter().filter(|c| *c != c2).any(|c| {
                self.removes(v, *c, self.author(*c2)) && !self.removes(v, *c2, self.author(*c))
            })
        };
        let left: Vec<NodeId> = tied.iter().copied().filter(|c| !is_out(c)).collect();
        if !left.is_empty() {
            tied = left;
        }

        let fewest = tied.iter().map(|c| self.swept(v, *c)).min().unwrap();
        tied.retain(|c| self.swept(v, *c) == fewest);

        let leaf = |c: &NodeId| match self.record(*c).author.leaf {
            Some(leaf) => u64::from(leaf),
            None => u64::MAX,
        };
        let lowest = tied.iter().map(leaf).min().unwrap();
        tied.retain(|c| leaf(c) == lowest);

        tied.into_iter().min().unwrap()
    }
}
