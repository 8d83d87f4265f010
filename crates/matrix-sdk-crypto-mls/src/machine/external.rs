//! External commits of our own (protocol §6): from what stands in the room, onto the epoch that
//! everybody should be in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use matrix_dmls::{CommitRecord, ExternalJoins, Group, GroupChanges, GroupError, NodeId, Received};
use tracing::debug;

use super::{
    MlsMachine, Room,
    files::{File, public_parts, size_with_files},
    heavy::heavy,
    room_events::may_post,
};
use crate::{
    error::MlsError,
    room::RoomView,
    store::{Changes, StoredCommit},
    trust::Verdict,
};

/// At most this many commits are looked at to find out where the group is, the youngest ones.
const MAX_COMMITS: usize = 200;

/// At most this many places that do not hang together are looked at.
const MAX_ENTRANCES: usize = 8;

/// Whether an external commit was made.
pub(super) enum LetIn {
    /// It was.
    Yes,
    /// It will be, when a file has come.
    Later,
    /// It cannot be.
    No,
}

/// An epoch from which the group can be seen.
struct Entrance {
    node: NodeId,
    changes: GroupChanges,
    /// How many users who have joined have committed there, with devices that they have.
    users: usize,
    /// When it was heard of, in milliseconds since 1970.
    heard: u64,
}

impl MlsMachine {
    /// A device that holds no epoch looks from the events that it has where the group is: of the
    /// places that do not hang together, in that where most users have committed. Gives whether its
    /// own device is a member in the epoch that everybody should be in.
    pub(super) async fn look_around(&self, room: &mut Room) -> Result<bool, MlsError> {
        let mut unknown = self.unknown_commits(room).await?;
        let mut best = None;
        for top in self.tops(room, &unknown) {
            if let Some(commit) = unknown.get_mut(&top)
                && let File::Here(shown) = self.with_tree(room, commit)
            {
                *commit = shown;
            }
            let Some(entrance) = self.see(room, &unknown, top).await? else { continue };
            let rank = |entrance: &Entrance| (entrance.users, entrance.heard);
            if best.as_ref().is_none_or(|best| rank(best) < rank(&entrance)) {
                best = Some(entrance);
            }
        }
        if let Some(best) = best {
            let here = room.group.graph().start();
            let is_better = match here {
                None => true,
                Some(here) => {
                    let records = records_below(&room.group, here);
                    let users = self.committers(room, &records).await?;
                    let heard = room.commit_times.get(&here).copied().unwrap_or_default();
                    (users, heard) < (best.users, best.heard)
                }
            };
            if is_better {
                debug!(room_id = %room.id, node = %best.node.short(), "The group is seen");
                let view = RoomView { entrance: Some(best.node), ..room.view.clone() };
                let mut changes = Changes::default();
                let room_changes = changes.room(&room.id);
                room_changes.view = Some(view);
                room_changes.group = best.changes;
                self.save(room, changes).await?;
                Box::pin(self.take_waiting(room, best.node)).await?;
            }
        }
        let tip = room.group.chosen_tip().and_then(|tip| room.group.roster(&tip));
        Ok(tip.is_some_and(|roster| roster.leaf_of(self.inner.local.device()).is_some()))
    }

    /// The youngest commits that came and hang together with nothing.
    pub(super) async fn unknown_commits(
        &self,
        room: &Room,
    ) -> Result<BTreeMap<NodeId, StoredCommit>, MlsError> {
        let graph = room.group.graph();
        let mut unknown: Vec<_> = room
            .commit_events
            .keys()
            .filter(|node| !graph.contains(node))
            .map(|node| (room.commit_times.get(node).copied().unwrap_or_default(), *node))
            .collect();
        unknown.sort_unstable();
        let mut commits = BTreeMap::new();
        for (_, node) in unknown.into_iter().rev().take(MAX_COMMITS) {
            if let Some(commit) = self.inner.store.commit(&room.id, &node).await? {
                commits.insert(node, commit);
            }
        }
        Ok(commits)
    }

