//! Rules that the machine does not have yet. A check is never weakened for one; a failure that only a
//! missing rule explains is counted apart.

use serde::{Deserialize, Serialize};

/// A rule of the protocol page that some checks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MissingRule {
    /// Join requests and external commits by the machine (§6): whoever is outside the chosen branch, or
    /// whose Welcome got lost, comes back.
    ComingBack,
    /// Repairs and objections (§5): invented devices, commits that only some can process.
    Objecting,
    /// Commit requests, relaying and `/messages` (§2, §6, §10): what the room's history lacks is got
    /// from other members.
    Fetching,
}

/// Those that are not there yet. Take one out when the machine has it: from then on what it explained
/// is a failure.
pub const MISSING: &[MissingRule] = &[];

impl MissingRule {
    /// Whether the machine lacks it.
    pub fn is_missing(self) -> bool {
        MISSING.contains(&self)
    }
}
