//! Events of a room: its state, and commits.

use matrix_dmls::{
    ALGORITHM, CommitMessage, CommitRecord, NodeId, NodeStatus, Received, SeenBecause,
};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId,
    events::{
        AnySyncStateEvent, AnySyncTimelineEvent, AnyTimelineEvent,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tracing::{debug, instrument};

use super::{MlsMachine, Room, heavy::heavy};
use crate::{
    error::MlsError,
    notice::Notice,
    room::{MlsSince, RoomView},
    store::{Changes, QueuedEvent, StoredCommit},
    types::events::{CommitEventContent, GroupEventContent},
};

/// The largest event that is looked at, in bytes (protocol §12); some more than a server lets
/// through, since what it adds does not count.
const MAX_EVENT: usize = 2 * 65_536;

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
    pub(super) origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl EventHead {
    /// Reads an event, if it is small enough and has what all events have.
    pub(super) fn read(json: &str) -> Option<Self> {
        if json.len() > MAX_EVENT { None } else { serde_json::from_str(json).ok() }
    }

    fn content<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }
}

/// The fields of state events that matter here. All optional: anybody can send anything.
#[derive(Deserialize)]
struct StateContent {
    membership: Option<MembershipState>,
    algorithm: Option<String>,
    encryption_algorithm: Option<String>,
    /// MSC4245 has no stable name yet.
    #[serde(rename = "org.matrix.msc4245.encryption_algorithm")]
    unstable_encryption_algorithm: Option<String>,
    history_visibility: Option<HistoryVisibility>,
    rotation_period_ms: Option<u64>,
    rotation_period_msgs: Option<u64>,
}

