//! Being outside the epoch that everybody should be in, and getting back (protocol §6, §8): first a
//! join request, later an external commit; at once an external commit where this device holds nothing
//! and has something to send.

use matrix_dmls::NodeId;
use ruma::{OwnedRoomId, OwnedUserId};
use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use super::{MlsMachine, Readiness, Room, again::again, external::LetIn, prepare};
use crate::{
    error::MlsError,
    room::{Behind, RoomView},
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// How long after we have found ourselves outside we ask, in milliseconds, and how long we wait until
/// we send on another branch.
const FIRST: u64 = 10 * SECOND;

/// The same where nobody has added us yet, and at most where an objection may help (protocol §5).
const PATIENCE: u64 = 5 * MINUTE;

/// The same at most where an objection may help and there is something to send.
const PATIENCE_TO_SEND: u64 = 2 * MINUTE;

/// How long we wait after everybody has had its turn to object, so that what was said is heard: two
/// minutes in all, but in rooms of over 120 devices.
const AFTER_OBJECTIONS: u64 = 50 * SECOND;

/// How long after a try the next one comes when there is something to send, and when not.
const PAUSE_TO_SEND: u64 = MINUTE;
const PAUSE: u64 = 5 * MINUTE;

/// After so many tries each further one takes twice as long, up to an hour.
const MANY_TRIES: u32 = 3;
const MAX_PAUSE: u64 = 60 * MINUTE;

/// External commits of several devices are spread over so much time, in milliseconds.
const SPREAD: u64 = MINUTE;

/// How long tries are remembered after we are inside again, so that nobody who falls out again and
/// again begins anew each time.
const MEMORY: u64 = 60 * MINUTE;

/// How long it takes until the next look while a commit of ours is open, in milliseconds.
const LATER: u64 = 10 * SECOND;

/// Where we stand when we are outside.
struct Outside {
    /// The epoch that everybody should be in, if one is known.
    tip: Option<NodeId>,
    /// We are in other epochs.
    holds_any: bool,
    /// We hold the epoch above that which we cannot enter, so an objection may help: after so many
    /// milliseconds everybody has had its turn.
    objections: Option<u64>,
}

impl MlsMachine {
    /// Gets in where it is time to try, and lets others in.
    pub(super) async fn come_back(&self) -> Result<(), MlsError> {
        let now = self.now();
        let due: Vec<OwnedRoomId> = {
            let transient = self.transient();
            let due = transient.returns.iter().filter(|(_, time)| **time <= now);
            due.map(|(room_id, _)| room_id.clone()).collect()
        };
        for room_id in due {
            again!(async {
                let mut guard = self.lock_room(&room_id).await?;
                let Some(room) = guard.as_mut() else { return Ok(()) };
                self.plan_returns(room).await?;
                match self.return_or_let_in(room).await {
                    // What else is to be sent, in other rooms too, must not wait for this one.
                    Err(MlsError::Group(error)) => {
                        warn!(%room_id, %error, "Coming in, or letting in, is not possible");
                    }
                    done => done?,
                }
                // What cannot be done now is not tried all the time.
                self.plan_returns_from(room, now.saturating_add(LATER)).await
            })?;
        }
        Ok(())
    }

    async fn return_or_let_in(&self, room: &mut Room) -> Result<(), MlsError> {
        Box::pin(self.try_to_get_in(room)).await?;
        self.leave_deserted(room).await?;
        Box::pin(self.found_anew_if_due(room)).await?;
        Box::pin(self.answer_join_requests(room)).await
    }

    /// Looks whether we are outside, whether others ask to be let in, and when it is time to do
    /// something about it.
    pub(super) async fn plan_returns(&self, room: &mut Room) -> Result<(), MlsError> {
        self.plan_returns_from(room, self.now()).await
    }

    /// The same, and not before this time, in milliseconds since 1970.
    async fn plan_returns_from(&self, room: &mut Room, earliest: u64) -> Result<(), MlsError> {
        let now = self.now();
        let outside = self.outside(room).await?;
        let mut behind = room.view.behind.clone();
        match (&outside, &mut behind) {
            (Some(_), Some(behind)) => {
                behind.since.get_or_insert(now);
            }
            (Some(_), None) => behind = Some(Behind { since: Some(now), ..Behind::default() }),
            (None, Some(known)) => {
                if known.tries == 0 || now.saturating_sub(known.tried_at) > MEMORY {
                    behind = None;
                } else {
                    known.since = None;
                    known.wants_to_send = false;
                    known.has_tried_external = false;
                }
            }
            (None, None) => {}
        }
        let (open, answer) = if room.view.join_requests.is_empty() {
            (Vec::new(), None)
        } else {
            self.open_join_requests(room).await?
        };
        if behind != room.view.behind || open != room.view.join_requests {
            let view = RoomView { behind, join_requests: open, ..room.view.clone() };
            self.save_view(room, view).await?;
        }
        let attempt = match (&outside, &room.view.behind) {
            (Some(outside), Some(behind)) => Some(self.next_try(room, outside, behind)),
            _ => None,
        };
        // Nobody is let in while the server refuses commits, nor by who has left.
        let answer = answer.filter(|_| room.view.is_joined(self.user_id().as_str()));
        let answer = answer.map(|answer| answer.max(room.view.commits_refused_until));
        let anew = if outside.is_some() { self.anew_due(room).await? } else { None };
        let deserted = outside.as_ref().and_then(|_| self.desertion_due(room));
        let next = attempt.into_iter().chain(answer).chain(anew).chain(deserted).min();
        let next = next.map(|next| next.max(earliest));
        let mut transient = self.transient();
        match next {
            Some(next) => transient.returns.insert(room.id.clone(), next),
            None => transient.returns.remove(&room.id),
        };
        Ok(())
    }

    /// Where we stand, if we are outside of where we should be. Not while the room does not want us.
    async fn outside(&self, room: &Room) -> Result<Option<Outside>, MlsError> {
        let (view, group) = (&room.view, &room.group);
        let own = self.user_id();
        if view.mls_since.is_none() || view.downgraded || !view.is_joined(own.as_str()) {
            return Ok(None);
        }
        let (tip, sending) = (group.chosen_tip(), group.sending_tip());
        let is_inside = match tip {
            Some(tip) => group.state(&tip).is_some(),
            // Before anything is founded there is nothing to be outside of.
            None => {
                let is_unfounded = view.group.is_none() && room.commit_events.is_empty();
                sending.is_some() || (is_unfounded && !room.founder_is_gone())
            }
        };
        if is_inside || self.may_found(room).await? {
            return Ok(None);
        }
        let trust = tip.and_then(|tip| room.extension(&tip)).map(|extension| extension.trust);
        let device = self.inner.local.device();
        if let Some(trust) = trust
            && self.is_wanted_device(room, device, trust, own).await? != Some(true)
        {
            return Ok(None);
        }
        Ok(Some(Outside { tip, holds_any: sending.is_some(), objections: Self::objections(room) }))
    }

    /// Whether we are outside of where we should be.
    pub(super) async fn is_outside(&self, room: &Room) -> Result<bool, MlsError> {
        Ok(self.outside(room).await?.is_some())
    }

    /// Whether we are to found the group: our user has made the room an MLS room, the room names no
    /// group, and none of our devices has made a commit. What others have posted does not matter: it
    /// cannot be the room's group.
    pub(super) async fn may_found(&self, room: &Room) -> Result<bool, MlsError> {
        let own = self.user_id();
        let is_founder = room.view.mls_since.as_ref().is_some_and(|since| since.sender == own);
        if !is_founder || room.view.group.is_some() || room.group.sending_tip().is_some() {
            return Ok(false);
        }
        let graph = room.group.graph();
        let is_ours = |node: &NodeId| {
            let author = graph.get(node).map(|record| record.author.member.device());
            author.is_some_and(|author| author.user_id == own.as_str())
        };
        if room.commit_events.keys().any(is_ours) {
            return Ok(false);
        }
        let unknown = self.unknown_commits(room).await?;
        Ok(unknown.values().all(|commit| commit.sender != own))
    }

    /// How long objections take, in milliseconds, if one may help: we hold the epoch above the one on
    /// the way to the tip that we cannot enter, and the room has wanted us since that one came
    /// (protocol §5).
    fn objections(room: &Room) -> Option<u64> {
        let departure = room.group.departure()?;
        let is_justified = room.view.standing.justified == Some(departure.commit);
        departure.parent.filter(|_| !is_justified).map(|parent| room.group.objections_take(&parent))
    }

    /// When the next try is due.
    fn next_try(&self, room: &Room, outside: &Outside, behind: &Behind) -> u64 {
        let now = self.now();
        let since = behind.since.unwrap_or(now);
        if !outside.holds_any && behind.wants_to_send && !behind.has_tried_external {
            return since;
        }
        if behind.tries == 0 {
            return if let Some(objections) = outside.objections {
                let most = if behind.wants_to_send { PATIENCE_TO_SEND } else { PATIENCE };
                since.saturating_add(objections.saturating_add(AFTER_OBJECTIONS).min(most))
            } else {
                since.saturating_add(FIRST).max(behind.not_before)
            };
        }
        // The server has refused our external commit: the other way, at once.
        if behind.external && now < room.view.commits_refused_until {
            return behind.tried_at;
        }
        let pause = if behind.wants_to_send { PAUSE_TO_SEND } else { PAUSE };
        let doubled = behind.tries.saturating_sub(MANY_TRIES).min(16);
        let pause = pause.saturating_mul(1 << doubled).min(MAX_PAUSE);
        let spread = if is_external(outside, behind) { self.spread(behind) } else { 0 };
        behind.tried_at.saturating_add(pause).saturating_add(spread)
    }

    /// A time of this device's own, up to [`SPREAD`], another one for each try.
    fn spread(&self, behind: &Behind) -> u64 {
        let hash = Sha256::new_with_prefix(self.inner.local.identity().to_bytes())
            .chain_update(behind.tries.to_be_bytes())
            .finalize();
        let number = hash.iter().take(4).fold(0, |number, byte| (number << 8) | u64::from(*byte));
        number % SPREAD
    }

    /// Tries to get in, if it is time. Gives whether there is something to be sent for it.
    async fn try_to_get_in(&self, room: &mut Room) -> Result<bool, MlsError> {
        let Some(outside) = self.outside(room).await? else { return Ok(false) };
        let Some(behind) = room.view.behind.clone() else { return Ok(false) };
        let now = self.now();
        if self.next_try(room, &outside, &behind) > now
            || self.commit_request(&room.id, None).await?.is_some()
        {
            return Ok(false);
        }
        if !outside.holds_any {
            // What others have named is where the group is.
            self.transient().fetch_named(room, now);
            let waited = now.saturating_sub(behind.since.unwrap_or(now));
            if waited < PAUSE && self.transient().is_fetching(&room.id) {
                return Ok(false);
            }
        }
        if !outside.holds_any && !self.look_around(room).await? && behind.tries == 0 {
            // Nobody has added us yet. Whoever sends something does, so there is no hurry.
            let later = behind.since.unwrap_or(now).saturating_add(PATIENCE);
            if !behind.wants_to_send && behind.not_before < later {
                let behind = Some(Behind { not_before: later, ..behind });
                let view = RoomView { behind, ..room.view.clone() };
                self.save_view(room, view).await?;
                return Ok(false);
            }
        }
        let is_coming = self.transient().files.is_fetching(&room.id);
        if !outside.holds_any && is_coming && room.group.chosen_tip().is_none() {
            return Ok(true);
        }
        if !outside.holds_any
            && room.group.chosen_tip().is_none()
            && Box::pin(self.look_back(room)).await?
        {
            return Ok(true);
        }
        // What was seen just now may be another tip.
        let tip = room.group.chosen_tip();
        let mut after = Behind {
            tries: behind.tries.saturating_add(1),
            tried_at: now,
            external: false,
            tip,
            wants_to_send: false,
            ..behind.clone()
        };
        let is_external = is_external(&outside, &behind);
        after.has_tried_external |= is_external;
        if is_external {
            match self.let_ourselves_in(room).await? {
                LetIn::Yes => {
                    debug!(room_id = %room.id, "Coming in by an external commit");
                    after.external = true;
                    let view = RoomView { behind: Some(after), ..room.view.clone() };
                    self.save_view(room, view).await?;
                    return Ok(true);
                }
                LetIn::Later => return Ok(true),
                LetIn::No => {}
            }
        }
        debug!(room_id = %room.id, "Asking to be let in");
        if self.ask(room, tip, after.clone()).await? {
            return Ok(true);
        }
        let view = RoomView { behind: Some(after), ..room.view.clone() };
        self.save_view(room, view).await?;
        Ok(false)
    }

    /// Notes that there is something to send, and tries to get in, if it is time for that.
    async fn wants_to_send(&self, room: &mut Room) -> Result<bool, MlsError> {
        // After a start nobody may have looked yet whether we are to object.
        Box::pin(self.plan_to_stand_up(room)).await?;
        self.plan_returns(room).await?;
        if let Some(behind) = room.view.behind.clone()
            && behind.since.is_some()
            && !behind.wants_to_send
        {
            let behind = Some(Behind { wants_to_send: true, ..behind });
            let view = RoomView { behind, ..room.view.clone() };
            self.save_view(room, view).await?;
        }
        let has_tried = Box::pin(self.try_to_get_in(room)).await?;
        self.plan_returns(room).await?;
        Ok(has_tried)
    }

    /// There is something to send, and we hold no epoch.
    pub(super) async fn send_from_outside(&self, room: &mut Room) -> Result<Readiness, MlsError> {
        let has_tried = self.wants_to_send(room).await?;
        Ok(if has_tried || self.transient().is_fetching(&room.id) {
            Readiness::NeedsRequests
        } else {
            Readiness::WaitingForWelcome
        })
    }

    /// There is something to send, and `node`, where we would, is not the epoch that everybody should
    /// be in. Gives what to do instead of sending there, if anything.
    pub(super) async fn send_from_behind(
        &self,
        room: &mut Room,
        node: NodeId,
    ) -> Result<Option<Readiness>, MlsError> {
        let removed_by = self.removed_by(room, node);
        if self.outside(room).await?.is_none() {
            return match removed_by {
                Some(by) => Err(MlsError::Removed { by }),
                None => Ok(None),
            };
        }
        if self.wants_to_send(room).await? {
            return Ok(Some(Readiness::NeedsRequests));
        }
        let since = room.view.behind.as_ref().and_then(|behind| behind.since);
        let waited = self.now().saturating_sub(since.unwrap_or_default());
        if waited < FIRST || removed_by.is_some() {
            return Ok(Some(if self.transient().is_fetching(&room.id) {
                Readiness::NeedsRequests
            } else {
                Readiness::WaitingForWelcome
            }));
        }
        if has_removed_members(room, node) { Err(MlsError::LeftBehind) } else { Ok(None) }
    }

    /// Who has removed us on the branch that everybody should be on.
    fn removed_by(&self, room: &Room, node: NodeId) -> Option<OwnedUserId> {
        let graph = room.group.graph();
        let ours = self.inner.local.device();
        let chosen = room.group.chosen_tip().filter(|chosen| *chosen != node)?;
        if room.group.roster(&chosen)?.leaf_of(ours).is_some() {
            return None;
        }
        std::iter::once(chosen).chain(graph.ancestors(&chosen)).find_map(|node| {
            let record = graph.get(&node)?;
            let removes_us = record.removes_without_readding().any(|(_, m)| m.device() == ours);
            removes_us.then(|| prepare::user_id(record.author.member.device()))
        })
    }
}

/// Whether the next try is an external commit.
fn is_external(outside: &Outside, behind: &Behind) -> bool {
    let first = match (behind.wants_to_send, outside.holds_any) {
        (true, false) => 0,
        (true, true) => 1,
        (false, _) => 2,
    };
    if behind.tries < first {
        return false;
    }
    if first == 0 {
        return true;
    }
    // Somebody is there who was not asked yet: it can let all in who are outside.
    let is_news = behind.tries > 0 && !behind.external && outside.tip != behind.tip;
    !is_news || behind.tries >= first + 2
}

/// Whether an epoch has members whom the branch that everybody should be on has removed.
fn has_removed_members(room: &Room, node: NodeId) -> bool {
    let graph = room.group.graph();
    let Some(chosen) = room.group.chosen_tip() else { return false };
    let (Some(here), Some(there)) = (room.group.roster(&node), room.group.roster(&chosen)) else {
        return false;
    };
    let common = graph.common_ancestor(&node, &chosen);
    std::iter::once(chosen)
        .chain(graph.ancestors(&chosen))
        .take_while(|node| Some(*node) != common)
        .filter_map(|node| graph.get(&node))
        .flat_map(|record| record.removes_without_readding())
        .any(|(_, member)| {
            let device = member.device();
            here.leaf_of(device).is_some() && there.leaf_of(device).is_none()
        })
}