    /// What would be seen from an epoch; none if its event does not show it, or it is not the group
    /// that the room names, or its author is not in the room.
    async fn see(
        &self,
        room: &Room,
        unknown: &BTreeMap<NodeId, StoredCommit>,
        top: NodeId,
    ) -> Result<Option<Entrance>, MlsError> {
        let Some(commit) = unknown.get(&top).cloned() else { return Ok(None) };
        let (sender, relay) = (commit.sender.clone(), commit.content.relay);
        let heard = commit.received_at;
        let below = below(unknown, top);
        let seen = heavy(&room.group, move |group| {
            let parts = public_parts(&commit).ok_or(GroupError::WelcomeMismatch)?;
            let (_, changes) = group.see_entrance(parts)?;
            // What lies below is tried on a copy: it is taken from the queue later.
            let mut copy = group.clone();
            copy.apply(changes.clone());
            for commit in below {
                let Some(bytes) = commit.content.commit.as_ref() else { continue };
                let context = &commit.content.parent_context.0;
                if let Ok(Received::Seen(_, _, changes)) = copy.receive(&bytes.0, context) {
                    copy.apply(*changes);
                }
            }
            Ok((changes, records_below(&copy, top)))
        })
        .await;
        let (changes, records) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                debug!(%error, node = %top.short(), "A commit's event does not show its epoch");
                return Ok(None);
            }
        };
        let Some(record) = records.first() else { return Ok(None) };
        let is_named = room
            .view
            .group
            .as_ref()
            .is_none_or(|(_, named)| named.instance == record.extension.instance);
        if !is_named
            || !may_post(room, record, &sender, relay)
            || !is_vouched_for(room, record, &top)
        {
            return Ok(None);
        }
        let users = self.committers(room, &records).await?;
        Ok(Some(Entrance { node: top, changes, users, heard }))
    }

    /// How many users who have joined have made these commits, with devices that they have.
    async fn committers(&self, room: &Room, records: &[CommitRecord]) -> Result<usize, MlsError> {
        let mut users = BTreeSet::new();
        for record in records {
            let member = &record.author.member;
            let user = &member.device().user_id;
            if users.contains(user) || !room.view.is_joined(user) {
                continue;
            }
            let verdict = self.verdict(member).await?;
            if !matches!(verdict, Verdict::Mismatched | Verdict::UnknownDevice) {
                users.insert(user.clone());
            }
        }
        Ok(users.len())
    }

    /// Makes an external commit on the epoch that everybody should be in, if its event has what that
    /// takes and the room's rules allow it. Gives whether it did, or will when a file has come.
    pub(super) async fn let_ourselves_in(&self, room: &mut Room) -> Result<LetIn, MlsError> {
        if self.now() < room.view.commits_refused_until {
            return Ok(LetIn::No);
        }
        let Some(tip) = room.group.chosen_tip() else { return Ok(LetIn::No) };
        let (Some(record), Some(roster)) =
            (room.group.graph().get(&tip).cloned(), room.group.roster(&tip))
        else {
            return Ok(LetIn::No);
        };
        // What a Welcome's signer is required to be too.
        let is_named = room
            .view
            .group
            .as_ref()
            .is_none_or(|(_, named)| named.instance == record.extension.instance);
        let own = self.inner.local.member();
        let device = own.device();
        // MLS lets a device replace a leaf of its own signature key only.
        let has_other_key = roster.iter().any(|(_, member)| {
            let other = member.device();
            other.user_id == device.user_id
                && other.device_id == device.device_id
                && (other != device || member.signature_key != own.signature_key)
        });
        let is_allowed =
            record.extension.external == ExternalJoins::Allowed || roster.has_user(&device.user_id);
        if !is_named
            || has_other_key
            || !is_allowed
            || !is_vouched_for(room, &record, &tip)
            || !room.view.is_joined(&device.user_id)
        {
            return Ok(LetIn::No);
        }
        let Some(commit) = self.inner.store.commit(&room.id, &tip).await? else {
            return Ok(LetIn::No);
        };
        let commit = match self.shown_epoch(room, commit).await? {
            File::Here(shown) => shown,
            File::Coming => return Ok(LetIn::Later),
            File::Unavailable => return Ok(LetIn::No),
        };
        let local = self.inner.local.clone();
        let made = heavy(&room.group, move |group| {
            let parts = public_parts(&commit).ok_or(GroupError::WelcomeMismatch)?;
            group.external_commit_on(&local, parts)
        })
        .await;
        let (node, group) = match made {
            Ok(made) => made,
            Err(error) => {
                debug!(%error, "No external commit can be made");
                return Ok(LetIn::No);
            }
        };
        let Some(pending) = group.pending.get(&node).cloned().flatten() else {
            return Ok(LetIn::No);
        };
        let content = self.commit_content(room, &pending).await?;
        if size_with_files(&content)? > self.inner.max_content {
            return Ok(LetIn::No);
        }
        self.keep_commit(room, node, group, content, Vec::new(), None).await?;
        Ok(LetIn::Yes)
    }

    /// The topmost commits that show the epoch that they make, one for each that no other lies above.
    fn tops(&self, room: &Room, unknown: &BTreeMap<NodeId, StoredCommit>) -> Vec<NodeId> {
        let shows = |commit: &StoredCommit| {
            commit.content.group_info.is_some()
                && !matches!(self.with_tree(room, commit), File::Unavailable)
        };
        let parent = |node: &NodeId| unknown.get(node).and_then(|commit| commit.content.parent);
        let is_top =
            |node: &NodeId| parent(node).is_none_or(|parent| !unknown.contains_key(&parent));
        let mut tops: Vec<_> = unknown
            .keys()
            .filter(|node| is_top(node))
            .filter_map(|top| {
                let mut open = VecDeque::from([*top]);
                while let Some(node) = open.pop_front() {
                    if unknown.get(&node).is_some_and(shows) {
                        return Some(node);
                    }
                    open.extend(children(unknown, node));
                }
                None
            })
            .collect();
        tops.sort_by_key(|node| std::cmp::Reverse(room.commit_times.get(node).copied()));
        tops.truncate(MAX_ENTRANCES);
        tops
    }
}

