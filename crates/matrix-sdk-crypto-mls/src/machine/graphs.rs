//! Parts of the graph that are passed on (protocol §6): put together for others, and taken over.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use matrix_dmls::{
    CommitMessage, GroupContext, MAX_PASSED_ON, NodeId, PassedOn, ratchet_tree_hash,
};
use ruma::events::StaticEventContent;
use serde_json::value::to_raw_value;
use tracing::debug;

use super::{
    MlsMachine, Room,
    heavy::heavy,
    room_events::{EventHead, Given},
};
use crate::{
    error::MlsError,
    store::{Changes, StoredCommit},
    types::events::{CommitEventContent, GraphCommit, GraphContent, MediaFile},
};

/// At most this many other tips are told to a newcomer.
const MAX_TIPS: usize = 8;

/// How much further up one looks for an epoch whose tree is at hand.
const MAX_CLIMB: usize = 32;

/// What a [`GraphContent`] has beside its commits and its tree, in bytes.
const OVERHEAD: usize = 512;

/// The longest age that is believed, in milliseconds: 30 days.
const MAX_AGE: u64 = 30 * 24 * 3600 * 1000;

/// Where a ratchet tree is to be had.
enum TreeAt {
    /// It is that of a founding commit, which tells it.
    Nowhere,
    Here(Vec<u8>),
    File(MediaFile),
}

/// A graph that is being put together, within a size.
struct Selection {
    graph: GraphContent,
    has: HashSet<NodeId>,
    left: usize,
}

impl MlsMachine {
    /// What leads to `wanted` for somebody who knows `known`, in at most `limit` bytes; none if there
    /// is nothing, or the part of it that all the rest hangs on does not fit. To who knows nothing above
    /// it, only what lies below the start of our choice is given.
    pub(super) async fn graph_for(
        &self,
        room: &Room,
        wanted: &[NodeId],
        known: &[NodeId],
        limit: usize,
    ) -> Result<Option<GraphContent>, MlsError> {
        let graph = room.group.graph();
        // Also what lies beside the start: it does not count any more, but messages there can be read.
        let direct = graph.leading_to(wanted, known);
        if !direct.is_empty() {
            // As much as fits; the rest can be asked for from there.
            let mut selection = Selection::new(limit);
            self.select(room, &mut selection, &direct, None).await?;
            return Ok(Some(selection.graph).filter(|graph| !graph.commits.is_empty()));
        }
        let Some(start) = graph.start() else { return Ok(None) };
        let counts = |node: &NodeId| *node == start || graph.is_ancestor(&start, node);
        let wanted: Vec<_> =
            wanted.iter().copied().filter(|node| graph.contains(node) && counts(node)).collect();
        for node in known.iter().filter(|node| graph.contains(node)) {
            let mut all = vec![*node];
            all.extend(wanted.iter().filter(|to| graph.common_ancestor(node, to).is_some()));
            if all.len() == 1 {
                continue;
            }
            if let Some(graph) = self.rooted_graph(room, *node, &all, limit).await? {
                return Ok(Some(graph));
            }
        }
        Ok(None)
    }

    /// What somebody who joins by a commit on `parent` has to know of other young branches.
    pub(super) async fn graph_for_newcomers(
        &self,
        room: &Room,
        parent: NodeId,
    ) -> Result<Option<GraphContent>, MlsError> {
        let mut all = vec![parent];
        all.extend(self.other_tips(room, parent, MAX_TIPS));
        if all.len() == 1 {
            return Ok(None);
        }
        // Without those that are not connected with ours.
        let graph = room.group.graph();
        all.retain(|node| graph.common_ancestor(&parent, node).is_some());
        if all.len() == 1 {
            return Ok(None);
        }
        self.rooted_graph(room, parent, &all, super::commit_requests::MAX_GRAPH).await
    }

    /// The branches to all of these nodes, from where they part, with the tree there. The way to
    /// `entrance` has to be whole.
    async fn rooted_graph(
        &self,
        room: &Room,
        entrance: NodeId,
        nodes: &[NodeId],
        limit: usize,
    ) -> Result<Option<GraphContent>, MlsError> {
        let graph = room.group.graph();
        let branches = graph.branches_to(nodes);
        let Some(mut top) = branches.first().copied() else { return Ok(None) };
        let mut way = graph.branches_to(&[top, entrance]);
        for _ in 0..MAX_CLIMB {
            if let Some(tree) = self.public_tree(room, top, limit / 2).await? {
                let mut selection = Selection::new(limit);
                selection.set_tree(tree);
                self.select(room, &mut selection, &way, None).await?;
                if selection.graph.commits.len() < way.len() {
                    return Ok(None);
                }
                self.select(room, &mut selection, &branches, Some(top)).await?;
                return Ok(Some(selection.graph));
            }
            let Some(parent) = graph.parent(&top).filter(|parent| graph.contains(parent)) else {
                break;
            };
            top = parent;
            way.insert(0, top);
        }
        Ok(None)
    }

