//! What has been kept long enough is erased (protocol §9).
//!
//! Every room is looked at when it is synced and some time has passed, the others by turns: a few
//! with each sync, so that no sync takes long.

use std::collections::{BTreeMap, HashSet, VecDeque};

use matrix_dmls::{GroupChanges, HistoryPolicy, NodeId};
use ruma::{OwnedRoomId, RoomId};
use tracing::debug;

use super::{MlsMachine, Room, again::again};
use crate::{
    error::MlsError,
    notice::Notice,
    room::RoomView,
    store::{Changes, OutboxRequestKind, QueuedEvent},
    types::events::CommitEventContent,
};

const MINUTE: u64 = 60 * 1000;
const DAY: u64 = 24 * 60 * MINUTE;

/// How often a room is looked at, at most.
const PAUSE: u64 = 10 * MINUTE;

/// How often all rooms are looked at, at least, as far as there are syncs enough.
const ROUND: u64 = 60 * MINUTE;

/// How many rooms are looked at with one sync, besides those that it brings something for.
const ROOMS_PER_SYNC: usize = 4;

/// How often the events that wait are looked through.
const QUEUE_PAUSE: u64 = DAY;

/// How long commit events are kept (protocol §2, §9).
const COMMIT_AGE: u64 = 30 * DAY;

/// How long records are kept that lie above or beside what was the anchor then (protocol §9).
const RECORD_AGE: u64 = 365 * DAY;

/// How far apart the anchors are that are remembered for that.
const ANCHOR_PAUSE: u64 = 7 * DAY;

/// How long an event waits for its epoch (protocol §9).
const QUEUED_AGE: u64 = 30 * DAY;

/// How long the private keys of a last-resort key package are kept that another one has replaced: a
/// Welcome for it may be under way (protocol §9).
const REPLACED_AGE: u64 = 30 * DAY;

/// When what was looked at last. In memory only: after a start all is looked at once.
#[derive(Default)]
pub(super) struct Schedule {
    rooms: BTreeMap<OwnedRoomId, u64>,
    queues: BTreeMap<OwnedRoomId, u64>,
    turns: VecDeque<OwnedRoomId>,
    round: Option<u64>,
    key_packages: Option<u64>,
}

impl Schedule {
    /// Whether a room is due, which is noted.
    fn is_due(
        times: &mut BTreeMap<OwnedRoomId, u64>,
        room_id: &RoomId,
        now: u64,
        pause: u64,
    ) -> bool {
        let due = times.get(room_id).is_none_or(|last| now.saturating_sub(*last) >= pause);
        if due {
            times.insert(room_id.to_owned(), now);
        }
        due
    }
}

impl MlsMachine {
    /// The rooms whose turn it is, and the key packages.
    pub(super) async fn erase_by_turns(&self) -> Result<(), MlsError> {
        let now = self.now();
        let is_over = |last: Option<u64>, pause| {
            last.is_none_or(|last: u64| now.saturating_sub(last) >= pause)
        };
        let (new_round, key_packages) = {
            let schedule = &self.transient().schedule;
            let new_round = schedule.turns.is_empty() && is_over(schedule.round, ROUND);
            (new_round, is_over(schedule.key_packages, DAY))
        };
        if new_round {
            let rooms = self.inner.store.room_ids().await?;
            let schedule = &mut self.transient().schedule;
            schedule.turns = rooms.into();
            schedule.round = Some(now);
        }
        for _ in 0..ROOMS_PER_SYNC {
            let Some(room_id) = self.transient().schedule.turns.pop_front() else { break };
            again!(self.look_at(&room_id))?;
        }
        if key_packages {
            self.erase_replaced_key_packages().await?;
            self.transient().schedule.key_packages = Some(now);
        }
        Ok(())
    }

