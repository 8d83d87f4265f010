//! What the last batches have left in the database, so that the next one need not read it again.

use std::collections::HashMap;

use crate::seal::{Nonce, Sum};

/// How many entries there are of a kind at most. With more, all are forgotten.
const MAX: usize = 1024;

/// What is known of the database as of a version of it: sums, IDs of rooms, and nonces of rows that
/// are replaced often, all by their lookup keys.
#[derive(Default)]
pub(crate) struct Known {
    /// `PRAGMA data_version`: another one after somebody else has written.
    version: i64,
    pub(crate) rooms: HashMap<Vec<u8>, i64>,
    pub(crate) sums: HashMap<Vec<u8>, Sum>,
    pub(crate) nonces: HashMap<Vec<u8>, Nonce>,
}

impl Known {
    /// The version.
    pub(crate) const fn version(&self) -> i64 {
        self.version
    }

    /// A transaction begins: what is known still holds if nobody else has written.
    pub(crate) fn keep_if(&mut self, version: i64) {
        let too_much = [self.rooms.len(), self.sums.len(), self.nonces.len()];
        if self.version != version || too_much.iter().any(|entries| *entries > MAX) {
            *self = Self { version, ..Self::default() };
        }
    }
}