    /// Adds commits, each of which comes after its parent, until one does not fit or is not there any
    /// more. Those whose parent is missing are left out; `top` is one that needs none.
    async fn select(
        &self,
        room: &Room,
        selection: &mut Selection,
        nodes: &[NodeId],
        top: Option<NodeId>,
    ) -> Result<(), MlsError> {
        let graph = room.group.graph();
        let listed: BTreeSet<_> = nodes.iter().copied().collect();
        for node in nodes.iter().filter(|node| Some(**node) != top) {
            let hangs = graph
                .parent(node)
                .is_none_or(|parent| !listed.contains(&parent) || selection.has.contains(&parent));
            if selection.has.contains(node) || !hangs {
                continue;
            }
            let Some(stored) = self.inner.store.commit(&room.id, node).await? else { continue };
            let age = self.now().saturating_sub(stored.received_at);
            if !selection.add(*node, GraphCommit::new(stored.event_id, age, stored.content))? {
                break;
            }
        }
        Ok(())
    }

    /// The ratchet tree of an epoch: of its state, or as its event carried it if that is true. An empty
    /// one for a founding commit, which needs none.
    /// Of more than `limit` bytes as base64 only where it is as a file.
    async fn public_tree(
        &self,
        room: &Room,
        node: NodeId,
        limit: usize,
    ) -> Result<Option<TreeAt>, MlsError> {
        let graph = room.group.graph();
        if graph.get(&node).is_some_and(|record| record.parent.is_none()) {
            return Ok(Some(TreeAt::Nowhere));
        }
        let stored = self.inner.store.commit(&room.id, &node).await?;
        let file = stored.as_ref().and_then(|stored| stored.content.tree_file.clone());
        if room.group.state(&node).is_some() {
            let tree = heavy(&room.group, move |group| group.public_tree(node)).await.ok();
            let Some(tree) = tree else { return Ok(None) };
            if base64_size(&tree) <= limit {
                return Ok(Some(TreeAt::Here(tree)));
            }
            return Ok(file.filter(|file| file.is(&tree)).map(TreeAt::File));
        }
        let Some(stored) = stored else { return Ok(None) };
        // Whether a file is what it should be the recipient will see.
        let Some(tree) = stored.content.tree else { return Ok(file.map(TreeAt::File)) };
        if base64_size(&tree.0) > limit {
            return Ok(None);
        }
        // Its children sign the context, which has the tree's hash.
        for child in graph.children(&node) {
            let Some(child) = self.inner.store.commit(&room.id, &child).await? else { continue };
            let context = GroupContext::parse(&child.content.parent_context.0);
            if let (Ok(context), Ok(hash)) = (context, ratchet_tree_hash(&tree.0)) {
                return Ok((context.tree_hash == hash).then_some(TreeAt::Here(tree.0)));
            }
        }
        Ok(None)
    }

    /// Takes over what somebody passes on. What is not true of it, or leads nowhere, changes nothing.
    pub(super) async fn absorb(
        &self,
        room: &mut Room,
        graph: &GraphContent,
    ) -> Result<(), MlsError> {
        if graph.commits.len() > MAX_PASSED_ON {
            return Ok(());
        }
        let Some(graph) = &self.with_files(room, graph) else {
            self.transient().files.hold_graph(&room.id, graph);
            return Ok(());
        };
        let mut commits: Vec<_> = graph.commits.iter().filter_map(read).collect();
        commits.sort_by_key(|(epoch, ..)| *epoch);
        if !self.connect_by(room, graph, &commits).await? {
            return Ok(());
        }
        for (_, _, commit) in &commits {
            let Some(head) = self.head_of(commit) else { continue };
            if let Some(node) =
                Box::pin(self.receive_one_commit(room, &commit.event_id, &head)).await?
            {
                Box::pin(self.take_waiting(room, node)).await?;
            }
        }
        Ok(())
    }

