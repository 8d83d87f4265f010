//! Content-defined cutting (FastCDC's rolling "gear" hash).

/// Pieces are at least this long, but for a value's last.
const MIN: usize = 128;
/// On top of [`MIN`], a cut comes after 512 bytes on average: where these bits of the hash are 0.
const MASK: u64 = 0x1ff << 48;
/// And at the latest here.
pub(super) const MAX: usize = 4096;

/// What a byte adds to the rolling hash. Any table does; a store whose pieces were cut with another
/// one stays readable, it only shares less.
const GEAR: [u64; 256] = gear();

/// SplitMix64.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state: u64 = 0;
    let mut rest: &mut [u64] = &mut table;
    while let Some((entry, after)) = rest.split_first_mut() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *entry = z ^ (z >> 31);
        rest = after;
    }
    table
}

/// The pieces of a value, in order.
pub(super) fn split(mut value: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (piece, rest) = value.split_at_checked(length(value)).filter(|(p, _)| !p.is_empty())?;
        value = rest;
        Some(piece)
    })
}

/// How long a value's first piece is.
pub(super) fn length(value: &[u8]) -> usize {
    let mut hash: u64 = 0;
    for (index, byte) in value.iter().enumerate().take(MAX).skip(MIN) {
        let gear = GEAR.get(usize::from(*byte)).copied().unwrap_or_default();
        hash = (hash << 1).wrapping_add(gear);
        if hash & MASK == 0 {
            return index + 1;
        }
    }
    value.len().min(MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        (0..length).map(|i| (GEAR[i % 256].rotate_left((i / 256) as u32) >> 7) as u8).collect()
    }

    #[test]
    fn the_pieces_are_the_value() {
        for length in [0, 1, MIN, MIN + 1, MAX, MAX + 1, 100_000] {
            let value = noise(length);
            let pieces: Vec<_> = split(&value).collect();
            assert_eq!(pieces.concat(), value);
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MAX));
        }
    }

    #[test]
    fn a_change_in_the_middle_changes_few_pieces() {
        let before = noise(200_000);
        let mut after = before.clone();
        after.splice(100_000..100_010, [7; 55]);
        let known: HashSet<_> = split(&before).collect();
        let new = split(&after).filter(|piece| !known.contains(piece)).count();
        assert!((1..=4).contains(&new), "{new} new pieces");
    }
}
