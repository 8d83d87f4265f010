//! What was not as it must be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which check: one word, by which failures are compared when a trace is minimised.
    pub check: String,
    /// What was found.
    pub found: String,
}

impl Failure {
    /// A failure of a check.
    pub fn new(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), found: found.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.found)
    }
}
