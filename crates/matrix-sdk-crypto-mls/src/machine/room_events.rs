//! Events of a room: its state, and commits.

mod state;

use std::collections::{BTreeMap, VecDeque};

use matrix_dmls::{
    ALGORITHM, CommitMessage, CommitRecord, NodeId, NodeStatus, Received, SeenBecause,
};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId,
    events::{
        AnySyncStateEvent, AnySyncTimelineEvent, AnyTimelineEvent, StaticEventContent,
        room::member::MembershipState,
    },
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tracing::{debug, instrument};

use self::state::{Source, apply_state};
use super::{
    MlsMachine, Room,
    again::again,
    gaps::{Naming, WINDOW, user_of},
    heavy::heavy,
};
use crate::{
    error::MlsError,
    notice::Notice,
    store::{Changes, QueuedEvent, StoredCommit},
    types::events::{CommitEventContent, GroupEventContent},
};

/// The largest event that is looked at, in bytes (protocol §12); some more than a server lets
/// through, since what it adds does not count.
const MAX_EVENT: usize = 2 * 65_536;

/// The type of commit events.
const COMMIT: &str = CommitEventContent::TYPE;

/// So many commits below one epoch are tried once more at most, when that is entered.
const MAX_TRIED_AGAIN: usize = 100;

/// At most this many events of a room wait for an epoch (protocol §12).
const MAX_QUEUED: usize = 10_000;

/// What all events have.
#[derive(Deserialize)]
pub(super) struct EventHead {
    #[serde(rename = "type")]
    pub(super) event_type: String,
    #[serde(default)]
    pub(super) event_id: Option<OwnedEventId>,
    pub(super) sender: OwnedUserId,
    #[serde(default)]
    pub(super) state_key: Option<String>,
    pub(super) content: Box<RawValue>,
    #[serde(default)]
    pub(super) origin_server_ts: Option<Value>,
    /// Of redactions in older room versions.
    #[serde(default)]
    pub(super) redacts: Option<Value>,
    /// What the server says of the event.
    #[serde(default)]
    pub(super) unsigned: Option<Box<RawValue>>,
    /// Of a commit that somebody has passed on.
    #[serde(skip)]
    pub(super) given: Option<Given>,
}

/// A commit that did not come from the room: there is no sender to be compared with its author.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// When it came to be known, in milliseconds since 1970.
    pub(super) received_at: u64,
}

impl EventHead {
    /// Reads an event, if it is small enough and has what all events have.
    pub(super) fn read(json: &str) -> Option<Self> {
        if json.len() > MAX_EVENT { None } else { Self::read_stored(json) }
    }

    /// Reads an event that was kept: what was in a file stands in it.
    pub(super) fn read_stored(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    pub(super) fn content<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }

    /// When it was sent, by its server's clock, in milliseconds since 1970.
    pub(super) fn sent_at(&self) -> Option<u64> {
        let given = self.given.map(|given| given.received_at);
        given.or_else(|| self.origin_server_ts.as_ref()?.as_u64())
    }

    /// The state event that this one has taken the place of, as the server says.
    fn replaces(&self) -> Option<OwnedEventId> {
        let unsigned: Unsigned = serde_json::from_str(self.unsigned.as_ref()?.get()).ok()?;
        unsigned.replaces_state
    }

    /// The event that a redaction redacts.
    pub(super) fn redacts(&self) -> Option<String> {
        let content: Option<RedactionContent> = self.content();
        let redacts = content.and_then(|content| content.redacts).or_else(|| self.redacts.clone());
        redacts?.as_str().map(ToOwned::to_owned)
    }

    /// Whether the sender may post a commit, see [`may_post`].
    fn may_post(&self, room: &Room, record: &CommitRecord, relay: bool) -> bool {
        self.given.is_some() || may_post(room, record, &self.sender, relay)
    }
}

