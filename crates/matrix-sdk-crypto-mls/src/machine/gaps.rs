//! What is missing of a room's graph, and what is done about it (protocol §10): first the event that a
//! hint names, then the room's history ([`super::backfill`]), then other devices
//! ([`super::commit_requests`]).

use std::collections::BTreeSet;

use matrix_dmls::NodeId;
use ruma::{EventId, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tracing::debug;

use super::{MlsMachine, Room, again::again};
use crate::{
    error::MlsError,
    room::{Gap, Gaps, RoomView},
};

const MINUTE: u64 = 60 * 1000;
const DAY: u64 = 24 * 60 * MINUTE;

/// At most this many missing epochs of a room are remembered, and of these so many are looked for that
/// one device has named.
const MAX_GAPS: usize = 64;
const MAX_PER_DEVICE: usize = 10;

/// After so many commits that were fetched by hints one after the other, the rest is looked for in the
/// room's history, a hundred at a time.
const MAX_HOPS: u8 = 3;

/// How many commits that wait for their parents are followed upward at most.
const MAX_WAY_UP: usize = 1000;

/// How long a missing epoch is remembered, in milliseconds: so long also those who name it do so.
const GAP_AGE: u64 = 7 * DAY;

/// How old an event may be, by its server's clock, whose epoch is looked for, in milliseconds.
pub(super) const WINDOW: u64 = 30 * DAY;

/// The same for the other tips that a message or a commit names.
const TIP_WINDOW: u64 = 7 * DAY;

/// How long an answer to a request is waited for, in milliseconds.
const ANSWER_AGE: u64 = 10 * MINUTE;

/// How long a commit is not posted again that somebody has posted again, in milliseconds.
const RELAYED_AGE: u64 = DAY;

/// Who has named an epoch, and where.
pub(super) struct Naming<'a> {
    pub(super) user: &'a UserId,
    /// Which device it was, where that is certain.
    pub(super) device: Option<OwnedDeviceId>,
    /// The event that is said to have the commit.
    pub(super) hint: Option<&'a EventId>,
    /// How many were fetched by hints before.
    pub(super) hops: u8,
    /// Whether more depends on it than what lies above our own entrance.
    pub(super) needed: bool,
}

impl<'a> Naming<'a> {
    /// By a message, or by a commit in its list of other tips.
    pub(super) fn by_device(user: &'a UserId, device: &matrix_dmls::Device) -> Self {
        let device = Some(OwnedDeviceId::from(device.device_id.as_str()));
        Self { user, device, hint: None, hops: 0, needed: true }
    }
}

impl MlsMachine {
    /// Asks for an epoch that a message or a commit needs, by its hint at first.
    pub(super) async fn look_for(
        &self,
        room: &mut Room,
        node: NodeId,
        naming: Naming<'_>,
    ) -> Result<(), MlsError> {
        if room.group.entered().next().is_none() {
            // Before we are in the group, nothing could be done with it.
            if let Some(hint) = naming.hint {
                self.transient().fetch_later(&room.id, hint);
            }
            return Ok(());
        }
        if self.is_waiting(room, &node).await? {
            // Its event is here. What is missing above it is looked for already, unless it was named
            // before we were in the group, or nobody has needed it for a week.
            return self.look_above(room, node, naming.needed).await;
        }
        self.look_for_missing(room, node, naming).await
    }

    /// Asks for what is missing above a stored commit, if nobody does so yet. `needed` is as in
    /// [`Naming`].
    pub(super) async fn look_above(
        &self,
        room: &mut Room,
        node: NodeId,
        needed: bool,
    ) -> Result<(), MlsError> {
        let Some((missing, below)) = self.missing_above(room, node).await? else { return Ok(()) };
        let known = room.view.gaps.nodes.get(&missing);
        if known.is_some_and(|gap| gap.needed || !needed) {
            return Ok(());
        }
        let Some(below) = self.inner.store.commit(&room.id, &below).await? else { return Ok(()) };
        let hint = below.content.parent_event.as_deref();
        let naming = Naming { user: &below.sender, device: None, hint, hops: 0, needed };
        self.look_for_missing(room, missing, naming).await
    }

    /// The same for one whose event is not here.
    async fn look_for_missing(
        &self,
        room: &mut Room,
        node: NodeId,
        naming: Naming<'_>,
    ) -> Result<(), MlsError> {
        let before = room.view.gaps.nodes.get(&node);
        let hops = before.map_or(naming.hops, |gap| gap.hops);
        let walks = room.view.gaps.walk.is_some();
        if let Some(hint) = naming.hint.filter(|_| hops < MAX_HOPS && !walks) {
            self.transient().fetch(&room.id, hint, self.now());
        }
        self.note_gaps(room, &[node], naming).await
    }

