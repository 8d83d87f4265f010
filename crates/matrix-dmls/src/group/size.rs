//! How much memory a group takes, for caches that are bounded.

use std::{
    collections::{HashMap, HashSet},
    mem::size_of,
    sync::Arc,
};

use super::Group;
use crate::{
    epoch_key::{EpochKey, EpochKeyParts, SecretTree},
    record::CommitRecord,
    roster::{Member, Roster},
    storage::Entries,
};

/// A leaf of a roster: index and pointer, with its part of the map's nodes.
const LEAF: usize = 32;

/// A member: the structure, its names and the counters of its `Arc`.
const MEMBER: usize = size_of::<Member>() + 80;

/// What a graph keeps of a commit beside its record: the node, two edges and what the choice needs.
const NODE: usize = 512;

/// A vault: the punctured secret of an epoch.
const VAULT: usize = 1024;

/// A secret of a punctured tree: the secret, boxed, and its part of a map's nodes.
const SECRET: usize = 64;

/// The few secrets of an epoch key, and what reading its messages has left in memory.
const EPOCH_KEY: usize = size_of::<EpochKeyParts>() + 2048;

impl Group {
    /// About how many bytes of memory the group takes.
    ///
    /// An estimate, made of lengths that are known without going through the members of every
    /// epoch. OpenMLS's entries (the ratchet trees above all) and rosters that several epochs share
    /// count once. Members count once for the largest roster, and again for every commit that
    /// brought one. What is overlooked is small beside these: the shape of maps, spare capacity.
    pub fn memory_size(&self) -> usize {
        let mut values = HashSet::new();
        let mut rosters = HashMap::new();
        let mut roster = |roster: &Arc<Roster>| {
            rosters.insert(Arc::as_ptr(roster).addr(), roster.len());
        };
        let mut bytes = size_of::<Self>() + self.room_id.len();
        for state in self.states.values() {
            bytes += state.context.len() + entries_size(&state.entries, &mut values);
        }
        bytes += self.vaults.len() * VAULT;
        for key in self.epoch_keys.values() {
            bytes += EPOCH_KEY + key.group_context().len();
            if let SecretTree::Punctured(tree) = key.tree() {
                bytes += tree.secrets() * SECRET;
            }
            roster(EpochKey::roster(key));
        }
        for pending in self.pending.values() {
            let node = &pending.node;
            bytes += pending.commit.len()
                + pending.parent_context.len()
                + pending.welcome.as_ref().map_or(0, Vec::len)
                + pending.group_info.len()
                + pending.tree.len()
                + node.state.context.len()
                + entries_size(&node.state.entries, &mut values)
                + record_size(&node.record)
                + VAULT
                + EPOCH_KEY;
            roster(&node.roster);
        }
        self.graph.cached_rosters(|cached| roster(cached));
        bytes += self.graph.records().map(|record| NODE + record_size(record)).sum::<usize>();
        bytes += rosters.values().map(|leaves| leaves * LEAF).sum::<usize>();
        bytes + rosters.values().max().map_or(0, |leaves| leaves * MEMBER)
    }
}

fn entries_size(entries: &Entries, known: &mut HashSet<usize>) -> usize {
    entries.sizes().filter(|(address, _)| known.insert(*address)).map(|(_, bytes)| bytes).sum()
}

fn record_size(record: &CommitRecord) -> usize {
    let members = record.added.len() + usize::from(record.updated.is_some());
    size_of::<CommitRecord>()
        + members * (MEMBER + LEAF)
        + record.removed.len() * LEAF
        + record.resolves.len() * 32
}
