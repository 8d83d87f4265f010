//! The ratchet tree that was cut before: most of the next one is the same, and what is the same needs
//! neither to be cut nor to be hashed again.

use std::collections::HashMap;

use super::split::length;

/// What a piece is stored under.
pub(crate) type Key = Vec<u8>;

/// By how many bytes at its beginning a piece is looked for.
const START: usize = 64;

/// A value, and how it was cut.
pub(crate) struct Before {
    value: Vec<u8>,
    /// The lengths of the pieces, and their keys.
    pieces: Vec<(usize, Key)>,
}

impl Before {
    pub(super) fn new(value: &[u8], pieces: Vec<(usize, Key)>) -> Self {
        Self { value: value.to_vec(), pieces }
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let keys: usize =
            self.pieces.iter().map(|(_, key)| size_of::<(usize, Key)>() + key.len()).sum();
        self.value.len() + keys
    }

    /// The pieces of a value, and the keys of those that are known.
    ///
    /// The same pieces as [`super::split::split`] gives: where a piece ends depends on nothing but
    /// its own bytes, unless it is a value's last.
    pub(super) fn split<'v>(&self, mut value: &'v [u8]) -> Vec<(&'v [u8], Option<Key>)> {
        let mut start = 0;
        let known: Vec<(&[u8], &Key)> = self
            .pieces
            .iter()
            .filter_map(|(length, key)| {
                let piece = self.value.get(start..start + length)?;
                start += length;
                Some((piece, key))
            })
            .collect();
        let last = known.len().saturating_sub(1);
        let by_start: HashMap<&[u8], usize> = known
            .iter()
            .enumerate()
            .filter_map(|(number, (piece, _))| Some((piece.get(..START)?, number)))
            .collect();
        let mut pieces = Vec::with_capacity(known.len());
        let mut expected = 0;
        while !value.is_empty() {
            let same = |number: usize| {
                let (piece, key) = known.get(number)?;
                let is_same =
                    value.starts_with(piece) && (number < last || piece.len() == value.len());
                is_same.then_some((number, (piece, key)))
            };
            let found = same(expected).or_else(|| {
                let number = by_start.get(value.get(..START)?)?;
                same(*number)
            });
            let (length, key) = match found {
                Some((number, (piece, key))) => {
                    expected = number + 1;
                    (piece.len(), Some((**key).clone()))
                }
                None => (length(value), None),
            };
            let Some((piece, rest)) = value.split_at_checked(length) else { break };
            pieces.push((piece, key));
            value = rest;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::split::split, *};

    fn cut(value: &[u8]) -> Before {
        Before::new(value, split(value).map(|piece| (piece.len(), piece.to_vec())).collect())
    }

    fn noise(length: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn the_pieces_are_those_of_a_cut_without_it(
            seed: u64,
            length in 0_usize..60_000,
            edits in prop::collection::vec((0.0..1.0_f64, 0_usize..3000, 0_usize..3000), 0..12),
        ) {
            let old = noise(length, seed);
            let mut new = old.clone();
            for (place, gone, come) in edits {
                let place = (place * new.len() as f64) as usize;
                let end = (place + gone).min(new.len());
                new.splice(place..end, noise(come, seed ^ 7));
            }
            let pieces = cut(&old).split(&new);
            let expected: Vec<_> = split(&new).collect();
            let found: Vec<_> = pieces.iter().map(|(piece, _)| *piece).collect();
            prop_assert_eq!(found, expected);
            for (piece, key) in pieces {
                prop_assert!(key.is_none_or(|key| key == piece));
            }
        }
    }

    #[test]
    fn most_is_known_after_a_few_changes() {
        let old = noise(200_000, 1);
        let mut new = old.clone();
        for place in [10, 50_000, 120_000, 199_990] {
            new[place] ^= 1;
        }
        new.splice(80_000..90_000, noise(20_000, 2));
        let pieces = cut(&old).split(&new);
        let unknown: usize =
            pieces.iter().filter(|(_, key)| key.is_none()).map(|(piece, _)| piece.len()).sum();
        assert!((20_000..40_000).contains(&unknown), "{unknown}");
    }
}
