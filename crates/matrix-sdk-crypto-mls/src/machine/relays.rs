//! Posting commits again that are missing in the room (protocol §2, §6).

use matrix_dmls::NodeId;
use ruma::EventId;
use tracing::debug;

use super::{MlsMachine, Room, room_events::EventHead};
use crate::{
    error::MlsError,
    room::Gaps,
    store::{Changes, OutboxRequestKind},
};

/// At most this many commits wait to be posted again, and so many are remembered that were.
const MAX_RELAYS: usize = 16;
const MAX_RELAYED: usize = 64;

impl MlsMachine {
    /// A commit that we have is missing in the room. If it matters, and nobody has posted it again a
    /// short while ago, it is posted again when it is our turn.
    pub(super) fn plan_relay(&self, room: &Room, gaps: &mut Gaps, node: &NodeId) {
        let matters = room.group.graph().children(node).next().is_some()
            || room
                .group
                .chosen_tip()
                .is_some_and(|tip| tip == *node || room.group.graph().is_ancestor(node, &tip));
        if !matters
            || !room.group.graph().contains(node)
            || !room.commit_events.contains_key(node)
            || !room.view.is_joined(self.user_id().as_str())
            || gaps.relayed.contains_key(node)
            || gaps.relays.contains_key(node)
            || gaps.relays.len() >= MAX_RELAYS
        {
            return;
        }
        if let Some(wait) = room.group.turn_to_relay(node, self.inner.local.device()) {
            gaps.relays.insert(*node, self.now().saturating_add(wait));
        }
    }

    /// Posts the commits whose time has come.
    pub(super) async fn post_again(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let due: Vec<_> = {
            let relays = room.view.gaps.relays.iter();
            relays.filter(|(_, time)| **time <= now).map(|(node, _)| *node).collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let may_post = !room.view.downgraded
            && now >= room.view.commits_refused_until
            && room.view.is_joined(self.user_id().as_str());
        let mut changes = Changes::default();
        let mut view = room.view.clone();
        for node in due {
            view.gaps.relays.remove(&node);
            let Some(stored) = self.inner.store.commit(&room.id, &node).await? else { continue };
            if may_post && stored.content.commit.is_some() {
                debug!(room_id = %room.id, node = %node.short(), "Posting a commit again");
                let mut content = stored.content;
                content.relay = true;
                // Its file may be what is missing. Who comes later has other commits with a tree.
                content.commit_file = None;
                content.encrypted_group_info = None;
                content.tree_file = None;
                let kind = OutboxRequestKind::Relay { node, content: Box::new(content) };
                self.put_into_outbox(room, &mut changes, kind);
                remember(&mut view.gaps, node, now);
            }
        }
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
    }

    /// Somebody has posted a commit again that we know: once is enough.
    pub(super) async fn note_relay(&self, room: &mut Room, node: NodeId) -> Result<(), MlsError> {
        let mut gaps = room.view.gaps.clone();
        gaps.relays.remove(&node);
        remember(&mut gaps, node, self.now());
        self.save_gaps(room, gaps).await
    }

    /// Somebody has redacted an event. If it carried a commit, the commit goes on counting, and those
    /// who come later have to get it.
    pub(super) async fn note_redaction(
        &self,
        room: &mut Room,
        head: &EventHead,
    ) -> Result<(), MlsError> {
        let Some(redacted) = head.redacts() else { return Ok(()) };
        let is_it = |event_id: &EventId| event_id.as_str() == redacted;
        let found = room.commit_events.iter().find(|(_, event_id)| is_it(event_id));
        let Some(node) = found.map(|(node, _)| *node) else { return Ok(()) };
        let mut gaps = room.view.gaps.clone();
        self.plan_relay(room, &mut gaps, &node);
        self.save_gaps(room, gaps).await
    }
}

fn remember(gaps: &mut Gaps, node: NodeId, now: u64) {
    gaps.relayed.insert(node, now);
    while gaps.relayed.len() > MAX_RELAYED {
        let oldest = gaps.relayed.iter().min_by_key(|(_, time)| **time).map(|(node, _)| *node);
        let Some(oldest) = oldest else { break };
        gaps.relayed.remove(&oldest);
    }
}
