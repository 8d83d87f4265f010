//! What happened, step by step: printed as it happens, and summed up at the end.

mod json;
mod line;
mod text;

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use matrix_mls_tests::{WireCount, WireLog};
use matrix_sdk_crypto_mls::GroupStatus;

pub use self::line::Line;
use self::text::Printer;

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The transcript.
    Text,
    /// One JSON document; the transcript goes to standard error.
    Json,
}

/// The whole story.
#[derive(Debug)]
pub struct Report {
    homeserver: String,
    form: Form,
    begin: Instant,
    log: WireLog,
    printer: Printer,
    steps: Vec<Step>,
}

/// One step of it.
#[derive(Debug)]
pub struct Step {
    title: String,
    lines: Vec<Line>,
    /// Since the story's beginning.
    at: Duration,
    time: Duration,
    wire: BTreeMap<String, WireCount>,
    failure: Option<String>,
    printer: Printer,
}

impl Report {
    /// An empty one.
    pub fn new(homeserver: &str, form: Form) -> Self {
        let printer = Printer::new(form);
        printer.title(homeserver);
        Self {
            homeserver: homeserver.to_owned(),
            form,
            begin: Instant::now(),
            log: WireLog::new(),
            printer,
            steps: Vec::new(),
        }
    }

    /// Counts what goes over the wire here.
    pub fn count(&mut self, log: &WireLog) {
        self.log = log.clone();
    }

    /// Goes one step, and reports what it did, whether it succeeded or not.
    pub async fn step<T>(
        &mut self,
        title: &str,
        work: impl AsyncFnOnce(&mut Step) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let begin = Instant::now();
        let before = self.log.snapshot();
        let mut step = Step {
            title: title.to_owned(),
            lines: Vec::new(),
            at: self.begin.elapsed(),
            time: Duration::ZERO,
            wire: BTreeMap::new(),
            failure: None,
            printer: self.printer,
        };
        self.printer.heading(self.steps.len() + 1, &step);
        let result = work(&mut step).await;
        step.time = begin.elapsed();
        step.wire = self.log.since(&before);
        step.failure = result.as_ref().err().map(|error| format!("{error:#}"));
        self.printer.end_of_step(&step);
        self.steps.push(step);
        result
    }

    /// Sums up. Gives whether all went well.
    pub fn finish(self, failure: Option<&anyhow::Error>) -> io::Result<bool> {
        let failure = failure.map(|error| format!("{error:#}"));
        self.printer.summary(&self, failure.as_deref());
        if self.form == Form::Json {
            json::write(&self, failure.as_deref())?;
        }
        Ok(failure.is_none())
    }

    fn time(&self) -> Duration {
        self.begin.elapsed()
    }
}

impl Step {
    /// Adds a line, and prints it.
    pub fn line(&mut self, line: Line) {
        self.printer.line(&line);
        self.lines.push(line);
    }

    /// Tells something.
    pub fn note(&mut self, text: impl Into<String>) {
        self.line(Line::Note { text: text.into() });
    }

    /// Tells of a new epoch, as its author has it.
    pub fn epoch(&mut self, by: &str, group: &GroupStatus, what: &str) {
        self.line(Line::Epoch {
            by: by.to_owned(),
            epoch: group.epoch,
            node: group.node.short(),
            what: what.to_owned(),
        });
    }

    /// Requires something, which is what makes the demo more than a show.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) -> anyhow::Result<()> {
        let what = what.into();
        anyhow::ensure!(holds, "this is not so: {what}");
        self.line(Line::Check { what });
        Ok(())
    }

    /// What the step cost.
    fn total(&self) -> WireCount {
        let mut total = WireCount::default();
        for count in self.wire.values() {
            total += *count;
        }
        total
    }
}