#[derive(Deserialize)]
struct Unsigned {
    #[serde(default)]
    replaces_state: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct RedactionContent {
    redacts: Option<Value>,
}

impl MlsMachine {
    /// Takes a room's events as a sync response brings them: the state first, then the timeline in
    /// its order. Events that are nothing to MLS are ignored, and the same ones may come twice.
    /// Messages are not decrypted here, see [`MlsMachine::decrypt_room_event`].
    ///
    /// When the state of a room that was there before has membership events, it may not be what the
    /// server takes for true: ask the server for the members and call
    /// [`MlsMachine::set_room_members`], before anything else is sent (protocol §5).
    ///
    /// # Errors
    ///
    /// When a store fails. Events that are not what they claim to be are no errors; see
    /// [`MlsMachine::take_notices`].
    #[instrument(skip_all, fields(%room_id))]
    pub async fn receive_room_events(
        &self,
        room_id: &RoomId,
        state: &[Raw<AnySyncStateEvent>],
        timeline: &[Raw<AnySyncTimelineEvent>],
    ) -> Result<(), MlsError> {
        let read = |json: &RawValue| EventHead::read(json.get());
        let state: Vec<_> = state.iter().filter_map(|event| read(event.json())).collect();
        let timeline: Vec<_> = timeline.iter().filter_map(|event| read(event.json())).collect();
        again!(self.take_room_events(room_id, &state, &timeline))?;
        self.answer_held_requests(room_id).await
    }

    async fn take_room_events(
        &self,
        room_id: &RoomId,
        state: &[EventHead],
        timeline: &[EventHead],
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        if !room.drained {
            self.drain(room).await?;
        }
        let before = room.view.clone();
        let mut view = before.clone();
        let mut notices = Vec::new();
        let state = state.iter().map(|head| (Source::State, head));
        for event in state.chain(timeline.iter().map(|head| (Source::Timeline, head))) {
            let names_ours = |named: &GroupEventContent| room.names_ours(named);
            notices.extend(apply_state(&mut view, room_id, event, self.now(), names_ours));
        }
        if view != before {
            // Those whom it concerns, also when the room becomes an MLS room only now.
            let news = before.mls_since.is_none() || view.tracked_users() != before.tracked_users();
            let mut changes = Changes::default();
            if view.foundings.other != before.foundings.other && view.foundings.other.is_some() {
                self.forget_namings(room, &mut changes).await?;
            }
            changes.room(room_id).view = Some(view);
            self.save(room, changes).await?;
            if news && room.view.mls_since.is_some() {
                self.track_members(room).await?;
            }
        }
        notices.into_iter().for_each(|notice| self.notify(notice));
        for head in timeline {
            if head.event_type == COMMIT && head.state_key.is_none() {
                Box::pin(self.receive_commit(room, head)).await?;
            } else if head.event_type == "m.room.redaction" {
                self.note_redaction(room, head).await?;
            }
        }
        if room.view.mls_since.is_some() {
            Box::pin(self.try_to_join(room)).await?;
            self.connect(room).await?;
            self.look_ahead(room).await?;
        }
        self.erase_due(room).await
    }

    /// Takes the complete list of a room's members, as `GET /rooms/{}/members` gives it. Needed
    /// where the server loads members lazily: without it, only those are known whose events came. And
    /// needed after two servers were cut off from one another, when syncs are wrong about members: ask
    /// without the parameter `at`, which would give the same wrong ones. Only with the complete list it
    /// can be told that somebody never was a member, and so was invented by who added it (protocol §5).
    ///
    /// Those that were known before and are not in the list have left.
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn set_room_members(
        &self,
        room_id: &RoomId,
        members: impl IntoIterator<Item = (OwnedUserId, MembershipState)>,
    ) -> Result<(), MlsError> {
        let members = members.into_iter().collect();
        again!(self.take_room_members(room_id, &members))
    }

    async fn take_room_members(
        &self,
        room_id: &RoomId,
        members: &BTreeMap<OwnedUserId, MembershipState>,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let mut view = room.view.clone();
        // That somebody was a member is not forgotten.
        for (user, membership) in &mut view.members {
            *membership = members.get(user).cloned().unwrap_or(MembershipState::Leave);
        }
        view.members.extend(members.clone());
        view.members_complete = true;
        let mut changes = Changes::default();
        changes.room(room_id).view = Some(view);
        self.save(room, changes).await?;
        if room.view.mls_since.is_some() {
            self.track_members(room).await?;
        }
        Box::pin(self.try_to_join(room)).await?;
        self.look_ahead(room).await
    }

    pub(super) async fn track_members(&self, room: &Room) -> Result<(), MlsError> {
        let users = room.view.tracked_users();
        Ok(self.inner.olm.update_tracked_users(users.iter().map(AsRef::as_ref)).await?)
    }

