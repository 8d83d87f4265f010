//! Who comes and goes.

use ruma::events::room::member::MembershipState;

use super::World;
use crate::failure::Failure;

/// More devices than this are not there in one run.
const MAX_DEVICES: usize = 64;

impl World {
    /// As a user's homeserver sees another user.
    pub(crate) fn membership(&self, by: usize, of: usize) -> MembershipState {
        let members = self.server.members_as_seen_by(&self.room_id, &self.users[by]);
        members.get(&self.users[of]).cloned().unwrap_or(MembershipState::Leave)
    }

    pub(crate) fn set_membership(&mut self, by: usize, of: usize, to: &MembershipState) -> bool {
        self.server.set_membership(&self.users[by], &self.room_id, &self.users[of], to).is_ok()
    }

    /// A device's user invites another one, or throws it out, if it may. The first user stays: somebody
    /// has to.
    pub(crate) fn changes_membership(&mut self, d: usize, user: usize, to: &MembershipState) {
        let Some(device) = self.device(d) else { return };
        let by = self.devices[d].user;
        if user == 0 || by == user || user >= self.users.len() {
            return;
        }
        let before = self.membership(by, user);
        let is_kick = *to == MembershipState::Leave;
        if is_kick && !matches!(before, MembershipState::Join | MembershipState::Invite) {
            return;
        }
        if self.set_membership(by, user, to) {
            self.note(&format!("  {device:?} sets {} to {to}", self.users[user]));
        }
    }

    /// A user joins, if it is invited, and its devices sync.
    pub(crate) async fn joins(&mut self, user: usize) -> Result<(), Failure> {
        if user >= self.users.len() || !self.set_membership(user, user, &MembershipState::Join) {
            return Ok(());
        }
        for d in 0..self.devices.len() {
            if self.devices[d].user == user && self.devices[d].is_online {
                self.syncs(d).await?;
            }
        }
        Ok(())
    }

    /// A user leaves.
    pub(crate) fn leaves(&mut self, user: usize) {
        if user != 0 && user < self.users.len() {
            self.set_membership(user, user, &MembershipState::Leave);
        }
    }

    /// A user logs in on one more device.
    pub(crate) async fn logs_in(&mut self, user: usize) -> Result<(), Failure> {
        if user < self.users.len() && self.devices.len() < MAX_DEVICES.min(self.setup.devices * 2) {
            let d = self.adds_device(user).await;
            self.note(&format!("  as device {d}"));
            self.syncs(d).await?;
        }
        Ok(())
    }

    /// A device is deleted. The first device of a user stays, so that the user can talk.
    pub(crate) fn logs_out(&mut self, d: usize) {
        if d < self.setup.users || self.device(d).is_none() {
            return;
        }
        self.devices[d].is_gone = true;
        self.server.deletes_device(self.devices[d].device.name());
    }
}
