//! Syncing, and time that passes.

use std::collections::BTreeMap;

use matrix_sdk_crypto_mls::{Clock as _, MlsError};

use super::World;
use crate::failure::Failure;

/// So many rounds of syncs bring everybody to rest, or never.
const MAX_ROUNDS: usize = 60;

/// Whoever could not send tries again after so much time, in milliseconds.
const RETRY: u64 = 10_000;

/// Nobody waits longer to send while its server answers, in milliseconds.
pub(crate) const MAX_WAIT: u64 = 5 * 60_000;

/// So many times something is due in one stretch of time at most, for each device.
const MAX_DUE: usize = 50;

impl World {
    /// The true time, in milliseconds since 1970.
    pub(crate) fn true_time(&self) -> u64 {
        self.clock.now()
    }

    /// A device syncs once.
    pub(crate) async fn syncs(&mut self, d: usize) -> Result<(), Failure> {
        let Some(device) = self.device(d) else { return Ok(()) };
        device.syncs().await;
        if std::mem::take(&mut self.devices[d].asks_for_members) {
            self.gets_members(d).await?;
            device.pumps().await;
        }
        Ok(())
    }

    /// A device's application asks for the room's members.
    async fn gets_members(&self, d: usize) -> Result<(), Failure> {
        let device = &self.devices[d].device;
        let members = self.server.members_as_seen_by(&self.room_id, device.user_id());
        match device.mls().set_room_members(&self.room_id, members.clone()).await {
            Err(MlsError::Store(_)) => {
                device.store().heal();
                device.restarts().await;
                device.mls().set_room_members(&self.room_id, members).await
            }
            done => done,
        }
        .map_err(|error| Failure::new("members", format!("{device:?}: {error}")))
    }

    /// Everybody who is online syncs until nothing new comes.
    pub(crate) async fn settles(&mut self) -> Result<(), Failure> {
        for _ in 0..MAX_ROUNDS {
            let mut news = false;
            for d in 0..self.devices.len() {
                if !self.devices[d].is_online || self.devices[d].is_gone {
                    continue;
                }
                if self.server.has_news_for(self.devices[d].device.name()) {
                    news = true;
                    self.syncs(d).await?;
                }
            }
            if !news {
                return self.agrees_with_model().await;
            }
        }
        Err(Failure::new("rest", format!("still something new after {MAX_ROUNDS} rounds of syncs")))
    }

    /// Time passes. Whoever is online does what is due when it is due, and whose server answers and who
    /// could not send tries again.
    pub(crate) async fn passes(&mut self, milliseconds: u64) -> Result<(), Failure> {
        let end = self.true_time() + milliseconds;
        while self.true_time() < end {
            let waiting: Vec<_> = (0..self.devices.len()).filter(|d| self.waits(*d)).collect();
            if waiting.is_empty() {
                break;
            }
            self.lets_pass(RETRY.min(end - self.true_time())).await?;
            for d in waiting {
                self.says(d).await?;
                self.has_waited_too_long(d)?;
            }
        }
        self.lets_pass(end.saturating_sub(self.true_time())).await
    }

    /// Whether a device wants to send, cannot, and neither its process nor its server is to blame.
    fn waits(&self, d: usize) -> bool {
        let member = &self.devices[d];
        member.waits_since.is_some()
            && member.is_untouched
            && !(member.is_gone || member.is_evil)
            && self.is_joined_there(d)
    }

    fn has_waited_too_long(&self, d: usize) -> Result<(), Failure> {
        let member = &self.devices[d];
        let since = member.waits_since.filter(|_| self.waits(d));
        match since.map(|since| self.true_time() - since) {
            Some(waits) if waits > MAX_WAIT => {
                let found = format!("{:?} has not been able to send for {waits} ms", member.device);
                Err(Failure::new("waits", found))
            }
            _ => Ok(()),
        }
    }

    /// Time passes. Whoever is online does what is due when it is due.
    async fn lets_pass(&mut self, milliseconds: u64) -> Result<(), Failure> {
        let end = self.true_time() + milliseconds;
        let mut tried = Vec::new();
        for _ in 0..MAX_DUE * self.devices.len() {
            let next = (0..self.devices.len())
                .filter_map(|d| Some((self.due(d)?, d)))
                .filter(|next| next.0 <= end && !tried.contains(next))
                .min();
            let Some((due, d)) = next else {
                self.advances_to(end).await;
                return self.settles().await;
            };
            // What is due and stays due is not tried all the time.
            tried.push((due, d));
            self.advances_to(due).await;
            self.devices[d].device.pumps().await;
            self.settles().await?;
        }
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, d) in &tried {
            *times.entry(*d).or_default() += 1;
        }
        let found =
            format!("something was due so often in {milliseconds} ms, by device: {times:?}");
        Err(Failure::new("endless", found))
    }

    /// When a device has something to do, by the true time.
    fn due(&self, d: usize) -> Option<u64> {
        let member = &self.devices[d];
        if !member.is_online || member.is_gone || member.is_evil {
            return None;
        }
        let due = member.device.mls().next_deadline()?;
        Some(due.saturating_add_signed(-member.skew))
    }

    async fn advances_to(&mut self, time: u64) {
        let by = time.saturating_sub(self.true_time());
        self.counts_exposure(by).await;
        self.clock.advance(by);
        for member in &self.devices {
            member.device.clock().advance(by);
        }
    }
}