    /// An event that was asked for.
    pub(super) async fn receive_fetched(
        &self,
        room_id: &RoomId,
        event: &Raw<AnyTimelineEvent>,
    ) -> Result<(), MlsError> {
        let Some(head) = EventHead::read(event.json().get()) else { return Ok(()) };
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            if head.event_type == COMMIT {
                Box::pin(self.receive_commit(room, &head)).await?;
            }
            Box::pin(self.try_to_join(room)).await?;
            self.look_ahead(room).await
        })
    }

    /// Takes a commit event, and all that were waiting for it.
    pub(super) async fn receive_commit(
        &self,
        room: &mut Room,
        head: &EventHead,
    ) -> Result<(), MlsError> {
        let Some(event_id) = head.event_id.clone() else { return Ok(()) };
        self.transient().has_come(&event_id);
        self.has_come_of(&room.id, head.sent_at());
        match Box::pin(self.receive_one_commit(room, &event_id, head)).await? {
            Some(node) => Box::pin(self.take_waiting(room, node)).await,
            None => Ok(()),
        }
    }

    /// Takes one commit event. Gives its node if it is newly known.
    pub(super) async fn receive_one_commit(
        &self,
        room: &mut Room,
        event_id: &OwnedEventId,
        head: &EventHead,
    ) -> Result<Option<NodeId>, MlsError> {
        let room_id = room.id.clone();
        let drop = |reason: String| {
            self.notify(Notice::CommitDropped {
                room_id: room_id.clone(),
                event_id: event_id.clone(),
                reason,
            });
            Ok(None)
        };
        let Some(mut content) = head.content::<CommitEventContent>() else {
            return drop("not a commit event".to_owned());
        };
        if content.algorithm != ALGORITHM {
            return drop("another algorithm".to_owned());
        }
        content.tidy();
        if let (None, Some(file)) = (&content.commit, content.commit_file.clone()) {
            let own = Self::own_file(room, &file);
            if !own.is_some_and(|own| content.fill(&own)) {
                let reason = match head.given {
                    // Who passes commits on has to see to it that their files can be had.
                    Some(_) => Some("its file is not there"),
                    None => self.wait_for_file(room, event_id, head, &file).await?,
                };
                return reason.map_or(Ok(None), |reason| drop(reason.to_owned()));
            }
        }
        let Some(commit) = content.commit.as_ref() else {
            return drop("no commit".to_owned());
        };
        let message = match CommitMessage::parse(&commit.0) {
            Ok(message) => message,
            Err(error) => return drop(error.to_string()),
        };
        let node = message.node_id();
        if content.parent != message.aad().parent {
            return drop("the event names another parent than the commit".to_owned());
        }
        let stored = StoredCommit {
            event_id: event_id.clone(),
            sender: head.sender.clone(),
            content: content.clone(),
            received_at: head.given.map_or_else(|| self.now(), |given| given.received_at),
        };
        let is_relayed = content.relay && head.given.is_none();
        if is_relayed
            && room.group.graph().contains(&node)
            && room.view.is_joined(head.sender.as_str())
        {
            self.note_relay(room, node).await?;
        }
        let mut changes = Changes::default();
        // The first copy is kept, unless a Welcome that waits names another, or this is the author's
        // and that was none.
        let held = self.held_welcomes(room).await?;
        let named = held.iter().any(|welcome| {
            welcome.content.epoch == node && welcome.content.epoch_event == *event_id
        });
        let known_event = !named
            && match room.commit_events.get(&node) {
                Some(known) if !content.relay && known != event_id => {
                    let known = self.inner.store.commit(&room.id, &node).await?;
                    known.is_some_and(|known| !known.content.relay)
                }
                known => known.is_some(),
            };
        let (bytes, parent_context) = (commit.0.clone(), content.parent_context.0.clone());
        let received =
            heavy(&room.group, move |group| group.receive(&bytes, &parent_context)).await;
        match received {
            Ok(Received::Known(_)) => {
                if !known_event {
                    changes.room(&room.id).commits.insert(node, Some(stored));
                    self.save(room, changes).await?;
                }
                Ok(None)
            }
            Ok(Received::Own(_)) => {
                let pending = room.group.pending_commit(&node);
                if pending.is_some_and(|pending| {
                    !head.may_post(room, &pending.node.record, content.relay)
                }) {
                    return self.drop_copy(room, node, event_id, head).await;
                }
                Box::pin(self.accepted(room, node, event_id.clone())).await?;
                Ok(Some(node))
            }
            Ok(Received::Entered(_, group)) => {
                let Some(entry) = group.records.get(&node) else { return Ok(None) };
                let record = std::sync::Arc::clone(&entry.record);
                if !head.may_post(room, &record, content.relay) {
                    return self.drop_copy(room, node, event_id, head).await;
                }
                let room_changes = changes.room(&room.id);
                room_changes.group = *group;
                room_changes.commits.insert(node, Some(stored));
                room_changes.view = self.with_verdicts(room, &record).await?;
                self.save(room, changes).await?;
                self.report_entered(room, &record);
                self.look_at_resolved(room, &record, head).await?;
                Ok(Some(node))
            }
            Ok(Received::Seen(_, because, group)) => {
                let record = group.records.get(&node).map(|entry| &entry.record);
                if let Some(record) = record
                    && !head.may_post(room, record, content.relay)
                {
                    return self.drop_copy(room, node, event_id, head).await;
                }
                let record = record.cloned();
                let new = record.is_some();
                let room_changes = changes.room(&room.id);
                room_changes.group = *group;
                if !known_event {
                    room_changes.commits.insert(node, Some(stored));
                }
                self.save(room, changes).await?;
                if let Some(record) = record {
                    self.report_seen(room, &record, &because);
                    self.look_at_resolved(room, &record, head).await?;
                }
                Ok(new.then_some(node))
            }
            Ok(Received::Completed(_, group)) => {
                let record = group.records.get(&node).map(|entry| &entry.record);
                if record.is_some_and(|record| !head.may_post(room, record, content.relay)) {
                    return self.drop_copy(room, node, event_id, head).await;
                }
                changes.room(&room.id).group = *group;
                self.save(room, changes).await?;
                Ok(None)
            }
            Ok(_) => Ok(None),
            Err(matrix_dmls::GroupError::UnknownParent(parent)) => {
                self.queue(room, event_id, parent, head).await?;
                // A Welcome may be waiting for just this commit.
                if !known_event {
                    changes.room(&room.id).commits.insert(node, Some(stored));
                    self.save(room, changes).await?;
                }
                if !self.is_older(&room.id, head.sent_at(), WINDOW) {
                    let hint = content.parent_event.as_deref();
                    self.look_for_parent(room, &node, parent, &head.sender, hint).await?;
                }
                Ok(None)
            }
            Err(error) => drop(error.to_string()),
        }
    }

    /// A copy of a commit that its sender may not post. As long as its parent was missing it looked like
    /// the commit that others wait for, so that one is looked for now.
    async fn drop_copy(
        &self,
        room: &mut Room,
        node: NodeId,
        event_id: &OwnedEventId,
        head: &EventHead,
    ) -> Result<Option<NodeId>, MlsError> {
        self.notify(Notice::CommitDropped {
            room_id: room.id.clone(),
            event_id: event_id.clone(),
            reason: "sent by another user than its author".to_owned(),
        });
        if room.commit_events.get(&node) == Some(event_id) {
            let mut changes = Changes::default();
            changes.room(&room.id).commits.insert(node, None);
            self.save(room, changes).await?;
        }
        if self.queue_length(room).await? > 0
            && !self.inner.store.queued_events(&room.id, &node).await?.is_empty()
        {
            let (user, device, hint) = (&*head.sender, None, None);
            let naming = Naming { user, device, hint, hops: 0, needed: true };
            self.look_for(room, node, naming).await?;
        }
        Ok(None)
    }

    /// Looks at the losing tips that a commit's author knew.
    async fn look_at_resolved(
        &self,
        room: &mut Room,
        record: &CommitRecord,
        head: &EventHead,
    ) -> Result<(), MlsError> {
        let author = record.author.member.device();
        let Some(user) = user_of(author) else { return Ok(()) };
        let naming = Naming::by_device(&user, author);
        self.look_at_tips(room, &record.resolves, naming, head.sent_at()).await
    }

    /// Keeps an event until an epoch is known.
    pub(super) async fn queue(
        &self,
        room: &mut Room,
        event_id: &OwnedEventId,
        node: NodeId,
        head: &EventHead,
    ) -> Result<(), MlsError> {
        if self.queue_length(room).await? >= MAX_QUEUED {
            debug!("Too many events wait in the room; one more is not kept");
            return Ok(());
        }
        let json = serde_json::json!({
            "type": head.event_type,
            "event_id": event_id,
            "sender": head.sender,
            "origin_server_ts": head.origin_server_ts,
            "content": head.content,
        });
        let event = QueuedEvent {
            event_id: event_id.clone(),
            node,
            json: json.to_string(),
            received_at: self.now(),
        };
        let mut changes = Changes::default();
        changes.room(&room.id).queued.insert(event_id.clone(), Some(event));
        self.save(room, changes).await
    }

    /// An epoch is known: what waited for it is taken out of the queue, and what waited for that.
    /// The application is told of the messages.
    pub(super) async fn take_waiting(&self, room: &mut Room, node: NodeId) -> Result<(), MlsError> {
        // Should the store fail in between, the rest is taken when the next events come.
        let was_drained = std::mem::replace(&mut room.drained, false);
        let mut known = VecDeque::from([node]);
        while let Some(node) = known.pop_front() {
            for head in self.to_be_tried_again_below(room, node).await? {
                if let Some(event_id) = head.event_id.clone() {
                    known.extend(Box::pin(self.receive_one_commit(room, &event_id, &head)).await?);
                }
            }
            known.extend(Box::pin(self.take_queued(room, node)).await?);
        }
        room.drained = was_drained;
        Ok(())
    }

    /// Takes what waited for one epoch, and gives the epochs that are known by that.
    async fn take_queued(&self, room: &mut Room, node: NodeId) -> Result<Vec<NodeId>, MlsError> {
        if self.queue_length(room).await? == 0 {
            return Ok(Vec::new());
        }
        let queued = self.inner.store.queued_events(&room.id, &node).await?;
        let Some(roster) = room.group.roster(&node).filter(|_| !queued.is_empty()) else {
            return Ok(Vec::new());
        };
        let readable = room.group.epoch_key(&node).is_some();
        // A Welcome, or another copy of the commit, may still let us in.
        let open = !readable && roster.leaf_of_identity(self.inner.local.identity()).is_some();
        let mut known = Vec::new();
        let mut changes = Changes::default();
        let mut notices = Vec::new();
        let mut waiting = Vec::new();
        for event in queued {
            let head = EventHead::read_stored(&event.json);
            if let Some(head) = head.as_ref().filter(|head| head.event_type == COMMIT) {
                // In the queue until it is done with.
                known.extend(Box::pin(self.receive_one_commit(room, &event.event_id, head)).await?);
            } else if open {
                waiting.push(head.map(|head| head.sender));
                continue;
            } else if let Ok(raw) = RawValue::from_string(event.json) {
                let (room_id, event_id) = (room.id.clone(), event.event_id.clone());
                let event = Raw::from_json(raw);
                notices.push(if readable {
                    Notice::Readable { room_id, event_id, event }
                } else {
                    Notice::NotReadable { room_id, event_id, event }
                });
            }
            changes.room(&room.id).queued.insert(event.event_id, None);
        }
        self.save(room, changes).await?;
        notices.into_iter().for_each(|notice| self.notify(notice));
        if !waiting.is_empty() {
            self.want_key(room, node, waiting.iter().flatten().map(|sender| &**sender)).await?;
        }
        Ok(known)
    }

    /// After a start, or after the store has failed in between: what waits for epochs that were
    /// entered, or whose keys somebody has given us.
    async fn drain(&self, room: &mut Room) -> Result<(), MlsError> {
        let waits = self.queue_length(room).await? > 0;
        let graph = room.group.graph();
        let has_seen = |node: &NodeId| {
            graph.children(node).any(|c| graph.status(&c) == Some(NodeStatus::Seen))
        };
        let given = room.group.given().filter(|_| waits);
        let entered = room.group.entered().filter(|node| waits || has_seen(node));
        let nodes: Vec<_> = entered.chain(given).collect();
        for node in nodes {
            Box::pin(self.take_waiting(room, node)).await?;
        }
        room.drained = true;
        Ok(())
    }

    /// Commits that are kept and to be taken once more: those of epochs that we entered before their
    /// parent was known, whose records can be made what everybody else's are now that it is; and those
    /// that were only seen, if their parent was entered after they came, by a Welcome that was late.
    async fn to_be_tried_again_below(
        &self,
        room: &Room,
        node: NodeId,
    ) -> Result<Vec<EventHead>, MlsError> {
        let graph = room.group.graph();
        let holds = room.group.state(&node).is_some();
        let is_open = |child: &NodeId| holds && graph.status(child) == Some(NodeStatus::Seen);
        let mut heads = Vec::new();
        let entrances = graph.children(&node).filter(|child| graph.is_entrance(child));
        let seen = graph.children(&node).filter(|child| !graph.is_entrance(child));
        for child in entrances.chain(seen.filter(is_open).take(MAX_TRIED_AGAIN)) {
            heads.extend(self.stored_commit(room, &child).await?);
        }
        Ok(heads)
    }

    /// A commit's event as it was kept.
    pub(super) async fn stored_commit(
        &self,
        room: &Room,
        node: &NodeId,
    ) -> Result<Option<EventHead>, MlsError> {
        let Some(stored) = self.inner.store.commit(&room.id, node).await? else { return Ok(None) };
        Ok(Some(EventHead {
            event_type: COMMIT.to_owned(),
            event_id: Some(stored.event_id),
            sender: stored.sender,
            state_key: None,
            content: serde_json::value::to_raw_value(&stored.content)?,
            origin_server_ts: None,
            redacts: None,
            unsigned: None,
            given: None,
        }))
    }

    fn report_entered(&self, room: &Room, record: &CommitRecord) {
        let author = record.author.member.device().clone();
        let devices = |members: &[(u32, std::sync::Arc<matrix_dmls::Member>)]| {
            members.iter().map(|(_, member)| member.device().clone()).collect::<Vec<_>>()
        };
        for (_, member) in &record.added {
            let device = member.device();
            if room.view.is_gone(&device.user_id) {
                self.notify(Notice::UnexpectedMember {
                    room_id: room.id.clone(),
                    device: device.clone(),
                    added_by: author.clone(),
                });
            }
        }
        for (_, member) in record.removes_without_readding() {
            let device = member.device();
            if room.view.is_joined(&device.user_id) && device.user_id != author.user_id {
                self.notify(Notice::UnjustifiedRemoval {
                    room_id: room.id.clone(),
                    device: device.clone(),
                    removed_by: author.clone(),
                });
            }
        }
        self.notify(Notice::EpochEntered {
            room_id: room.id.clone(),
            node: record.node,
            epoch: record.epoch,
            author,
            is_external: record.author.leaf.is_none() && record.parent.is_some(),
            added: devices(&record.added),
            removed: devices(&record.removed),
        });
        self.report_branches(room, record);
    }

    /// What a commit that is newly known does to the branches.
    pub(super) fn report_branches(&self, room: &Room, record: &CommitRecord) {
        let (room_id, node) = (room.id.clone(), record.node);
        if let Some(parent) = record.parent
            && room.group.graph().children(&parent).any(|child| child != node)
        {
            self.notify(Notice::Forked { room_id: room_id.clone(), node, parent });
        }
        // Commits repeat what those above them have named.
        let graph = room.group.graph();
        let mut branches = record.resolves.clone();
        for above in graph.ancestors(&node).filter_map(|node| graph.get(&node)) {
            if branches.is_empty() {
                break;
            }
            branches.retain(|branch| !above.resolves.contains(branch));
        }
        if !branches.is_empty() {
            self.notify(Notice::Merged { room_id, node, branches });
        }
    }

    fn report_seen(&self, room: &Room, record: &CommitRecord, because: &SeenBecause) {
        self.report_branches(room, record);
        let room_id = room.id.clone();
        let node = record.node;
        let reason = match because {
            SeenBecause::RemovesUs => {
                let by = record.author.member.device().clone();
                return self.notify(Notice::Removed { room_id, node, by });
            }
            // What lies above our entrance, or below an epoch that was reported, is no news.
            SeenBecause::NoState
                if record.parent.is_none_or(|parent| {
                    room.group.graph().status(&parent) != Some(NodeStatus::Entered)
                }) =>
            {
                return;
            }
            SeenBecause::NoState => "the state of its parent is not held".to_owned(),
            SeenBecause::TooMany => "its author has made too many commits there".to_owned(),
            SeenBecause::Inadmissible(error) => error.to_string(),
            _ => "unknown".to_owned(),
        };
        self.notify(Notice::EpochNotEntered { room_id, node, reason });
    }
}

/// An event that was kept, with its type.
pub(super) fn raw_event(json: String) -> Option<(String, Raw<AnySyncTimelineEvent>)> {
    let head = EventHead::read(&json)?;
    Some((head.event_type, Raw::from_json(RawValue::from_string(json).ok()?)))
}

/// Whether a Matrix user may post a commit: the one whose device made it (protocol §4), or, as a
/// relayed copy, anybody who is or was in the room (§2): who has left since had to be in it to post
/// that, and the copy may be the only one that there is.
pub(super) fn may_post(
    room: &Room,
    record: &CommitRecord,
    sender: &ruma::UserId,
    relay: bool,
) -> bool {
    record.author.member.device().user_id == sender.as_str()
        || (relay && room.view.members.contains_key(sender))
}
