//! Commits and ratchet trees that are too large for an event (protocol §2, §6): they are files in the
//! media repository, and the event says where.

mod downloads;
mod uploads;

use std::sync::Arc;

use matrix_dmls::{Group, GroupError, NodeId, PublicParts};
use ruma::{EventId, OwnedEventId, RoomId, TransactionId};
use tracing::debug;

pub(super) use self::{
    downloads::Files,
    uploads::{read_id, size_with_files, uploads},
};
use super::{
    MlsMachine, Room, again::again, heavy::heavy, join_requests::oldest_of_who_has_most,
    room_events::EventHead,
};
use crate::{
    error::MlsError,
    notice::Notice,
    room::WaitingFile,
    store::{Changes, StoredCommit},
    types::events::{CommitEventContent, GraphCommit, GraphContent, MediaFile},
};

/// At most this many commits of a room wait for their files. Over that whoever has the most loses the
/// oldest, so that one that posts many only hurts itself; it is looked for as any that is missing.
const MAX_WAITING: usize = 300;

/// At most this many commits up from an epoch there has to be one whose event has a ratchet tree.
const MAX_CLIMB: usize = 32;

/// How long a commit waits for its file, in milliseconds: as long as events wait.
const MAX_AGE: u64 = 30 * 24 * 3600 * 1000;

/// A file that is needed, or what is made of files.
pub(super) enum File<T = Arc<Vec<u8>>> {
    /// Here it is.
    Here(T),
    /// It is being asked for.
    Coming,
    /// It cannot be had for now.
    Unavailable,
}

/// What the event of a commit shows of the epoch that it makes.
pub(super) fn public_parts(commit: &StoredCommit) -> Option<PublicParts<'_>> {
    let content = &commit.content;
    Some(PublicParts {
        commit: &content.commit.as_ref()?.0,
        parent_context: &content.parent_context.0,
        group_info: &content.group_info.as_ref()?.0,
        tree: &content.tree.as_ref()?.0,
    })
}

