//! Ed25519 (RFC 8032 §5.1), verified strictly.
//!
//! What is valid decides what is in the graph, so it must be the same for everybody. RFC 8032 leaves
//! room where a key or a signature has a component of small order, and libraries fill it differently. Here
//! is no such room, whatever library does the arithmetic:
//!
//! * a key and the point `R` of a signature have one encoding, and are not of small order;
//! * the scalar `S` of a signature is less than the order of the group;
//! * the equation holds as it is, without the cofactor.

/// The field's prime `p` is 2²⁵⁵ − 19. This is its lowest byte; the others are all ones but for the
/// highest bit, which is none.
const P_LOWEST: u8 = 0xed;

/// The `y` coordinates of the eight points whose order divides the cofactor, but 0, 1 and −1, little-endian.
const SMALL_ORDER: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// Whether a signature is valid. A key and a signature that are not 32 and 64 bytes long never are.
pub(crate) fn verify_strict(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(public_key), Ok(signature)) =
        (<&[u8; 32]>::try_from(public_key), <&[u8; 64]>::try_from(signature))
    else {
        return false;
    };
    let Some(r) = signature.first_chunk() else { return false };
    may_be_strict(public_key) && may_be_strict(r) && verify(public_key, message, signature)
}

/// Whether 32 bytes are the one encoding of a `y` coordinate, and no point with it is of small order.
/// That there is such a point is not looked at.
fn may_be_strict(encoded: &[u8; 32]) -> bool {
    let mut y = *encoded;
    // The highest bit is the sign of x: of the two points with one y, both or none is of small order.
    y[31] &= 0x7f;
    let is_near_p = y[31] == 0x7f && y[1..31].iter().all(|byte| *byte == 0xff);
    // p − 1, p, and what is above.
    let is_out_of_range = is_near_p && y[0] >= P_LOWEST - 1;
    let is_zero_or_one = y[0] <= 1 && y[1..].iter().all(|byte| *byte == 0);
    !is_out_of_range && !is_zero_or_one && !SMALL_ORDER.contains(&y)
}

/// AWS-LC needs two thirds of the time, with formally verified assembly; matrix-sdk has it for TLS.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use portable as verify;

