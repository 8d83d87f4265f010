//! Standing up for the room (protocol §5): commits that confirm somebody else's removal, when it is
//! our turn.

use std::collections::BTreeSet;

use matrix_dmls::{CommitPlan, Confirmation, Device, Member, NodeId};
use ruma::OwnedRoomId;
use tracing::debug;

use super::{MlsMachine, Room, again::again, membership::KnownDevices};
use crate::error::MlsError;

/// How long it takes until the next look when a commit cannot be made now, in milliseconds.
const LATER: u64 = 60 * 1000;

impl MlsMachine {
    /// When [`MlsMachine::outgoing_requests`] has something to send although nothing has come from the
    /// server, in milliseconds since 1970: call it then. `None` if there is no such time. It changes
    /// with everything that the machine is given.
    ///
    /// A machine whose application never looks at this is as safe itself, and of less help to the room.
    pub fn next_deadline(&self) -> Option<u64> {
        let transient = self.transient();
        let anchors = transient.anchors.values().filter_map(super::anchor::Turn::due);
        let gaps = transient.gaps.values().copied();
        transient.standing.values().copied().chain(anchors).chain(gaps).min()
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
        let confirmations = self.confirmations(room).await?;
        let Some(first) = confirmations.first().filter(|first| first.due <= now) else {
            self.note_deadline(room, confirmations.first().map(|first| first.due));
            return Ok(());
        };
        let waits = room.view.downgraded
            || now < room.view.commits_refused_until
            || self.commit_request(&room.id, None).await?.is_some();
        // What is sent next brings a look of its own.
        self.note_deadline(room, Some(now + LATER));
        if waits {
            return Ok(());
        }
        debug!(room_id = %room.id, removal = %first.removal.short(), "Confirming a removal");
        match self.confirm(room, first).await {
            // There is no other way to say it; the others will.
            Err(MlsError::RoomTooLarge { .. }) => Ok(()),
            done => done,
        }
    }

    /// Updates our keys where a removal is to be confirmed, and removes whoever else is still to be
    /// removed there.
    pub(super) async fn confirm(
        &self,
        room: &mut Room,
        confirmation: &Confirmation,
    ) -> Result<(), MlsError> {
        let on = confirmation.on;
        let trust = room.extension(&on).map(|extension| extension.trust).unwrap_or_default();
        let difference = self.difference(room, Some(on), trust).await?;
        let plan = CommitPlan { remove: difference.remove, update: true, ..CommitPlan::default() };
        self.make_commit(room, Some(on), plan, Vec::new()).await
    }

    /// Looks when it is our turn in a room.
    pub(super) async fn plan_to_stand_up(&self, room: &Room) -> Result<(), MlsError> {
        let confirmations = self.confirmations(room).await?;
        self.note_deadline(room, confirmations.first().map(|first| first.due));
        Ok(())
    }

    fn note_deadline(&self, room: &Room, due: Option<u64>) {
        let standing = &mut self.transient().standing;
        match due {
            Some(due) => standing.insert(room.id.clone(), due),
            None => standing.remove(&room.id),
        };
    }

    /// The removals that we are to confirm.
    pub(super) async fn confirmations(&self, room: &Room) -> Result<Vec<Confirmation>, MlsError> {
        let heard = |node: &NodeId| room.commit_times.get(node).copied();
        let own = self.inner.local.device();
        // Mostly there is nothing to confirm, whoever is wanted.
        if room.group.confirmations(own, |_| true, heard).is_empty() {
            return Ok(Vec::new());
        }
        let unwanted = self.unwanted(room).await?;
        Ok(room.group.confirmations(own, |device| unwanted.contains(device), heard))
    }

    /// The devices that a commit below which we could commit removes, and that are to be removed.
    async fn unwanted(&self, room: &Room) -> Result<BTreeSet<Device>, MlsError> {
        let mut removed: Vec<&Member> = Vec::new();
        let mut trust = None;
        for node in room.group.entered() {
            let Some(record) = room.group.graph().get(&node) else { continue };
            removed.extend(record.removes_without_readding().map(|(_, member)| &**member));
            trust = trust.or(Some(record.extension.trust));
        }
        let mut unwanted = BTreeSet::new();
        if removed.is_empty() {
            return Ok(unwanted);
        }
        let fresh = self.fresh_users().await?;
        let mut known = KnownDevices::default();
        for member in removed {
            let device = member.device();
            let is_fresh = fresh.contains(&device.user_id);
            if !unwanted.contains(device)
                && self
                    .is_to_be_removed(room, member, trust.unwrap_or_default(), is_fresh, &mut known)
                    .await?
            {
                unwanted.insert(device.clone());
            }
        }
        Ok(unwanted)
    }
}
