//! The graph of epochs: which commits there are, which branch to send on, what is below what
//! (protocol §2, §8, §9). Plain data: no cryptography, no clock, no I/O.
//!
//! A [`Graph`] is a function of the *set* of records put into it, never of their order: two devices
//! that know the same commits choose the same tip. Nothing here recurses, so the depth of a graph is
//! bounded by memory only.

mod choice;
mod connection;
mod retention;
mod rosters;
mod rule;
mod summary;
mod updates;
mod voters;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use self::{
    rosters::RosterCache,
    voters::{Deed, Voters},
};
pub use self::{
    rule::{Candidate, ChoiceStep, Rule},
    summary::Summary,
};
use crate::{
    credential::Device,
    ids::{InstanceId, NodeId},
    record::CommitRecord,
    roster::Roster,
};

/// What a device knows of a node. Both count alike for the choice (protocol §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeStatus {
    /// Known to be well-formed, but its state was never computed.
    Seen,
    /// Its state was computed, and may have been erased since.
    Entered,
}

/// What [`Graph::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inserted {
    /// The record was not there before.
    New,
    /// The record was there as seen, and is entered now.
    Upgraded,
    /// Nothing changed.
    Known,
}

/// All commits that a device knows of one group, as a graph: each node has at most one parent and
/// any number of children.
///
/// Node IDs are hashes that cover the parent's, so a graph cannot have cycles; callers put in only
/// records whose IDs they have computed themselves.
#[derive(Clone, Default)]
pub struct Graph {
    nodes: HashMap<NodeId, Node>,
    /// Children by their parent, in rising order, also where the parent is not known (yet).
    edges: HashMap<NodeId, Vec<NodeId>>,
    /// Known nodes without a known parent.
    roots: BTreeSet<NodeId>,
    /// Known nodes without children.
    tips: BTreeSet<NodeId>,
    root: Option<NodeId>,
    anchor: Option<NodeId>,
    /// Commits below which the choice does not go, see [`Graph::set_deserted`].
    deserted: BTreeSet<NodeId>,
    instance: Option<InstanceId>,
    voters: Voters,
    rosters: RosterCache,
    /// Of what was forgotten.
    summary: Option<Arc<Summary>>,
}

/// A node has a record, or a roster that was given for it, or both.
#[derive(Clone)]
struct Node {
    status: NodeStatus,
    epoch: u64,
    commit: Option<Commit>,
    given_roster: Option<Arc<Roster>>,
}

#[derive(Clone)]
struct Commit {
    record: Arc<CommitRecord>,
    deed: Deed,
}

impl Node {
    /// Whether the roster is known here without looking further up.
    fn has_own_roster(&self) -> bool {
        self.given_roster.is_some() || self.is_founding()
    }

    /// Which founding of the room's group the node belongs to, as far as its commit is known.
    fn instance(&self) -> Option<InstanceId> {
        self.commit.as_ref().map(|commit| commit.record.extension.instance)
    }

    fn is_founding(&self) -> bool {
        self.commit.as_ref().is_some_and(|commit| commit.record.parent.is_none())
    }
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts in a commit that is well-formed (§2). The order does not matter: a child may come before
    /// its parent, and is unconnected until that comes. A record that is there already stays as it
    /// is, and an entered node stays entered.
    pub fn insert(&mut self, record: Arc<CommitRecord>, status: NodeStatus) -> Inserted {
        let id = record.node;
        if let Some(node) = self.nodes.get_mut(&id)
            && node.commit.is_some()
        {
            if status <= node.status {
                return Inserted::Known;
            }
            node.status = status;
            return Inserted::Upgraded;
        }
        let (parent, epoch) = (record.parent, record.epoch);
        let commit = Some(Commit { deed: self.voters.deed(&record), record });
        let given_roster = self.nodes.get_mut(&id).and_then(|node| node.given_roster.take());
        self.nodes.insert(id, Node { status, epoch, commit, given_roster });
        self.link(id, parent);
        Inserted::New
    }

    /// Gives a node's roster, for nodes where it does not follow from the records: the entrance of a
    /// device that joined by Welcome, and the oldest node of a newcomer's graph (§6), whose own
    /// commit may be unknown. The node counts as known from then on; `epoch` is its epoch number,
    /// and ignored if there is a record that says it.
    pub fn set_roster(&mut self, id: NodeId, epoch: u64, roster: Arc<Roster>) {
        // Nodes below may be cached with a roster that was replayed from further up.
        self.rosters.clear();
        for (_, member) in roster.iter() {
            self.voters.member(member);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.given_roster = Some(roster);
            return;
        }
        let given_roster = Some(roster);
        self.nodes.insert(id, Node { status: NodeStatus::Seen, epoch, commit: None, given_roster });
        self.link(id, None);
    }