/// Where AWS-LC has no assembly, or cannot be built.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn portable(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    use ed25519_dalek::{Signature, VerifyingKey};
    VerifyingKey::from_bytes(public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{
        EdwardsPoint, Scalar, constants::EIGHT_TORSION, traits::IsIdentity as _,
    };
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha512};

    use super::*;

    /// What both libraries say, which must be the same, and what comes of it.
    fn is_valid(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        let strict = verify_strict(public_key, message, signature);
        assert_eq!(strict, portable(public_key, message, signature));
        strict
    }

    fn hash(parts: &[&[u8]]) -> Scalar {
        let mut hash = Sha512::new();
        for part in parts {
            hash.update(part);
        }
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        signature
    }

    /// Signs for the key `a·B + in_key` with the point `r·B + in_r`; also gives the challenge.
    fn sign(
        (a, in_key): (Scalar, EdwardsPoint),
        (r, in_r): (Scalar, EdwardsPoint),
        message: &[u8],
    ) -> ([u8; 32], [u8; 64], Scalar) {
        let key = (EdwardsPoint::mul_base(&a) + in_key).compress().to_bytes();
        let point = (EdwardsPoint::mul_base(&r) + in_r).compress().to_bytes();
        let challenge = hash(&[&point, &key, message]);
        (key, join(point, (r + challenge * a).to_bytes()), challenge)
    }

    /// All 32 bytes that some library may take for a point of small order.
    fn small_order_encodings() -> Vec<[u8; 32]> {
        let mut all: Vec<_> =
            EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        // 0 and 1 once more, as p and p + 1.
        for low in [P_LOWEST, P_LOWEST + 1] {
            let mut encoded = [0xff; 32];
            encoded[0] = low;
            encoded[31] = 0x7f;
            all.push(encoded);
        }
        let negated = all.clone().into_iter().map(|mut encoded| {
            encoded[31] ^= 0x80;
            encoded
        });
        all.extend(negated);
        all
    }

    #[test]
    fn takes_the_signatures_of_rfc_8032() {
        // §7.1, tests 1 and 2.
        for (key, message, signature) in [
            (
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                 d25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
                 387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ] {
            let [key, message, signature] =
                [key, message, signature].map(|text| hex::decode(text).unwrap());
            let key = key.try_into().unwrap();
            let mut signature = signature.try_into().unwrap();
            assert!(is_valid(&key, &message, &signature));
            assert!(!is_valid(&key, b"another", &signature));
            signature[40] ^= 1;
            assert!(!is_valid(&key, &message, &signature));
        }
    }

    #[test]
    fn lengths_are_exact() {
        let (key, signature, _) =
            sign((hash(&[b"a"]), EIGHT_TORSION[0]), (hash(&[b"r"]), EIGHT_TORSION[0]), b"message");
        assert!(verify_strict(&key, b"message", &signature));
        assert!(!verify_strict(&key[..31], b"message", &signature));
        assert!(!verify_strict(&[&key[..], &[0]].concat(), b"message", &signature));
        assert!(!verify_strict(&key, b"message", &signature[..63]));
        assert!(!verify_strict(&key, b"message", &[&signature[..], &[0]].concat()));
    }

    #[test]
    fn what_is_of_small_order_is_refused() {
        let (a, r) = (hash(&[b"a"]), hash(&[b"r"]));
        for encoded in small_order_encodings() {
            assert!(!may_be_strict(&encoded), "{}", hex::encode(encoded));
            // As a key: the equation holds for one of these points.
            for in_r in EIGHT_TORSION {
                let point = (EdwardsPoint::mul_base(&r) + in_r).compress().to_bytes();
                assert!(!is_valid(&encoded, b"message", &join(point, r.to_bytes())));
            }
            // As R.
            let key = EdwardsPoint::mul_base(&a).compress().to_bytes();
            let s = hash(&[&encoded, &key, b"message"]) * a;
            assert!(!is_valid(&key, b"message", &join(encoded, s.to_bytes())));
        }
    }

    #[test]
    fn ordinary_coordinates_are_not_refused() {
        let mut below = [0xff; 32];
        below[0] = P_LOWEST - 2;
        below[31] = 0x7f;
        let mut two = [0; 32];
        two[0] = 2;
        let mut high_one = [0; 32];
        high_one[30] = 1;
        let mut not_all_ones = [0xff; 32];
        not_all_ones[15] = 0xfe;
        for mut encoded in [below, two, high_one, not_all_ones] {
            assert!(may_be_strict(&encoded));
            encoded[31] ^= 0x80;
            assert!(may_be_strict(&encoded));
        }
        for low in P_LOWEST - 1..=0xff {
            let mut encoded = [0xff; 32];
            encoded[0] = low;
            assert!(!may_be_strict(&encoded));
        }
    }

    #[test]
    fn the_equation_holds_without_the_cofactor() {
        let (a, r) = (hash(&[b"a"]), hash(&[b"r"]));
        let (mut valid, mut invalid) = (0, 0);
        for in_key in EIGHT_TORSION {
            for in_r in EIGHT_TORSION {
                for number in 0..16_u8 {
                    let (key, signature, challenge) = sign((a, in_key), (r, in_r), &[number]);
                    let holds = (in_r + challenge * in_key).is_identity();
                    assert_eq!(is_valid(&key, &[number], &signature), holds);
                    if !in_key.is_identity() {
                        *if holds { &mut valid } else { &mut invalid } += 1;
                    }
                }
            }
        }
        // Both cases were there: who multiplies by the cofactor takes them all.
        assert!(valid > 50 && invalid > 500, "{valid} valid, {invalid} not");
    }

    #[test]
    fn a_scalar_has_one_encoding() {
        let (a, r) = (hash(&[b"a"]), hash(&[b"r"]));
        let (key, signature, _) = sign((a, EIGHT_TORSION[0]), (r, EIGHT_TORSION[0]), b"message");
        // The order of the group, 2²⁵² + 27742317777372353535851937790883648493.
        let mut order = (-Scalar::ONE).to_bytes();
        order[0] += 1;
        let mut sum = signature;
        let mut carry = 0;
        for (to, more) in sum[32..].iter_mut().zip(order) {
            carry += u16::from(*to) + u16::from(more);
            *to = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        assert!(is_valid(&key, b"message", &signature));
        assert!(!is_valid(&key, b"message", &sum));
    }

    proptest! {
        #[test]
        fn both_libraries_say_the_same(
            seeds: ([u8; 32], [u8; 32]),
            message: Vec<u8>,
            flipped in proptest::option::of((0..96_usize, 0..8_u8)),
        ) {
            let (a, r) = (hash(&[&seeds.0]), hash(&[&seeds.1]));
            let (mut key, mut signature, _) =
                sign((a, EIGHT_TORSION[0]), (r, EIGHT_TORSION[0]), &message);
            if let Some((place, bit)) = flipped {
                *key.iter_mut().chain(&mut signature).nth(place).unwrap() ^= 1 << bit;
            }
            prop_assert_eq!(is_valid(&key, &message, &signature), flipped.is_none());
        }

        #[test]
        fn arbitrary_bytes_are_refused(key: [u8; 32], r: [u8; 32], s: [u8; 32], message: Vec<u8>) {
            prop_assert!(!is_valid(&key, &message, &join(r, s)));
        }
    }
}
