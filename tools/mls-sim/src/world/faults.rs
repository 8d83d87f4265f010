//! What goes wrong without anybody wanting it.

use ruma::OwnedUserId;

use super::World;
use crate::{
    action::{Action, Doing},
    executor::killed_after,
    failure::Failure,
};

impl World {
    pub(crate) async fn goes_wrong(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Cut(sides) => self.is_cut(sides),
            Action::Heal => self.heals(),
            Action::Fault(d, ..)
            | Action::LateAnswers(d)
            | Action::Offline(d, _)
            | Action::HoldTimeline(d, _)
            | Action::HoldToDevice(d, _)
            | Action::Disorder(d)
            | Action::Gap(d)
            | Action::Restart(d)
            | Action::Crash(d, _)
            | Action::Abort(d, ..)
                if self.device(*d).is_some() =>
            {
                return self.goes_wrong_at(*d, action).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn goes_wrong_at(&mut self, d: usize, action: &Action) -> Result<(), Failure> {
        let device = self.devices[d].device.clone();
        let name = device.name();
        self.devices[d].is_untouched = false;
        match action {
            Action::Fault(_, kind, wrong) => {
                self.server.next_goes_wrong(name, (*kind).into(), (*wrong).into());
            }
            Action::LateAnswers(_) => device.gets_late_answers().await,
            Action::Offline(_, offline) => self.devices[d].is_online = !offline,
            Action::HoldTimeline(_, hold) => self.server.holds_back_timeline_of(name, *hold),
            Action::HoldToDevice(_, hold) => self.server.holds_back_to_device_of(name, *hold),
            Action::Disorder(_) => {
                self.server.doubles_to_device_of(name, true);
                self.server.shuffles_to_device_of(name);
                self.server.doubles_timeline_of(name);
                self.server.shuffles_timeline_of(name);
                device.takes_rooms_first(d.is_multiple_of(2));
            }
            Action::Gap(_) => {
                self.devices[d].has_gaps = true;
                self.server.drops_messages_of(name);
            }
            Action::Restart(_) => device.restarts().await,
            Action::Crash(_, write) => {
                device.crashes_on_faults(true);
                device.store().die_at(*write);
            }
            Action::Abort(_, doing, waits) => self.is_killed(d, *doing, *waits).await?,
            _ => {}
        }
        Ok(())
    }

    /// A device is killed in the middle of something, and started again.
    async fn is_killed(&mut self, d: usize, doing: Doing, waits: usize) -> Result<(), Failure> {
        let device = self.devices[d].device.clone();
        if self.devices[d].is_evil {
            return Ok(());
        }
        let done = match doing {
            Doing::Sync => killed_after(waits, self.syncs(d)).await,
            Doing::Say => killed_after(waits, self.says(d)).await,
            Doing::Update => killed_after(waits, self.updates(d)).await,
        };
        match done {
            Some(done) => done,
            None => {
                self.note("  and is killed at it");
                device.restarts().await;
                Ok(())
            }
        }
    }

    fn is_cut(&mut self, sides: &[u32]) {
        let last = sides.iter().copied().max().unwrap_or_default();
        let users = |side| -> Vec<OwnedUserId> {
            let those = self.users.iter().zip(sides).filter(|(_, of)| **of == side);
            those.map(|(user, _)| user.clone()).collect()
        };
        let parts: Vec<_> = (0..=last).map(users).collect();
        self.server.is_cut_into(&parts);
        self.cut = sides.to_vec();
        self.asks_for_members();
    }

    pub(crate) fn heals(&mut self) {
        self.server.heals();
        self.cut.clear();
        self.asks_for_members();
    }

    /// What syncs say of members after a cut is not to be relied on (protocol §5).
    fn asks_for_members(&mut self) {
        for member in &mut self.devices {
            member.asks_for_members = true;
        }
    }
}
