//! Founding a room's group anew, when nobody is left who could let anybody in (protocol §6).

use std::collections::BTreeSet;

use matrix_dmls::{
    CommitRecord, GroupExtension, Member, NodeId, Roster, TrustRequirement, rank_of,
};
use ruma::{OwnedUserId, RoomId, TransactionId};
use tracing::{debug, instrument};

use super::{MlsMachine, Room, again::again, heavy::heavy};
use crate::{
    error::MlsError,
    room::{Anew, RoomView},
    store::{Changes, OutboxRequestKind},
    types::events::GroupEventContent,
};

const MINUTE: u64 = 60 * 1000;

/// How long a device has been outside at least before it founds anew by itself, in milliseconds.
const FIRST: u64 = 10 * MINUTE;

/// How much longer each next user waits, and each next device of a user.
const PER_RANK: u64 = 5 * MINUTE;
const PER_DEVICE: u64 = MINUTE;

/// Users of a higher rank leave it to the others, and devices wait no longer than so many.
const MAX_RANK: usize = 40;
const MAX_DEVICES: usize = 10;

/// How often it has tried to get in at least.
const TRIES: u32 = 2;

/// How long it is not done again by itself after it was done, in milliseconds: a day.
const PAUSE: u64 = 24 * 60 * MINUTE;

