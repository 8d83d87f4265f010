//! How much went over the wire, by kind of request.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{AddAssign, Sub},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What one kind of request cost: body bytes without headers, uncompressed. A retried request
/// counts each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCount {
    /// Requests that were sent, answered or not.
    pub requests: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of response bodies.
    pub received: u64,
}

impl AddAssign for WireCount {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.sent += other.sent;
        self.received += other.received;
    }
}

impl Sub for WireCount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            sent: self.sent.saturating_sub(other.sent),
            received: self.received.saturating_sub(other.received),
        }
    }
}

/// A shared account of the traffic, by kind: `PUT /send/{event type}`, `POST /keys/claim`, `GET
/// /sync`.
///
/// Clones share their counts, so one log may serve all devices of a room.
#[derive(Clone, Debug, Default)]
pub struct WireLog {
    counts: Arc<Mutex<BTreeMap<String, WireCount>>>,
}

impl WireLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything so far, by kind.
    pub fn snapshot(&self) -> BTreeMap<String, WireCount> {
        self.lock().clone()
    }

    /// What was added since `earlier`, without the kinds that nothing was added to.
    pub fn since(&self, earlier: &BTreeMap<String, WireCount>) -> BTreeMap<String, WireCount> {
        self.snapshot()
            .into_iter()
            .map(|(kind, count)| {
                let before = earlier.get(&kind).copied().unwrap_or_default();
                (kind, count - before)
            })
            .filter(|(_, count)| *count != WireCount::default())
            .collect()
    }

    /// The count of one kind.
    pub fn get(&self, kind: &str) -> WireCount {
        self.lock().get(kind).copied().unwrap_or_default()
    }

    /// The sum of all kinds.
    pub fn total(&self) -> WireCount {
        let mut total = WireCount::default();
        for count in self.lock().values() {
            total += *count;
        }
        total
    }

    /// Starts again from nothing, for all clones.
    pub fn reset(&self) {
        self.lock().clear();
    }

    pub(crate) fn add(&self, kind: &str, count: WireCount) {
        *self.lock().entry(kind.to_owned()).or_default() += count;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, WireCount>> {
        // Counters cannot be left half-written, so a panic elsewhere does not spoil them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for WireLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<60} {:>8} {:>12} {:>12}", "kind", "requests", "bytes sent", "received")?;
        for (kind, count) in self.snapshot() {
            let WireCount { requests, sent, received } = count;
            writeln!(f, "{kind:<60} {requests:>8} {sent:>12} {received:>12}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_counts_and_differences_leave_out_what_stood_still() {
        let log = WireLog::new();
        let shared = log.clone();
        log.add("GET /sync", WireCount { requests: 1, sent: 0, received: 7 });
        let before = log.snapshot();
        shared.add("PUT /send/m.room.encrypted", WireCount { requests: 1, sent: 5, received: 2 });
        shared.add("PUT /send/m.room.encrypted", WireCount { requests: 1, sent: 5, received: 2 });

        let added = log.since(&before);
        assert_eq!(added.len(), 1);
        assert_eq!(
            added["PUT /send/m.room.encrypted"],
            WireCount { requests: 2, sent: 10, received: 4 }
        );
        assert_eq!(log.total(), WireCount { requests: 3, sent: 10, received: 11 });
        assert!(log.to_string().contains("PUT /send/m.room.encrypted"));
    }
}
