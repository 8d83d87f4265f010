//! The puncturable pseudorandom function that stands in for `init_secret` (protocol §3): the secret
//! tree of RFC 9420 §9 at depth 256, whose leaves are the possible children of an epoch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::crypto::{Secret, derive_secret, expand_with_label};

/// Bits of an input, and so the depth of the tree: 8 · Nh.
const DEPTH: u16 = 256;

/// This input was evaluated before, so its secret is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this commit was processed here before, and its secret is erased")]
pub struct Punctured;

/// A place in the tree: how many bits lead to it, and those bits (the rest is zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    depth: u16,
    prefix: [u8; 32],
}

impl Position {
    const ROOT: Self = Self { depth: 0, prefix: [0; 32] };

    /// The first `depth` bits of an input.
    fn of(input: &[u8; 32], depth: u16) -> Self {
        let mut prefix = *input;
        for (index, byte) in prefix.iter_mut().enumerate() {
            let bits = depth.saturating_sub(8 * index as u16).min(8);
            *byte &= !(0xff_u16 >> bits) as u8;
        }
        Self { depth, prefix }
    }

    /// The other child of the parent of this position.
    fn sibling(mut self) -> Self {
        if let Some(last) = self.depth.checked_sub(1)
            && let Some(byte) = self.prefix.get_mut(usize::from(last / 8))
        {
            *byte ^= 0x80 >> (last % 8);
        }
        self
    }
}

/// Most significant bit of byte 0 first.
fn bit(input: &[u8; 32], index: u16) -> bool {
    input.get(usize::from(index / 8)).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
}

/// The state: at first the root, after each evaluation the co-path of what was evaluated. One
/// evaluation costs 512 derivations and leaves at most 256 nodes of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Pprf {
    nodes: BTreeMap<Position, Secret>,
    /// Which inputs were evaluated: together they say where the nodes are.
    punctured: BTreeSet<[u8; 32]>,
}

impl Pprf {
    /// A fresh one.
    pub fn new(root: Secret) -> Self {
        Self { nodes: [(Position::ROOT, root)].into(), punctured: BTreeSet::new() }
    }

    /// Evaluates at `input` and punctures there: the value cannot be computed from the state again.
    ///
    /// # Errors
    ///
    /// [`Punctured`] when it was evaluated there before; the state stays as it is.
    pub fn evaluate(&mut self, input: &[u8; 32]) -> Result<Secret, Punctured> {
        let (depth, mut secret) = (0..=DEPTH)
            .rev()
            .find_map(|depth| {
                self.nodes.remove(&Position::of(input, depth)).map(|secret| (depth, secret))
            })
            .ok_or(Punctured)?;
        for depth in depth..DEPTH {
            let left = expand_with_label(&secret, "tree", b"left");
            let right = expand_with_label(&secret, "tree", b"right");
            let (on_path, beside) = if bit(input, depth) { (right, left) } else { (left, right) };
            self.nodes.insert(Position::of(input, depth + 1).sibling(), beside);
            secret = on_path;
        }
        self.punctured.insert(*input);
        Ok(derive_secret(&secret, "pprf"))
    }

    /// Whether this input was evaluated before.
    pub fn is_punctured(&self, input: &[u8; 32]) -> bool {
        self.punctured.contains(input)
    }

    /// How many inner secrets are kept.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many inputs were evaluated.
    pub fn punctures(&self) -> usize {
        self.punctured.len()
    }

    /// Where the nodes are after these punctures, in order.
    fn positions(punctured: &BTreeSet<[u8; 32]>) -> BTreeSet<Position> {
        if punctured.is_empty() {
            return [Position::ROOT].into();
        }
        let on_path: BTreeSet<_> = punctured
            .iter()
            .flat_map(|input| (1..=DEPTH).map(|depth| Position::of(input, depth)))
            .collect();
        on_path.iter().map(|p| p.sibling()).filter(|p| !on_path.contains(p)).collect()
    }
}

impl std::fmt::Debug for Pprf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pprf({} punctures)", self.punctured.len())
    }
}

/// The stored form: 32 bytes per puncture and 32 per node; the places follow from the punctures.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "crate::serde_bytes_vec")]
    punctured: Vec<u8>,
    #[serde(with = "crate::serde_bytes_vec")]
    nodes: Vec<u8>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.nodes);
    }
}