impl MlsMachine {
    /// A commit whose event says only where it is: it is asked for, and the event waits. Gives why it
    /// does not, if it does not.
    pub(super) async fn wait_for_file(
        &self,
        room: &mut Room,
        event_id: &OwnedEventId,
        head: &EventHead,
        file: &MediaFile,
    ) -> Result<Option<&'static str>, MlsError> {
        let Some(hash) = file.hash().filter(|_| file.may_be_fetched()) else {
            return Ok(Some("its file is too large, or has no address"));
        };
        let is_known = room.commit_events.values().any(|known| known == event_id);
        if is_known || Self::waits_for_file(room, event_id) {
            return Ok(None);
        }
        self.queue(room, event_id, NodeId::from_bytes(hash), head).await?;
        let mut view = room.view.clone();
        let mut changes = Changes::default();
        while view.files.len() >= MAX_WAITING {
            let senders = view.files.iter().map(|waiting| &waiting.sender);
            let Some((oldest, _)) = oldest_of_who_has_most(senders) else { break };
            let gone = view.files.remove(oldest);
            self.transient().files.forget(&room.id, &gone.file);
            changes.room(&room.id).queued.insert(gone.event_id, None);
        }
        view.files.push(WaitingFile {
            file: file.clone(),
            event_id: event_id.clone(),
            sender: head.sender.clone(),
            since: self.now(),
        });
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await?;
        self.plan_files(room);
        Ok(None)
    }

    /// A commit of our own that is in a file, as a sync shows it: that file need not be fetched.
    pub(super) fn own_file(room: &Room, file: &MediaFile) -> Option<Vec<u8>> {
        let mut own = room.group.pending().map(|pending| &pending.commit);
        own.find(|commit| file.is(commit)).cloned()
    }

    /// Asks for the files that commits wait for, also after a restart.
    pub(super) fn plan_files(&self, room: &Room) {
        let now = self.now();
        let files = &mut self.transient().files;
        for waiting in &room.view.files {
            files.want(&room.id, &waiting.file, &waiting.sender, now);
        }
    }

    /// Whether an event is here whose commit is in a file that is not.
    pub(super) fn waits_for_file(room: &Room, event_id: &EventId) -> bool {
        room.view.files.iter().any(|waiting| waiting.event_id == *event_id)
    }

    /// The same, while that file is being fetched.
    pub(super) fn is_file_coming(&self, room: &Room, event_id: &EventId) -> bool {
        let mut waiting = room.view.files.iter();
        waiting.any(|waiting| waiting.event_id == *event_id && self.is_coming(&waiting.file))
    }

    fn is_coming(&self, file: &MediaFile) -> bool {
        file.hash().is_some_and(|hash| self.transient().files.is_coming(&hash))
    }

    /// A file that was asked for has come, and is what it should be: what waited for it goes on.
    async fn file_has_come(
        &self,
        room_id: &RoomId,
        hash: [u8; 32],
        bytes: &Arc<Vec<u8>>,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        self.take_commits_in(room, hash, bytes).await?;
        Box::pin(self.try_to_join(room)).await?;
        let held = self.transient().files.take_graphs(room_id);
        for graph in held {
            Box::pin(self.absorb(room, &graph)).await?;
        }
        self.connect(room).await?;
        self.look_ahead(room).await
    }

    /// Takes the commits that waited for a file.
    async fn take_commits_in(
        &self,
        room: &mut Room,
        hash: [u8; 32],
        bytes: &[u8],
    ) -> Result<(), MlsError> {
        if !room.view.files.iter().any(|waiting| waiting.file.hash() == Some(hash)) {
            return Ok(());
        }
        let key = NodeId::from_bytes(hash);
        for event in self.inner.store.queued_events(&room.id, &key).await? {
            if let Some(mut head) = EventHead::read_stored(&event.json)
                && let Some(mut content) = head.content::<CommitEventContent>()
                && content.fill(bytes)
            {
                head.event_id = Some(event.event_id.clone());
                head.content = serde_json::value::to_raw_value(&content)?;
                Box::pin(self.receive_commit(room, &head)).await?;
            }
            let waits = self.inner.store.queued_events(&room.id, &key).await?;
            if waits.iter().any(|waiting| waiting.event_id == event.event_id) {
                // It waits for nothing else.
                let mut changes = Changes::default();
                changes.room(&room.id).queued.insert(event.event_id, None);
                self.save(room, changes).await?;
            }
        }
        let mut view = room.view.clone();
        view.files.retain(|waiting| waiting.file.hash() != Some(hash));
        self.save_view(room, view).await
    }

    /// Drops what has waited for its file for too long, and tells the application.
    pub(super) async fn mind_files(&self, room: &mut Room) -> Result<(), MlsError> {
        if room.view.files.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let is_old = |waiting: &WaitingFile| now.saturating_sub(waiting.since) > MAX_AGE;
        if room.view.files.iter().any(is_old) {
            let mut view = room.view.clone();
            let mut changes = Changes::default();
            for waiting in view.files.extract_if(.., |waiting| is_old(waiting)) {
                self.transient().files.forget(&room.id, &waiting.file);
                changes.room(&room.id).queued.insert(waiting.event_id.clone(), None);
                self.notify(Notice::CommitDropped {
                    room_id: room.id.clone(),
                    event_id: waiting.event_id,
                    reason: "its file could not be fetched for 30 days".to_owned(),
                });
            }
            changes.room(&room.id).view = Some(view);
            self.save(room, changes).await?;
        }
        self.plan_files(room);
        Ok(())
    }

    /// The same commit with its ratchet tree, which may be in a file.
    pub(super) fn with_tree(&self, room: &Room, commit: &StoredCommit) -> File<StoredCommit> {
        if commit.content.tree.is_some() {
            return File::Here(commit.clone());
        }
        let Some(file) = &commit.content.tree_file else { return File::Unavailable };
        let now = self.now();
        match self.transient().files.want(&room.id, file, &commit.sender, now) {
            File::Here(bytes) => {
                let mut commit = commit.clone();
                commit.content.tree = Some(bytes.to_vec().into());
                File::Here(commit)
            }
            File::Coming => File::Coming,
            File::Unavailable => File::Unavailable,
        }
    }

    /// A commit's event with the ratchet tree of the epoch that it makes: its own, or what follows from
    /// that of a commit above (protocol §6).
    pub(super) async fn shown_epoch(
        &self,
        room: &Room,
        commit: StoredCommit,
    ) -> Result<File<StoredCommit>, MlsError> {
        let mut below = Vec::new();
        let mut here = commit.clone();
        for _ in 0..=MAX_CLIMB {
            match self.with_tree(room, &here) {
                File::Here(shown) if below.is_empty() => return Ok(File::Here(shown)),
                File::Here(shown) => {
                    let commits: Vec<_> = below.into_iter().rev().collect();
                    let tree = heavy(&room.group, move |_| {
                        let parts = public_parts(&shown).ok_or(GroupError::WelcomeMismatch)?;
                        Group::replay_tree(parts, &commits)
                    });
                    let Ok(tree) = tree.await else {
                        debug!(room_id = %room.id, "A ratchet tree does not lead to the epoch");
                        return Ok(File::Unavailable);
                    };
                    let mut shown = commit;
                    shown.content.tree = Some(tree.into());
                    return Ok(File::Here(shown));
                }
                File::Coming => return Ok(File::Coming),
                File::Unavailable => {}
            }
            let (Some(bytes), Some(parent)) = (here.content.commit, here.content.parent) else {
                break;
            };
            below.push(bytes.0);
            let Some(above) = self.inner.store.commit(&room.id, &parent).await? else { break };
            here = above;
        }
        Ok(File::Unavailable)
    }

    /// Whether the event of an epoch's commit, or of one of the next above, has a ratchet tree, so that a
    /// commit on it needs none.
    pub(super) async fn is_tree_near(&self, room: &Room, epoch: NodeId) -> Result<bool, MlsError> {
        let mut node = epoch;
        for _ in 0..MAX_CLIMB {
            let Some(stored) = self.inner.store.commit(&room.id, &node).await? else { break };
            if stored.content.tree.is_some() || stored.content.tree_file.is_some() {
                return Ok(true);
            }
            let Some(parent) = stored.content.parent else { break };
            node = parent;
        }
        Ok(false)
    }

    /// A graph that somebody passes on, with what is in files; `None` while these are being fetched.
    pub(super) fn with_files(&self, room: &Room, graph: &GraphContent) -> Option<GraphContent> {
        let mut graph = graph.clone();
        let mut is_coming = false;
        let mut want = |file: &MediaFile| {
            let now = self.now();
            // Whoever has passed it on cannot be told here: all such files count for ourselves.
            match self.transient().files.want(&room.id, file, self.user_id(), now) {
                File::Here(bytes) => Some(bytes.to_vec().into()),
                File::Coming => {
                    is_coming = true;
                    None
                }
                File::Unavailable => None,
            }
        };
        if let (None, Some(file)) = (&graph.tree, &graph.tree_file) {
            graph.tree = want(file);
        }
        for GraphCommit { content, .. } in &mut graph.commits {
            if let (None, Some(file)) = (&content.commit, &content.commit_file) {
                content.commit = want(file);
            }
        }
        (!is_coming).then_some(graph)
    }

    /// Answers to the downloads.
    pub(super) async fn downloaded(
        &self,
        request_id: &TransactionId,
        file: &[u8],
    ) -> Result<(), MlsError> {
        let now = self.now();
        let (room_id, hash, bytes) = {
            let files = &mut self.transient().files;
            let Some((room_id, wanted)) = files.find(request_id) else {
                return Err(MlsError::UnknownRequest);
            };
            if !wanted.is(file) {
                debug!(%room_id, "A file is not what it should be");
                files.has_failed(request_id, now);
                return Ok(());
            }
            let Some(hash) = wanted.hash() else { return Ok(()) };
            (room_id, hash, files.keep(hash, file, now))
        };
        again!(self.file_has_come(&room_id, hash, &bytes))?;
        self.transient().files.is_done(request_id);
        Ok(())
    }
}
