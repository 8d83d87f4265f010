//! The end of a run: everything is healed, and everybody comes together.

use std::collections::{BTreeMap, BTreeSet};

use matrix_sdk_crypto_mls::{
    dmls::NodeId,
    testing::{DeviceName, SimRng},
};
use ruma::events::room::member::MembershipState;

use crate::{
    failure::Failure,
    world::{MAX_WAIT, World},
};

/// So many times somebody tries to send; after that everybody is on one tip.
const MAX_ROUNDS: usize = 60;

/// Between two of them passes so much time, in milliseconds.
const PAUSE: u64 = 20_000;

/// After so much time all that has to be done again by the clock is done, in milliseconds.
const LONG: u64 = 2 * 3_600_000;

/// How things stand.
struct Standing {
    /// Those who are on the tip that they choose.
    together: BTreeMap<usize, NodeId>,
    /// Those who are not, and why.
    apart: BTreeMap<usize, String>,
}

impl World {
    /// Heals everything, lets people talk until all are on one tip, and checks everything.
    ///
    /// # Errors
    ///
    /// When something is not as it must be.
    pub async fn ends(&mut self) -> Result<(), Failure> {
        self.note("-- everything is healed");
        self.everything_works().await?;
        let begin = self.true_time();
        self.stats.sends = Some(self.comes_together().await?);
        self.stats.healing_ms = self.true_time() - begin;
        self.everybody_can_send().await?;
        self.comes_to_rest().await?;
        self.stats.commits = self.commits();
        self.check_messages().await?;
        self.check_limits().await
    }

    /// How many commits there are.
    pub(crate) fn commits(&self) -> usize {
        self.server.count(&self.room_id, "io.github.matrix-mls.dmls.v1.commit")
    }

    async fn everything_works(&mut self) -> Result<(), Failure> {
        self.heals();
        for member in &mut self.devices {
            // From here on it is `everybody_can_send` that looks at this.
            member.waits_since = None;
            member.is_untouched = false;
        }
        for d in 0..self.devices.len() {
            let Some(device) = self.device(d) else { continue };
            self.devices[d].is_online = true;
            let name = device.name();
            self.server.holds_back_timeline_of(name, false);
            self.server.holds_back_to_device_of(name, false);
            self.server.doubles_to_device_of(name, false);
            self.server.nothing_goes_wrong_any_more(name);
            self.server.announces_devices_of(device.user_id());
            device.store().heal();
            device.takes_rooms_first(false);
        }
        for d in 0..self.devices.len() {
            if let Some(device) = self.device(d) {
                device.gets_late_answers().await;
                self.syncs(d).await?;
            }
        }
        self.settles().await?;
        self.pages_back().await?;
        // What was asked of the server and failed is asked again when the application next starts,
        // at the latest.
        for d in 0..self.devices.len() {
            if let Some(device) = self.device(d).filter(|_| !self.devices[d].is_evil) {
                device.restarts().await;
                device.pumps().await;
            }
        }
        self.passes(1000).await
    }

    /// Applications ask for the messages that a limited sync has left out.
    async fn pages_back(&mut self) -> Result<(), Failure> {
        for d in 0..self.devices.len() {
            let Some(device) = self.device(d).filter(|_| self.devices[d].has_gaps) else {
                continue;
            };
            if self.devices[d].is_evil || !self.is_joined_there(d) {
                continue;
            }
            for message in self.server.sent_messages() {
                let event_id = &message.event_id;
                if device.reading(event_id).is_some()
                    || !self.server.shows(device.name(), &self.room_id, event_id)
                {
                    continue;
                }
                let event = self.server.event(&self.room_id, event_id).to_json();
                let read = device.reads_event(&self.room_id, &event).await;
                read.map_err(|error| Failure::new("store", format!("{device:?}: {error}")))?;
                self.stats.paged += 1;
            }
            device.pumps().await;
        }
        self.settles().await
    }

    /// Lets people talk until all are on one tip, with whom the room wants. Gives how many messages
    /// that took.
    async fn comes_together(&mut self) -> Result<usize, Failure> {
        let mut rng = SimRng::new(self.setup.seed ^ 0xea1);
        let mut sends = 0;
        for round in 0..MAX_ROUNDS {
            let standing = self.standing().await;
            if standing.apart.is_empty() && self.differences(&standing).await.is_empty() {
                self.note(&format!("-- together after {sends} messages"));
                return Ok(sends);
            }
            let inside = self.honest_inside();
            let Some(d) = rng.pick(&inside).copied() else { return Ok(0) };
            let device = self.devices[d].device.clone();
            if self.tries_to_say(d, &device).await? {
                sends += 1;
            }
            // Half-way, what is tried hourly is tried again.
            self.passes(if round == MAX_ROUNDS / 2 { LONG } else { PAUSE }).await?;
        }
        let standing = self.standing().await;
        if let Some((d, why)) = standing.apart.first_key_value() {
            let found = format!("{:?} after {sends} messages: {why}", self.devices[*d].device);
            return Err(Failure::new("left-behind", found));
        }
        Err(self.differences(&standing).await.into_iter().next().unwrap_or_else(|| {
            Failure::new("late", format!("together only after {sends} messages"))
        }))
    }

