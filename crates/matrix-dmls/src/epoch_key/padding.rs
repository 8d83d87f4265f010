//! How long a message looks: Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files
//! and Communication with PURBs", 2019, §4), which leaks O(log log n) bits of the length and costs at
//! most 12 %, less for long messages.

/// The length that something of `length` bytes is padded to: only so many of the leading bits of a
/// length count as its bit length needs bits itself.
pub(super) fn padme(length: usize) -> usize {
    let Some(exponent) = length.checked_ilog2() else {
        return 0;
    };
    let significant = exponent.checked_ilog2().map_or(1, |bits| bits + 1);
    let mask = (1_usize << exponent.saturating_sub(significant)) - 1;
    length.saturating_add(mask) & !mask
}

/// The number of zeros that follow `length` bytes of application data, so that the whole is as long
/// as if the data had [`padme`]`(length)` bytes: the size of the length prefix (RFC 9420 §2.1.2) must
/// not show which side of its steps the true length is on.
pub(super) fn zeros(length: usize) -> usize {
    let padded = padme(length);
    (padded + prefix(padded)).saturating_sub(length + prefix(length))
}

/// Bytes that a variable-size length takes.
const fn prefix(length: usize) -> usize {
    match length {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_to_padme_lengths() {
        let expected = [
            (0, 0),
            (1, 1),
            (2, 2),
            (8, 8),
            (9, 10),
            (15, 16),
            (17, 18),
            (33, 36),
            (100, 104),
            (1000, 1024),
            (1025, 1088),
            (16_383, 16_384),
            (40_000, 40_960),
        ];
        for (length, padded) in expected {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    #[test]
    fn costs_at_most_twelve_per_cent_and_is_idempotent() {
        for length in 0..60_000 {
            let padded = padme(length);
            assert!(padded >= length && (padded - length) * 100 <= length * 12, "{length}");
            assert_eq!(padme(padded), padded);
        }
    }

    #[test]
    fn equal_padme_lengths_look_equal() {
        let total = |length| prefix(length) + length + zeros(length);
        for length in 1..60_000 {
            assert_eq!(total(length), total(padme(length)), "{length}");
        }
    }
}
