//! Branches whose authors have all left the room, and that cannot be entered (protocol §8).

use std::collections::BTreeSet;

use matrix_dmls::{Graph, NodeId};
use tracing::debug;

use super::{MlsMachine, Room};
use crate::{error::MlsError, room::RoomView};

/// How long a device has been outside at least before it takes a branch for deserted, in milliseconds:
/// half an hour.
const FIRST: u64 = 30 * 60 * 1000;

/// How often it has tried to get in at least.
const TRIES: u32 = 3;

/// At most this many are remembered, the youngest ones.
const MAX_DESERTED: usize = 32;

impl MlsMachine {
    /// When this device, which holds other epochs, gives up the branch that it cannot enter, in
    /// milliseconds since 1970, and by which commit that begins.
    pub(super) fn desertion_due(room: &Room) -> Option<(NodeId, u64)> {
        let behind = room.view.behind.as_ref()?;
        let since = behind.since?;
        if behind.tries < TRIES
            || !behind.has_tried_external
            || !room.view.members_complete
            || room.group.sending_tip().is_none()
        {
            return None;
        }
        Some((room.deserted_branch()?, since.saturating_add(FIRST)))
    }

    /// Gives a branch up, if it is time for that.
    pub(super) async fn leave_deserted(&self, room: &mut Room) -> Result<(), MlsError> {
        let Some((node, due)) = Self::desertion_due(room) else { return Ok(()) };
        if due > self.now() {
            return Ok(());
        }
        debug!(room_id = %room.id, node = %node.short(), "A branch is deserted");
        let graph = room.group.graph();
        let mut deserted = room.view.deserted.clone();
        deserted.retain(|known| graph.get(known).is_some());
        deserted.push(node);
        let over = deserted.len().saturating_sub(MAX_DESERTED);
        deserted.drain(..over);
        let view = RoomView { deserted, ..room.view.clone() };
        self.save_view(room, view).await
    }
}

impl Room {
    /// The branches that were given up, and that still nobody has a part in who has joined.
    pub(super) fn deserted(&self) -> BTreeSet<NodeId> {
        let graph = self.group.graph();
        let deserted = self.view.deserted.iter().copied();
        deserted.filter(|node| graph.get(node).is_some() && self.is_deserted(graph, node)).collect()
    }

    /// The topmost commit on the way to the chosen tip, below where the choice starts, such that nobody
    /// who has joined has made it or one below.
    fn deserted_branch(&self) -> Option<NodeId> {
        let graph = self.group.graph();
        let (start, tip) = (graph.start()?, self.group.chosen_tip()?);
        std::iter::once(tip)
            .chain(graph.ancestors(&tip))
            .take_while(|node| *node != start && self.is_deserted(graph, node))
            .last()
    }

    fn is_deserted(&self, graph: &Graph, node: &NodeId) -> bool {
        std::iter::once(*node).chain(graph.descendants(node)).all(|node| {
            graph
                .get(&node)
                .is_none_or(|record| !self.view.is_joined(&record.author.member.device().user_id))
        })
    }
}
