//! Joining by Welcome (protocol §6).

use std::collections::BTreeSet;

use matrix_dmls::{GroupError, NodeId, NodeStatus, Welcome, WelcomeParts};

use super::{MlsMachine, Room, files::File, heavy::heavy, room_events::may_post};
use crate::{
    error::MlsError,
    notice::Notice,
    store::{Changes, HeldWelcome, StoredCommit, StoredKeyPackage},
};

/// How long a Welcome is held that cannot be used yet, in milliseconds: 30 days.
const MAX_AGE: u64 = 30 * 24 * 3600 * 1000;

/// What is to become of a Welcome.
enum Verdict {
    /// It is kept: something is missing that may still come.
    Hold,
    /// It is of no use: what it offers we have.
    Ignore,
    /// It is dropped, and the application is told why.
    Drop(String),
    /// It can be used.
    Use { commit: Box<StoredCommit>, package: Box<StoredKeyPackage> },
}

impl MlsMachine {
    /// Uses the Welcomes that are held for a room, as far as they can be used now.
    pub(super) async fn try_to_join(&self, room: &mut Room) -> Result<(), MlsError> {
        for welcome in self.held_welcomes(room).await? {
            let node = welcome.content.epoch;
            match self.judge(room, &welcome).await? {
                Verdict::Hold => {}
                Verdict::Ignore => self.drop_welcome(room, node).await?,
                Verdict::Drop(reason) => {
                    self.drop_welcome(room, node).await?;
                    self.report_dropped(room, &welcome, reason);
                }
                Verdict::Use { commit, package } => {
                    match Box::pin(self.join(room, &welcome, &commit, *package)).await {
                        Ok(()) => {}
                        Err(MlsError::Group(error)) => {
                            self.drop_welcome(room, node).await?;
                            self.report_dropped(room, &welcome, error.to_string());
                        }
                        Err(other) => return Err(other),
                    }
                }
            }
        }
        Ok(())
    }

    /// The key package of ours that a Welcome was made for.
    pub(super) async fn package_for(
        &self,
        welcome: &HeldWelcome,
    ) -> Result<Result<StoredKeyPackage, GroupError>, MlsError> {
        let secrets = match Welcome::parse(&welcome.content.welcome.0) {
            Ok(secrets) => secrets,
            Err(error) => return Ok(Err(error.into())),
        };
        for reference in secrets.recipients() {
            if let Some(package) = self.inner.store.key_package(&reference).await? {
                return Ok(Ok(package));
            }
        }
        Ok(Err(GroupError::NoMatchingKeyPackage))
    }

    async fn judge(&self, room: &Room, welcome: &HeldWelcome) -> Result<Verdict, MlsError> {
        let node = welcome.content.epoch;
        let graph = room.group.graph();
        // One to an epoch above those that we are in still lets us read what was said there.
        let held =
            room.group.state(&node).is_some() || graph.status(&node) == Some(NodeStatus::Entered);
        if held {
            return Ok(Verdict::Ignore);
        }
        if self.now().saturating_sub(welcome.received_at) > MAX_AGE {
            return Ok(Verdict::Drop("it could not be used for 30 days".to_owned()));
        }
        // To-device messages come first: the room may not be known yet, or not be ours yet.
        if room.view.mls_since.is_none() || !room.view.may_join(self.user_id()) {
            return Ok(Verdict::Hold);
        }
        let package = match self.package_for(welcome).await? {
            Ok(package) => package,
            Err(error) => return Ok(Verdict::Drop(error.to_string())),
        };
        let commit = self.inner.store.commit(&room.id, &node).await?;
        // Only the copy that the Welcome names: another may have been altered.
        let named = commit.filter(|commit| commit.event_id == welcome.content.epoch_event);
        let Some(commit) = named else {
            // Who is only invited may not read it, and would use up the tries.
            let event_id = &welcome.content.epoch_event;
            if room.view.is_joined(self.user_id().as_str()) && !Self::waits_for_file(room, event_id)
            {
                self.transient().fetch(&room.id, &welcome.content.epoch_event, self.now());
            }
            return Ok(Verdict::Hold);
        };
        if let Some(other) = &room.view.foundings.other
            && graph.get(&node).is_none_or(|r| r.extension.instance == other.content.instance)
        {
            // Of use if this device follows the room there.
            return Ok(Verdict::Hold);
        }
        let commit = match self.with_tree(room, &commit) {
            File::Here(commit) => commit,
            // What is passed on has only what everybody needs.
            _ if self.is_own_copy(&commit) => {
                if room.view.is_joined(self.user_id().as_str()) {
                    self.transient().fetch(&room.id, &commit.event_id, self.now());
                }
                return Ok(Verdict::Hold);
            }
            _ if commit.content.tree_file.is_none() => {
                return Ok(Verdict::Drop("its event has no ratchet tree".to_owned()));
            }
            _ => return Ok(Verdict::Hold),
        };
        let is_in = room.view.is_joined(commit.sender.as_str()) || is_beside_ours(room, &node);
        if !is_in && !self.is_own_copy(&commit) {
            return Ok(Verdict::Hold);
        }
        Ok(Verdict::Use { commit: Box::new(commit), package: Box::new(package) })
    }