/// Whether somebody who has a say in the room stands for an epoch: its author, who has joined, or
/// whoever has named the group, if the epoch is known to lie below what the room names. Somebody who
/// has left can have made an epoch that nobody who is left can be let into but by themselves.
fn is_vouched_for(room: &Room, record: &CommitRecord, node: &NodeId) -> bool {
    if room.view.is_joined(&record.author.member.device().user_id) {
        return true;
    }
    let Some((_, named)) = room.view.group.as_ref() else { return false };
    std::iter::once(*node)
        .chain(room.group.graph().ancestors(node))
        .any(|node| node == named.founding || Some(node) == named.anchor)
}

/// The commits below one, each after its parent.
fn below(unknown: &BTreeMap<NodeId, StoredCommit>, top: NodeId) -> Vec<StoredCommit> {
    let mut open: VecDeque<_> = children(unknown, top).collect();
    let mut below = Vec::new();
    while let Some(node) = open.pop_front() {
        open.extend(children(unknown, node));
        below.extend(unknown.get(&node).cloned());
    }
    below
}

fn children(unknown: &BTreeMap<NodeId, StoredCommit>, of: NodeId) -> impl Iterator<Item = NodeId> {
    let is_child = move |commit: &StoredCommit| commit.content.parent == Some(of);
    unknown.iter().filter(move |(_, commit)| is_child(commit)).map(|(node, _)| *node)
}

/// The records of a node and of all below it, the node's first.
fn records_below(group: &Group, top: NodeId) -> Vec<CommitRecord> {
    let graph = group.graph();
    std::iter::once(top)
        .chain(graph.descendants(&top))
        .filter_map(|node| graph.get(&node).map(|record| (**record).clone()))
        .collect()
}
