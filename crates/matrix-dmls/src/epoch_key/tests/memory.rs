//! What is remembered makes messages cheap, and is bounded.

use crate::{
    crypto::Secret,
    epoch_key::{
        GENERATION_LIMIT,
        ratchets::{MAX_SECRETS, Ratchets, STEP},
        secret_tree::{application_ratchet, leaf_secret, message_key, next_secret},
    },
};

const ROOT: Secret = Secret::from_bytes([0x77; 32]);

fn expected(width: u32, leaf: u32, generation: u32) -> [u8; 16] {
    let mut secret = application_ratchet(&leaf_secret(&ROOT, width, leaf));
    for at in 0..generation {
        secret = next_secret(&secret, at);
    }
    message_key(&secret, generation).key
}

fn key(ratchets: &Ratchets, width: u32, leaf: u32, generation: u32) -> [u8; 16] {
    ratchets.message_key(&ROOT, width, leaf, generation).key
}

#[test]
fn any_order_gives_the_same_keys() {
    let ratchets = Ratchets::default();
    for (leaf, generation) in
        [(0, 0), (3, 300), (3, 5), (3, 300), (3, 301), (0, 64), (0, 63), (3, 128), (3, 0), (2, 1)]
    {
        assert_eq!(key(&ratchets, 4, leaf, generation), expected(4, leaf, generation));
    }
}

#[test]
fn the_next_message_is_one_step_away_and_a_late_one_few() {
    let ratchets = Ratchets::default();
    assert_eq!(ratchets.distance(1, 0), None);
    for generation in 0..500 {
        if generation > 0 {
            assert_eq!(ratchets.distance(1, generation), Some(1));
        }
        key(&ratchets, 8, 1, generation);
        assert_eq!(ratchets.distance(1, generation), Some(0));
    }
    for generation in (0..500).rev() {
        assert!(ratchets.distance(1, generation).unwrap() < STEP);
        key(&ratchets, 8, 1, generation);
    }
    // Nothing is lost by looking back: the checkpoints stay.
    assert_eq!(ratchets.distance(1, 500), Some(500 % STEP));
}

#[test]
fn a_leaf_has_at_most_257_secrets() {
    let ratchets = Ratchets::default();
    for generation in [GENERATION_LIMIT - 1, 17, GENERATION_LIMIT - 2] {
        key(&ratchets, 2, 0, generation);
    }
    assert_eq!(ratchets.len(), (GENERATION_LIMIT / STEP) as usize + 1);
}

#[test]
fn a_thousand_senders_are_remembered_and_more_are_bounded() {
    let ratchets = Ratchets::default();
    for leaf in 0..1000 {
        key(&ratchets, 4096, leaf, 150);
    }
    assert_eq!(ratchets.len(), 4000);
    assert!((0..1000).all(|leaf| ratchets.distance(leaf, 151) == Some(1)));
    for leaf in 1000..4096 {
        key(&ratchets, 4096, leaf, 70);
        assert!(ratchets.len() <= MAX_SECRETS);
    }
    // The oldest went first.
    assert_eq!(ratchets.distance(0, 151), None);
    assert_eq!(ratchets.distance(4095, 71), Some(1));
    assert_eq!(key(&ratchets, 4096, 0, 150), expected(4096, 0, 150));
}
