//! Standing up for the room (protocol §5): commits that confirm somebody else's removal, repair a
//! stuffed tree or object to what we cannot enter, when it is our turn.

use std::collections::BTreeSet;

use matrix_dmls::{CommitPlan, Confirmation, Departure, Device, Member, NodeId, TrustRequirement};
use ruma::{OwnedRoomId, RoomId};
use tracing::{debug, warn};

use super::{MlsMachine, Room, again::again};
use crate::{error::MlsError, notice::Notice};

/// How long it takes until the next look when a commit cannot be made now, in milliseconds.
const LATER: u64 = 60 * 1000;

/// How long at least until the next look while device lists are missing that say who is invented, in
/// milliseconds.
const SOON: u64 = 10 * 1000;

/// A commit is objected to at most so often.
const MAX_OBJECTIONS: u8 = 3;

/// At most this many commits are tried once more at a time.
const MAX_RETRIES: usize = 16;

/// What a commit of ours is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Confirmation,
    Repair,
    Objection,
}

/// A commit that we are to make for the room's sake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stand {
    /// When it is our turn, in milliseconds since 1970.
    due: u64,
    cause: Cause,
    /// The commit that it is an answer to, and who made that.
    to: NodeId,
    by: Option<Device>,
    /// The epoch to commit on.
    on: NodeId,
}

/// What is to be done in a room.
#[derive(Default)]
struct Agenda {
    /// The most urgent first.
    stands: Vec<Stand>,
    /// When to look again in any case, in milliseconds since 1970.
    again: Option<u64>,
}

impl Agenda {
    fn deadline(&self) -> Option<u64> {
        self.stands.first().map(|first| first.due).into_iter().chain(self.again).min()
    }
}

impl MlsMachine {
    /// Since when the branch that everybody should be on is one that this device cannot enter although
    /// the room wants it there, in milliseconds since 1970. `None` while it can, while it is in no
    /// epoch at all, or if it is not wanted.
    ///
    /// Who can object to that has done so after some 70 seconds (more in rooms of over 120 devices).
    /// If nothing has helped after two minutes (five at most in large rooms), somebody has to let it in
    /// again, and this device asks for that (protocol §5, §8).
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn is_left_behind_since(&self, room_id: &RoomId) -> Result<Option<u64>, MlsError> {
        let guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_ref() else { return Ok(None) };
        let Some(Departure { commit, .. }) = room.group.departure() else { return Ok(None) };
        let noticed = room.view.standing.left_behind.filter(|(of, _)| *of == commit);
        let Some((_, since)) = noticed else { return Ok(None) };
        Ok(self.is_wanted(room).await?.then_some(since))
    }

    /// Makes the commits whose time has come.
    pub(super) async fn stand_up(&self) -> Result<(), MlsError> {
        let now = self.now();
        let due: Vec<OwnedRoomId> = {
            let transient = self.transient();
            let due = transient.standing.iter().filter(|(_, time)| **time <= now);
            due.map(|(room_id, _)| room_id.clone()).collect()
        };
        for room_id in due {
            again!(async {
                let mut guard = self.lock_room(&room_id).await?;
                let Some(room) = guard.as_mut() else { return Ok(()) };
                self.stand_up_in(room).await
            })?;
        }
        Ok(())
    }

    async fn stand_up_in(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let agenda = Box::pin(self.agenda(room)).await?;
        let Some(first) = agenda.stands.first().filter(|first| first.due <= now) else {
            self.note_deadline(room, agenda.deadline());
            return Ok(());
        };
        let waits = room.view.downgraded
            || now < room.view.commits_refused_until
            || self.commit_request(&room.id, None).await?.is_some();
        // What is sent next brings a look of its own. While the server refuses commits there is nothing to do.
        self.note_deadline(room, Some((now + LATER).max(room.view.commits_refused_until)));
        if waits {
            return Ok(());
        }
        debug!(room_id = %room.id, to = %first.to.short(), cause = ?first.cause, "Standing up");
        let objects_to = (first.cause == Cause::Objection).then_some(first.to);
        match Box::pin(self.commit_for_the_room(room, first.on, objects_to)).await {
            Ok(()) => {}
            // There is no other way to say it; the others will. What else is to be sent must not wait.
            Err(error @ (MlsError::RoomTooLarge { .. } | MlsError::Group(_))) => {
                warn!(room_id = %room.id, %error, "Standing up is not possible");
                return Ok(());
            }
            Err(error) => {
                // To be tried again as soon as the store works.
                self.note_deadline(room, Some(now));
                return Err(error);
            }
        }
        if let (Cause::Objection, Some(by)) = (first.cause, &first.by) {
            let (room_id, by) = (room.id.clone(), by.clone());
            self.notify(Notice::Objected { room_id, node: first.to, by });
        }
        Ok(())
    }

