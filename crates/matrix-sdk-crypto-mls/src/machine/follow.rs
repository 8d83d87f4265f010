//! Following the room to a group that was founded anew, or staying (protocol §6).

use std::collections::BTreeSet;

use matrix_dmls::{
    CommitRecord, ExternalJoins, GroupExtension, HistoryPolicy, InstanceId, NodeId, NodeStatus,
    TrustRequirement,
};
use ruma::{RoomId, UserId};
use tracing::{debug, instrument};

use super::{MlsMachine, Room, again::again, gaps::Naming};
use crate::{
    error::MlsError,
    notice::{Notice, Obstacle},
    room::{OtherGroup, RoomView},
    store::{Changes, OutboxRequestKind},
    types::events::GroupEventContent,
};

/// At most this many commits of another founding are looked at for who has gone over to it.
const MAX_COMMITS: usize = 1000;

/// A group that the room names, and that this device is not in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplacedGroup {
    /// The epoch of its founding commit.
    pub founding: NodeId,
    /// Who has named it.
    pub by: ruma::OwnedUserId,
    /// Why this device stays where it is; none if it goes as soon as its own commit is through.
    pub obstacle: Option<Obstacle>,
}

impl MlsMachine {
    /// The group that a room names while this device stays in the one that it had.
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn replaced_group(
        &self,
        room_id: &RoomId,
    ) -> Result<Option<ReplacedGroup>, MlsError> {
        let guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_ref() else { return Ok(None) };
        let Some(other) = &room.view.foundings.other else { return Ok(None) };
        let obstacle = self.obstacle(room, other).await?;
        let (founding, by) = (other.content.founding, other.sender.clone());
        Ok(Some(ReplacedGroup { founding, by, obstacle }))
    }

