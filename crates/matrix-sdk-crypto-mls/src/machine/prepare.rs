//! Getting a room ready to be sent to: the counterpart of `OlmMachine::share_room_key`.

use matrix_dmls::{CommitPlan, Device, GroupExtension, InstanceId, NodeId, TrustRequirement};
use ruma::{OwnedDeviceId, OwnedUserId, RoomId, UserId};
use tracing::instrument;

use super::{DeviceName, MlsMachine, Room, again::again, devices::MAX_AGE, membership::Difference};
use crate::error::MlsError;

/// How long a room waits for its members' device lists before it goes on without them: 10 s.
const DEVICES_PATIENCE: u64 = 10 * 1000;

/// Keys that were renewed on a branch that has lost are not renewed again within this time of that: a
/// minute. So it is not done again and again while several do it at once, or somebody undoes it each time.
const RENEWAL_PAUSE: u64 = 60 * 1000;

/// At most this many devices are added by one commit; the next one adds more.
pub(super) const MAX_ADDITIONS: usize = 100;

/// Whether a room can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It can.
    Ready {
        /// The epoch that messages will be encrypted in.
        node: NodeId,
        /// Members' devices that cannot read them, since they have no usable key package.
        without_mls: Vec<(OwnedUserId, OwnedDeviceId)>,
    },
    /// Not yet: send [`MlsMachine::outgoing_requests`] and the OlmMachine's, and try again.
    NeedsRequests,
    /// This device is not in the epoch that everybody should be in, and has done for now what it can:
    /// somebody who is there lets it in, or it tries again later. Or it has founded the group anew, and
    /// the room has not named that yet. Sync, and try again.
    WaitingForWelcome,
}

/// A room and its group that were found to agree: there is nobody to add or remove, nothing to ask
/// for and nothing to wait for. Holds until the room changes, which forgets it, or the devices may
/// have, see [`MlsMachine::settled`].
pub(super) struct Settled {
    /// The epoch to send in.
    pub(super) node: NodeId,
    without_mls: Vec<DeviceName>,
    /// The changes of devices that it is after.
    changes: u64,
    /// When it was found, in milliseconds since 1970.
    at: u64,
}

