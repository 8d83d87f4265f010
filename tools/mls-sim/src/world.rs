//! One run: a room on simulated homeservers, the devices in it, and what happened.

mod attack;
mod begin;
mod exposure;
mod faults;
mod membership;
mod talk;
mod time;

pub(crate) use self::time::MAX_WAIT;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use matrix_sdk_crypto_mls::{
    Notice,
    store::MlsStore as _,
    testing::{DeviceName, SimDevice, SimServer, TestClock},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, events::room::member::MembershipState};

use crate::{action::Action, failure::Failure, insider::Insider, outcome::Stats, scenario::Setup};

/// Lines of the log that are kept.
const MAX_LOG: usize = 2_000_000;

/// Notices of a device that are described.
const MAX_NOTICES: usize = 20;

/// Everything of one run.
pub struct World {
    pub(crate) server: SimServer,
    /// The true time. Devices' clocks are off by their skew.
    pub(crate) clock: TestClock,
    pub(crate) users: Vec<OwnedUserId>,
    pub(crate) devices: Vec<Member>,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) setup: Setup,
    pub(crate) insiders: BTreeMap<usize, Insider>,
    /// Since when there are attacks, by the true time.
    pub(crate) attacked_since: Option<u64>,
    /// The harm that attacks did when it was last looked at: to which devices.
    pub(crate) harmed: BTreeMap<String, Vec<usize>>,
    pub(crate) stats: Stats,
    /// Messages by event: whom their sender knew to be gone.
    pub(crate) said: BTreeMap<OwnedEventId, Said>,
    /// On which side of a cut each user is; empty if there is none.
    pub(crate) cut: Vec<u32>,
    log: String,
}

/// A device in the run.
pub(crate) struct Member {
    pub(crate) device: SimDevice,
    /// Its user's number.
    pub(crate) user: usize,
    /// How far its clock is ahead of the true time, in milliseconds.
    pub(crate) skew: i64,
    pub(crate) is_online: bool,
    /// It was deleted.
    pub(crate) is_gone: bool,
    /// It does what it likes.
    pub(crate) is_evil: bool,
    /// Its application has to ask for the room's members (protocol §5).
    pub(crate) asks_for_members: bool,
    /// Since when it wants to send and cannot, by the true time.
    pub(crate) waits_since: Option<u64>,
    /// Nothing has gone wrong with its process or its server's answers.
    pub(crate) is_untouched: bool,
    /// A limited sync has left out events; its application pages back in the end.
    pub(crate) has_gaps: bool,
}

/// A message.
pub(crate) struct Said {
    /// Whom the sender knew to be gone.
    pub(crate) known_gone: Gone,
}

/// Who is gone, as far as a device knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone {
    /// Users who have left, or were thrown out.
    pub(crate) users: Vec<OwnedUserId>,
    /// Devices that were deleted, of users whose device list it has and has no reason to doubt.
    pub(crate) devices: BTreeSet<DeviceName>,
}

impl Gone {
    pub(crate) fn has(&self, device: &DeviceName) -> bool {
        self.users.contains(&device.0) || self.devices.contains(device)
    }
}

impl World {
    /// Does one thing.
    ///
    /// # Errors
    ///
    /// When something is not as it must be.
    pub async fn does(&mut self, action: &Action) -> Result<(), Failure> {
        self.note(&format!("{action:?}"));
        match action {
            Action::Say(d) => self.says(*d).await,
            Action::Sync(d) => self.syncs(*d).await,
            Action::Settle => self.settles().await,
            Action::Wait(seconds) => self.passes(seconds * 1000).await,
            Action::Update(d) => self.updates(*d).await,
            Action::Invite(d, user) => {
                self.changes_membership(*d, *user, &MembershipState::Invite);
                Ok(())
            }
            Action::Kick(d, user) => {
                self.changes_membership(*d, *user, &MembershipState::Leave);
                Ok(())
            }
            Action::Join(user) => self.joins(*user).await,
            Action::Leave(user) => {
                self.leaves(*user);
                Ok(())
            }
            Action::LogIn(user) => self.logs_in(*user).await,
            Action::LogOut(d) => {
                self.logs_out(*d);
                Ok(())
            }
            Action::Attack(d, attack) => self.attacks(*d, attack).await,
            other => self.goes_wrong(other).await,
        }
    }

    /// The device with a number, if it is still there.
    pub(crate) fn device(&self, d: usize) -> Option<SimDevice> {
        let member = self.devices.get(d)?;
        (!member.is_gone).then(|| member.device.clone())
    }

    /// The numbers of devices whose user has joined, and that follow the rules.
    pub(crate) fn honest_inside(&self) -> Vec<usize> {
        let inside = |d: &usize| {
            let member = &self.devices[*d];
            !member.is_gone && !member.is_evil && self.is_joined(member.user)
        };
        (0..self.devices.len()).filter(inside).collect()
    }

    /// Whether a user has joined, by the youngest event of any side.
    pub(crate) fn is_joined(&self, user: usize) -> bool {
        self.server.membership(&self.room_id, &self.users[user]) == MembershipState::Join
    }

    pub(crate) fn note(&mut self, line: &str) {
        if self.log.len() < MAX_LOG {
            let _ = writeln!(self.log, "{line}");
        }
    }

    /// What has happened, one line each.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// What every device knows, for whoever has to find out why a run went wrong.
    pub async fn describes(&mut self) {
        let mut graphs: Vec<String> = Vec::new();
        for d in 0..self.devices.len() {
            let device = self.devices[d].device.clone();
            let notices: Vec<_> = device
                .takes_notices()
                .into_iter()
                .filter(|notice| !matches!(notice, Notice::EpochEntered { .. }))
                .filter(|notice| {
                    !matches!(notice, Notice::Readable { .. } | Notice::NotReadable { .. })
                })
                .collect();
            for notice in notices.iter().take(MAX_NOTICES) {
                self.note(&format!("{d} is told: {notice:?}"));
            }
            if let Ok(Some(room)) = device.store().load_room(&self.room_id).await {
                let (gaps, behind) = (&room.view.gaps, &room.view.behind);
                if !gaps.is_empty() || behind.is_some() {
                    self.note(&format!("{d} misses {gaps:?}, is outside: {behind:?}"));
                }
            }
            let Ok(graph) = device.mls().epoch_graph(&self.room_id).await else { continue };
            let graph = graph.to_string();
            let number = graphs.iter().position(|known| *known == graph).unwrap_or(graphs.len());
            if number == graphs.len() {
                self.note(&format!("graph {number}:\n{graph}"));
                graphs.push(graph);
            }
            let member = &self.devices[d];
            let line = format!(
                "{d} {device:?} has graph {number}; online {}, deleted {}, evil {}",
                member.is_online, member.is_gone, member.is_evil
            );
            self.note(&line);
        }
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
