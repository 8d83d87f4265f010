//! What somebody has to be given to know a part of the graph (protocol §6).

use std::{
    collections::{HashMap, HashSet},
    iter,
};

use super::Graph;
use crate::ids::NodeId;

impl Graph {
    /// The nodes that lead to `wanted` from what somebody knows who has named `known`, every one
    /// after its parent. What lies between two known nodes, one above the other, is known too. Wanted
    /// nodes that do not lie below anything of that are left out.
    pub fn leading_to(&self, wanted: &[NodeId], known: &[NodeId]) -> Vec<NodeId> {
        let region = self.between(known);
        let mut nodes = HashSet::new();
        for node in wanted.iter().filter(|node| self.contains(node)) {
            let way: Vec<_> =
                self.up_from(node).take_while(|node| !region.contains(node)).collect();
            let last = way.last().map_or(Some(*node), |last| self.parent(last));
            if last.is_some_and(|last| region.contains(&last)) {
                nodes.extend(way);
            }
        }
        self.by_epoch(nodes)
    }

    /// The youngest node that all of these are, or lie below, and all nodes from it to each of them,
    /// every one after its parent. Empty if they are not connected, or one is not known.
    pub fn branches_to(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let Some(top) = self.common_ancestor_of(nodes.iter().copied()) else { return Vec::new() };
        let mut branches = HashSet::from([top]);
        for node in nodes {
            let mut way = self.up_from(node);
            while way.next().is_some_and(|node| branches.insert(node)) {}
        }
        self.by_epoch(branches)
    }

    /// What somebody knows who names these nodes: them, and the ways between those of which one is
    /// above the other.
    fn between(&self, known: &[NodeId]) -> HashSet<NodeId> {
        let named: HashSet<_> = known.iter().copied().filter(|node| self.contains(node)).collect();
        let mut region = named.clone();
        for node in &named {
            let mut way = Vec::new();
            for above in self.ancestors(node) {
                if named.contains(&above) {
                    region.extend(way);
                    break;
                }
                way.push(above);
            }
        }
        region
    }

    fn up_from(&self, node: &NodeId) -> impl Iterator<Item = NodeId> {
        iter::once(*node).chain(self.ancestors(node))
    }

    fn by_epoch(&self, nodes: HashSet<NodeId>) -> Vec<NodeId> {
        let epochs: HashMap<_, _> =
            nodes.iter().map(|node| (*node, self.epoch(node).unwrap_or_default())).collect();
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort_unstable_by_key(|node| (epochs.get(node).copied(), *node));
        nodes
    }
}
