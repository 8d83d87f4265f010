//! Letting in those who ask (protocol §6): their requests are checked, held, and answered by a commit
//! when it is our turn, or taken along by one that is made for another reason.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::{
    CommitMessage, CommitPlan, CommitProposal, CommitRecord, Device, KeyPackage, KeyPackageRef,
    Member, NodeId, TrustRequirement,
};
use ruma::{OwnedUserId, UserId};
use tracing::debug;

use super::{MlsMachine, Room, membership::Addition, prepare::MAX_ADDITIONS};
use crate::{
    error::MlsError,
    room::{HeldJoinRequest, RoomView},
    store::Changes,
    trust,
    types::events::ToDeviceJoinRequestEventContent,
};

/// At most this many requests are held for a room: as many as one commit answers.
const MAX_HELD: usize = MAX_ADDITIONS;

/// At most this many of one user's devices.
const MAX_HELD_PER_USER: usize = 10;

/// How long a request is held, in milliseconds: an hour. Who still needs to be let in asks again.
const MAX_AGE: u64 = 3600 * 1000;

/// How long who is asked first waits, in milliseconds, so that one commit lets all in who ask.
const FIRST: u64 = 20 * 1000;

/// How much longer each next one waits.
const PER_RANK: u64 = 60 * 1000;

/// A device that was let in is not let in again by us for so long, in milliseconds: 5 minutes.
const PAUSE: u64 = 5 * 60 * 1000;

/// What is to become of a request.
enum Judgement {
    /// It can be granted; the old leaf goes.
    Grant(Option<u32>),
    /// Not before this time, in milliseconds since 1970.
    Wait(u64),
    /// It is of no use, or was granted.
    Drop,
}

