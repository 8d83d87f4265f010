//! Up and down the graph.

use std::{
    collections::{HashMap, HashSet},
    iter,
};

use super::{Graph, NodeStatus};
use crate::ids::NodeId;

impl Graph {
    /// The node that a node's record names as its parent, known or not.
    pub fn parent(&self, id: &NodeId) -> Option<NodeId> {
        self.get(id)?.parent
    }

    /// A node's children, by rising node ID. The node itself may be unknown.
    pub fn children(&self, id: &NodeId) -> impl DoubleEndedIterator<Item = NodeId> {
        self.edges.get(id).into_iter().flatten().copied()
    }

    /// Known nodes without a known parent, by rising node ID: founding commits, the oldest known
    /// nodes of entrances, and commits whose parent did not come yet.
    pub fn roots(&self) -> impl Iterator<Item = NodeId> {
        self.roots.iter().copied()
    }

    /// Known nodes without children, by rising node ID.
    pub fn tips(&self) -> impl Iterator<Item = NodeId> {
        self.tips.iter().copied()
    }

    /// Entered nodes with no entered node below them, by rising node ID.
    pub fn entered_tips(&self) -> impl Iterator<Item = NodeId> {
        let entered = |id: &NodeId| self.status(id) == Some(NodeStatus::Entered);
        let mut passed = HashSet::new();
        for id in self.nodes.keys().filter(|id| entered(id)) {
            // What is above a node that was passed was passed too.
            let mut way = self.ancestors(id);
            while way.next().is_some_and(|above| passed.insert(above)) {}
        }
        let mut tips: Vec<_> =
            self.nodes.keys().filter(|id| entered(id) && !passed.contains(*id)).copied().collect();
        tips.sort_unstable();
        tips.into_iter()
    }

    /// The known nodes above a node, nearest first, without the node itself.
    pub fn ancestors(&self, id: &NodeId) -> impl Iterator<Item = NodeId> {
        iter::successors(self.known_parent(id), |id| self.known_parent(id))
    }

    /// The nodes below a node, every one after its parent, without the node itself.
    pub fn descendants(&self, id: &NodeId) -> impl Iterator<Item = NodeId> {
        let mut open: Vec<_> = self.children(id).collect();
        iter::from_fn(move || {
            let next = open.pop()?;
            open.extend(self.children(&next));
            Some(next)
        })
    }

    /// Whether `above` lies above `below`. A node is not its own ancestor.
    pub fn is_ancestor(&self, above: &NodeId, below: &NodeId) -> bool {
        self.ancestors(below).any(|id| id == *above)
    }

    /// Whether a node is `top` or lies below it.
    pub fn is_at_or_below(&self, top: &NodeId, node: &NodeId) -> bool {
        node == top || self.is_ancestor(top, node)
    }

    /// The youngest known node that both nodes are, or lie below.
    pub fn common_ancestor(&self, a: &NodeId, b: &NodeId) -> Option<NodeId> {
        self.common_ancestor_of([*a, *b])
    }

    /// The youngest known node that all of the nodes are, or lie below. `None` for no nodes, or if
    /// they are not connected or one is not known.
    pub fn common_ancestor_of(&self, nodes: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        let mut nodes = nodes.into_iter();
        let first = nodes.next().filter(|id| self.contains(id))?;
        // From the first node up; of these, what is below the place where another one's way up
        // arrives is not common.
        let trunk: Vec<_> = iter::once(first).chain(self.ancestors(&first)).collect();
        let heights: HashMap<_, _> =
            trunk.iter().enumerate().map(|(height, id)| (*id, height)).collect();
        let mut common = 0;
        for node in nodes {
            let arrival = iter::once(node)
                .chain(self.ancestors(&node))
                .find_map(|id| heights.get(&id).copied())?;
            common = common.max(arrival);
        }
        trunk.get(common).copied()
    }

    fn known_parent(&self, id: &NodeId) -> Option<NodeId> {
        self.parent(id).filter(|parent| self.contains(parent))
    }
}
