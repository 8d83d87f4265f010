//! Our own commits: made, sent, accepted (protocol §5).

use std::sync::Arc;

use matrix_dmls::{
    CommitPlan, CommitRecord, GroupChanges, GroupError, MAX_RESOLVES, NodeId, PendingCommit,
    Welcome,
};
use ruma::{OwnedEventId, TransactionId, UserId};
use tracing::debug;

use super::{
    MlsMachine, Room, again::MayBeOutdated as _, files::size_with_files, heavy::heavy,
    join_requests::note_let_in, membership::Addition,
};
use crate::{
    error::MlsError,
    notice::Notice,
    room::RoomView,
    store::{Changes, OutboxRequest, OutboxRequestKind, StoredCommit, WelcomeRecipient},
    trust,
    types::events::{CommitEventContent, GraphContent, ToDeviceWelcomeEventContent},
};

/// What an event's content may have, in bytes: the event's limit is 65,536, and the server puts
/// more around it (protocol §2: 60 KiB).
pub(super) const MAX_CONTENT: usize = 60 * 1024;

/// What it has to be at least, for what cannot become a file.
pub(super) const MIN_CONTENT: usize = 4 * 1024;

/// What a Welcome without a graph has, in bytes.
const MAX_SECRETS: usize = 1024;

/// What one `PUT /sendToDevice` carries at most, in bytes.
const MAX_TO_DEVICE_REQUEST: usize = 512 * 1024;

impl MlsMachine {
    /// Makes a commit as a pending child of `parent`, or founds the group without one, and puts its
    /// event into the outbox. Of the additions, as many as fit into an event. If it is an objection,
    /// that is counted for the commit that it `objects_to`.
    pub(super) async fn make_commit(
        &self,
        room: &mut Room,
        parent: Option<NodeId>,
        plan: CommitPlan,
        mut additions: Vec<Addition>,
        objects_to: Option<NodeId>,
    ) -> Result<(), MlsError> {
        let only_adds = plan.remove.is_empty() && !plan.update && plan.extension.is_none();
        loop {
            let mut plan = plan.clone();
            // The key package of a request may be tried again after a refusal. A commit without a path
            // would be the very same then, and its epoch cannot be derived a second time.
            plan.update |= additions.iter().any(|addition| addition.requested);
            plan.remove.extend(additions.iter().filter_map(|addition| addition.replaces));
            plan.add = additions.iter().map(|addition| addition.key_package.clone()).collect();
            if let Some(parent) = parent {
                plan.resolves = self.other_tips(room, parent, MAX_RESOLVES);
            }
            let (local, extension) = (self.inner.local.clone(), self.new_extension());
            let made = heavy(&room.group, move |group| match parent {
                Some(parent) => group.commit(parent, &local, plan),
                None => group.found(&local, &extension, plan.add),
            })
            .await;
            let (node, group) = match made {
                Err(GroupError::KeyPackage(reference)) => {
                    // One device's key package must not keep everybody else's commit from being made.
                    let bad = additions.iter().position(|addition| {
                        matrix_dmls::key_package_ref(&addition.key_package) == reference
                    });
                    let Some(bad) = bad else {
                        return Err(GroupError::KeyPackage(reference).into());
                    };
                    let name = additions.swap_remove(bad).name;
                    self.transient().claimed.remove(&name);
                    let reason = "its key package cannot be used".to_owned();
                    self.note_without_mls(room, vec![(name, reason)]).await?;
                    if parent.is_some() && additions.is_empty() && only_adds {
                        return Ok(());
                    }
                    continue;
                }
                made => made?,
            };
            let Some(pending) = group.pending.get(&node).cloned().flatten() else { return Ok(()) };
            let content = self.commit_content(room, &pending).await?;
            let size = size_with_files(&content)?;
            if size > self.inner.max_content {
                // Fewer at a time: the next commit adds the rest.
                if additions.len() > 1 {
                    additions.truncate(additions.len() / 2);
                    debug!(additions = additions.len(), "The commit is too large, adding fewer");
                    continue;
                }
                return Err(MlsError::RoomTooLarge { bytes: size });
            }
            let used = self.transient().use_up(&additions);
            if let Some(used) = used {
                debug!("A key package was used in another room meanwhile");
                additions.swap_remove(used);
                if parent.is_some() && additions.is_empty() && only_adds {
                    return Ok(());
                }
                continue;
            }
            let packages: Vec<_> = additions.iter().filter_map(Addition::to_claimed).collect();
            let view = objects_to.map(|commit| {
                let mut view = room.view.clone();
                view.standing.note_objection(commit);
                view
            });
            let kept = self.keep_commit(room, node, group, content, additions, view).await;
            if kept.as_ref().is_err_and(MlsError::is_outdated) {
                // The commit was never there, so the key packages are as good as new.
                self.transient().claimed.extend(packages);
            }
            return kept;
        }
    }

