//! A secret tree that forgets what was used (RFC 9420 §9.2), for the history policy `none`
//! (protocol §7).
//!
//! What is left of the tree: the nodes beside the paths of the leaves that were used, and of each of
//! these leaves its ratchet, at the generation after the highest one used, with the keys of those
//! below it that were not. So a key that was used follows from nothing that is here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroize;

use super::{
    MAX_LEAVES,
    aead::{KEY_LENGTH, KeyAndNonce, NONCE_LENGTH},
    secret_tree::{GENERATION_LIMIT, application_ratchet, child_secret, message_key, next_secret},
};
use crate::crypto::Secret;

/// At most this many keys of skipped generations are held for one epoch (protocol §12), 32 bytes
/// each. Above it, the leaf with the most loses its oldest: who skips many loses its own messages.
pub const MAX_SKIPPED_KEYS: usize = 4096;

/// The root, as a position; the children of position p are 2p and 2p + 1.
const ROOT: u32 = 1;

/// The key was used or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyErased;

/// The secret tree of an epoch whose keys are erased as they are used. A value: using a key gives
/// another tree, without it. All secrets are zeroised on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct PuncturedTree {
    /// Leaves of the whole tree, a power of two.
    width: u32,
    /// Boxed, because a map moves its values about and leaves copies behind.
    nodes: BTreeMap<u32, Box<Secret>>,
    ratchets: BTreeMap<u32, Ratchet>,
}

/// What is left of a leaf's ratchet.
#[derive(Clone, PartialEq, Eq)]
struct Ratchet {
    /// One above the highest generation that was used.
    next: u32,
    /// The ratchet's secret there, unless that is beyond the limit.
    secret: Option<Box<Secret>>,
    /// The keys of generations below it that were not used.
    skipped: BTreeMap<u32, Box<KeyAndNonce>>,
}

impl PuncturedTree {
    /// The whole tree. `width` is that of the roster: a power of two, at most 16,384.
    pub(super) fn new(encryption_secret: &Secret, width: u32) -> Self {
        let nodes = [(ROOT, Box::new(encryption_secret.clone()))].into();
        Self { width: width.max(1), nodes, ratchets: BTreeMap::new() }
    }

    pub(super) fn width(&self) -> u32 {
        self.width
    }

    /// The key of a message, which stays where it is. The leaf is below the width, the generation
    /// below the limit.
    pub(super) fn message_key(&self, leaf: u32, generation: u32) -> Result<KeyAndNonce, KeyErased> {
        match self.ratchets.get(&leaf) {
            Some(ratchet) => ratchet.key(generation),
            None => {
                let mut copy =
                    Self { nodes: self.nodes.clone(), ratchets: BTreeMap::new(), ..*self };
                copy.open(leaf)?.key(generation)
            }
        }
    }

    /// The tree once the key of a message was used, or given up.
    pub(super) fn without(&self, leaf: u32, generation: u32) -> Result<Self, KeyErased> {
        let mut after = self.clone();
        let mut ratchet = match after.ratchets.remove(&leaf) {
            Some(ratchet) => ratchet,
            None => after.open(leaf)?,
        };
        ratchet.puncture(generation)?;
        after.ratchets.insert(leaf, ratchet);
        after.give_up_most_skipped();
        Ok(after)
    }

    /// How many keys of skipped generations are held.
    pub fn skipped(&self) -> usize {
        self.ratchets.values().map(|ratchet| ratchet.skipped.len()).sum()
    }

    /// How many secrets are held, each of about 32 bytes.
    pub fn secrets(&self) -> usize {
        self.nodes.len() + self.ratchets.len() + self.skipped()
    }

    /// Splits the nodes down to a leaf, and takes the leaf's ratchet out.
    fn open(&mut self, leaf: u32) -> Result<Ratchet, KeyErased> {
        let target = self.width.saturating_add(leaf);
        let depth = (0..u32::BITS)
            .find(|up| self.nodes.contains_key(&(target >> up)))
            .filter(|_| leaf < self.width)
            .ok_or(KeyErased)?;
        let mut secret = *self.nodes.remove(&(target >> depth)).ok_or(KeyErased)?;
        for up in (0..depth).rev() {
            let child = target >> up;
            let is_right = child & 1 == 1;
            self.nodes.insert(child ^ 1, Box::new(child_secret(&secret, !is_right)));
            secret = child_secret(&secret, is_right);
        }
        let secret = Some(Box::new(application_ratchet(&secret)));
        Ok(Ratchet { next: 0, secret, skipped: BTreeMap::new() })
    }

    fn give_up_most_skipped(&mut self) {
        let mut total = self.skipped();
        if total <= MAX_SKIPPED_KEYS {
            return;
        }
        let counts = self.ratchets.iter().map(|(leaf, ratchet)| (ratchet.skipped.len(), *leaf));
        let mut counts: BTreeSet<_> = counts.collect();
        while total > MAX_SKIPPED_KEYS {
            let Some((count, leaf)) = counts.pop_last() else { return };
            let Some(ratchet) = self.ratchets.get_mut(&leaf) else { return };
            ratchet.skipped.pop_first();
            counts.insert((count.saturating_sub(1), leaf));
            total -= 1;
        }
    }

    /// Where the nodes are when these leaves were used, in order.
    fn positions(width: u32, leaves: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        let mut on_path = BTreeSet::new();
        for leaf in leaves {
            let mut position = width.saturating_add(leaf);
            while position > ROOT && on_path.insert(position) {
                position >>= 1;
            }
            on_path.insert(ROOT);
        }
        if on_path.is_empty() {
            return [ROOT].into();
        }
        let beside = on_path.iter().filter(|position| **position > ROOT).map(|p| p ^ 1);
        beside.filter(|position| !on_path.contains(position)).collect()
    }
}

