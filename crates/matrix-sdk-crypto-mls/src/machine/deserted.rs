//! Branches whose authors have all left the room, and that cannot be entered (protocol §8).

use std::collections::BTreeSet;

use matrix_dmls::{Device, NodeId};
use tracing::debug;

use super::{MlsMachine, Room};
use crate::{error::MlsError, room::RoomView};

/// How long a device has been outside at least before it takes a branch for deserted, in milliseconds:
/// half an hour.
const FIRST: u64 = 30 * 60 * 1000;

/// How often it has tried to get in at least.
const TRIES: u32 = 3;

/// At most this many are remembered: no more are given up, rather than the first one chosen again.
const MAX_DESERTED: usize = 32;

impl MlsMachine {
    /// When to look whether the branch that this device cannot enter is deserted, in milliseconds since
    /// 1970; none if it is not.
    pub(super) fn desertion_due(&self, room: &Room) -> Option<u64> {
        let behind = room.view.behind.as_ref()?;
        if behind.tries < TRIES
            || !behind.has_tried_external
            || !room.view.members_complete
            || room.view.deserted.len() >= MAX_DESERTED
            || room.group.sending_tip().is_none()
        {
            return None;
        }
        // While the server refuses commits, an external one could not be tried.
        let begin = behind.since?.max(room.view.commits_refused_until);
        let due = begin.saturating_add(FIRST);
        (due > self.now() || room.deserted_branch().is_some()).then_some(due)
    }

    /// Gives a branch up, if it is time for that.
    pub(super) async fn leave_deserted(&self, room: &mut Room) -> Result<(), MlsError> {
        if self.desertion_due(room).is_none_or(|due| due > self.now())
            || self.commit_request(&room.id, None).await?.is_some()
        {
            return Ok(());
        }
        let Some(node) = room.deserted_branch() else { return Ok(()) };
        debug!(room_id = %room.id, node = %node.short(), "A branch is deserted");
        let graph = room.group.graph();
        let mut deserted = room.view.deserted.clone();
        deserted.retain(|known| graph.get(known).is_some());
        deserted.push(node);
        let view = RoomView { deserted, ..room.view.clone() };
        self.save_view(room, view).await
    }
}

impl Room {
    /// The branches that were given up, and in which still nobody has a part who has joined.
    pub(super) fn deserted(&self) -> BTreeSet<NodeId> {
        let deserted = self.view.deserted.iter().copied();
        deserted
            .filter(|node| {
                let mut authors = BTreeSet::new();
                self.add_authors(*node, &mut authors);
                self.is_deserted(node, &authors)
            })
            .collect()
    }

    /// The topmost commit on the way to the chosen tip, below where the choice starts and what this
    /// device holds, whose branch is deserted.
    fn deserted_branch(&self) -> Option<NodeId> {
        let graph = self.group.graph();
        let (start, tip) = (graph.start()?, self.group.chosen_tip()?);
        let (mut authors, mut below, mut found) = (BTreeSet::new(), None, None);
        for node in std::iter::once(tip).chain(graph.ancestors(&tip)) {
            if node == start || self.group.state(&node).is_some() {
                break;
            }
            self.add_author(&node, &mut authors);
            for child in graph.children(&node).filter(|child| Some(*child) != below) {
                self.add_authors(child, &mut authors);
            }
            if self.is_deserted(&node, &authors) {
                found = Some(node);
            }
            below = Some(node);
        }
        found
    }

    /// Whether none of these, who have committed at or below a node, has a voice on it: a leaf above it,
    /// so that nobody's name can be borrowed for a device that was added there.
    fn is_deserted(&self, node: &NodeId, authors: &BTreeSet<Device>) -> bool {
        let graph = self.group.graph();
        let Some(parent) = graph.parent(node) else { return false };
        authors.is_empty()
            || self
                .group
                .roster(&parent)
                .is_some_and(|roster| authors.iter().all(|author| roster.leaf_of(author).is_none()))
    }

    /// Adds who has joined of the authors of a node and of all below it.
    fn add_authors(&self, node: NodeId, authors: &mut BTreeSet<Device>) {
        self.add_author(&node, authors);
        for node in self.group.graph().descendants(&node) {
            self.add_author(&node, authors);
        }
    }

    fn add_author(&self, node: &NodeId, authors: &mut BTreeSet<Device>) {
        let Some(record) = self.group.graph().get(node) else { return };
        let device = record.author.member.device();
        if self.view.is_joined(&device.user_id) && !authors.contains(device) {
            authors.insert(device.clone());
        }
    }
}