    async fn standing(&self) -> Standing {
        let mut standing = Standing { together: BTreeMap::new(), apart: BTreeMap::new() };
        for d in self.honest_inside() {
            match self.devices[d].device.status().await {
                None => {
                    standing.apart.insert(d, "in no epoch".to_owned());
                }
                Some(status) if !status.is_chosen => {
                    let graph = self.devices[d].device.mls().epoch_graph(&self.room_id).await;
                    let chosen = graph.expect("the store works").chosen;
                    let why = format!("cannot enter {chosen:?}, is in {:?}", status.node);
                    standing.apart.insert(d, why);
                }
                Some(status) => drop(standing.together.insert(d, status.node)),
            }
        }
        standing
    }

    /// Whom the room wants in the group.
    pub(crate) fn wanted(&self) -> BTreeSet<DeviceName> {
        let wanted = self.devices.iter().filter(|member| {
            let membership = self.server.membership(&self.room_id, &self.users[member.user]);
            !member.is_gone && matches!(membership, MembershipState::Join | MembershipState::Invite)
        });
        wanted.map(|member| member.device.name().clone()).collect()
    }

    /// How those who are on the tip that they choose differ, from one another and from what the room
    /// wants.
    async fn differences(&self, standing: &Standing) -> Vec<Failure> {
        let tips: BTreeSet<_> = standing.together.values().collect();
        if tips.len() > 1 {
            let mut known = Vec::new();
            let mut lines = Vec::new();
            for (d, tip) in &standing.together {
                let graph = self.devices[*d].device.mls().epoch_graph(&self.room_id).await;
                let nodes: BTreeSet<_> =
                    graph.expect("the store works").nodes.iter().map(|node| node.node).collect();
                lines.push(format!("{d}: {tip:?} of {}", nodes.len()));
                known.push(nodes);
            }
            let found = lines.join(", ");
            // Who knows the same chooses the same; who does not has to be told.
            let same = known.windows(2).all(|two| two[0] == two[1]);
            let check = if same { "divergence" } else { "ignorance" };
            return vec![Failure::new(check, found)];
        }
        let Some((d, _)) = standing.together.first_key_value() else {
            let nobody = || Failure::new("nobody", "nobody is in the chosen epoch");
            return standing.apart.first_key_value().map(|_| nobody()).into_iter().collect();
        };
        let seated = self.devices[*d].device.devices_in_group().await;
        let wanted = self.wanted();
        let known: BTreeSet<_> = self.devices.iter().map(|m| m.device.name().clone()).collect();
        let (invented, unwanted): (Vec<_>, Vec<_>) =
            seated.difference(&wanted).partition(|name| !known.contains(*name));
        let missing: Vec<_> = wanted.difference(&seated).collect();
        let mut failures = Vec::new();
        if !invented.is_empty() {
            let found = format!("{invented:?} are in the group");
            failures.push(Failure::new("invented", found));
        }
        if !unwanted.is_empty() || !missing.is_empty() {
            let found = format!("{unwanted:?} are in the group, {missing:?} are not");
            failures.insert(0, Failure::new("membership", found));
        }
        failures
    }

    /// Nobody waits longer than five minutes to send.
    async fn everybody_can_send(&mut self) -> Result<(), Failure> {
        for d in self.honest_inside() {
            let device = self.devices[d].device.clone();
            let begin = self.true_time();
            while !self.tries_to_say(d, &device).await? {
                if self.true_time() - begin > MAX_WAIT {
                    let found = format!("{device:?} cannot send for {MAX_WAIT} ms");
                    return Err(Failure::new("mute", found));
                }
                self.passes(10_000).await?;
            }
            self.settles().await?;
        }
        Ok(())
    }

    /// When nobody says anything more, nobody commits any more.
    async fn comes_to_rest(&mut self) -> Result<(), Failure> {
        self.passes(3 * 3_600_000).await?;
        let before = self.commits();
        self.passes(3_600_000).await?;
        let more = self.commits() - before;
        if more > 0 {
            return Err(Failure::new("endless", format!("{more} commits in an hour of silence")));
        }
        Ok(())
    }
}
