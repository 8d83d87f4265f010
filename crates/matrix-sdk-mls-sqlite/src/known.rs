//! What the last batches have left in the database, so that the next one need not read it again.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use crate::{
    chunks::Before,
    seal::{Nonce, Sum},
};

/// How many entries there are of a kind at most. With more, all are forgotten.
const MAX: usize = 1024;

/// And so many pieces, of all rooms: about 5 MB.
const MAX_CHUNKS: usize = 32_768;

/// And so many runs of them in lists: 4 MiB.
const MAX_RUNS: usize = 262_144;

/// And trees of so many bytes: 8 MiB.
const MAX_TREES: usize = 8 << 20;

/// What is known of the database as of a version of it: sums, IDs of rooms, and nonces of rows that
/// are replaced often, by their lookup keys; and pieces.
#[derive(Default)]
pub(crate) struct Known {
    /// `PRAGMA data_version`: another one after somebody else has written.
    version: i64,
    pub(crate) rooms: HashMap<Vec<u8>, i64>,
    pub(crate) sums: HashMap<Vec<u8>, Sum>,
    pub(crate) nonces: HashMap<Vec<u8>, Nonce>,
    /// By room, all of its pieces: their lookup keys, and their IDs.
    pub(crate) chunks: HashMap<i64, HashMap<Vec<u8>, i64>>,
    /// The highest ID of a piece that was ever given out.
    pub(crate) last_chunk: Option<i64>,
    /// By room, the pieces that its rows name, by the rows' lookup keys.
    pub(crate) lists: HashMap<i64, HashMap<Vec<u8>, Vec<Range<i64>>>>,
    /// The lookup keys of rosters that are there.
    pub(crate) rosters: HashSet<Vec<u8>>,
    /// By room, the ratchet tree that was stored last.
    pub(crate) trees: HashMap<i64, Before>,
}

impl Known {
    /// The version.
    pub(crate) const fn version(&self) -> i64 {
        self.version
    }

    /// A transaction begins: what is known still holds if nobody else has written.
    pub(crate) fn keep_if(&mut self, version: i64) {
        let counts = [self.rooms.len(), self.sums.len(), self.nonces.len(), self.rosters.len()];
        let chunks: usize = self.chunks.values().map(HashMap::len).sum();
        let runs: usize = self.lists.values().flat_map(HashMap::values).map(Vec::len).sum();
        let trees: usize = self.trees.values().map(Before::size).sum();
        let too_much = counts.iter().any(|count| *count > MAX)
            || chunks > MAX_CHUNKS
            || runs > MAX_RUNS
            || trees > MAX_TREES;
        if self.version != version || too_much {
            *self = Self { version, ..Self::default() };
        }
    }
}