    /// Connects the epochs where we came in with what lies above. Whether the graph can be true.
    async fn connect_by(
        &self,
        room: &mut Room,
        graph: &GraphContent,
        commits: &[(u64, NodeId, &GraphCommit)],
    ) -> Result<bool, MlsError> {
        let bytes = |content: &CommitEventContent| {
            Some((content.commit.clone()?.0, content.parent_context.0.clone()))
        };
        let mut copies: BTreeMap<NodeId, _> = commits
            .iter()
            .filter_map(|(_, node, commit)| Some((*node, bytes(&commit.content)?)))
            .collect();
        // The chain ends at the commits by which we came in, which are here.
        for root in room.group.graph().roots() {
            if room.group.graph().is_entrance(&root)
                && let Some(stored) = self.inner.store.commit(&room.id, &root).await?
                && let Some(copy) = bytes(&stored.content)
            {
                copies.insert(root, copy);
            }
        }
        let tree = graph.tree.clone();
        let absorbed = heavy(&room.group, move |group| {
            let copies: Vec<_> = copies
                .values()
                .map(|(commit, parent_context)| PassedOn { commit, parent_context })
                .collect();
            group.absorb_graph(tree.as_ref().map(AsRef::as_ref), &copies)
        })
        .await;
        let group = match absorbed {
            Ok(group) if !group.is_empty() => group,
            Ok(_) => return Ok(true),
            Err(error) => {
                debug!(room_id = %room.id, %error, "A graph that is not what it should be");
                return Ok(false);
            }
        };
        let new: Vec<_> = group.records.keys().copied().collect();
        let mut changes = Changes::default();
        let room_changes = changes.room(&room.id);
        for (_, node, commit) in commits {
            if group.records.contains_key(node) && !room.commit_events.contains_key(node) {
                room_changes.commits.insert(*node, Some(self.stored_copy(commit)));
            }
        }
        room_changes.group = group;
        self.save(room, changes).await?;
        for node in new {
            Box::pin(self.take_waiting(room, node)).await?;
        }
        Ok(true)
    }

    /// A commit that was passed on, as if we had posted it again ourselves.
    fn stored_copy(&self, commit: &GraphCommit) -> StoredCommit {
        let mut content = commit.content.clone();
        content.relay = true;
        StoredCommit {
            event_id: commit.event_id.clone(),
            sender: self.user_id().to_owned(),
            content,
            received_at: self.now().saturating_sub(commit.age.min(MAX_AGE)),
        }
    }

    fn head_of(&self, commit: &GraphCommit) -> Option<EventHead> {
        let StoredCommit { sender, content, received_at, .. } = self.stored_copy(commit);
        Some(EventHead {
            event_type: CommitEventContent::TYPE.to_owned(),
            event_id: Some(commit.event_id.clone()),
            sender,
            state_key: None,
            content: to_raw_value(&content).ok()?,
            origin_server_ts: None,
            redacts: None,
            unsigned: None,
            given: Some(Given { received_at }),
        })
    }
}

impl Selection {
    fn new(limit: usize) -> Self {
        let left = limit.saturating_sub(OVERHEAD);
        Self { graph: GraphContent::default(), has: HashSet::new(), left }
    }

    fn set_tree(&mut self, tree: TreeAt) {
        match tree {
            TreeAt::Nowhere => {}
            TreeAt::Here(tree) => {
                self.left = self.left.saturating_sub(base64_size(&tree));
                self.graph.tree = Some(tree.into());
            }
            TreeAt::File(file) => self.graph.tree_file = Some(file),
        }
    }

    /// Whether there was room for it.
    fn add(&mut self, node: NodeId, commit: GraphCommit) -> Result<bool, MlsError> {
        let size = serde_json::to_vec(&commit)?.len() + 1;
        if size > self.left || self.graph.commits.len() >= MAX_PASSED_ON {
            return Ok(false);
        }
        self.left -= size;
        self.has.insert(node);
        self.graph.commits.push(commit);
        Ok(true)
    }
}

const fn base64_size(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

/// A commit's epoch number, which orders parents before their children, and its node.
fn read(commit: &GraphCommit) -> Option<(u64, NodeId, &GraphCommit)> {
    let message = CommitMessage::parse(&commit.content.commit.as_ref()?.0).ok()?;
    Some((message.epoch(), message.node_id(), commit))
}
