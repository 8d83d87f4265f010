//! A line on standard error for whatever takes longer than two seconds.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const QUIET: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_secs(1);

/// Shows that something is going on from its creation until it is finished or dropped.
#[derive(Debug)]
pub struct Progress {
    // Dropping the sender without a message says that the work failed.
    finished: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// A line that counts the seconds on a terminal, and two lines elsewhere.
    pub fn start(label: &str) -> Self {
        Self::with(label, std::io::stderr().is_terminal())
    }

    /// Two lines everywhere, for work beside something that draws on the terminal itself.
    pub fn start_in_background(label: &str) -> Self {
        Self::with(label, false)
    }

    /// The work succeeded.
    pub fn finish(mut self) {
        if let Some(finished) = self.finished.take() {
            // The receiver lives until it hears from us.
            let _ = finished.send(());
        }
    }

    fn with(label: &str, counting: bool) -> Self {
        let label = label.to_owned();
        let (finished, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            let mut outcome = receiver.recv_timeout(QUIET);
            if outcome != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if counting {
                while outcome == Err(RecvTimeoutError::Timeout) {
                    draw(&format!("\r{label} … {} s", begin.elapsed().as_secs()));
                    outcome = receiver.recv_timeout(TICK);
                }
            } else {
                draw(&format!("{label} …\n"));
                outcome = receiver.recv().map_err(RecvTimeoutError::from);
            }
            let start = if counting { "\r" } else { "" };
            let end = if outcome.is_ok() { "done" } else { "stopped" };
            draw(&format!("{start}{label}: {end} after {}\n", seconds(begin.elapsed())));
        });
        Self { finished: Some(finished), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.finished.take());
        if let Some(thread) = self.thread.take() {
            // A failed print is no reason to fail.
            let _ = thread.join();
        }
    }
}

/// A duration for people: `3.4 s`, `2 min 5 s`.
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f32()),
        total => format!("{} min {} s", total / 60, total % 60),
    }
}

fn draw(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody to read it is no reason to fail.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(3_420)), "3.4 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn finishing_and_dropping_do_not_wait() {
        let begin = Instant::now();
        Progress::start("quick").finish();
        drop(Progress::start_in_background("failed"));
        assert!(begin.elapsed() < QUIET);
    }
}
