//! Times, measured many times.

use std::time::Instant;

use serde::Serialize;

/// What was measured of one thing, each time.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

/// What is reported of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The middle value.
    pub median: f64,
    /// 95 % are not above this one.
    pub p95: f64,
    /// How many there were.
    pub count: usize,
}

impl Samples {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Does something and adds how long it took, in milliseconds.
    pub async fn time<T>(&mut self, work: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let result = work.await;
        self.push(begin.elapsed().as_secs_f64() * 1000.0);
        result
    }

    /// The same for what is no future.
    pub fn time_now<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        self.push(begin.elapsed().as_secs_f64() * 1000.0);
        result
    }

    /// Sums up; zeros when nothing was measured.
    pub fn summary(&self) -> Summary {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        // Nearest rank.
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or_default()
        };
        Summary { median: at(50), p95: at(95), count: values.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sorted_values() {
        let mut samples = Samples::default();
        for value in (1..=20).rev() {
            samples.push(f64::from(value));
        }
        assert_eq!(samples.summary(), Summary { median: 10.0, p95: 19.0, count: 20 });
        assert_eq!(Samples::default().summary(), Summary { median: 0.0, p95: 0.0, count: 0 });
    }
}