    /// Erases what is due in a room, unless that was done a short while ago.
    pub(super) async fn erase_due(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let (room_due, queue_due) = {
            let schedule = &mut self.transient().schedule;
            (
                Schedule::is_due(&mut schedule.rooms, &room.id, now, PAUSE),
                Schedule::is_due(&mut schedule.queues, &room.id, now, QUEUE_PAUSE),
            )
        };
        if room_due {
            self.erase_in_group(room).await?;
        }
        if queue_due {
            self.give_up_waiting(room).await?;
        }
        Ok(())
    }

    async fn erase_in_group(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let mut group = room.group.erase_due(now, |node| room.commit_times.get(node).copied());
        group.extend(self.orphaned(room, &group).await?);
        let graph = room.group.graph();
        // What newcomers need to choose as the others do: the branches to young tips, from where they
        // part (protocol §6).
        let mut ends: Vec<_> = room.group.chosen_tip().into_iter().collect();
        ends.extend(
            ends.first()
                .copied()
                .map_or_else(Vec::new, |chosen| self.other_tips(room, chosen, usize::MAX)),
        );
        let branches: HashSet<_> = graph.branches_to(&ends).into_iter().collect();
        // That of a tip is named in every message, however old it is.
        let commits: Vec<_> = room
            .commit_times
            .iter()
            .filter(|(_, time)| now.saturating_sub(**time) >= COMMIT_AGE)
            .map(|(node, _)| *node)
            .filter(|node| graph.children(node).next().is_some() && !branches.contains(node))
            .filter(|node| !counts_for_a_key(room, node))
            .collect();
        let (compacted, view) = self.compact(room);
        group.extend(compacted);
        if group.is_empty() && commits.is_empty() && view.is_none() {
            return Ok(());
        }
        debug!(
            states = group.states.len(),
            epoch_keys = group.epoch_keys.len(),
            commits = commits.len(),
            records = group.forgotten.len(),
            "Erasing what is old"
        );
        let mut changes = Changes::default();
        let room_changes = changes.room(&room.id);
        room_changes.group = group;
        room_changes.view = view;
        room_changes.commits = commits.into_iter().map(|node| (node, None)).collect();
        self.save(room, changes).await
    }

    /// Forgets what lies above or beside what has been the anchor for a year (protocol §9). What changes
    /// of the group, and the view if that changes.
    fn compact(&self, room: &Room) -> (GroupChanges, Option<RoomView>) {
        let noted = self.note_anchor(room);
        let anchors = noted.as_ref().unwrap_or(&room.view.anchors);
        let is_old = |time: &u64| self.now().saturating_sub(*time) >= RECORD_AGE;
        let oldest = anchors.first().filter(|(_, time)| is_old(time)).map(|(node, _)| *node);
        let compacted = oldest.map(|oldest| room.group.compact(oldest)).unwrap_or_default();
        let is_gone = |entrance: &NodeId| compacted.forgotten.contains(entrance);
        let entrance = room.view.entrance.and_then(|e| if is_gone(&e) { oldest } else { Some(e) });
        let mut view = noted.map(|anchors| RoomView { anchors, ..room.view.clone() });
        if entrance != room.view.entrance {
            view.get_or_insert_with(|| room.view.clone()).entrance = entrance;
        }
        (compacted, view)
    }

    /// The anchors that are remembered, if that changes: so that records can go that lie above or
    /// beside what has been the anchor for a year (protocol §9).
    fn note_anchor(&self, room: &Room) -> Option<Vec<(NodeId, u64)>> {
        let now = self.now();
        let mut anchors = room.view.anchors.clone();
        let graph = room.group.graph();
        let is_due =
            anchors.last().is_none_or(|(_, time)| now.saturating_sub(*time) >= ANCHOR_PAUSE);
        // One that does not hang together with our nodes says nothing.
        let anchor = graph.anchor().filter(|anchor| is_due && graph.start() == Some(*anchor));
        anchors.extend(anchor.map(|anchor| (anchor, now)));
        // An anchor that was moved to another branch since then is none to rely on.
        let leads_on =
            |node: &NodeId| graph.start().is_some_and(|start| graph.is_at_or_below(node, &start));
        anchors.retain(|(node, _)| leads_on(node));
        let old =
            anchors.iter().filter(|(_, time)| now.saturating_sub(*time) >= RECORD_AGE).count();
        anchors.drain(..old.saturating_sub(1));
        (anchors != room.view.anchors).then_some(anchors)
    }

