use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::clock::Clock;

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// One minute, in milliseconds.
    pub const MINUTE: u64 = 60 * 1000;
    /// One hour, in milliseconds.
    pub const HOUR: u64 = 60 * Self::MINUTE;
    /// One day, in milliseconds.
    pub const DAY: u64 = 24 * Self::HOUR;

    /// A clock that stands at a time, in milliseconds since 1970.
    pub fn at(now: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now)))
    }

    /// Moves it, by milliseconds.
    pub fn advance(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Default for TestClock {
    /// Stands in September 2020.
    fn default() -> Self {
        Self::at(1_600_000_000_000)
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