    /// Whether a node's roster was given although it has a parent: an entrance, whose record may lack
    /// what only the parent's roster tells.
    pub fn is_entrance(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| {
            let below = |commit: &Commit| commit.record.parent.is_some();
            node.given_roster.is_some() && node.commit.as_ref().is_some_and(below)
        })
    }

    /// Replaces an entrance's record by the one that was made from its parent's roster, from which
    /// its own roster follows then.
    pub fn complete(&mut self, record: Arc<CommitRecord>) {
        if let Some(node) = self.nodes.get_mut(&record.node)
            && node.commit.is_some()
        {
            node.given_roster = None;
            node.commit = Some(Commit { deed: self.voters.deed(&record), record });
            // Nodes below may be cached with the given roster.
            self.rosters.clear();
        }
    }

    /// Keeps edges, roots and tips up to date after `id` became known, or got its record.
    fn link(&mut self, id: NodeId, parent: Option<NodeId>) {
        if let Some(parent) = parent {
            let children = self.edges.entry(parent).or_default();
            if let Err(place) = children.binary_search(&id) {
                children.insert(place, id);
            }
            self.tips.remove(&parent);
        }
        if parent.is_some_and(|parent| self.nodes.contains_key(&parent)) {
            self.roots.remove(&id);
        } else {
            self.roots.insert(id);
        }
        let children: Vec<_> = self.children(&id).collect();
        if children.is_empty() {
            self.tips.insert(id);
        }
        for child in children {
            self.roots.remove(&child);
        }
    }

    /// Names the founding commit, or, while that is not known, the entrance in use (§8). It may be
    /// named before it is known. Gives whether another one was named before.
    pub fn set_root(&mut self, root: Option<NodeId>) -> bool {
        std::mem::replace(&mut self.root, root) != root
    }

    /// Names the anchor of the room's group (§8). It may be named before it is known. Gives whether
    /// another one was named before.
    pub fn set_anchor(&mut self, anchor: Option<NodeId>) -> bool {
        std::mem::replace(&mut self.anchor, anchor) != anchor
    }

    /// Names the commits whose branches everybody has left who could let anybody in (§8): the choice
    /// leads past them, although what is in them counts. Gives whether others were named before.
    pub fn set_deserted(&mut self, deserted: BTreeSet<NodeId>) -> bool {
        let is_new = self.deserted != deserted;
        self.deserted = deserted;
        is_new
    }

    /// Names the instance of the room's group: where nothing else says where the choice starts, it does
    /// not start in another founding (protocol §6). Gives whether another one was named before.
    pub fn set_instance(&mut self, instance: Option<InstanceId>) -> bool {
        std::mem::replace(&mut self.instance, instance) != instance
    }

    /// The anchor that was named last, known or not.
    pub const fn anchor(&self) -> Option<NodeId> {
        self.anchor
    }

    /// A node's record.
    pub fn get(&self, id: &NodeId) -> Option<&Arc<CommitRecord>> {
        self.nodes.get(id)?.commit.as_ref().map(|commit| &commit.record)
    }

    /// All records, in no order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<CommitRecord>> {
        self.nodes.values().filter_map(|node| node.commit.as_ref()).map(|commit| &commit.record)
    }

    /// Whether a node is entered or seen; `None` if it is not known.
    pub fn status(&self, id: &NodeId) -> Option<NodeStatus> {
        self.nodes.get(id).map(|node| node.status)
    }

    /// A node's epoch number; `None` if it is not known.
    pub fn epoch(&self, id: &NodeId) -> Option<u64> {
        self.nodes.get(id).map(|node| node.epoch)
    }

    /// The highest `seq` of a device's credentials in any commit or given roster, on any branch: only
    /// a leaf with that one is wanted (protocol §4, §5). `None` if the device is not known.
    pub fn highest_seq(&self, device: &Device) -> Option<u64> {
        self.voters.highest_seq(device)
    }

    /// Whether the node is known: by its record, or because its roster was given.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.nodes.contains_key(id)
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.nodes.len())
            .field("roots", &self.roots)
            .field("tips", &self.tips)
            .field("root", &self.root)
            .field("anchor", &self.anchor)
            .field("deserted", &self.deserted)
            .finish()
    }
}