impl MlsMachine {
    /// Founds a room's group anew, although there may be members who could let this device in: they
    /// will have to follow, or talk on by themselves (protocol §6). For an application whose user knows
    /// that nobody will come. Send the outgoing requests afterwards.
    ///
    /// The machine does it by itself when it knows that nobody is left.
    ///
    /// # Errors
    ///
    /// [`MlsError::CannotFoundAnew`] when this device is in the group or has not tried to get in, or its
    /// user may not name the room's group; [`MlsError::NotMls`], [`MlsError::Downgraded`],
    /// [`MlsError::NotCrossSigned`], [`MlsError::CommitsRefused`], or when a store fails.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn found_anew(&self, room_id: &RoomId) -> Result<(), MlsError> {
        again!(self.found_anew_once(room_id))
    }

    async fn found_anew_once(&self, room_id: &RoomId) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut().filter(|room| room.view.mls_since.is_some()) else {
            return Err(MlsError::NotMls(room_id.to_owned()));
        };
        if room.view.downgraded {
            return Err(MlsError::Downgraded(room_id.to_owned()));
        }
        let has_tried = room.view.behind.as_ref().is_some_and(|behind| behind.tries > 0);
        if !has_tried
            || !self.is_shut_out(room).await?
            || self.commit_request(room_id, None).await?.is_some()
        {
            return Err(MlsError::CannotFoundAnew);
        }
        if self.now() < room.view.commits_refused_until {
            return Err(MlsError::CommitsRefused);
        }
        if !self.meets(self.extension_to_found(room).trust).await? {
            return Err(MlsError::NotCrossSigned);
        }
        Box::pin(self.make_founding(room)).await
    }

    /// Founds anew, if it is time for that.
    pub(super) async fn found_anew_if_due(&self, room: &mut Room) -> Result<(), MlsError> {
        let due = self.anew_due(room).await?;
        if due.is_none_or(|due| due > self.now())
            || self.commit_request(&room.id, None).await?.is_some()
        {
            return Ok(());
        }
        Box::pin(self.make_founding(room)).await
    }

    /// When this device is to found anew, in milliseconds since 1970, if it is to.
    pub(super) async fn anew_due(&self, room: &Room) -> Result<Option<u64>, MlsError> {
        let Some(behind) = &room.view.behind else { return Ok(None) };
        let Some(since) = behind.since else { return Ok(None) };
        if behind.tries < TRIES
            || !behind.has_tried_external
            || !self.is_shut_out(room).await?
            || !self.meets(self.extension_to_found(room).trust).await?
            || !self.nobody_is_left(room).await?
        {
            return Ok(None);
        }
        let Some(place) = place_of(room, self.user_id()).filter(|place| *place <= MAX_RANK) else {
            return Ok(None);
        };
        let devices = self.inner.olm.get_user_devices(self.user_id(), None).await?;
        let before = devices.devices().filter(|device| device.device_id() < self.device_id());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let wait = FIRST
            .saturating_add(PER_RANK.saturating_mul(number(place)))
            .saturating_add(PER_DEVICE.saturating_mul(number(before.count().min(MAX_DEVICES))));
        let foundings = &room.view.foundings;
        let again =
            if foundings.anew_at == 0 { 0 } else { foundings.anew_at.saturating_add(PAUSE) };
        Ok(Some(since.saturating_add(wait).max(again).max(room.view.commits_refused_until)))
    }

    /// Whether this device holds no epoch of the room's group, has reason to be in, and may name
    /// another group.
    async fn is_shut_out(&self, room: &Room) -> Result<bool, MlsError> {
        let own = self.user_id();
        Ok(room.group.entered().next().is_none()
            && room.view.power.includes(own)
            && room.view.may_commit(own)
            && self.is_outside(room).await?)
    }

    /// Whether this device is one that a group with this requirement lets in.
    async fn meets(&self, trust: TrustRequirement) -> Result<bool, MlsError> {
        if trust == TrustRequirement::All {
            return Ok(true);
        }
        let ours = self.inner.olm.get_device(self.user_id(), self.device_id(), None).await?;
        Ok(ours.is_some_and(|device| device.is_cross_signed_by_owner()))
    }

    /// Whether nobody can let this device in: the tip has no leaf of a device that could.
    async fn nobody_is_left(&self, room: &Room) -> Result<bool, MlsError> {
        let Some(tip) = room.group.chosen_tip() else {
            // Nothing was ever founded, and who was to do it has gone.
            return Ok(room.view.group.is_none() && room.founder_is_gone());
        };
        let Some(roster) = room.group.roster(&tip) else { return Ok(false) };
        let (user, device) = (self.user_id().as_str(), self.device_id().as_str());
        let is_ours = |member: &Member| {
            member.device().user_id == user && member.device().device_id == device
        };
        Ok(!self.has_life(room, &roster, room.trust(&tip), is_ours).await?)
    }

    /// Whether some leaf may be of a device that still holds what belongs to it: its user has joined,
    /// nothing says that the leaf is to be removed (protocol §5), and no higher `seq` of the device was
    /// seen. Leaves that are to be left out do not count.
    pub(super) async fn has_life(
        &self,
        room: &Room,
        roster: &Roster,
        trust: TrustRequirement,
        leaves_out: impl Fn(&Member) -> bool,
    ) -> Result<bool, MlsError> {
        let fresh = self.fresh_users().await?;
        let mut known = self.known_devices(room).await?;
        for (_, member) in roster.iter() {
            let user = &member.device().user_id;
            if leaves_out(member)
                || !room.view.is_joined(user)
                || known.is_outdated(room, &member.identity)
            {
                continue;
            }
            let is_fresh = fresh.contains(user);
            if !self.is_to_be_removed(room, member, trust, is_fresh, &mut known).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a founding of ours is like: no weaker than the group that the room names, if that is known.
    fn extension_to_found(&self, room: &Room) -> GroupExtension {
        let new = self.new_extension();
        let graph = room.group.graph();
        let named = room.view.group.as_ref().and_then(|(_, named)| {
            let nodes = room.group.chosen_tip().into_iter().chain([named.founding]);
            let mut extensions = nodes.filter_map(|node| graph.get(&node)).map(|r| &r.extension);
            extensions.find(|extension| extension.instance == named.instance)
        });
        named
            .map_or(new.clone(), |named| GroupExtension { instance: new.instance, ..named.clone() })
    }

    /// Makes a founding commit with this device alone. Others are added when the room has named it: who
    /// loses to somebody who does the same has nobody to lead astray.
    async fn make_founding(&self, room: &mut Room) -> Result<(), MlsError> {
        debug!(room_id = %room.id, "Founding anew");
        let (local, extension) = (self.inner.local.clone(), self.extension_to_found(room));
        let made = heavy(&room.group, move |group| group.found(&local, &extension, Vec::new()));
        let (node, group) = made.await?;
        let Some(pending) = group.pending.get(&node).cloned().flatten() else { return Ok(()) };
        let content = self.commit_content(room, &pending).await?;
        let mut view = room.view.clone();
        view.foundings.anew = Some(Anew { node, instead_of: view.group.clone() });
        view.foundings.anew_at = self.now();
        self.keep_commit(room, node, group, content, Vec::new(), Some(view)).await
    }

    /// A founding of ours was accepted: the room is to name it, unless it has named another meanwhile.
    pub(super) fn name_founding(
        &self,
        room: &Room,
        record: &CommitRecord,
        view: &mut RoomView,
        changes: &mut Changes,
    ) {
        let anew = view.foundings.anew.clone().filter(|anew| anew.node == record.node);
        if anew.is_some() && room.group.entered().next().is_some() {
            // Somebody has let us in.
            view.foundings.anew = None;
            return;
        }
        let named = view.group.as_ref().map(|(_, named)| named.instance);
        let replaces = anew.as_ref().and_then(|anew| anew.instead_of.as_ref());
        if named != replaces.map(|(_, replaced)| replaced.instance) {
            view.foundings.anew = None;
            if let Some((sender, content)) = view.group.take() {
                view.foundings.note_other(sender, content, view.group_since);
            }
            return;
        }
        let content = GroupEventContent::new(record.node, record.extension.instance);
        if anew.is_some() {
            if let Some(named) = named {
                view.foundings.note_left(named);
            }
            view.group = Some((self.user_id().to_owned(), content.clone()));
            view.group_since = self.now();
        }
        self.put_into_outbox(room, changes, OutboxRequestKind::Group { content });
    }

    /// The server does not let us name a group. What we have founded anew is given up then: the others
    /// would not come.
    pub(super) async fn naming_refused(
        &self,
        room_id: &RoomId,
        request_id: &TransactionId,
        refused: &GroupEventContent,
    ) -> Result<(), MlsError> {
        again!(async {
            let mut guard = self.lock_room(room_id).await?;
            let Some(room) = guard.as_mut() else { return Err(MlsError::UnknownRequest) };
            let mut changes = Changes::default();
            changes.outbox.insert(request_id.to_owned(), None);
            let anew = room.view.foundings.anew.as_ref();
            let anew = anew.filter(|anew| anew.node == refused.founding);
            if let Some(Anew { node, instead_of }) = anew {
                let mut view = room.view.clone();
                view.foundings.anew = None;
                let room_changes = changes.room(room_id);
                if let Some((_, replaced)) = instead_of {
                    view.foundings.left.retain(|left| *left != replaced.instance);
                    view.group.clone_from(instead_of);
                    view.entrance = None;
                    room_changes.group = room.group.erase_state(*node);
                }
                room_changes.view = Some(view);
            }
            self.save(room, changes).await?;
            self.look_ahead(room).await
        })
    }
}

impl Room {
    /// Whether this device has founded the room's group anew, and the room has not named it yet.
    pub(super) fn is_unnamed(&self) -> bool {
        let anew = self.view.foundings.anew.as_ref();
        anew.is_some_and(|anew| self.group.state(&anew.node).is_some())
    }

    /// Whether the user that was to found the room's group is not in the room.
    pub(super) fn founder_is_gone(&self) -> bool {
        let since = self.view.mls_since.as_ref();
        since.is_some_and(|since| self.view.is_gone(since.sender.as_str()))
    }
}

/// Which place a user has among those who have joined and may name the room's group.
fn place_of(room: &Room, user: &ruma::UserId) -> Option<usize> {
    let view = &room.view;
    let users: BTreeSet<&OwnedUserId> = view
        .members
        .keys()
        .filter(|user| view.is_joined(user.as_str()) && view.power.includes(user))
        .collect();
    let named = view.group.as_ref().map(|(_, named)| named.founding);
    let node = named.unwrap_or_else(|| NodeId::from_bytes([0; 32]));
    rank_of(&node, users.into_iter().map(|user| user.as_str()), user.as_str())
}
