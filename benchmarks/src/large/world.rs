//! A room of whole machines, on a simulated homeserver.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use matrix_sdk_crypto_mls::testing::{SimDevice, SimServer, TestClock};
use ruma::{OwnedEventId, OwnedUserId, UserId, events::room::member::MembershipState};
use tokio::task::JoinSet;

/// Of every device: nobody joins more rooms.
const KEY_PACKAGES: u32 = 2;

/// How often everybody syncs until all have the same.
const ROUNDS: usize = 20;

/// A room and its devices, each of another user.
pub struct World {
    /// The homeserver.
    pub server: SimServer,
    /// Who has made the room.
    pub founder: SimDevice,
    /// Everybody else who is still there. Those who have gone stay members: their devices are off.
    pub others: Vec<SimDevice>,
    event_content: Option<usize>,
}

impl World {
    /// A room in which so many users are joined, with a device each. Nobody has synced. If it is said,
    /// events have at most so many bytes of content.
    pub async fn new(devices: usize, event_content: Option<usize>) -> Self {
        let server = SimServer::new(1);
        server.wants_no_olm_keys();
        let log_in = async |name: &str| log_in(&server, name, event_content).await;
        let founder = log_in("user0").await.creates_room().await;
        let mut others = Vec::new();
        for number in 1..devices {
            let name = format!("user{number}");
            // Before it logs in, so that it sees the room as it is then.
            joins(&server, &founder, &name);
            others.push(log_in(&name).await.looks_with(&founder));
        }
        Self { server, founder, others, event_content }
    }

    /// The founder gets the room ready: founds the group, and adds everybody.
    pub async fn found(&mut self) -> Result<()> {
        self.founder.syncs().await;
        let mut added = 0;
        // Each try makes a bounded number of commits.
        loop {
            let without_mls = self.founder.tries_to_prepare().await;
            let members = self.founder.devices_in_group().await.len();
            if let Ok(without_mls) = without_mls {
                ensure!(without_mls.is_empty(), "{} devices are left out", without_mls.len());
                ensure!(members == self.others.len() + 1, "only {members} devices are in");
                return Ok(());
            }
            ensure!(members > added, "the founder does not get on: {without_mls:?}");
            added = members;
        }
    }

    /// How many commits the room has.
    pub fn commits(&self) -> usize {
        self.server.count(self.founder.room(), super::sizes::COMMIT)
    }

    /// Everybody syncs, and so joins, and reads a message. All but so many are switched off then.
    /// Gives how many have read it.
    pub async fn everybody_reads(
        &mut self,
        event: &OwnedEventId,
        text: &str,
        stay: usize,
    ) -> Result<usize> {
        let all = std::mem::take(&mut self.others);
        let step = (all.len() / stay.max(1)).max(1);
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        let mut tasks = JoinSet::new();
        let mut by_lane: Vec<Vec<_>> = (0..lanes).map(|_| Vec::new()).collect();
        for (number, device) in all.into_iter().enumerate() {
            let stays = number % step == 0 && number / step < stay;
            if let Some(lane) = by_lane.get_mut(number % lanes) {
                lane.push((number, device, stays));
            }
        }
        let text: Arc<str> = text.into();
        for devices in by_lane {
            let (event, text) = (event.clone(), Arc::clone(&text));
            tasks.spawn(async move {
                let (mut read, mut staying) = (0, Vec::new());
                for (number, device, stays) in devices {
                    device.syncs().await;
                    read += usize::from(device.text(&event).as_deref() == Some(&*text));
                    if stays {
                        staying.push((number, device));
                    }
                }
                (read, staying)
            });
        }
        let (mut read, mut staying) = (1, Vec::new());
        while let Some(done) = tasks.join_next().await {
            let (more, devices) = done?;
            read += more;
            staying.extend(devices);
        }
        staying.sort_by_key(|(number, _)| *number);
        self.others = staying.into_iter().map(|(_, device)| device).collect();
        Ok(read)
    }

    /// Somebody comes into the room, knows everybody's devices, and is in no epoch.
    pub async fn arrives(&self, name: &str) -> SimDevice {
        joins(&self.server, &self.founder, name);
        let device = log_in(&self.server, name, self.event_content).await.looks_with(&self.founder);
        device.syncs().await;
        device
    }

    /// The last of the others is kicked; the founder writes, and all that are left read it. Gives
    /// whether the one that was removed cannot, also when it is given the event.
    pub async fn removes_one(&mut self) -> Result<bool> {
        let gone = self.others.pop().context("nobody is there")?;
        gone.syncs().await;
        let before = self.founder.devices_in_group().await.len();
        self.founder.kicks(&gone);
        self.founder.syncs().await;
        let text = "One of us has gone.";
        let event = self.founder.says(text).await;
        let after = self.founder.devices_in_group().await;
        ensure!(after.len() < before && !after.contains(gone.name()), "it is still in the group");
        for device in &self.others {
            device.syncs().await;
            if device.text(&event).as_deref() != Some(text) {
                return Ok(false);
            }
        }
        gone.syncs().await;
        let raw = self.server.event(gone.room(), &event).to_json();
        gone.reads_event(gone.room(), &raw).await?;
        let reading = gone.reading(&event).context("it has not tried")?;
        Ok(!reading.is_clear())
    }

    /// Everybody syncs until nobody has anything new. Gives whether all send in the same epoch, and
    /// read a message there.
    pub async fn comes_together(&self) -> Result<bool> {
        for _ in 0..ROUNDS {
            self.server.clock().advance(TestClock::MINUTE);
            for device in self.others.iter().chain([&self.founder]) {
                device.syncs().await;
            }
            let everybody = self.others.iter().chain([&self.founder]);
            if !everybody.clone().any(|device| self.server.has_news_for(device.name())) {
                break;
            }
        }
        let tip = self.founder.node().await.context("the founder is not in the group")?;
        let text = "Are we all here?";
        let event = self.others.first().context("nobody is there")?.says(text).await;
        for device in self.others.iter().chain([&self.founder]) {
            device.syncs().await;
            let reads = device.text(&event).as_deref() == Some(text);
            if !reads || device.node().await != Some(tip) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many bytes a member's credential has.
    #[cfg(feature = "openmls")]
    pub async fn credential_size(&self) -> Result<usize> {
        let status = self.founder.status().await.context("not in the group")?;
        let (_, member) = status.roster.iter().next().context("nobody is in the group")?;
        Ok(member.identity.to_bytes().len())
    }
}

async fn log_in(server: &SimServer, name: &str, event_content: Option<usize>) -> SimDevice {
    let mut device = server.device(name, "DEVICE").key_packages(KEY_PACKAGES);
    if let Some(bytes) = event_content {
        device = device.max_event_content(bytes);
    }
    device.logs_in().await
}

/// A user is invited, and joins.
fn joins(server: &SimServer, founder: &SimDevice, name: &str) {
    let user = user(name);
    for (by, membership) in
        [(founder.user_id(), MembershipState::Invite), (&user, MembershipState::Join)]
    {
        // The server refuses nobody who was invited.
        let _ = server.set_membership(by, founder.room(), &user, &membership);
    }
}

#[allow(clippy::expect_used)] // Names are ours.
fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:example.org")).expect("a valid user ID")
}