impl Ratchet {
    fn key(&self, generation: u32) -> Result<KeyAndNonce, KeyErased> {
        if generation < self.next {
            return self.skipped.get(&generation).map(|key| (**key).clone()).ok_or(KeyErased);
        }
        let mut secret = self.secret_below(generation)?.clone();
        for at in self.next..generation {
            secret = next_secret(&secret, at);
        }
        Ok(message_key(&secret, generation))
    }

    fn puncture(&mut self, generation: u32) -> Result<(), KeyErased> {
        if generation < self.next {
            return self.skipped.remove(&generation).map(drop).ok_or(KeyErased);
        }
        let mut secret = self.secret_below(generation)?.clone();
        for at in self.next..=generation {
            // Those further back would be given up at once.
            if at < generation && (generation - at) as usize <= MAX_SKIPPED_KEYS {
                self.skipped.insert(at, Box::new(message_key(&secret, at)));
            }
            secret = next_secret(&secret, at);
        }
        self.next = generation + 1;
        self.secret = (self.next < GENERATION_LIMIT).then(|| Box::new(secret));
        Ok(())
    }

    /// The ratchet's secret, for a generation within the limit.
    fn secret_below(&self, generation: u32) -> Result<&Secret, KeyErased> {
        let secret = self.secret.as_deref().filter(|_| generation < GENERATION_LIMIT);
        secret.ok_or(KeyErased)
    }
}

impl std::fmt::Debug for PuncturedTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PuncturedTree")
            .field("used_leaves", &self.ratchets.len())
            .field("skipped", &self.skipped())
            .finish_non_exhaustive()
    }
}

/// Bytes of each secret in the stored form: of a skipped key the generation, the key and the nonce.
const STORED_SECRET: usize = 4 + KEY_LENGTH + NONCE_LENGTH;

/// The stored form. The places of the nodes follow from the leaves that were used.
#[derive(Serialize, Deserialize)]
struct Stored {
    width: u32,
    /// Leaf, next generation, count of skipped ones; in order.
    leaves: Vec<(u32, u32, u32)>,
    /// The nodes in order; then of each leaf the ratchet's secret, if it has one, and the skipped
    /// keys in order.
    #[serde(with = "crate::serde_bytes_vec")]
    secrets: Vec<u8>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.secrets.zeroize();
    }
}

impl Serialize for PuncturedTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As long as it can get, so that it leaves no copies behind by growing.
        let mut secrets = Vec::with_capacity(self.secrets() * STORED_SECRET);
        let mut leaves = Vec::with_capacity(self.ratchets.len());
        for secret in self.nodes.values() {
            secrets.extend_from_slice(secret.as_bytes());
        }
        for (leaf, ratchet) in &self.ratchets {
            let count = u32::try_from(ratchet.skipped.len()).map_err(serde::ser::Error::custom)?;
            leaves.push((*leaf, ratchet.next, count));
            if let Some(secret) = &ratchet.secret {
                secrets.extend_from_slice(secret.as_bytes());
            }
            for (generation, key) in &ratchet.skipped {
                secrets.extend_from_slice(&generation.to_be_bytes());
                secrets.extend_from_slice(&key.key);
                secrets.extend_from_slice(&key.nonce);
            }
        }
        Stored { width: self.width, leaves, secrets }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PuncturedTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Self::from_stored(&stored).ok_or_else(|| D::Error::custom("not a punctured secret tree"))
    }
}

impl PuncturedTree {
    fn from_stored(stored: &Stored) -> Option<Self> {
        let Stored { width, leaves, secrets } = stored;
        let is_rising = leaves.is_sorted_by(|(a, ..), (b, ..)| a < b);
        if !width.is_power_of_two() || *width > MAX_LEAVES || !is_rising {
            return None;
        }
        let (chunks, rest) = secrets.as_chunks::<STORED_SECRET>();
        let mut chunks = chunks.iter();
        let mut nodes = BTreeMap::new();
        if leaves.iter().any(|(leaf, ..)| leaf >= width) || !rest.is_empty() {
            return None;
        }
        for position in Self::positions(*width, leaves.iter().map(|(leaf, ..)| *leaf)) {
            nodes.insert(position, Box::new(Secret::from_bytes(*chunks.next()?)));
        }
        let mut ratchets = BTreeMap::new();
        for (leaf, next, count) in leaves {
            if *next > GENERATION_LIMIT || count > next || *count as usize > MAX_SKIPPED_KEYS {
                return None;
            }
            let secret = match *next {
                GENERATION_LIMIT => None,
                _ => Some(Box::new(Secret::from_bytes(*chunks.next()?))),
            };
            let mut skipped = BTreeMap::new();
            for _ in 0..*count {
                let (generation, key) = skipped_key(chunks.next()?)?;
                let is_next = skipped.last_key_value().is_none_or(|(last, _)| *last < generation);
                if generation >= *next || !is_next {
                    return None;
                }
                skipped.insert(generation, key);
            }
            ratchets.insert(*leaf, Ratchet { next: *next, secret, skipped });
        }
        chunks.next().is_none().then_some(Self { width: *width, nodes, ratchets })
    }
}

fn skipped_key(chunk: &[u8; STORED_SECRET]) -> Option<(u32, Box<KeyAndNonce>)> {
    let (generation, rest) = chunk.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_first_chunk::<KEY_LENGTH>()?;
    let key = Box::new(KeyAndNonce { key: *key, nonce: *rest.first_chunk::<NONCE_LENGTH>()? });
    Some((u32::from_be_bytes(*generation), key))
}
