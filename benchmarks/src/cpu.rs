//! How long the processor has worked, whatever else the machine does.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Runs from now on.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    begin: Instant,
    /// What all threads of this process had used.
    used: Duration,
}

/// What something took, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// By the clock on the wall.
    pub wall: f64,
    /// Of all threads of this process together: the same when nothing else runs, and no thread waits.
    pub cpu: f64,
}

impl Meter {
    /// Begins.
    pub fn start() -> Self {
        Self { begin: Instant::now(), used: used() }
    }

    /// What was spent since.
    pub fn stop(self) -> Spent {
        Spent {
            wall: self.begin.elapsed().as_secs_f64() * 1000.0,
            cpu: used().saturating_sub(self.used).as_secs_f64() * 1000.0,
        }
    }
}

fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_and_waiting_does_not() {
        let meter = Meter::start();
        let mut x = 1_u64;
        while meter.stop().cpu < 5.0 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(meter.stop().cpu >= 5.0);
        let meter = Meter::start();
        std::thread::sleep(Duration::from_millis(20));
        assert!(meter.stop().wall >= 20.0);
    }
}
