//! What was not as it must be.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::expected::MissingRule;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which check: one word, by which failures are compared when a trace is minimised.
    pub check: String,
    /// What was found.
    pub found: String,
    /// The rule without which this is to be expected.
    pub needs: Option<MissingRule>,
}

impl Failure {
    /// A failure that nothing excuses.
    pub fn new(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), found: found.into(), needs: None }
    }

    /// A failure that a rule is there to prevent.
    pub fn for_want_of(rule: MissingRule, check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), found: found.into(), needs: Some(rule) }
    }

    /// Whether a rule that is not there yet explains it.
    pub fn is_expected(&self) -> bool {
        self.needs.is_some_and(MissingRule::is_missing)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.found)?;
        match self.needs {
            Some(rule) => write!(f, " (needs {rule:?})"),
            None => Ok(()),
        }
    }
}
