//! Where the time comes from.

use std::{
    fmt::Debug,
    time::{SystemTime, UNIX_EPOCH},
};

/// A clock that tests can replace. It decides when something is tried again or erased, never which
/// epoch is chosen.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
