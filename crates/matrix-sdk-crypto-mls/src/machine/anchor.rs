//! Moving the room's anchor forward (protocol §6, §8): the clients of those who may send the group's
//! state event do it, one after the other until one has done it.

use matrix_dmls::{NodeId, rank_of};
use ruma::{OwnedRoomId, RoomId, UserId};
use tracing::debug;

use super::{MlsMachine, Room, again::again};
use crate::{
    error::MlsError,
    store::{Changes, OutboxRequestKind},
};

/// How long the first in rank waits, in milliseconds, and each next one longer.
const FIRST: u64 = 60 * 1000;
const PER_RANK: u64 = 60 * 1000;

/// Users of a higher rank leave it to the others.
const MAX_RANK: usize = 40;

/// How long it takes until the next try in a room, in milliseconds: a day.
const PAUSE: u64 = 24 * 3600 * 1000;

/// When it is our turn to move a room's anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// To this node, at this time in milliseconds since 1970.
    Due(NodeId, u64),
    /// We have tried at this time.
    Tried(u64),
}

impl Turn {
    pub(super) const fn due(&self) -> Option<u64> {
        match self {
            Self::Due(_, time) => Some(*time),
            Self::Tried(_) => None,
        }
    }
}

impl MlsMachine {
    /// Looks whether it will be our turn in a room.
    pub(super) fn plan_to_move_anchor(&self, room: &Room) {
        let now = self.now();
        let next = self.next_anchor(room);
        let mut transient = self.transient();
        let turn = transient.anchors.get(&room.id).copied();
        match (next, turn) {
            // What was planned stays planned.
            (Some((node, _)), Some(Turn::Due(planned, _))) if node == planned => {}
            (Some(_), Some(Turn::Tried(at))) if now.saturating_sub(at) < PAUSE => {}
            (Some((node, wait)), _) => {
                let turn = Turn::Due(node, now.saturating_add(wait));
                transient.anchors.insert(room.id.clone(), turn);
            }
            (None, Some(Turn::Due(..))) => {
                transient.anchors.remove(&room.id);
            }
            (None, _) => {}
        }
    }

    /// Moves the anchors whose time has come.
    pub(super) async fn move_anchors(&self) -> Result<(), MlsError> {
        let now = self.now();
        let due: Vec<OwnedRoomId> = {
            let transient = self.transient();
            let is_due = |turn: &Turn| turn.due().is_some_and(|time| time <= now);
            let due = transient.anchors.iter().filter(|(_, turn)| is_due(turn));
            due.map(|(room_id, _)| room_id.clone()).collect()
        };
        for room_id in due {
            again!(self.move_anchor(&room_id))?;
            self.transient().anchors.insert(room_id, Turn::Tried(now));
        }
        Ok(())
    }

    async fn move_anchor(&self, room_id: &RoomId) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        // A room that was loaded anew does not know yet who is invented.
        self.find_repair(room).await?;
        let Some((node, _)) = self.next_anchor(room) else { return Ok(()) };
        let Some((_, named)) = &room.view.group else { return Ok(()) };
        debug!(%room_id, node = %node.short(), "Moving the anchor");
        let mut content = named.clone();
        content.anchor = Some(node);
        let mut changes = Changes::default();
        self.put_into_outbox(room, &mut changes, OutboxRequestKind::Group { content });
        self.save(room, changes).await
    }

    /// Where the anchor is to go and after which time we would move it, if we may.
    fn next_anchor(&self, room: &Room) -> Option<(NodeId, u64)> {
        let own = self.user_id();
        if !room.view.power.includes(own) || !room.view.is_joined(own.as_str()) {
            return None;
        }
        // What is to be repaired must not be put out of everybody's reach.
        // And who stays in another group than the room names does not name its own again.
        if room.beside.is_some() || room.view.foundings.other.is_some() {
            return None;
        }
        let (_, named) = room.view.group.as_ref()?;
        // One that this device does not know yet is not to be undone.
        let graph = room.group.graph();
        if named.anchor.is_some_and(|anchor| graph.start() != Some(anchor)) {
            return None;
        }
        let node = room.group.next_anchor(
            self.now(),
            room.view.group_since,
            |member| room.invented.contains(member.device()),
            |node| room.commit_times.get(node).copied(),
        )?;
        let roster = room.group.roster(&node)?;
        let may =
            roster.iter().map(|(_, member)| member.device().user_id.as_str()).filter(|user| {
                <&UserId>::try_from(*user).is_ok_and(|user| room.view.power.includes(user))
            });
        let place = rank_of(&node, may, own.as_str())?;
        let place = u64::try_from(place.min(MAX_RANK + 1)).unwrap_or(u64::MAX);
        let allowed = usize::try_from(place).is_ok_and(|place| place <= MAX_RANK);
        allowed.then(|| (node, FIRST.saturating_add(PER_RANK.saturating_mul(place))))
    }
}
