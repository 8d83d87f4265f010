//! A clock that can be set forward, for what takes minutes or days.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use matrix_sdk_crypto_mls::{Clock, SystemClock};

/// The system's clock, and how far this device's is ahead of it. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub(super) struct SetForward(Arc<AtomicU64>);

impl SetForward {
    pub(super) fn by(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for SetForward {
    fn now(&self) -> u64 {
        SystemClock.now().saturating_add(self.0.load(Ordering::Relaxed))
    }
}