    /// The application agrees that this device leaves the group that it has in a room for the one that
    /// the room names, by its founding (see [`Notice::GroupReplaced`]). What it has stays readable; what
    /// others go on to say there need not be. Gives whether it has left: if not, it does so when its own
    /// commit is through. Sync and send the outgoing requests afterwards.
    ///
    /// # Errors
    ///
    /// [`MlsError::CannotFollow`] when the room names no such group, or one that must not be followed
    /// ([`Obstacle::can_be_agreed_to`]); or when a store fails.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn follow_group(
        &self,
        room_id: &RoomId,
        founding: &NodeId,
    ) -> Result<bool, MlsError> {
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Err(MlsError::CannotFollow(None)) };
            let other = room.view.foundings.other.clone();
            let other = other.filter(|other| other.content.founding == *founding);
            let Some(other) = other else { return Err(MlsError::CannotFollow(None)) };
            let agreed = OtherGroup { agreed: true, ..other };
            if let Some(obstacle) = self.obstacle(room, &agreed).await? {
                return Err(MlsError::CannotFollow(Some(obstacle)));
            }
            let mut view = room.view.clone();
            view.foundings.other = Some(agreed);
            self.save_view(room, view).await?;
            self.look_ahead(room).await?;
            Ok(room.view.foundings.other.is_none())
        })
    }

    /// Follows the room to the group that it names, if it is to be followed.
    pub(super) async fn consider_other(&self, room: &mut Room) -> Result<(), MlsError> {
        let Some(other) = room.view.foundings.other.clone() else { return Ok(()) };
        let Some(obstacle) = self.obstacle(room, &other).await? else {
            // What is under way is waited for.
            if self.commit_request(&room.id, None).await?.is_none() {
                self.leave_for(room, other).await?;
                Box::pin(self.try_to_join(room)).await?;
            }
            return Ok(());
        };
        if obstacle == Obstacle::Unknown {
            let (user, device, hint) = (&*other.sender, None, None);
            let naming = Naming { user, device, hint, hops: 0, needed: true };
            self.look_for(room, other.content.founding, naming).await?;
        }
        if other.told != Some(obstacle) {
            let mut view = room.view.clone();
            let told = OtherGroup { told: Some(obstacle), ..other.clone() };
            view.foundings.other = Some(told);
            self.save_view(room, view).await?;
            self.report_replaced(room, &other, Some(obstacle));
        }
        Ok(())
    }

    fn report_replaced(&self, room: &Room, other: &OtherGroup, obstacle: Option<Obstacle>) {
        self.notify(Notice::GroupReplaced {
            room_id: room.id.clone(),
            founding: other.content.founding,
            by: other.sender.clone(),
            obstacle,
        });
    }

    /// Why this device does not follow to a group.
    async fn obstacle(
        &self,
        room: &Room,
        other: &OtherGroup,
    ) -> Result<Option<Obstacle>, MlsError> {
        let graph = room.group.graph();
        let (founding, instance) = (other.content.founding, other.content.instance);
        let Some(record) = graph.get(&founding) else { return Ok(Some(Obstacle::Unknown)) };
        let ours = room.own_extension();
        let is_founding = record.parent.is_none() && record.extension.instance == instance;
        if !is_founding || ours.is_some_and(|ours| ours.instance == instance) {
            return Ok(Some(Obstacle::NotAFounding));
        }
        if ours.is_some_and(|ours| is_weaker(&record.extension, ours)) {
            return Ok(Some(Obstacle::WeakerRules));
        }
        let trust = ours.map(|ours| ours.trust).unwrap_or_default();
        if !self.is_trusted_author(room, record, trust).await? {
            return Ok(Some(Obstacle::UntrustedFounder));
        }
        if other.agreed {
            return Ok(None);
        }
        let author = &record.author.member.device().user_id;
        let obstacle = if author != other.sender.as_str() {
            Some(Obstacle::NamedByAnother)
        } else if room.view.foundings.left.contains(&instance) {
            Some(Obstacle::WasLeft)
        } else if is_its_founders_alone(room, author) {
            None
        } else {
            let lives = self.others_are_there(room, &founding, &instance, trust).await?;
            lives.then_some(Obstacle::OthersAreThere)
        };
        Ok(obstacle)
    }

    /// Whether a commit was made by a device that the requirement lets in, with its newest key.
    async fn is_trusted_author(
        &self,
        room: &Room,
        record: &CommitRecord,
        trust: TrustRequirement,
    ) -> Result<bool, MlsError> {
        let member = &record.author.member;
        let Ok(user) = UserId::parse(&member.device().user_id) else { return Ok(false) };
        let is_wanted = self.is_wanted_device(room, member.device(), trust, &user).await?;
        let known = self.known_devices(room).await?;
        Ok(room.view.is_joined(user.as_str())
            && is_wanted == Some(true)
            && !known.is_outdated(room, &member.identity))
    }

    /// Whether a tip that this device holds has the leaf of another user who has joined, may still be
    /// there, and has not gone over to the other group.
    async fn others_are_there(
        &self,
        room: &Room,
        founding: &NodeId,
        instance: &InstanceId,
        trust: TrustRequirement,
    ) -> Result<bool, MlsError> {
        let graph = room.group.graph();
        let mut gone_over = BTreeSet::new();
        let below = std::iter::once(*founding).chain(graph.descendants(founding));
        for record in below.take(MAX_COMMITS).filter_map(|node| graph.get(&node)) {
            let user = &record.author.member.device().user_id;
            if !gone_over.contains(user) && self.is_trusted_author(room, record, trust).await? {
                gone_over.insert(user.clone());
            }
        }
        let holds = |node: &NodeId| room.group.state(node).is_some();
        let is_in_other =
            |node: &NodeId| room.extension(node).is_some_and(|e| e.instance == *instance);
        for node in room.group.entered() {
            if is_in_other(&node) || graph.descendants(&node).any(|below| holds(&below)) {
                continue;
            }
            let Some(roster) = room.group.roster(&node) else { return Ok(true) };
            let leaves_out = |member: &matrix_dmls::Member| {
                let user = &member.device().user_id;
                user == self.user_id().as_str() || gone_over.contains(user)
            };
            if self.has_life(room, &roster, trust, leaves_out).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leaves the group that this device is in for another one, which it is outside of then.
    async fn leave_for(&self, room: &mut Room, other: OtherGroup) -> Result<(), MlsError> {
        let instance = other.content.instance;
        debug!(room_id = %room.id, founding = %other.content.founding.short(), "Following the room");
        let mut changes = Changes::default();
        self.forget_namings(room, &mut changes).await?;
        let graph = room.group.graph();
        let is_there = |node: &NodeId| room.extension(node).is_some_and(|e| e.instance == instance);
        let there = room.group.entered().filter(is_there);
        let entrance = there.min_by_key(|node| (graph.epoch(node), *node));
        let mut view = RoomView {
            group: Some((other.sender.clone(), other.content.clone())),
            group_since: other.since,
            entrance,
            // The others are to see that it has come.
            must_update: true,
            behind: None,
            join_requests: Vec::new(),
            anchors: Vec::new(),
            ..room.view.clone()
        };
        view.gaps = crate::room::Gaps::default();
        view.standing = crate::room::Standing::default();
        view.foundings.other = None;
        view.foundings.anew = None;
        view.foundings.left.retain(|left| *left != instance);
        if let Some(ours) = room.own_extension() {
            view.foundings.note_left(ours.instance);
        }
        let room_changes = changes.room(&room.id);
        room_changes.view = Some(view);
        room_changes.group = room.group.leave_all_but(&instance);
        self.save(room, changes).await?;
        room.beside = None;
        self.report_replaced(room, &other, None);
        Ok(())
    }

    /// What was to name our own group, or its anchor, is not sent: the room has named another one.
    pub(super) async fn forget_namings(
        &self,
        room: &Room,
        changes: &mut Changes,
    ) -> Result<(), MlsError> {
        for request in self.inner.store.outbox().await? {
            let is_naming = matches!(request.kind, OutboxRequestKind::Group { .. });
            if is_naming && request.room_id == room.id {
                changes.outbox.insert(request.id, None);
            }
        }
        Ok(())
    }
}

impl Room {
    /// The epoch that says which founding of the group this device is in, if it is in any.
    fn own_node(&self) -> Option<NodeId> {
        let graph = self.group.graph();
        let held = self.group.entered().next()?;
        let is_in = |node: &NodeId| {
            graph.status(node) == Some(NodeStatus::Entered) && graph.get(node).is_some()
        };
        self.view.entrance.filter(is_in).or(Some(held))
    }

    /// The settings of the group that this device is in, as they are in the epoch that it sends in.
    fn own_extension(&self) -> Option<&GroupExtension> {
        let node = self.own_node()?;
        let sends_in = self.group.sending_tip().and_then(|node| self.extension(&node));
        let ours = self.extension(&node)?;
        Some(sends_in.filter(|extension| extension.instance == ours.instance).unwrap_or(ours))
    }

    /// Whether what the room names is the group that this device is in; none if it is in none.
    pub(super) fn names_ours(&self, named: &GroupEventContent) -> Option<bool> {
        let node = self.own_node()?;
        let graph = self.group.graph();
        let top = std::iter::once(node).chain(graph.ancestors(&node)).last();
        let founding = top.filter(|top| graph.get(top).is_some_and(|r| r.parent.is_none()));
        let same = self.extension(&node).is_some_and(|ours| ours.instance == named.instance);
        Some(same && founding.is_none_or(|founding| founding == named.founding))
    }

    /// Whether two nodes belong to the same founding of the group, as far as can be told.
    pub(super) fn are_together(&self, one: &NodeId, other: &NodeId) -> bool {
        match (self.extension(one), self.extension(other)) {
            (Some(one), Some(other)) => one.instance == other.instance,
            _ => true,
        }
    }
}

/// Whether a group lets in, or keeps, more than another one does.
fn is_weaker(new: &GroupExtension, old: &GroupExtension) -> bool {
    // How many days keys are kept.
    let kept = |policy: &HistoryPolicy| match policy {
        HistoryPolicy::Keep => u64::MAX,
        HistoryPolicy::Days(days) => u64::from(days.get()),
        HistoryPolicy::None => 0,
    };
    (old.trust == TrustRequirement::CrossSigned && new.trust == TrustRequirement::All)
        || (old.external == ExternalJoins::Forbidden && new.external == ExternalJoins::Allowed)
        || kept(&new.history) > kept(&old.history)
}

/// Whether this user has founded the group that this device is in, and nobody else has committed there:
/// what one user has built alone, that user's device may replace.
fn is_its_founders_alone(room: &Room, user: &str) -> bool {
    let graph = room.group.graph();
    let Some(node) = room.own_node() else { return false };
    let Some(top) = std::iter::once(node).chain(graph.ancestors(&node)).last() else {
        return false;
    };
    if graph.get(&top).is_none_or(|record| record.parent.is_some()) {
        return false;
    }
    std::iter::once(top).chain(graph.descendants(&top)).all(|node| {
        graph.get(&node).is_some_and(|record| record.author.member.device().user_id == user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_be_weaker() {
        let days = |days: u32| HistoryPolicy::Days(days.try_into().unwrap());
        let rules = |trust, external, history| GroupExtension {
            instance: InstanceId::from_bytes([1; 32]),
            trust,
            external,
            history,
        };
        let (strict, all) = (TrustRequirement::CrossSigned, TrustRequirement::All);
        let (closed, open) = (ExternalJoins::Forbidden, ExternalJoins::Allowed);
        let old = rules(strict, closed, days(2));
        for same_or_stronger in [
            old.clone(),
            rules(strict, closed, days(1)),
            rules(strict, closed, HistoryPolicy::None),
        ] {
            assert!(!is_weaker(&same_or_stronger, &old), "{same_or_stronger:?}");
        }
        for weaker in [
            rules(all, closed, days(2)),
            rules(strict, open, days(2)),
            rules(strict, closed, days(3)),
            rules(strict, closed, HistoryPolicy::Keep),
        ] {
            assert!(is_weaker(&weaker, &old), "{weaker:?}");
            assert!(!is_weaker(&old, &weaker), "{weaker:?}");
        }
        assert!(is_weaker(&old, &rules(strict, closed, HistoryPolicy::None)));
    }
}