impl MlsMachine {
    /// Takes a room's events as a sync response brings them: the state first, then the timeline in
    /// its order. Events that are nothing to MLS are ignored, and the same ones may come twice.
    /// Messages are not decrypted here, see [`MlsMachine::decrypt_room_event`].
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
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let before = room.view.clone();
        let mut view = before.clone();
        for event in state {
            if let Some(head) = EventHead::read(event.json().get()) {
                self.apply_state(&mut view, room_id, &head);
            }
        }
        let heads: Vec<_> =
            timeline.iter().filter_map(|event| EventHead::read(event.json().get())).collect();
        for head in &heads {
            self.apply_state(&mut view, room_id, head);
        }
        if view != before {
            // Those whom it concerns, also when the room becomes an MLS room only now.
            let news = before.mls_since.is_none() || view.tracked_users() != before.tracked_users();
            let mut changes = Changes::default();
            changes.room(room_id).view = Some(view);
            self.save(room, changes).await?;
            if news && room.view.mls_since.is_some() {
                self.track_members(room).await?;
            }
        }
        for head in heads {
            if head.event_type == "io.github.matrix-mls.dmls.v1.commit" && head.state_key.is_none()
            {
                self.receive_commit(room, head).await?;
            }
        }
        if room.view.mls_since.is_some() {
            self.try_to_join(room).await?;
        }
        Ok(())
    }

    /// Takes the complete list of a room's members, as `GET /rooms/{}/members` gives it. Needed
    /// where the server loads members lazily: without it, only those are known whose events came.
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn set_room_members(
        &self,
        room_id: &RoomId,
        members: impl IntoIterator<Item = (OwnedUserId, MembershipState)>,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let mut view = room.view.clone();
        view.members = members.into_iter().collect();
        view.members_complete = true;
        let mut changes = Changes::default();
        changes.room(room_id).view = Some(view);
        self.save(room, changes).await?;
        if room.view.mls_since.is_some() {
            self.track_members(room).await?;
        }
        self.try_to_join(room).await
    }

    async fn track_members(&self, room: &Room) -> Result<(), MlsError> {
        let users = room.view.tracked_users();
        Ok(self.inner.olm.update_tracked_users(users.iter().map(AsRef::as_ref)).await?)
    }

    fn apply_state(&self, view: &mut RoomView, room_id: &RoomId, head: &EventHead) {
        let Some(state_key) = &head.state_key else { return };
        if head.event_type == "m.room.member" {
            let Ok(user) = OwnedUserId::try_from(state_key.as_str()) else { return };
            let content: Option<StateContent> = head.content();
            if let Some(membership) = content.and_then(|content| content.membership) {
                view.members.insert(user, membership);
            }
            return;
        }
        if !state_key.is_empty() {
            return;
        }
        match head.event_type.as_str() {
            "m.room.create" => {
                let Some(content) = head.content::<StateContent>() else { return };
                view.creator = Some(head.sender.clone());
                let named = content.encryption_algorithm.or(content.unstable_encryption_algorithm);
                if let Some(algorithm) = named {
                    latch(view, &head.sender, algorithm);
                }
            }
            "m.room.encryption" => {
                let Some(content) = head.content::<StateContent>() else { return };
                match content.algorithm {
                    Some(algorithm) if algorithm == ALGORITHM => {
                        latch(view, &head.sender, algorithm);
                        view.rotation_period_ms = content.rotation_period_ms;
                        view.rotation_period_msgs = content.rotation_period_msgs;
                    }
                    _ if view.mls_since.is_some() => {
                        if view.downgraded && view.downgrade_attempt == head.event_id {
                            return;
                        }
                        view.downgraded = true;
                        view.downgrade_attempt.clone_from(&head.event_id);
                        self.notify(Notice::DowngradeAttempt {
                            room_id: room_id.to_owned(),
                            event_id: head.event_id.clone(),
                        });
                    }
                    _ => {}
                }
            }
            "m.room.history_visibility" => {
                if let Some(content) = head.content::<StateContent>() {
                    view.history_visibility = content.history_visibility;
                }
            }
            "io.github.matrix-mls.dmls.v1.group" => {
                if let Some(content) = head.content::<GroupEventContent>() {
                    view.group = Some((head.sender.clone(), content));
                }
            }
            _ => {}
        }
    }

    /// An event that was asked for.
    pub(super) async fn receive_fetched(
        &self,
        room_id: &RoomId,
        event: &Raw<AnyTimelineEvent>,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let Some(head) = EventHead::read(event.json().get()) else { return Ok(()) };
        if head.event_type == "io.github.matrix-mls.dmls.v1.commit" {
            self.receive_commit(room, head).await?;
        }
        self.try_to_join(room).await
    }

    /// Takes a commit event, and all that were waiting for it.
    pub(super) async fn receive_commit(
        &self,
        room: &mut Room,
        head: EventHead,
    ) -> Result<(), MlsError> {
        let mut waiting = vec![head];
        while let Some(head) = waiting.pop() {
            let Some(event_id) = head.event_id.clone() else { continue };
            self.transient().has_come(&event_id);
            let entered = self.receive_one_commit(room, &event_id, &head).await?;
            if let Some(node) = entered {
                waiting.extend(self.now_known(room, node).await?);
            }
        }
        Ok(())
    }

    /// Takes one commit event. Gives its node if it is newly known.
    async fn receive_one_commit(
        &self,
        room: &mut Room,
        event_id: &OwnedEventId,
        head: &EventHead,
    ) -> Result<Option<NodeId>, MlsError> {
        let drop = |reason: String| {
            self.notify(Notice::CommitDropped {
                room_id: room.id.clone(),
                event_id: event_id.clone(),
                reason,
            });
            Ok(None)
        };
        let Some(content) = head.content::<CommitEventContent>() else {
            return drop("not a commit event".to_owned());
        };
        if content.algorithm != ALGORITHM {
            return drop("another algorithm".to_owned());
        }
        let Some(commit) = content.commit.as_ref() else {
            return drop("commits in files are not supported yet".to_owned());
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
            received_at: self.now(),
        };
        let mut changes = Changes::default();
        // The first copy is kept, unless a Welcome that waits names another.
        let held = self.inner.store.held_welcomes(&room.id).await?;
        let named = held.iter().any(|welcome| {
            welcome.content.epoch == node && welcome.content.epoch_event == *event_id
        });
        let known_event = !named && room.commit_events.contains_key(&node);
        let (bytes, parent_context) = (commit.0.clone(), content.parent_context.0.clone());
        let received =
            heavy(&room.group, move |group| group.receive(&bytes, &parent_context)).await;
        match received {
            Ok(Received::Known(_)) => {
                if !known_event {
                    changes.room(&room.id).commits.insert(node, stored);
                    self.save(room, changes).await?;
                }
                Ok(None)
            }
            Ok(Received::Own(_)) => {
                let pending = room.group.pending_commit(&node);
                if pending.is_some_and(|pending| {
                    !may_post(room, &pending.node.record, &head.sender, content.relay)
                }) {
                    return drop("sent by another user than its author".to_owned());
                }
                self.accepted(room, node, event_id.clone()).await?;
                Ok(Some(node))
            }
            Ok(Received::Entered(_, group)) => {
                let Some(entry) = group.records.get(&node) else { return Ok(None) };
                let record = std::sync::Arc::clone(&entry.record);
                if !may_post(room, &record, &head.sender, content.relay) {
                    return drop("sent by another user than its author".to_owned());
                }
                let room_changes = changes.room(&room.id);
                room_changes.group = *group;
                room_changes.commits.insert(node, stored);
                room_changes.view = self.with_verdicts(room, &record).await?;
                self.save(room, changes).await?;
                self.report_entered(room, &record);
                Ok(Some(node))
            }
            Ok(Received::Seen(_, because, group)) => {
                let record = group.records.get(&node).map(|entry| &entry.record);
                if let Some(record) = record
                    && !may_post(room, record, &head.sender, content.relay)
                {
                    return drop("sent by another user than its author".to_owned());
                }
                let record = record.cloned();
                let new = record.is_some();
                let room_changes = changes.room(&room.id);
                room_changes.group = *group;
                if !known_event {
                    room_changes.commits.insert(node, stored);
                }
                self.save(room, changes).await?;
                if let Some(record) = record {
                    self.report_seen(room, &record, &because);
                }
                Ok(new.then_some(node))
            }
            Ok(Received::Completed(_, group)) => {
                let record = group.records.get(&node).map(|entry| &entry.record);
                if record.is_some_and(|r| !may_post(room, r, &head.sender, content.relay)) {
                    return drop("sent by another user than its author".to_owned());
                }
                changes.room(&room.id).group = *group;
                self.save(room, changes).await?;
                Ok(None)
            }
            Ok(_) => Ok(None),
            Err(matrix_dmls::GroupError::UnknownParent(parent)) => {
                self.queue(room, event_id, parent, head).await?;
                if let Some(parent_event) = &content.parent_event
                    && room.group.entered().next().is_some()
                {
                    self.transient().fetch(&room.id, parent_event);
                }
                // A Welcome may be waiting for just this commit.
                if !known_event {
                    changes.room(&room.id).commits.insert(node, stored);
                    self.save(room, changes).await?;
                }
                Ok(None)
            }
            Err(error) => drop(error.to_string()),
        }
    }

    /// Keeps an event until an epoch is known.
    pub(super) async fn queue(
        &self,
        room: &mut Room,
        event_id: &OwnedEventId,
        node: NodeId,
        head: &EventHead,
    ) -> Result<(), MlsError> {
        if self.inner.store.queued_event_count(&room.id).await? >= MAX_QUEUED {
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

    /// An epoch is known: what waited for it is taken out of the queue. Gives the commits; the
    /// application is told of the messages.
    pub(super) async fn now_known(
        &self,
        room: &mut Room,
        node: NodeId,
    ) -> Result<Vec<EventHead>, MlsError> {
        let mut commits = self.entrances_below(room, node).await?;
        let queued = self.inner.store.queued_events(&room.id, &node).await?;
        if queued.is_empty() {
            return Ok(commits);
        }
        let readable = room.group.epoch_key(&node).is_some();
        let mut changes = Changes::default();
        let mut notices = Vec::new();
        for event in queued {
            let Some(head) = EventHead::read(&event.json) else { continue };
            changes.room(&room.id).queued.insert(event.event_id.clone(), None);
            if head.event_type == "io.github.matrix-mls.dmls.v1.commit" {
                commits.push(head);
            } else if let Ok(raw) = RawValue::from_string(event.json) {
                let (room_id, event_id) = (room.id.clone(), event.event_id);
                let event = Raw::from_json(raw);
                notices.push(if readable {
                    Notice::Readable { room_id, event_id, event }
                } else {
                    Notice::NotReadable { room_id, event_id, event }
                });
            }
        }
        // Oldest first: they are taken from the end.
        commits.reverse();
        self.save(room, changes).await?;
        notices.into_iter().for_each(|notice| self.notify(notice));
        Ok(commits)
    }

    /// The commits of epochs that we entered before their parent was known: now that it is, their
    /// records can be made what everybody else's are.
    async fn entrances_below(&self, room: &Room, node: NodeId) -> Result<Vec<EventHead>, MlsError> {
        let graph = room.group.graph();
        let mut heads = Vec::new();
        for child in graph.children(&node).filter(|child| graph.is_entrance(child)) {
            if let Some(stored) = self.inner.store.commit(&room.id, &child).await? {
                heads.push(EventHead {
                    event_type: "io.github.matrix-mls.dmls.v1.commit".to_owned(),
                    event_id: Some(stored.event_id),
                    sender: stored.sender,
                    state_key: None,
                    content: serde_json::value::to_raw_value(&stored.content)?,
                    origin_server_ts: None,
                });
            }
        }
        Ok(heads)
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
            added: devices(&record.added),
            removed: devices(&record.removed),
        });
    }

    fn report_seen(&self, room: &Room, record: &CommitRecord, because: &SeenBecause) {
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

fn latch(view: &mut RoomView, sender: &OwnedUserId, algorithm: String) {
    if algorithm == ALGORITHM && view.mls_since.is_none() {
        view.mls_since = Some(MlsSince { algorithm, sender: sender.clone() });
    }
}

/// Whether a Matrix user may post a commit: the one whose device made it (protocol §4), or, as a
/// relayed copy, anybody who has joined (§2).
pub(super) fn may_post(
    room: &Room,
    record: &CommitRecord,
    sender: &ruma::UserId,
    relay: bool,
) -> bool {
    record.author.member.device().user_id == sender.as_str()
        || (relay && room.view.is_joined(sender.as_str()))
}