impl Serialize for Pprf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored {
            punctured: self.punctured.iter().flatten().copied().collect(),
            nodes: self.nodes.values().flat_map(|secret| *secret.as_bytes()).collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pprf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let (punctured, rest) = stored.punctured.as_chunks::<32>();
        let (secrets, more) = stored.nodes.as_chunks::<32>();
        let punctured: BTreeSet<_> = punctured.iter().copied().collect();
        let positions = Self::positions(&punctured);
        if !rest.is_empty() || !more.is_empty() || positions.len() != secrets.len() {
            return Err(D::Error::custom("the nodes do not fit the punctures"));
        }
        let nodes = positions.into_iter().zip(secrets.iter().copied().map(Secret::from_bytes));
        Ok(Self { nodes: nodes.collect(), punctured })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        pprf: PprfVectors,
    }

    #[derive(Deserialize)]
    struct PprfVectors {
        root: String,
        cases: Vec<Case>,
        nodes_kept_after_each_in_order_on_one_root: Vec<usize>,
    }

    #[derive(Deserialize)]
    struct Case {
        input: String,
        output: String,
    }

    fn bytes(hex: &str) -> [u8; 32] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    #[test]
    fn passes_the_vectors() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../tests/vectors/dmls_key_schedule.json"))
                .unwrap();
        let vectors = vectors.pprf;
        let root = Secret::from_bytes(bytes(&vectors.root));
        let mut kept = Vec::new();
        let mut together = Pprf::new(root.clone());
        for case in &vectors.cases {
            let alone = Pprf::new(root.clone()).evaluate(&bytes(&case.input)).unwrap();
            assert_eq!(hex::encode(alone.as_bytes()), case.output);
            assert_eq!(together.evaluate(&bytes(&case.input)).unwrap(), alone);
            kept.push(together.node_count());
        }
        assert_eq!(kept, vectors.nodes_kept_after_each_in_order_on_one_root);
    }

    #[test]
    fn punctures_for_good_and_only_there() {
        let mut pprf = Pprf::new(Secret::from_bytes([1; 32]));
        let before = pprf.clone();
        pprf.evaluate(&[5; 32]).unwrap();
        let punctured = pprf.clone();
        assert_eq!(pprf.evaluate(&[5; 32]), Err(Punctured));
        assert_eq!(pprf, punctured);
        assert!(pprf.is_punctured(&[5; 32]));
        let mut fresh = before;
        assert_eq!(pprf.evaluate(&[6; 32]), fresh.evaluate(&[6; 32]));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_storage_keeps_everything(
            inputs in proptest::collection::btree_set(any::<[u8; 32]>(), 1..6),
            also in any::<[u8; 32]>(),
        ) {
            let mut up = Pprf::new(Secret::from_bytes([9; 32]));
            let mut down = up.clone();
            let forward: Vec<_> = inputs.iter().map(|i| up.evaluate(i).unwrap()).collect();
            let mut backward: Vec<_> =
                inputs.iter().rev().map(|i| down.evaluate(i).unwrap()).collect();
            backward.reverse();
            prop_assert_eq!(forward, backward);
            prop_assert_eq!(&up, &down);

            let stored = rmp_serde::to_vec_named(&up).unwrap();
            let mut read: Pprf = rmp_serde::from_slice(&stored).unwrap();
            prop_assert_eq!(&read, &up);
            for input in &inputs {
                prop_assert_eq!(read.evaluate(input), Err(Punctured));
            }
            if !inputs.contains(&also) {
                prop_assert_eq!(read.evaluate(&also), up.evaluate(&also));
            }
        }
    }

    #[test]
    fn damaged_storage_is_refused() {
        let mut pprf = Pprf::new(Secret::from_bytes([9; 32]));
        pprf.evaluate(&[3; 32]).unwrap();
        let stored = Stored { punctured: vec![3; 32], nodes: vec![0; 32 * 255] };
        let bytes = rmp_serde::to_vec_named(&stored).unwrap();
        assert!(rmp_serde::from_slice::<Pprf>(&bytes).is_err());
    }
}