    /// Asks for the parent of a commit that came from the room. `parent_event` is the hint.
    pub(super) async fn look_for_parent(
        &self,
        room: &mut Room,
        node: &NodeId,
        parent: NodeId,
        sender: &UserId,
        parent_event: Option<&EventId>,
    ) -> Result<(), MlsError> {
        let graph = room.group.graph();
        let (hops, needed) = match room.view.gaps.nodes.get(node) {
            Some(gap) => (gap.hops.saturating_add(1), gap.needed),
            // What leads up from our entrance is nothing that others would have to be asked for.
            None => {
                let leads_up = graph.is_entrance(node)
                    || graph.roots().any(|root| graph.parent(&root) == Some(*node));
                (u8::from(leads_up), !leads_up)
            }
        };
        let naming = Naming { user: sender, device: None, hint: parent_event, hops, needed };
        self.look_for(room, parent, naming).await
    }

    /// Looks at the other tips that somebody names: so a commit that was withheld from us is noticed.
    /// `sent_at` is when the event that names them was sent, by its server's clock.
    pub(super) async fn look_at_tips(
        &self,
        room: &mut Room,
        tips: &[NodeId],
        naming: Naming<'_>,
        sent_at: Option<u64>,
    ) -> Result<(), MlsError> {
        let graph = room.group.graph();
        if tips.iter().all(|tip| graph.contains(tip))
            || self.is_older(&room.id, sent_at, TIP_WINDOW)
        {
            return Ok(());
        }
        self.note_gaps(room, tips, naming).await?;
        self.mind_gaps(room).await
    }

    /// An event of a room has come, which was sent at this time by its server's clock.
    pub(super) fn has_come_of(&self, room_id: &RoomId, sent_at: Option<u64>) {
        let Some(sent_at) = sent_at else { return };
        let youngest = &mut self.transient().youngest;
        match youngest.get_mut(room_id) {
            Some(known) => *known = sent_at.max(*known),
            None => drop(youngest.insert(room_id.to_owned(), sent_at)),
        }
    }

    /// Whether an event was sent before the window, by its server's clock: both by our own clock, which
    /// may be wrong by years, and compared with the room's youngest event, whose server may lie.
    pub(super) fn is_older(&self, room_id: &RoomId, sent_at: Option<u64>, window: u64) -> bool {
        let youngest = self.transient().youngest.get(room_id).copied().unwrap_or_default();
        let now = self.now().min(youngest);
        sent_at.is_some_and(|sent_at| now.saturating_sub(sent_at) > window)
    }

    async fn note_gaps(
        &self,
        room: &mut Room,
        nodes: &[NodeId],
        naming: Naming<'_>,
    ) -> Result<(), MlsError> {
        let mut gaps = room.view.gaps.clone();
        let now = self.now();
        for node in nodes {
            if room.group.graph().contains(node) || self.is_waiting(room, node).await? {
                continue;
            }
            if let Some(known) = gaps.nodes.get_mut(node) {
                known.needed |= naming.needed;
                continue;
            }
            let (user, device) = (naming.user, naming.device.as_ref());
            if gaps.named_by(user, device) >= MAX_PER_DEVICE
                || (gaps.nodes.len() >= MAX_GAPS && !gaps.forget_one())
            {
                debug!(room_id = %room.id, "Too many missing epochs; one more is not looked for");
                continue;
            }
            let gap = Gap {
                named_by: user.to_owned(),
                device: naming.device.clone(),
                hint: naming.hint.map(ToOwned::to_owned),
                hops: naming.hops,
                needed: naming.needed,
                since: now,
                searched: false,
                tries: 0,
                next: now,
            };
            gaps.nodes.insert(*node, gap);
        }
        self.save_gaps(room, gaps).await
    }

    /// Whether a commit's event is here, but not its parent.
    async fn is_waiting(&self, room: &mut Room, node: &NodeId) -> Result<bool, MlsError> {
        if !room.commit_events.contains_key(node) || room.group.graph().contains(node) {
            return Ok(false);
        }
        let parent = self.parent_of(room, node).await?;
        Ok(parent.is_some_and(|parent| !room.group.graph().contains(&parent)))
    }

    /// The first epoch above this one whose commit's event is not here, and the one below it.
    async fn missing_above(
        &self,
        room: &mut Room,
        mut node: NodeId,
    ) -> Result<Option<(NodeId, NodeId)>, MlsError> {
        for _ in 0..MAX_WAY_UP {
            let Some(parent) = self.parent_of(room, &node).await? else { break };
            if room.group.graph().contains(&parent) {
                break;
            }
            if !room.commit_events.contains_key(&parent) {
                return Ok(Some((parent, node)));
            }
            node = parent;
        }
        Ok(None)
    }

    /// The parent that a commit names, if the store has it.
    async fn parent_of(&self, room: &mut Room, node: &NodeId) -> Result<Option<NodeId>, MlsError> {
        if let Some(parent) = room.parents.get(node) {
            return Ok(*parent);
        }
        let Some(commit) = self.inner.store.commit(&room.id, node).await? else { return Ok(None) };
        let parent = commit.content.parent;
        room.parents.insert(*node, parent);
        Ok(parent)
    }