    /// Our commits that the server has refused, and whose parent's state is gone: until then it may
    /// have lied about the refusal (protocol §5).
    async fn orphaned(&self, room: &Room, erased: &GroupChanges) -> Result<GroupChanges, MlsError> {
        let mut changes = GroupChanges::default();
        if room.group.pending().next().is_none() {
            return Ok(changes);
        }
        let outbox = self.inner.store.outbox().await?;
        let is_sent = |node: &NodeId| {
            outbox.iter().any(|request| {
                matches!(&request.kind, OutboxRequestKind::Commit { node: of, .. } if of == node)
            })
        };
        for pending in room.group.pending() {
            let record = &pending.node.record;
            let parent_is_gone = record.parent.is_some_and(|parent| {
                room.group.state(&parent).is_none() || erased.states.contains_key(&parent)
            });
            if parent_is_gone && !is_sent(&record.node) {
                changes.extend(room.group.discard(record.node));
            }
        }
        Ok(changes)
    }

    async fn look_at(&self, room_id: &RoomId) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        self.erase_due(room).await?;
        // After a start it is not known any more when it is our turn to do something.
        self.look_ahead(room).await
    }

    /// Events that have waited too long; the application is told of the messages.
    async fn give_up_waiting(&self, room: &mut Room) -> Result<(), MlsError> {
        if self.queue_length(room).await? == 0 {
            return Ok(());
        }
        // Clocks that were set back do no harm: what seems to come from the future is kept.
        let Some(time) = self.now().checked_sub(QUEUED_AGE) else { return Ok(()) };
        let old = self.inner.store.queued_events_before(&room.id, time).await?;
        if old.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::default();
        let queued = &mut changes.room(&room.id).queued;
        queued.extend(old.iter().map(|event| (event.event_id.clone(), None)));
        self.save(room, changes).await?;
        for event in old {
            self.notify_expired(&room.id, event);
        }
        Ok(())
    }

    fn notify_expired(&self, room_id: &RoomId, event: QueuedEvent) {
        let Some((event_type, raw)) = super::room_events::raw_event(event.json) else { return };
        if event_type != <CommitEventContent as ruma::events::StaticEventContent>::TYPE {
            let (room_id, event_id) = (room_id.to_owned(), event.event_id);
            self.notify(Notice::NotReadable { room_id, event_id, event: raw });
        }
    }

    async fn erase_replaced_key_packages(&self) -> Result<(), MlsError> {
        let mut changes = Changes::default();
        for reference in self.inner.store.key_package_refs().await? {
            let package = self.inner.store.key_package(&reference).await?;
            let replaced_at = package.and_then(|package| package.replaced_at);
            if replaced_at.is_some_and(|time| self.now().saturating_sub(time) >= REPLACED_AGE) {
                changes.key_packages.insert(reference, None);
            }
        }
        if !changes.key_packages.is_empty() {
            self.inner.store.save_changes(changes).await?;
        }
        Ok(())
    }
}

/// Whether the time of a commit says when an epoch key is to be erased: its own, or its parent's.
fn counts_for_a_key(room: &Room, node: &NodeId) -> bool {
    let graph = room.group.graph();
    let is_dated = |node: &NodeId| {
        let history = graph.get(node).map(|record| record.extension.history);
        room.group.epoch_key(node).is_some() && matches!(history, Some(HistoryPolicy::Days(_)))
    };
    is_dated(node) || graph.parent(node).is_some_and(|parent| is_dated(&parent))
}
