//! Taking over what somebody passes on of the graph (protocol §6, "The graph for newcomers").
//!
//! A device that came in by a Welcome knows nothing above or beside the epoch that it joined. What
//! ties the rest to that epoch is a chain of hashes. The commit that made it names its parent by its
//! node ID, which is a hash of that commit's bytes, and so on up to the first commit that was passed
//! on; the one after that signs the GroupContext of the first one's epoch, which has the hash of its
//! ratchet tree. So the tree, and with it the roster from which all others follow, is right if our
//! own epoch is, whoever has passed it on.

use std::{collections::HashMap, sync::Arc};

use super::{Group, GroupChanges, GroupError, Received, changes::GraphEntry, hydrated};
use crate::{
    error::MalformedError,
    graph::NodeStatus,
    ids::NodeId,
    record::{
        CommitRecord, IllFormed, ParentView, check_entrance, check_founding, check_well_formed,
    },
    roster::Roster,
    wire::{commit::CommitMessage, group_context::GroupContext, ratchet_tree::RatchetTree},
};

/// At most this many commits are taken over at once.
pub const MAX_PASSED_ON: usize = 512;

/// A commit as somebody passes it on: the MLSMessage, and the GroupContext of its parent.
#[derive(Clone, Copy, Debug)]
pub struct PassedOn<'a> {
    /// MLSMessage(PublicMessage(Commit)).
    pub commit: &'a [u8],
    /// The GroupContext of the epoch that it was made on.
    pub parent_context: &'a [u8],
}

/// A commit that was passed on, and read.
struct Copy<'a> {
    message: CommitMessage,
    parent_context: &'a [u8],
}

impl Group {
    /// Connects the epochs in which we came in with what lies above them, by commits that somebody
    /// has passed on and that lead, without a gap, from one with a roster that can be told down to
    /// the commit of such an epoch, which has to be among them. Their top is a founding commit, or its
    /// roster is that of `tree`, the ratchet tree of the epoch that it makes.
    ///
    /// Everything is checked, so it does not matter who has passed it on. Nodes that are known by
    /// this are *seen*. Commits beside the chain are not looked at: once it is there, they are
    /// ordinary commits, for [`Group::receive`]. No change if there is no entrance, or nothing that
    /// would lead to one.
    ///
    /// # Errors
    ///
    /// When something cannot be read, the tree is missing or is another epoch's, or a commit of the
    /// chain is not well-formed.
    pub fn absorb_graph(
        &self,
        tree: Option<&[u8]>,
        passed_on: &[PassedOn<'_>],
    ) -> Result<GroupChanges, GroupError> {
        if passed_on.len() > MAX_PASSED_ON {
            return Err(MalformedError::TooLarge.into());
        }
        let mut copies = HashMap::new();
        for PassedOn { commit, parent_context } in passed_on {
            let message = CommitMessage::parse(commit)?;
            if message.group_id() != self.room_id.as_bytes() {
                return Err(GroupError::WrongRoom);
            }
            copies.insert(message.node_id(), Copy { message, parent_context });
        }
        let mut changes = GroupChanges::default();
        for entrance in self.graph.roots().filter(|root| self.graph.is_entrance(root)) {
            let way = way_up(&copies, entrance);
            let known = |copy: &&Copy<'_>| {
                let parent = copy.message.aad().parent;
                self.graph.contains(&copy.message.node_id())
                    || parent.is_some_and(|parent| self.graph.contains(&parent))
            };
            // What leads to a known node is nothing special.
            if way.len() < 2 || way.iter().skip(1).any(known) {
                continue;
            }
            self.absorb_chain(tree, &way, &mut changes)?;
        }
        Ok(changes)
    }

    /// `way` leads from an entrance upward.
    fn absorb_chain(
        &self,
        tree: Option<&[u8]>,
        way: &[&Copy<'_>],
        changes: &mut GroupChanges,
    ) -> Result<(), GroupError> {
        let mut down = way.iter().rev().copied().peekable();
        let (Some(top), Some(below)) = (down.next(), down.peek()) else { return Ok(()) };
        let (mut record, mut roster) = self.top(tree, top, below)?;
        let seen = |record: &CommitRecord, roster| GraphEntry {
            record: Arc::new(record.clone()),
            status: NodeStatus::Seen,
            roster,
            summary: None,
        };
        let mut entries = vec![seen(&record, Some(Arc::new(roster.clone())))];
        while let Some(copy) = down.next() {
            let view = ParentView::new(self.room_id.as_bytes(), &record, &roster);
            record = check_well_formed(&copy.message, copy.parent_context, view)?;
            if down.peek().is_none()
                && self.graph.status(&record.node) == Some(NodeStatus::Entered)
                // The entrance itself, whose own record lacks what only its parent's roster tells.
                && let Received::Completed(_, completed) = self.complete(record.clone(), &roster)
            {
                changes.extend(*completed);
                break;
            }
            roster = record.roster_after(&roster);
            entries.push(seen(&record, None));
        }
        changes.records.extend(entries.into_iter().map(|entry| (entry.record.node, entry)));
        Ok(())
    }

    /// Record and roster of the topmost commit. `below` is the one on it that leads to our entrance.
    fn top(
        &self,
        tree: Option<&[u8]>,
        top: &Copy<'_>,
        below: &Copy<'_>,
    ) -> Result<(CommitRecord, Roster), GroupError> {
        let group_id = self.room_id.as_bytes();
        if top.message.aad().parent.is_none() {
            let (record, before) = check_founding(&top.message, top.parent_context, group_id)?;
            let roster = record.roster_after(&before);
            return Ok((record, roster));
        }
        let context = GroupContext::parse(below.parent_context)?;
        if context.hash() != below.message.aad().parent_context_hash {
            return Err(IllFormed::ContextHash.into());
        }
        let tree = RatchetTree::parse(tree.ok_or(MalformedError::Missing)?)?;
        if tree.hash() != context.tree_hash {
            return Err(GroupError::WrongTree);
        }
        let roster = tree.verified_roster()?;
        let record = check_entrance(&top.message, top.parent_context, group_id, &roster)?;
        Ok((record, roster))
    }

    /// The ratchet tree of an epoch whose state is held (RFC 9420 §12.4.3.3): what somebody who was
    /// never in it needs of it, see [`Group::absorb_graph`].
    ///
    /// # Errors
    ///
    /// [`GroupError::NoState`] when the state is not held, else when it cannot be read.
    pub fn public_tree(&self, node: NodeId) -> Result<Vec<u8>, GroupError> {
        use tls_codec::Serialize as _;
        let (state, vault, _, _) = self.parent(node)?;
        hydrated::guarded(|| {
            let (_, group) = hydrated::hydrate(state, vault, self.room_id.as_bytes(), false)?;
            group.export_ratchet_tree().tls_serialize_detached().map_err(GroupError::openmls)
        })
    }
}

/// The copies from a node upward, the node's own first.
fn way_up<'c, 'a>(copies: &'c HashMap<NodeId, Copy<'a>>, node: NodeId) -> Vec<&'c Copy<'a>> {
    // A node ID is a hash over its parent's, so this ends: nothing is its own ancestor.
    let first = copies.get(&node);
    std::iter::successors(first, |copy| copies.get(&copy.message.aad().parent?)).collect()
}