impl MlsMachine {
    /// Holds a request to be let in, if it is one that we could grant.
    pub(super) async fn hold_join_request(
        &self,
        sender: &OwnedUserId,
        content: &ToDeviceJoinRequestEventContent,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(&content.room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let Some(tip) = room.group.sending_tip() else {
            return self.note_outsider(room, sender, content).await;
        };
        let Some(member) = self.check_join_request(sender, content).await? else {
            debug!(%sender, "A join request is refused");
            return Ok(());
        };
        let (sender, content) = (sender.clone(), content.clone());
        let now = self.now();
        let mut request =
            HeldJoinRequest { sender, member, content, received_at: now, renewed_at: now };
        let mut requests = room.view.join_requests.clone();
        let is_same = |held: &HeldJoinRequest| held.member.device() == request.member.device();
        if let Some(at) = requests.iter().position(is_same) {
            let old = requests.remove(at);
            if old.content.sent_at >= request.content.sent_at {
                return Ok(());
            }
            // Asking again does not postpone the answer.
            if self.now().saturating_sub(old.received_at) <= MAX_AGE {
                request.received_at = old.received_at;
            }
        }
        if matches!(self.judge_join_request(room, tip, &request).await?, Judgement::Drop) {
            return Ok(());
        }
        requests.push(request);
        limit(&mut requests, &room.view);
        if requests != room.view.join_requests {
            let view = RoomView { join_requests: requests, ..room.view.clone() };
            let mut changes = Changes::default();
            changes.room(&room.id).view = Some(view);
            self.save(room, changes).await?;
        }
        self.plan_returns(room).await
    }

    /// A device outside cannot grant a request, but learns from it if the one that asks has replaced its
    /// key: then that one has lost what belongs to the old key, and can let nobody in (protocol §6).
    async fn note_outsider(
        &self,
        room: &mut Room,
        sender: &OwnedUserId,
        content: &ToDeviceJoinRequestEventContent,
    ) -> Result<(), MlsError> {
        let Some(member) = self.check_join_request(sender, content).await? else { return Ok(()) };
        let tip = room.group.chosen_tip().and_then(|tip| room.group.roster(&tip));
        let has_old_leaf = tip.is_some_and(|roster| {
            roster.iter().any(|(_, old)| {
                old.device() == member.device() && old.identity.seq < member.identity.seq
            })
        });
        if !has_old_leaf {
            return Ok(());
        }
        let device = member.device();
        let name = (sender.clone(), device.device_id.as_str().into());
        self.note_in_account(&[(name, member.identity.clone())]).await?;
        self.plan_returns(room).await
    }

    /// Whose leaf the key package in a request makes, if the request is that device's. Whether the
    /// room wants it is judged later: what comes directly comes before the room's events.
    async fn check_join_request(
        &self,
        sender: &OwnedUserId,
        content: &ToDeviceJoinRequestEventContent,
    ) -> Result<Option<Member>, MlsError> {
        let Some(json) = content.signed_json() else { return Ok(None) };
        let Ok(package) = KeyPackage::parse_and_verify(&content.key_package.0) else {
            return Ok(None);
        };
        let member = package.member();
        let device = member.device();
        let signature = content
            .signature_of(sender, device.device_id.as_str().into())
            .and_then(|text| STANDARD_NO_PAD.decode(text).ok());
        let is_signed = signature.is_some_and(|signature| {
            matrix_dmls::verify_device_signature(&device.device_key, &json, &signature)
        });
        if device.user_id != sender.as_str() || !is_signed {
            return Ok(None);
        }
        // A device that is not known yet may be in the next answer to a query.
        let known = trust::find_device(&self.inner.olm, device).await?;
        let is_other = known.is_some_and(|known| {
            known.ed25519_key().is_none_or(|key| *key.as_bytes() != device.device_key)
        });
        Ok((!is_other).then_some(member))
    }

    /// Whether a device, which is to be this user's, is one that the room wants, by what the
    /// OlmMachine has of it; none if that may be out of date.
    pub(super) async fn is_wanted_device(
        &self,
        room: &Room,
        device: &Device,
        trust: TrustRequirement,
        user: &UserId,
    ) -> Result<Option<bool>, MlsError> {
        if device.user_id != user.as_str() || !room.view.wanted_users().any(|one| one == user) {
            return Ok(Some(false));
        }
        let Some(known) = trust::find_device(&self.inner.olm, device).await? else {
            return Ok(None);
        };
        if known.ed25519_key().is_none_or(|key| *key.as_bytes() != device.device_key) {
            return Ok(Some(false));
        }
        let is_trusted = trust == TrustRequirement::All || known.is_cross_signed_by_owner();
        Ok(is_trusted.then_some(true))
    }

    async fn judge_join_request(
        &self,
        room: &Room,
        tip: NodeId,
        request: &HeldJoinRequest,
    ) -> Result<Judgement, MlsError> {
        let device = request.member.device();
        let age = self.now().saturating_sub(request.received_at);
        if age > MAX_AGE || device == self.inner.local.device() {
            return Ok(Judgement::Drop);
        }
        let trust = room.extension(&tip).map(|extension| extension.trust).unwrap_or_default();
        let is_wanted = self.is_wanted_device(room, device, trust, &request.sender).await?;
        if is_wanted == Some(false) {
            // The events that make it a member may come with the same sync.
            let soon = request.received_at.saturating_add(FIRST);
            return Ok(if age < FIRST { Judgement::Wait(soon) } else { Judgement::Drop });
        }
        let roster = room.group.roster(&tip).unwrap_or_default();
        let seat = roster.iter().find(|(_, member)| {
            let other = member.device();
            other.user_id == device.user_id && other.device_id == device.device_id
        });
        let new = &request.member;
        let mut has_new_key = false;
        if let Some((_, old)) = seat {
            let same_key = old.signature_key == new.signature_key;
            has_new_key = new.identity.seq > old.identity.seq;
            // Of several keys of one device only the newest is wanted (protocol §5).
            if old.device() == device && !has_new_key && !same_key {
                return Ok(Judgement::Drop);
            }
        }
        if !has_new_key {
            let is_old = match trace_of(room, tip, device, request.content.tip) {
                Trace::None => false,
                Trace::CameBack => true,
                // If the Welcome does not come, it asks again.
                Trace::AddedAt(node) => {
                    room.commit_times.get(&node).is_some_and(|heard| *heard > request.renewed_at)
                }
            };
            let reference = matrix_dmls::key_package_ref(&request.content.key_package.0);
            if is_old || self.is_used_up(room, device, &reference).await? {
                return Ok(Judgement::Drop);
            }
        }
        let last = room.view.let_in.get(&name_of(device));
        let pause_ends = last.map_or(0, |at| at.saturating_add(PAUSE));
        if pause_ends > self.now() {
            return Ok(Judgement::Wait(pause_ends));
        }
        if is_wanted.is_none() {
            // Often the answer to a query comes in a moment, and else perhaps never.
            let next = if age < FIRST { 0 } else { self.now().saturating_add(PER_RANK) };
            return Ok(Judgement::Wait(next));
        }
        Ok(Judgement::Grant(seat.map(|(leaf, _)| leaf)))
    }

    /// Whether a commit, on whatever branch, has added a device by this key package: its private keys are
    /// gone with the join then, and what is said where it is used again could not be read.
    pub(super) async fn is_used_up(
        &self,
        room: &Room,
        device: &Device,
        reference: &KeyPackageRef,
    ) -> Result<bool, MlsError> {
        let graph = room.group.graph();
        for node in room.commit_events.keys() {
            let adds_it = graph.get(node).is_some_and(|record| {
                record.added.iter().any(|(_, member)| member.device() == device)
            });
            if adds_it && self.adds(room, *node, reference).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a commit adds somebody by this key package.
    async fn adds(
        &self,
        room: &Room,
        node: NodeId,
        reference: &KeyPackageRef,
    ) -> Result<bool, MlsError> {
        let stored = self.inner.store.commit(&room.id, &node).await?;
        let message = stored
            .and_then(|stored| stored.content.commit)
            .and_then(|bytes| CommitMessage::parse(&bytes.0).ok());
        Ok(message.is_some_and(|message| {
            message.proposals().iter().any(|proposal| {
                matches!(proposal, CommitProposal::Add(added) if added.reference() == *reference)
            })
        }))
    }

    /// The requests that are still of use, and when it is our turn to answer one.
    pub(super) async fn open_join_requests(
        &self,
        room: &Room,
    ) -> Result<(Vec<HeldJoinRequest>, Option<u64>), MlsError> {
        // Who is left behind itself can let nobody in, but may be able to later.
        let Some(tip) = room.group.chosen_tip().filter(|tip| room.group.state(tip).is_some())
        else {
            return Ok((room.view.join_requests.clone(), None));
        };
        let (mut open, mut due) = (Vec::new(), None::<u64>);
        for request in &room.view.join_requests {
            let earliest = match self.judge_join_request(room, tip, request).await? {
                Judgement::Drop => continue,
                Judgement::Grant(_) => 0,
                Judgement::Wait(until) => until,
            };
            let rank = self.rank_for(room, request).await?;
            let wait = FIRST.saturating_add(PER_RANK.saturating_mul(rank));
            let turn = request.received_at.saturating_add(wait).max(earliest);
            due = Some(due.map_or(turn, |due| due.min(turn)));
            open.push(request.clone());
        }
        Ok((open, due))
    }

    /// Which place we have among those who were asked.
    async fn rank_for(&self, room: &Room, request: &HeldJoinRequest) -> Result<u64, MlsError> {
        let (tip, asker) = (request.content.tip, request.member.device());
        let place = self.place_among_asked(room, tip, asker).await?;
        // Who asks may know another tip, or another order, than we do.
        let place = place.unwrap_or(super::ask::MAX_ASKED.saturating_sub(1));
        Ok(u64::try_from(place).unwrap_or(u64::MAX))
    }

    /// The devices that ask to be let in and can be by a commit on this node.
    pub(super) async fn requested(
        &self,
        room: &Room,
        on: NodeId,
    ) -> Result<Vec<Addition>, MlsError> {
        let mut additions = Vec::new();
        for request in &room.view.join_requests {
            if let Judgement::Grant(replaces) = self.judge_join_request(room, on, request).await? {
                let device = request.member.device();
                additions.push(Addition {
                    name: (request.sender.clone(), device.device_id.as_str().into()),
                    key_package: request.content.key_package.0.clone(),
                    requested: true,
                    replaces,
                });
            }
        }
        Ok(additions)
    }

    /// Adds to what a commit is to do that it lets in who asks.
    pub(super) async fn take_requests_along(
        &self,
        room: &Room,
        on: NodeId,
        remove: &[u32],
        additions: &mut Vec<Addition>,
    ) -> Result<(), MlsError> {
        for mut addition in self.requested(room, on).await? {
            additions.retain(|other| other.name != addition.name);
            // One removal is enough.
            addition.replaces = addition.replaces.filter(|leaf| !remove.contains(leaf));
            additions.insert(0, addition);
        }
        Ok(())
    }

    /// Lets in who asks, if it is our turn.
    pub(super) async fn answer_join_requests(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let Some(tip) = room.group.chosen_tip().filter(|tip| room.group.state(tip).is_some())
        else {
            return Ok(());
        };
        let (_, due) = self.open_join_requests(room).await?;
        if due.is_none_or(|due| due > now)
            || room.view.downgraded
            || !room.view.is_joined(self.user_id().as_str())
            || room.is_unnamed()
            || now < room.view.commits_refused_until
            || self.commit_request(&room.id, None).await?.is_some()
        {
            return Ok(());
        }
        // Nothing goes below invented devices (protocol §5).
        if self.find_repair(room).await?.0.is_some() {
            return Ok(());
        }
        let trust = room.extension(&tip).map(|extension| extension.trust).unwrap_or_default();
        let difference = self.difference(room, Some(tip), trust).await?;
        let mut additions = Vec::new();
        self.take_requests_along(room, tip, &difference.remove, &mut additions).await?;
        if additions.is_empty() {
            return Ok(());
        }
        additions.truncate(MAX_ADDITIONS);
        debug!(room_id = %room.id, devices = additions.len(), "Letting in those who ask");
        let is_other = |other: &NodeId| *other != tip && room.are_together(other, &tip);
        let resolves = room.group.graph().tips().filter(is_other);
        let plan = CommitPlan {
            remove: difference.remove,
            resolves: resolves.take(matrix_dmls::MAX_RESOLVES).collect(),
            ..CommitPlan::default()
        };
        match Box::pin(self.make_commit(room, Some(tip), plan, additions, None)).await {
            // There is no other way; they will come in by themselves.
            Err(MlsError::RoomTooLarge { .. }) => Ok(()),
            done => done,
        }
    }
}

/// Notes whom a commit of ours lets in that had asked.
pub(super) fn note_let_in(view: &mut RoomView, record: &CommitRecord, now: u64) {
    let let_in: Vec<_> = record.added.iter().map(|(_, member)| member.device()).collect();
    let mut times: BTreeMap<_, _> = std::mem::take(&mut view.let_in);
    times.retain(|_, at| now.saturating_sub(*at) < PAUSE);
    view.join_requests.retain(|request| {
        let device = request.member.device();
        let granted = let_in.contains(&device);
        if granted {
            times.insert(name_of(device), now);
        }
        !granted
    });
    view.let_in = times;
}

fn name_of(device: &Device) -> String {
    format!("{} {}", device.user_id, device.device_id)
}

/// What a device that has asked to be let in has left in the branch in use.
enum Trace {
    /// Nothing since it asked.
    None,
    /// It is in the branch again, as its own commits, or its having been added since, tell: the
    /// request is from before that.
    CameBack,
    /// It was added there, perhaps before it asked.
    AddedAt(NodeId),
}

fn trace_of(room: &Room, tip: NodeId, device: &Device, named: Option<NodeId>) -> Trace {
    let graph = room.group.graph();
    // Where it has seen everything when it asked.
    let seen = named.filter(|named| graph.contains(named));
    let seen = seen.and_then(|named| graph.common_ancestor(&named, &tip));
    let path = std::iter::once(tip).chain(graph.ancestors(&tip));
    for node in path.take_while(|node| Some(*node) != seen) {
        let Some(record) = graph.get(&node) else { continue };
        if record.author.member.device() == device {
            return Trace::CameBack;
        }
        if record.added.iter().any(|(_, member)| member.device() == device) {
            return if seen.is_some() { Trace::CameBack } else { Trace::AddedAt(node) };
        }
    }
    Trace::None
}

/// Whether a device has been in the branch in use ever since an epoch of it, with the same keys: it has
/// neither committed since then, nor been added.
pub(super) fn has_stayed_since(room: &Room, tip: NodeId, device: &Device, since: NodeId) -> bool {
    let graph = room.group.graph();
    (since == tip || graph.is_ancestor(&since, &tip))
        && matches!(trace_of(room, tip, device, Some(since)), Trace::None)
}

/// Of things that are listed by who has sent them, oldest first, the place of the first one of the user
/// that has the most, and how many that user has.
pub(super) fn oldest_of_who_has_most<'a>(
    senders: impl Iterator<Item = &'a OwnedUserId> + Clone,
) -> Option<(usize, usize)> {
    let mut counts: BTreeMap<&OwnedUserId, usize> = BTreeMap::new();
    for sender in senders.clone() {
        *counts.entry(sender).or_default() += 1;
    }
    let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let mut senders = senders;
    Some((senders.position(|sender| sender == most)?, count))
}

/// Keeps the requests within the limits: first those go whose users are not in the room, then whoever
/// has the most loses its oldest.
fn limit(requests: &mut Vec<HeldJoinRequest>, view: &RoomView) {
    if requests.len() > MAX_HELD {
        let wanted: BTreeSet<_> = view.wanted_users().collect();
        requests.retain(|request| wanted.contains(&*request.sender));
    }
    loop {
        let senders = requests.iter().map(|request| &request.sender);
        let Some((oldest, count)) = oldest_of_who_has_most(senders) else { return };
        if count <= MAX_HELD_PER_USER && requests.len() <= MAX_HELD {
            return;
        }
        requests.remove(oldest);
    }
}
