//! The transcript.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use matrix_mls_tests::WireCount;

use super::{Form, Line, Report, Step};

/// Prints as things happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    form: Form,
    colour: bool,
}

impl Printer {
    pub(super) fn new(form: Form) -> Self {
        let is_terminal = match form {
            Form::Text => io::stdout().is_terminal(),
            Form::Json => io::stderr().is_terminal(),
        };
        Self { form, colour: is_terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    pub(super) fn title(&self, homeserver: &str) {
        self.print(&self.bold("Decentralised MLS in a Matrix room"));
        self.print(&format!("on {homeserver}: no server knows anything of it"));
    }

    pub(super) fn heading(&self, number: usize, step: &Step) {
        let at = format!("at {}", seconds(step.at));
        self.print("");
        self.print(&self.bold(&format!("{:<70} {at:>9}", format!("{number}. {}", step.title))));
    }

    pub(super) fn line(&self, line: &Line) {
        match line {
            Line::Note { text } => self.print(&format!("   {text}")),
            Line::Check { what } => self.print(&format!(" {} {what}", self.green("✓"))),
            Line::Epoch { by, epoch, node, what } => {
                self.print(&format!("   {by} {what}: epoch {epoch} ({node})"));
            }
            Line::Graph { of, drawing } => {
                self.print(&format!("   the epochs as {of} has them:"));
                drawing.lines().for_each(|line| self.print(&format!("   {line}")));
            }
            Line::Message { from, text, epoch, node, read_by } => {
                self.print(&format!("   {from}: “{text}”"));
                self.print(&format!(
                    " {}   in epoch {epoch} ({node}), read by {}",
                    self.green("✓"),
                    read_by.join(", ")
                ));
            }
            Line::Unreadable { device, text, reason } => {
                let tick = self.green("✓");
                self.print(&format!(" {tick} {device} cannot read “{text}”: {reason}"));
            }
        }
    }

    pub(super) fn end_of_step(&self, step: &Step) {
        if let Some(failure) = &step.failure {
            self.print(&format!(" {} {failure}", self.red("✗")));
        }
        let mut kinds: Vec<_> = step.wire.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(count.sent + count.received));
        if !kinds.is_empty() {
            self.print(&self.dim(&format!("     {:<62} {}", "over the wire", header())));
        }
        for (kind, count) in kinds {
            self.print(&self.dim(&format!("     {:<62} {}", shortened(kind), wire(*count))));
        }
        let (time, total) = (format!("all, in {}", seconds(step.time)), wire(step.total()));
        self.print(&self.dim(&format!("     {time:<62} {total}")));
    }

    pub(super) fn summary(&self, report: &Report, failure: Option<&str>) {
        self.print("");
        self.print(&self.bold(&format!("{:<52} {:>7}   {}", "step", "time", header())));
        let mut total = WireCount::default();
        for (number, step) in report.steps.iter().enumerate() {
            total += step.total();
            let result = if step.failure.is_none() { self.green("ok") } else { self.red("FAILED") };
            let title = format!("{}. {}", number + 1, step.title);
            let (time, wire) = (seconds(step.time), wire(step.total()));
            self.print(&format!("{title:<52} {time:>7}   {wire}   {result}"));
        }
        let (time, wire) = (seconds(report.time()), wire(total));
        self.print(&self.bold(&format!("{:<52} {time:>7}   {wire}", "all")));
        self.print("");
        self.print(&match failure {
            None => self.green("Everything was as it must be."),
            Some(failure) => self.red(&format!("It failed: {failure}")),
        });
    }

    fn print(&self, line: &str) {
        // Who closes our output does not want to hear of it.
        let _ = match self.form {
            Form::Text => writeln!(io::stdout(), "{line}"),
            Form::Json => writeln!(io::stderr(), "{line}"),
        };
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.style("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.style("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.style("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.style("31", text)
    }
}

fn header() -> String {
    format!("{:>8} {:>10} {:>10}", "requests", "sent", "received")
}

fn wire(count: WireCount) -> String {
    let WireCount { requests, sent, received } = count;
    format!("{requests:>8} {:>10} {:>10}", Bytes(sent).to_string(), Bytes(received).to_string())
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The kind of a request without the part that all our names begin with.
fn shortened(kind: &str) -> String {
    kind.replace(matrix_sdk_crypto_mls::dmls::NAMESPACE, "…")
}

/// A number of bytes in kilobytes.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} kB", self.0 / 1000, self.0 % 1000 / 100)
    }
}