impl MlsMachine {
    /// Gets a room ready to be sent to: compares the room's members and their devices with the
    /// group's, and makes the commit that is needed, if any. Founds the group if this device is to.
    ///
    /// Call it before a message is written (when the user begins to type, say), and again after the
    /// requests were sent, until it is [`Readiness::Ready`].
    ///
    /// # Errors
    ///
    /// [`MlsError::NotMls`], [`MlsError::Downgraded`], [`MlsError::Removed`],
    /// [`MlsError::NotCrossSigned`], [`MlsError::LeftBehind`], [`MlsError::CommitsRefused`],
    /// [`MlsError::RoomTooLarge`], or when a store fails.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn prepare_room(&self, room_id: &RoomId) -> Result<Readiness, MlsError> {
        again!(self.prepare_once(room_id, false))
    }

    /// How the room stands, by what is known: as [`MlsMachine::prepare_room`], but nothing is done
    /// about it. A room that is not ready may become so by preparing it alone, without a commit.
    ///
    /// # Errors
    ///
    /// [`MlsError::NotMls`], [`MlsError::Downgraded`], or when a store fails.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn readiness(&self, room_id: &RoomId) -> Result<Readiness, MlsError> {
        let guard = self.lock_room(room_id).await?;
        let room = guard.as_ref().filter(|room| room.view.mls_since.is_some());
        let room = room.ok_or_else(|| MlsError::NotMls(room_id.to_owned()))?;
        if room.view.downgraded {
            return Err(MlsError::Downgraded(room_id.to_owned()));
        }
        if let Some(Settled { node, without_mls, .. }) = self.settled(room) {
            return Ok(Readiness::Ready { node: *node, without_mls: without_mls.clone() });
        }
        if self.commit_request(room_id, None).await?.is_some() {
            return Ok(Readiness::NeedsRequests);
        }
        let Some(node) = room.group.sending_tip() else {
            return Ok(if self.may_found(room).await? {
                Readiness::NeedsRequests
            } else {
                Readiness::WaitingForWelcome
            });
        };
        if room.group.chosen_tip() != Some(node) {
            return Ok(Readiness::WaitingForWelcome);
        }
        let difference = self.difference(room, Some(node), room.trust(&node)).await?;
        Ok(if difference.is_none() {
            Readiness::Ready { node, without_mls: difference.without_mls }
        } else {
            Readiness::NeedsRequests
        })
    }

    /// A number that has risen if a device, an identity or a device list has changed, as far as this
    /// machine has heard: then [`MlsMachine::readiness`] may be another one, in any room.
    pub fn device_changes(&self) -> u64 {
        self.inner.devices.changes()
    }

    /// Makes a commit that renews our own keys in the group (and brings the group up to date), which
    /// locks out whoever had a copy of them. Send the outgoing requests afterwards.
    ///
    /// # Errors
    ///
    /// As [`MlsMachine::prepare_room`], and [`MlsError::CommitsRefused`] also while nobody has to be
    /// removed.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn update_keys(&self, room_id: &RoomId) -> Result<Readiness, MlsError> {
        again!(self.prepare_once(room_id, true))
    }

    async fn prepare_once(&self, room_id: &RoomId, update: bool) -> Result<Readiness, MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else {
            return Err(MlsError::NotMls(room_id.to_owned()));
        };
        if let Some(Settled { node, without_mls, .. }) = self.settled(room).filter(|_| !update) {
            return Ok(Readiness::Ready { node: *node, without_mls: without_mls.clone() });
        }
        Box::pin(self.prepare(room, update)).await
    }

    /// Whether the room can be sent to, by what was found before.
    pub(super) fn settled<'r>(&self, room: &'r Room) -> Option<&'r Settled> {
        let settled = room.settled.as_ref()?;
        // A clock that was set back says nothing of age.
        let age = self.now().checked_sub(settled.at)?;
        let holds = age < MAX_AGE
            && settled.changes == self.inner.devices.changes()
            && !self.keys_are_due(room, &settled.node);
        holds.then_some(settled)
    }

    pub(super) async fn prepare(
        &self,
        room: &mut Room,
        update: bool,
    ) -> Result<Readiness, MlsError> {
        if room.view.mls_since.is_none() {
            return Err(MlsError::NotMls(room.id.clone()));
        }
        if room.view.downgraded {
            return Err(MlsError::Downgraded(room.id.clone()));
        }
        Box::pin(self.consider_other(room)).await?;
        // What was missing before a restart is looked for again.
        self.mind_gaps(room).await?;
        // One commit at a time: while the fate of one is open, no second is made beside it.
        room.settled = None;
        if self.commit_request(&room.id, None).await?.is_some() {
            return Ok(Readiness::NeedsRequests);
        }
        if room.group.sending_tip().is_none() {
            if self.may_found(room).await? {
                return Box::pin(self.found(room)).await;
            }
            // What a Welcome needs may have come, or have to be asked for again after a restart.
            Box::pin(self.try_to_join(room)).await?;
        }
        let Some(node) = room.group.sending_tip() else {
            return self.send_from_outside(room).await;
        };
        if room.is_unnamed() {
            // Nobody is added before the room has named it.
            return Ok(Readiness::WaitingForWelcome);
        }
        // Where an insider has stuffed the tree we go on beside, not below (protocol §5).
        let (repair, _) = self.find_repair(room).await?;
        if repair.is_none()
            && room.group.chosen_tip() != Some(node)
            && let Some(instead) = self.send_from_behind(room, node).await?
        {
            return Ok(instead);
        }
        let node = repair.as_ref().map_or(node, |repair| repair.on);

        let trust = room.trust(&node);
        let (changes, at) = (self.inner.devices.changes(), self.now());
        let mut difference = self.difference(room, Some(node), trust).await?;
        difference.update |= update || repair.as_ref().is_some_and(|repair| !repair.is_done);
        let refused =
            self.now() < room.view.commits_refused_until || !room.view.may_commit(self.user_id());
        // Who is left behind speaks where it is, but does not vote for that branch by committing.
        let left_behind = repair.is_none() && room.group.chosen_tip() != Some(node);
        // Keys that we have given up on another branch are not to live on here (protocol §8).
        let lost = room.group.graph().has_lost_update(&node, self.inner.local.device());
        let age = self.now().saturating_sub(room.view.updated_at);
        difference.update |= lost && age >= RENEWAL_PAUSE && !refused && !left_behind;
        let agree = difference.is_none();
        if self.must_wait(room, &mut difference) {
            return Ok(Readiness::NeedsRequests);
        }
        if repair.is_none() && !difference.remove.is_empty() && !refused {
            // Where somebody has removed them already, a vote for that does more than a removal of
            // our own beside it (protocol §5); once, after that we have committed there.
            let rivals = self.confirmations(room, None).await?;
            if let Some(rival) = rivals.into_iter().find(|rival| rival.is_rival) {
                Box::pin(self.commit_for_the_room(room, rival.on, None)).await?;
                return Ok(Readiness::NeedsRequests);
            }
        }
        if update || !difference.remove.is_empty() {
            if left_behind {
                return Err(MlsError::LeftBehind);
            }
            if refused {
                return Err(MlsError::CommitsRefused);
            }
        }
        let needed =
            difference.update || !difference.add.is_empty() || !difference.remove.is_empty();
        if !needed || refused || left_behind {
            let mut without_mls = difference.without_mls;
            without_mls.extend(difference.add.into_iter().map(|addition| addition.name));
            if agree {
                let without_mls = without_mls.clone();
                room.settled = Some(Settled { node, without_mls, changes, at });
            }
            return Ok(Readiness::Ready { node, without_mls });
        }
        let plan = CommitPlan {
            remove: difference.remove,
            update: difference.update || lost,
            ..CommitPlan::default()
        };
        let mut additions = difference.add;
        self.take_requests_along(room, node, &plan.remove, &mut additions).await?;
        additions.truncate(MAX_ADDITIONS);
        let only_adds = plan.remove.is_empty() && !plan.update;
        let names: Vec<_> = additions.iter().map(|addition| addition.name.clone()).collect();
        let mut with_additions = plan.clone();
        with_additions.remove.extend(difference.replaced.iter().take(MAX_ADDITIONS));
        match Box::pin(self.make_commit(room, Some(node), with_additions, additions, None)).await {
            Ok(()) => Ok(Readiness::NeedsRequests),
            Err(MlsError::RoomTooLarge { bytes }) if !names.is_empty() => {
                // One device too many must not silence those who are in.
                let reason = format!("the room is too large for it: {bytes} bytes in one event");
                let failed = names.into_iter().map(|name| (name, reason.clone())).collect();
                self.note_without_mls(room, failed).await?;
                if !only_adds {
                    Box::pin(self.make_commit(room, Some(node), plan, Vec::new(), None)).await?;
                    return Ok(Readiness::NeedsRequests);
                }
                Box::pin(self.prepare(room, false)).await
            }
            Err(other) => Err(other),
        }
    }

    async fn found(&self, room: &mut Room) -> Result<Readiness, MlsError> {
        let trust = self.inner.settings.trust;
        if trust == TrustRequirement::CrossSigned {
            let ours = self.inner.olm.get_device(self.user_id(), self.device_id(), None).await?;
            if !ours.is_some_and(|device| device.is_cross_signed_by_owner()) {
                // The others would have to remove us from our own group.
                return Err(MlsError::NotCrossSigned);
            }
        }
        let mut difference = self.difference(room, None, trust).await?;
        if self.must_wait(room, &mut difference) {
            return Ok(Readiness::NeedsRequests);
        }
        if self.now() < room.view.commits_refused_until {
            return Err(MlsError::CommitsRefused);
        }
        let mut additions = difference.add;
        additions.truncate(MAX_ADDITIONS);
        Box::pin(self.make_commit(room, None, CommitPlan::default(), additions, None)).await?;
        Ok(Readiness::NeedsRequests)
    }

    /// Whether device lists or key packages have to come first.
    fn must_wait(&self, room: &Room, difference: &mut Difference) -> bool {
        let now = self.now();
        let mut transient = self.transient();
        if difference.stale.is_empty() {
            transient.waiting_for_devices.remove(&room.id);
        } else {
            // A server that does not answer must not keep the others from talking.
            let since = *transient.waiting_for_devices.entry(room.id.clone()).or_insert(now);
            if now.saturating_sub(since) < DEVICES_PATIENCE {
                return true;
            }
        }
        let claim = std::mem::take(&mut difference.claim);
        if !claim.is_empty() {
            transient.claim(&room.id, claim);
        }
        transient.is_claiming(&room.id)
    }

    /// The extension of a group that we found.
    pub(super) fn new_extension(&self) -> GroupExtension {
        let mut instance = [0; 32];
        rand::fill(&mut instance);
        GroupExtension {
            instance: InstanceId::from_bytes(instance),
            trust: self.inner.settings.trust,
            external: self.inner.settings.external,
            history: self.inner.settings.history,
        }
    }
}

/// The user of a leaf. Credentials are not checked against Matrix's grammar, so it may be none.
pub(super) fn user_id(device: &Device) -> OwnedUserId {
    UserId::parse(&device.user_id)
        .unwrap_or_else(|_| ruma::user_id!("@invalid:invalid.invalid").to_owned())
}
