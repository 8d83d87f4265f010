//! A room's epoch graph as a picture: plain data, and four ways to draw it.

mod graphviz;
mod layout;
mod mermaid;
mod names;
mod svg;
mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use self::layout::Layout;
use crate::{
    credential::Device,
    graph::{ChoiceStep, Graph, NodeStatus},
    group::Group,
    ids::NodeId,
};

/// All epochs that a device knows of a room's group, and the choice among them: for looking at, in
/// a bug report, a transcript or an audit. It has no secrets.
///
/// `Display` draws it as text, one line per epoch, with the chosen branch on the left:
///
/// ```text
/// ●    1 AAAAAA @alice:example.org/PHONE founds, adds @bob:example.org/PHONE
/// ├─╮
/// ● │  2 BBBBBB @alice:example.org/PHONE updates ← chosen, sending
///   ○  2 CCCCCC @bob:example.org/PHONE updates
/// ```
///
/// Names come from other people's devices. They are shortened, and what is not harmless in a
/// terminal or a document is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpochGraph {
    /// The epochs; every one after its parent, siblings by rising node ID.
    pub nodes: Vec<EpochNode>,
    /// Where the choice starts (protocol §8).
    pub start: Option<NodeId>,
    /// The tip that everybody should be on.
    pub chosen: Option<NodeId>,
    /// The tip that this device sends on: another one while it cannot enter the chosen one.
    pub sending: Option<NodeId>,
    /// The decisions that lead to the chosen tip, from the top.
    pub steps: Vec<ChoiceStep>,
}

/// An epoch in an [`EpochGraph`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpochNode {
    /// The epoch.
    pub node: NodeId,
    /// The epoch that its commit was made on, whether that is in the graph or not. None for a
    /// founding commit, and for a node of which only the roster is known.
    pub parent: Option<NodeId>,
    /// Its number.
    pub epoch: u64,
    /// Whether it was entered, or is only seen.
    pub status: NodeStatus,
    /// Its state is held, so further commits on it can be entered.
    pub held: bool,
    /// Its messages can be read.
    pub readable: bool,
    /// What its commit did; none for a node of which only the roster is known.
    pub commit: Option<EpochCommit>,
}

/// What a commit in an [`EpochGraph`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpochCommit {
    /// Who made it.
    pub author: Device,
    /// Its author joined by it (an external commit).
    pub is_external: bool,
    /// The devices that it added; not its author.
    pub added: Vec<Device>,
    /// The devices that it removed and did not put back itself.
    pub removed: Vec<Device>,
    /// It renewed its author's keys.
    pub updated: bool,
    /// Losing tips that its author knew.
    pub resolves: Vec<NodeId>,
}

impl Group {
    /// The graph as a picture.
    pub fn epoch_graph(&self) -> EpochGraph {
        let mut picture = EpochGraph::new(self.graph());
        for node in &mut picture.nodes {
            node.held = self.state(&node.node).is_some();
            node.readable = self.epoch_key(&node.node).is_some();
        }
        picture.sending = self.sending_tip();
        picture
    }
}

impl EpochGraph {
    /// What the graph alone says: no node is held or readable, and nothing is sent.
    fn new(graph: &Graph) -> Self {
        let mut ids: Vec<_> = graph.roots().collect();
        for root in graph.roots() {
            ids.extend(graph.descendants(&root));
        }
        ids.sort_by_key(|id| (graph.epoch(id), *id));
        Self {
            nodes: ids.into_iter().filter_map(|id| EpochNode::new(graph, id)).collect(),
            start: graph.start(),
            chosen: graph.choose_tip(),
            sending: None,
            steps: graph.explain(),
        }
    }

    /// The same without the old: what is more than `epochs` epoch numbers above the newest node is
    /// left out, unless something later branches off there.
    #[must_use]
    pub fn last(mut self, epochs: u64) -> Self {
        let newest = self.nodes.iter().map(|node| node.epoch).max().unwrap_or_default();
        let oldest = newest.saturating_sub(epochs);
        let parents: HashSet<_> = self
            .nodes
            .iter()
            .filter(|node| node.epoch > oldest)
            .filter_map(|node| node.parent)
            .collect();
        self.nodes.retain(|node| node.epoch > oldest || parents.contains(&node.node));
        self
    }

    /// The branches' ends, by rising node ID.
    pub fn tips(&self) -> BTreeSet<NodeId> {
        let parents: HashSet<_> = self.nodes.iter().filter_map(|node| node.parent).collect();
        self.nodes.iter().map(|node| node.node).filter(|node| !parents.contains(node)).collect()
    }

    /// The nodes from the topmost one to the chosen tip.
    fn chosen_path(&self) -> HashSet<NodeId> {
        let parents: HashMap<_, _> =
            self.nodes.iter().map(|node| (node.node, node.parent)).collect();
        let above = |node: &NodeId| parents.get(node).copied().flatten();
        // Node IDs cover their parents', so this ends; where the picture was cut it ends too.
        std::iter::successors(self.chosen, above)
            .filter(|node| parents.contains_key(node))
            .collect()
    }

    /// What is to be said of where a node stands, besides what it did.
    fn remarks(&self, node: &EpochNode) -> Vec<String> {
        let is = |place: Option<NodeId>| place == Some(node.node);
        let known = |id: &NodeId| self.nodes.iter().any(|node| node.node == *id);
        let above = node.parent.filter(|parent| !known(parent));
        let above = above.map(|parent| format!("below {}", parent.short()));
        let remarks = [
            (is(self.chosen), "chosen"),
            (is(self.sending), "sending"),
            (is(self.start) && node.parent.is_some(), "start"),
            (node.status == NodeStatus::Seen, "not entered"),
            (node.status == NodeStatus::Entered && !node.readable, "keys gone"),
        ];
        let remarks = remarks.into_iter().filter(|(holds, _)| *holds);
        above.into_iter().chain(remarks.map(|(_, remark)| remark.to_owned())).collect()
    }

    fn layout(&self) -> Layout {
        Layout::new(self)
    }
}

impl EpochNode {
    fn new(graph: &Graph, id: NodeId) -> Option<Self> {
        let commit = graph.get(&id).map(|record| {
            let author = record.author.member.device();
            EpochCommit {
                author: author.clone(),
                is_external: record.author.leaf.is_none(),
                added: record
                    .added
                    .iter()
                    .map(|(_, member)| member.device())
                    .filter(|device| *device != author)
                    .cloned()
                    .collect(),
                removed: record
                    .removes_without_readding()
                    .map(|(_, member)| member.device())
                    .filter(|device| *device != author)
                    .cloned()
                    .collect(),
                updated: record.updated.is_some(),
                resolves: record.resolves.clone(),
            }
        });
        Some(Self {
            node: id,
            parent: graph.parent(&id),
            epoch: graph.epoch(&id)?,
            status: graph.status(&id)?,
            held: false,
            readable: false,
            commit,
        })
    }
}
