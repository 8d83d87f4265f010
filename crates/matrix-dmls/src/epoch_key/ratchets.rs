//! Remembered ratchet secrets, so that reading the next message, or a late one, costs little.
//!
//! What is remembered follows from the epoch key alone and is never anything it could not derive
//! again, so forgetting is always safe. For each leaf that is the ratchet's secret at every
//! [`STEP`]th generation that was passed, and at the one used last: the next message costs one
//! step, a late one fewer than [`STEP`]. Inner nodes of the tree are not kept: walking down to a
//! leaf anew costs less than the signature that is verified next.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    aead::KeyAndNonce,
    secret_tree::{application_ratchet, leaf_secret, message_key, next_secret},
};
use crate::crypto::Secret;

/// Generations between two checkpoints.
pub(super) const STEP: u32 = 64;

/// The secrets that one epoch key remembers at most: 128 KiB, below 1 MiB with what keeps them in
/// order. Enough for 1,000 members who send more than a hundred messages each; beyond it the leaf
/// that was used least recently is forgotten. One leaf has at most 257.
pub(super) const MAX_SECRETS: usize = 4096;

/// The remembered part of an epoch's ratchets.
#[derive(Default)]
pub(super) struct Ratchets {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    leaves: BTreeMap<u32, Leaf>,
    /// The secrets in `leaves`.
    secrets: usize,
    /// Counts uses; orders leaves by their last one.
    clock: u64,
}

/// Boxed secrets, because a map moves its values about and leaves copies behind.
struct Leaf {
    checkpoints: BTreeMap<u32, Box<Secret>>,
    last: (u32, Box<Secret>),
    used: u64,
}

impl Ratchets {
    /// The key of a leaf's message. The tree is `width` leaves wide, a power of two above `leaf`;
    /// `generation` has been checked, for it decides how much there is to compute.
    pub(super) fn message_key(
        &self,
        encryption_secret: &Secret,
        width: u32,
        leaf: u32,
        generation: u32,
    ) -> KeyAndNonce {
        let mut checkpoints = Vec::new();
        let remembered = self.memory().nearest(leaf, generation);
        let (mut at, mut secret) = remembered.unwrap_or_else(|| {
            let first = application_ratchet(&leaf_secret(encryption_secret, width, leaf));
            checkpoints.push((0, Box::new(first.clone())));
            (0, first)
        });
        // Without the lock: others may read meanwhile.
        while at < generation {
            secret = next_secret(&secret, at);
            at += 1;
            if at.is_multiple_of(STEP) {
                checkpoints.push((at, Box::new(secret.clone())));
            }
        }
        let key = message_key(&secret, generation);
        self.memory().remember(leaf, checkpoints, (generation, Box::new(secret)));
        key
    }

    /// How many secrets are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let memory = self.memory();
        let counted: usize = memory.leaves.values().map(Leaf::len).sum();
        assert_eq!(counted, memory.secrets);
        counted
    }

    /// How many steps there are from what is remembered to a generation, if anything is.
    #[cfg(test)]
    pub(super) fn distance(&self, leaf: u32, generation: u32) -> Option<u32> {
        self.memory().nearest(leaf, generation).map(|(at, _)| generation - at)
    }

    /// A panic elsewhere while it is held cannot leave it wrong, only less filled.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// The latest remembered secret that is not beyond `generation`.
    fn nearest(&self, leaf: u32, generation: u32) -> Option<(u32, Secret)> {
        let leaf = self.leaves.get(&leaf)?;
        let checkpoint = leaf.checkpoints.range(..=generation).next_back();
        let last = (leaf.last.0 <= generation).then_some((&leaf.last.0, &leaf.last.1));
        let (at, secret) = checkpoint.into_iter().chain(last).max_by_key(|(at, _)| **at)?;
        Some((*at, (**secret).clone()))
    }

    fn remember(
        &mut self,
        index: u32,
        checkpoints: Vec<(u32, Box<Secret>)>,
        last: (u32, Box<Secret>),
    ) {
        self.clock += 1;
        let used = self.clock;
        let mut leaf = match self.leaves.remove(&index) {
            Some(leaf) => {
                self.secrets -= leaf.len();
                Leaf { last, used, ..leaf }
            }
            None => Leaf { checkpoints: BTreeMap::new(), last, used },
        };
        leaf.checkpoints.extend(checkpoints);
        self.secrets += leaf.len();
        self.leaves.insert(index, leaf);
        while self.secrets > MAX_SECRETS && self.leaves.len() > 1 {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let oldest = self.leaves.iter().min_by_key(|(_, leaf)| leaf.used).map(|(index, _)| *index);
        if let Some(leaf) = oldest.and_then(|index| self.leaves.remove(&index)) {
            self.secrets -= leaf.len();
        }
    }
}

impl Leaf {
    fn len(&self) -> usize {
        self.checkpoints.len() + 1
    }
}