    async fn join(
        &self,
        room: &mut Room,
        welcome: &HeldWelcome,
        commit: &StoredCommit,
        package: StoredKeyPackage,
    ) -> Result<(), MlsError> {
        let malformed = |error| MlsError::Group(GroupError::Malformed(error));
        let missing = || MlsError::Group(GroupError::WelcomeMismatch);
        let content = &commit.content;
        let (Some(bytes), Some(info), Some(tree)) =
            (&content.commit, &content.encrypted_group_info, &content.tree)
        else {
            return Err(missing());
        };
        let whole = Welcome::join(&welcome.content.welcome.0, &info.0).map_err(malformed)?;
        let (tree, bytes) = (tree.0.clone(), bytes.0.clone());
        let parent_context = commit.content.parent_context.0.clone();
        let (local, key_package) = (self.inner.local.clone(), package.package.clone());
        let (node, group) = heavy(&room.group, move |group| {
            let parts = WelcomeParts {
                welcome: &whole,
                tree: &tree,
                commit: &bytes,
                parent_context: &parent_context,
                key_package: &key_package,
            };
            group.join(&local, parts)
        })
        .await?;
        let Some(entry) = group.records.get(&node) else { return Err(missing()) };
        let record = std::sync::Arc::clone(&entry.record);
        // The signer is the commit's author, whose user must have sent it, unless it is a copy that
        // a member has posted for it, and be in the room.
        let may_post = self.is_own_copy(commit)
            || may_post(room, &record, &commit.sender, commit.content.relay);
        let author = &record.author.member.device().user_id;
        if !may_post || !(room.view.is_joined(author) || is_beside_ours(room, &node)) {
            return Err(missing());
        }
        if let Some((_, named)) = &room.view.group
            && named.instance != record.extension.instance
        {
            return Err(missing());
        }

        let mut changes = Changes::default();
        let mut view = room.view.clone();
        view.entrance = room.entrance_with(node);
        view.updated_at = self.now();
        if package.package.last_resort {
            // Others may have been welcomed with the same keys.
            view.must_update = true;
        } else {
            changes.key_packages.insert(package.package.reference, None);
        }
        if let Some(roster) = &entry.roster {
            for (_, member) in roster.iter() {
                let verdict = crate::trust::verdict(&self.inner.olm, member).await?;
                view.verdicts.insert(member.device().clone(), verdict);
            }
        }
        let room_changes = changes.room(&room.id);
        room_changes.view = Some(view);
        room_changes.group = group;
        room_changes.welcomes.insert(node, None);
        self.save(room, changes).await?;
        self.notify(Notice::Joined { room_id: room.id.clone(), node });
        Box::pin(self.take_waiting(room, node)).await?;
        self.transient().fetch_named(room, self.now());
        if let Some(graph) = &welcome.content.graph {
            Box::pin(self.absorb(room, graph)).await?;
        }
        self.connect(room).await?;
        self.mind_gaps(room).await
    }

    /// Asks for the commits that lie between the nodes where we came in, if there are several: which
    /// branch to send on can be told only where they hang together (protocol §8).
    pub(super) async fn connect(&self, room: &mut Room) -> Result<(), MlsError> {
        let graph = room.group.graph();
        if graph.roots().nth(1).is_none() {
            return Ok(());
        }
        let named = room.view.group.as_ref().map(|(_, content)| content.founding);
        let tops: BTreeSet<_> = room
            .group
            .entered()
            .chain(named.filter(|named| graph.contains(named)))
            .map(|node| graph.ancestors(&node).last().unwrap_or(node))
            .collect();
        if tops.len() < 2 {
            return Ok(());
        }
        for top in tops {
            // What is in the queue already is not asked for again.
            self.look_above(room, top, true).await?;
        }
        Ok(())
    }

    /// Whether a commit did not come from the room, but was passed on to us.
    fn is_own_copy(&self, commit: &StoredCommit) -> bool {
        commit.content.relay && commit.sender == self.user_id()
    }

    async fn drop_welcome(&self, room: &mut Room, node: NodeId) -> Result<(), MlsError> {
        let mut changes = Changes::default();
        changes.room(&room.id).welcomes.insert(node, None);
        self.save(room, changes).await
    }

    pub(super) fn report_dropped(&self, room: &Room, welcome: &HeldWelcome, reason: String) {
        self.notify(Notice::WelcomeDropped {
            room_id: room.id.clone(),
            node: welcome.content.epoch,
            sender: welcome.sender.clone(),
            reason,
        });
    }
}

/// Whether an epoch is a known part of the group that we are in, also after its author has left the
/// room: to enter it then lets us read what was said there, and gives nobody a voice. Whoever is in no
/// epoch yet would be lured into one of a removed member's by the same.
fn is_beside_ours(room: &Room, node: &NodeId) -> bool {
    let ours = room.group.chosen_tip().filter(|tip| room.group.state(tip).is_some());
    ours.is_some_and(|tip| room.group.graph().common_ancestor(node, &tip).is_some())
}