    pub(super) async fn keep_commit(
        &self,
        room: &mut Room,
        node: NodeId,
        group: GroupChanges,
        content: CommitEventContent,
        additions: Vec<Addition>,
        view: Option<RoomView>,
    ) -> Result<(), MlsError> {
        let recipients = additions
            .iter()
            .map(|addition| WelcomeRecipient {
                user_id: addition.name.0.clone(),
                device_id: addition.name.1.clone(),
                key_package: matrix_dmls::key_package_ref(&addition.key_package),
            })
            .collect();
        let mut changes = Changes::default();
        let content = Box::new(content);
        let kind = OutboxRequestKind::Commit { node, content, recipients };
        self.put_into_outbox(room, &mut changes, kind);
        let room_changes = changes.room(&room.id);
        room_changes.group = group;
        room_changes.view = view;
        self.save(room, changes).await
    }

    pub(super) fn put_into_outbox(
        &self,
        room: &Room,
        changes: &mut Changes,
        kind: OutboxRequestKind,
    ) {
        let order = self.transient().next_order(self.now());
        let id = TransactionId::new();
        let request = OutboxRequest { id: id.clone(), room_id: room.id.clone(), order, kind };
        changes.outbox.insert(id, Some(request));
    }

    /// The event's content, with all in it that becomes a file if it is too large. The tree is left out
    /// if nobody needs it by a Welcome, it does not fit, and one is near that it follows from.
    pub(super) async fn commit_content(
        &self,
        room: &Room,
        pending: &PendingCommit,
    ) -> Result<CommitEventContent, MlsError> {
        let parent = pending.node.record.parent;
        let mut content =
            CommitEventContent::new(pending.commit.clone(), parent, pending.parent_context.clone());
        content.parent_event = parent.and_then(|parent| room.commit_events.get(&parent).cloned());
        content.group_info = Some(pending.group_info.clone().into());
        content.encrypted_group_info = pending.encrypted_group_info().map(Into::into);
        content.tree = Some(pending.tree.clone().into());
        if let Some(parent) = parent
            && content.encrypted_group_info.is_none()
            && serde_json::to_vec(&content)?.len() > self.inner.max_content
            && self.is_tree_near(room, parent).await?
        {
            content.tree = None;
        }
        Ok(content)
    }

    /// The server has accepted our commit: its epoch is entered, and only now those whom it adds
    /// are told (protocol §5). Does nothing if that was known.
    pub(super) async fn accepted(
        &self,
        room: &mut Room,
        node: NodeId,
        event_id: OwnedEventId,
    ) -> Result<(), MlsError> {
        let Some(pending) = room.group.pending_commit(&node).cloned() else { return Ok(()) };
        let record = Arc::clone(&pending.node.record);
        let mut changes = Changes::default();
        let mut content = self.commit_content(room, &pending).await?;
        // The request is gone if the server has said before that it refuses the commit.
        let mut recipients = recipients_of(&pending)?;
        if let Some(request) = self.commit_request(&room.id, Some(node)).await? {
            changes.outbox.insert(request.id, None);
            if let OutboxRequestKind::Commit { content: sent, recipients: whom, .. } = request.kind
            {
                content = *sent;
                recipients = whom;
            }
        }
        let graph = match record.parent {
            Some(parent) if !recipients.is_empty() => {
                self.graph_for_newcomers(room, parent).await?
            }
            _ => None,
        };
        for messages in welcomes(room, &pending, graph, &event_id, &recipients)? {
            self.put_into_outbox(room, &mut changes, OutboxRequestKind::Welcome { messages });
        }
        let mut view =
            self.with_verdicts(room, &record).await?.unwrap_or_else(|| room.view.clone());
        if record.parent.is_none() {
            self.name_founding(room, &record, &mut view, &mut changes);
        }
        if record.updated.is_some() {
            view.must_update = false;
            view.updated_at = self.now();
        }
        let is_joining = record.author.leaf.is_none() && record.parent.is_some();
        view.entrance = room.entrance_with(node);
        note_let_in(&mut view, &record, self.now());
        let room_changes = changes.room(&room.id);
        room_changes.view = Some(view);
        room_changes.group = room.group.accept(node)?;
        if content.tree_file.is_some() || size_with_tree(&content)? > self.inner.max_content {
            content.tree = None;
        }
        let commit = StoredCommit {
            event_id,
            sender: self.user_id().to_owned(),
            content,
            received_at: self.now(),
        };
        room_changes.commits.insert(node, Some(commit));
        self.save(room, changes).await?;
        if is_joining {
            self.notify(Notice::Joined { room_id: room.id.clone(), node });
        }
        self.notify(Notice::EpochEntered {
            room_id: room.id.clone(),
            node,
            epoch: record.epoch,
            author: record.author.member.device().clone(),
            is_external: is_joining,
            added: record.added.iter().map(|(_, member)| member.device().clone()).collect(),
            removed: record.removed.iter().map(|(_, member)| member.device().clone()).collect(),
        });
        self.report_branches(room, &record);
        Ok(())
    }