    /// Updates our keys in an epoch, and removes whoever is still to be removed there.
    pub(super) async fn commit_for_the_room(
        &self,
        room: &mut Room,
        on: NodeId,
        objects_to: Option<NodeId>,
    ) -> Result<(), MlsError> {
        let difference = self.difference(room, Some(on), room.trust(&on)).await?;
        let plan = CommitPlan { remove: difference.remove, update: true, ..CommitPlan::default() };
        Box::pin(self.make_commit(room, Some(on), plan, Vec::new(), objects_to)).await
    }

    /// Looks when it is our turn in a room.
    pub(super) async fn plan_to_stand_up(&self, room: &mut Room) -> Result<(), MlsError> {
        let agenda = Box::pin(self.agenda(room)).await?;
        self.note_deadline(room, agenda.deadline());
        Ok(())
    }

    fn note_deadline(&self, room: &Room, due: Option<u64>) {
        let standing = &mut self.transient().standing;
        match due {
            Some(due) => standing.insert(room.id.clone(), due),
            None => standing.remove(&room.id),
        };
    }

    async fn agenda(&self, room: &mut Room) -> Result<Agenda, MlsError> {
        Box::pin(self.enter_chosen(room)).await?;
        self.note_departure(room).await?;
        let (repair, undecided) = self.find_repair(room).await?;
        let avoid = repair.as_ref().map(|repair| repair.commit);
        let mut agenda = Agenda::default();
        let own = self.user_id();
        if !room.view.may_commit(own) || !room.view.is_joined(own.as_str()) {
            return Ok(agenda);
        }
        if let Some(since) = undecided {
            // Device lists come soon, or when a server is reachable again.
            let pause = SOON.max(self.now().saturating_sub(since) / 2);
            agenda.again = Some(self.now().saturating_add(pause));
        }
        agenda.stands.extend(self.confirmations(room, avoid).await?.into_iter().map(|known| {
            let Confirmation { removal: to, on, due, .. } = known;
            Stand { due, cause: Cause::Confirmation, to, by: None, on }
        }));
        agenda.stands.extend(repair.and_then(|repair| {
            let (to, on, by) = (repair.commit, repair.on, Some(repair.author));
            Some(Stand { due: repair.due?, cause: Cause::Repair, to, by, on })
        }));
        agenda.stands.extend(self.objection(room, avoid).await?);
        agenda.stands.sort();
        Ok(agenda)
    }

    /// The objection that we are to make, if any.
    async fn objection(
        &self,
        room: &Room,
        avoid: Option<NodeId>,
    ) -> Result<Option<Stand>, MlsError> {
        let Some((commit, since)) = room.view.standing.left_behind else { return Ok(None) };
        let objection = room.group.objection(&self.inner.local, since, avoid.as_ref());
        let Some(objection) = objection.filter(|objection| objection.commit == commit) else {
            return Ok(None);
        };
        if room.view.standing.objections_to(&commit) >= MAX_OBJECTIONS
            || room.view.standing.justified == Some(commit)
            || !self.is_wanted(room).await?
        {
            return Ok(None);
        }
        let (due, on, by) = (objection.due, objection.on, Some(objection.author));
        Ok(Some(Stand { due, cause: Cause::Objection, to: commit, by, on }))
    }

    /// Remembers since when the chosen branch goes where we cannot follow.
    async fn note_departure(&self, room: &mut Room) -> Result<(), MlsError> {
        let commit = room.group.departure().map(|departure| departure.commit);
        let known = &room.view.standing;
        let is_new = commit != known.left_behind.map(|(known, _)| known);
        let is_away = !room.view.is_joined(self.user_id().as_str());
        let away_until = if is_away { Some(self.now()) } else { known.away_until };
        // We have entered nothing since.
        let was_away = away_until.is_some_and(|until| {
            let heard = room.sends_in().and_then(|node| room.commit_times.get(&node).copied());
            heard.is_none_or(|heard| heard <= until)
        });
        let mut justified = known.justified.filter(|justified| Some(*justified) == commit);
        if commit.is_some() && justified.is_none() && (was_away || !self.is_wanted(room).await?) {
            justified = commit;
        }
        if !is_new && justified == known.justified && away_until == known.away_until {
            return Ok(());
        }
        let mut view = room.view.clone();
        if is_new {
            view.standing.left_behind = commit.map(|commit| (commit, self.now()));
        }
        view.standing.justified = justified;
        view.standing.away_until = away_until;
        self.save_view(room, view).await
    }