    pub(super) async fn save_gaps(&self, room: &mut Room, gaps: Gaps) -> Result<(), MlsError> {
        if gaps == room.view.gaps {
            return Ok(());
        }
        let view = RoomView { gaps, ..room.view.clone() };
        self.save_view(room, view).await
    }

    /// Decides what to do next about what is missing in a room. To be called when something has come,
    /// or failed, that may matter to it.
    pub(super) async fn mind_gaps(&self, room: &mut Room) -> Result<(), MlsError> {
        self.mind_keys(room).await?;
        self.mind_files(room).await?;
        if room.view.gaps.is_empty() {
            self.plan_gaps(room);
            return Ok(());
        }
        let now = self.now();
        let mut gaps = room.view.gaps.clone();
        let mut closed = BTreeSet::new();
        for (node, gap) in &gaps.nodes {
            if room.group.graph().contains(node)
                || self.is_waiting(room, node).await?
                || now.saturating_sub(gap.since) > GAP_AGE
            {
                closed.insert(*node);
            }
        }
        gaps.nodes.retain(|node, _| !closed.contains(node));
        gaps.requests.retain(|request| now.saturating_sub(request.at) <= ANSWER_AGE);
        gaps.relayed.retain(|_, time| now.saturating_sub(*time) <= RELAYED_AGE);
        let is_unsearched = |gap: &Gap| gap.needed && !gap.searched;
        if gaps.walk.is_some() {
            let is_outside = room.group.entered().next().is_none();
            let is_for_entrance = gaps.walk.as_ref().is_some_and(|walk| walk.for_entrance);
            let is_of_use =
                (is_for_entrance && is_outside) || gaps.nodes.values().any(is_unsearched);
            if !is_of_use {
                gaps.walk = None;
            }
        } else if room.group.entered().next().is_some() {
            let is_fetched = |hint: &OwnedEventId| {
                self.transient().is_asked_for(hint) || self.is_file_coming(room, hint)
            };
            let is_due =
                |gap: &Gap| is_unsearched(gap) && !gap.hint.as_ref().is_some_and(is_fetched);
            if gaps.nodes.values().any(is_due) {
                gaps.walk = Some(super::backfill::begin());
            }
        }
        self.save_gaps(room, gaps).await?;
        self.plan_gaps(room);
        Ok(())
    }

    /// The same, for a room that is not locked.
    pub(super) async fn mind_gaps_of(&self, room_id: &RoomId) -> Result<(), MlsError> {
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            self.mind_gaps(room).await
        })
    }

    /// Notes what there is to be asked for in a room, and when.
    pub(super) fn plan_gaps(&self, room: &Room) {
        self.plan_walk(room);
        let requests = self.next_request(&room.view.gaps);
        let relays = room.view.gaps.relays.values().copied().min();
        let keys = self.next_key_request(room);
        let due = requests.into_iter().chain(relays).chain(keys).min();
        let mut transient = self.transient();
        match due {
            Some(due) => transient.gaps.insert(room.id.clone(), due),
            None => transient.gaps.remove(&room.id),
        };
    }

    /// Makes the requests, and posts the commits, whose time has come.
    pub(super) async fn close_gaps(&self) -> Result<(), MlsError> {
        let now = self.now();
        let due: Vec<OwnedRoomId> = {
            let transient = self.transient();
            let due = transient.gaps.iter().filter(|(_, time)| **time <= now);
            due.map(|(room_id, _)| room_id.clone()).collect()
        };
        for room_id in due {
            again!(async {
                let mut guard = self.lock_room(&room_id).await?;
                let Some(room) = guard.as_mut() else { return Ok(()) };
                self.mind_gaps(room).await?;
                self.ask_for_commits(room).await?;
                self.ask_for_keys(room).await?;
                self.post_again(room).await?;
                self.plan_gaps(room);
                Ok::<(), MlsError>(())
            })?;
        }
        Ok(())
    }

    /// The other tips that we know and that are younger than 7 days, youngest first: for messages and
    /// commits to name (protocol §2, §8).
    pub(super) fn other_tips(&self, room: &Room, than: NodeId, limit: usize) -> Vec<NodeId> {
        let now = self.now();
        let mut tips: Vec<_> = room
            .group
            .graph()
            .tips()
            .filter(|tip| *tip != than && room.are_together(tip, &than))
            .filter_map(|tip| Some((*room.commit_times.get(&tip)?, tip)))
            .filter(|(time, _)| now.saturating_sub(*time) < TIP_WINDOW)
            .collect();
        tips.sort_by(|a, b| b.cmp(a));
        tips.into_iter().take(limit).map(|(_, tip)| tip).collect()
    }
}

/// The user of a leaf, if its name is one.
pub(super) fn user_of(device: &matrix_dmls::Device) -> Option<OwnedUserId> {
    UserId::parse(&device.user_id).ok()
}