    /// How far the members that a commit brings, or a joiner finds, can be trusted, kept for the time when their device
    /// is gone. `None` if it brings nobody.
    pub(super) async fn with_verdicts(
        &self,
        room: &Room,
        record: &CommitRecord,
    ) -> Result<Option<RoomView>, MlsError> {
        if record.added.is_empty() && record.parent.is_some() {
            return Ok(None);
        }
        let mut view = room.view.clone();
        let author = record.author.member.device();
        let has_joined = record.author.leaf.is_none() && author == self.inner.local.device();
        let found = record.parent.filter(|_| has_joined);
        let found = found.and_then(|parent| room.group.roster(&parent)).unwrap_or_default();
        let brought = record.added.iter().chain(&record.updated).map(|(_, member)| member);
        for member in brought.chain(found.iter().map(|(_, member)| member)) {
            let verdict = trust::verdict(&self.inner.olm, member).await?;
            view.verdicts.insert(member.device().clone(), verdict);
        }
        Ok(Some(view))
    }
}

/// The size of the event's content with the ratchet tree in it, in bytes.
fn size_with_tree(content: &CommitEventContent) -> Result<usize, MlsError> {
    Ok(serde_json::to_vec(&CommitEventContent { commit: None, ..content.clone() })?.len())
}

/// For whom a commit has Welcomes: it has them in the order in which it adds the devices.
fn recipients_of(pending: &PendingCommit) -> Result<Vec<WelcomeRecipient>, MlsError> {
    let Some(welcome) = &pending.welcome else { return Ok(Vec::new()) };
    let welcome = Welcome::parse(welcome).map_err(GroupError::from)?;
    let added = pending.node.record.added.iter().map(|(_, member)| member.device());
    let recipients = welcome.recipients().zip(added).filter_map(|(key_package, device)| {
        Some(WelcomeRecipient {
            user_id: UserId::parse(&device.user_id).ok()?,
            device_id: device.device_id.as_str().into(),
            key_package,
        })
    });
    Ok(recipients.collect())
}

/// The Welcomes for those whom a commit adds, in requests of a bounded size.
#[allow(clippy::type_complexity)]
fn welcomes(
    room: &Room,
    pending: &PendingCommit,
    graph: Option<GraphContent>,
    event_id: &OwnedEventId,
    recipients: &[WelcomeRecipient],
) -> Result<Vec<Vec<(ruma::OwnedUserId, ruma::OwnedDeviceId, ToDeviceWelcomeEventContent)>>, MlsError>
{
    let Some(welcome) = &pending.welcome else { return Ok(Vec::new()) };
    let welcome = Welcome::parse(welcome).map_err(GroupError::from)?;
    let size = MAX_SECRETS + serde_json::to_vec(&graph)?.len();
    let per_request = (MAX_TO_DEVICE_REQUEST / size).max(1);
    let messages: Vec<_> = recipients
        .iter()
        .filter_map(|recipient| {
            let secrets = welcome.secrets_for_recipient(&recipient.key_package)?;
            let (room_id, node) = (room.id.clone(), pending.node.record.node);
            let mut content =
                ToDeviceWelcomeEventContent::new(room_id, node, event_id.clone(), secrets);
            content.graph.clone_from(&graph);
            Some((recipient.user_id.clone(), recipient.device_id.clone(), content))
        })
        .collect();
    Ok(messages.chunks(per_request).map(<[_]>::to_vec).collect())
}