    /// A commit that was left out (its author had made too many, or the state of its parent came
    /// later) is tried once more when the choice leads through it.
    async fn enter_chosen(&self, room: &mut Room) -> Result<(), MlsError> {
        for _ in 0..MAX_RETRIES {
            let departure = room.group.departure();
            let Some(Departure { commit, parent: Some(_), .. }) = departure else { break };
            if self.transient().retried.get(&room.id) == Some(&commit) {
                break;
            }
            let Some(head) = self.stored_commit(room, &commit).await? else { break };
            let Some(event_id) = head.event_id.clone() else { break };
            Box::pin(self.receive_one_commit(room, &event_id, &head)).await?;
            if room.group.state(&commit).is_none() {
                self.transient().retried.insert(room.id.clone(), commit);
                break;
            }
            Box::pin(self.take_waiting(room, commit)).await?;
        }
        Ok(())
    }

    /// Whether the room wants this device in its group.
    async fn is_wanted(&self, room: &Room) -> Result<bool, MlsError> {
        if !room.view.wanted_users().any(|user| user == self.user_id()) {
            return Ok(false);
        }
        let known = self.known_devices(room).await?;
        if known.is_outdated(room, self.inner.local.identity()) {
            return Ok(false);
        }
        let trust = room.sends_in().map(|node| room.trust(&node)).unwrap_or_default();
        if trust == TrustRequirement::All {
            return Ok(true);
        }
        let ours = self.inner.olm.get_device(self.user_id(), self.device_id(), None).await?;
        Ok(ours.is_some_and(|device| device.is_cross_signed_by_owner()))
    }

    /// The removals that we are to confirm; none at or below `avoid`.
    pub(super) async fn confirmations(
        &self,
        room: &Room,
        avoid: Option<NodeId>,
    ) -> Result<Vec<Confirmation>, MlsError> {
        let heard = |node: &NodeId| room.commit_times.get(node).copied();
        let (own, avoid) = (self.inner.local.device(), avoid.as_ref());
        // Mostly there is nothing to confirm, whoever is wanted.
        if room.group.confirmations(own, |_| true, avoid, heard).is_empty() {
            return Ok(Vec::new());
        }
        let unwanted = self.unwanted(room).await?;
        let is_unwanted =
            |member: &Member| unwanted.contains(&(member.device().clone(), member.identity.seq));
        Ok(room.group.confirmations(own, is_unwanted, avoid, heard))
    }

    /// The leaves, by device and `seq`, that a commit below which we could commit removes, or that
    /// such a device has at the chosen tip, and that are to be removed.
    async fn unwanted(&self, room: &Room) -> Result<BTreeSet<(Device, u64)>, MlsError> {
        let mut unwanted = BTreeSet::new();
        let graph = room.group.graph();
        let records: Vec<_> = room.group.entered().filter_map(|node| graph.get(&node)).collect();
        let mut removed: Vec<&Member> = Vec::new();
        let mut trust = None;
        for record in &records {
            removed.extend(record.removes_without_readding().map(|(_, member)| &**member));
            trust = trust.or(Some(record.extension.trust));
        }
        if removed.is_empty() {
            return Ok(unwanted);
        }
        let chosen = room.group.chosen_tip().and_then(|chosen| room.group.roster(&chosen));
        let devices: BTreeSet<_> = removed.iter().map(|member| member.device()).collect();
        let seated = chosen.iter().flat_map(|roster| roster.iter());
        let seated = seated.map(|(_, member)| &**member);
        let seated = seated.filter(|member| devices.contains(member.device()));
        let fresh = self.fresh_users().await?;
        let mut known = self.known_devices(room).await?;
        for member in removed.iter().copied().chain(seated) {
            let leaf = (member.device().clone(), member.identity.seq);
            let is_fresh = fresh.contains(&leaf.0.user_id);
            if !unwanted.contains(&leaf)
                && self
                    .is_to_be_removed(room, member, trust.unwrap_or_default(), is_fresh, &mut known)
                    .await?
            {
                unwanted.insert(leaf);
            }
        }
        Ok(unwanted)
    }
}
