//! OpenMLS reads what we write, and we read what OpenMLS writes.

use std::collections::BTreeMap;

use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha20Rng;

use super::openmls_group::{Group, NODE};
use crate::{
    authenticated_data::MessageAad,
    epoch_key::{EpochKey, MessageSender},
    ids::NodeId,
};

/// Group sizes with leaves that are removed again; a few chosen shapes, then random ones.
fn groups(rng: &mut ChaCha20Rng) -> Vec<Group> {
    let mut shapes: Vec<(u32, Vec<u32>)> = vec![
        (2, vec![]),
        (3, vec![1]),
        // The right half goes, and with it the tree's highest level.
        (9, vec![8]),
        (16, (5..16).collect()),
        // Only the outermost leaves stay.
        (8, (1..7).collect()),
    ];
    for size in [5, 12, 23, 40] {
        shapes.push((size, Group::some_leaves(rng, size)));
    }
    shapes.iter().map(|(size, removed)| Group::new(rng, *size, removed)).collect()
}

/// Prints the seed, so that a failure shows it; `DMLS_TEST_SEED` sets it.
fn seeded(default: u64) -> ChaCha20Rng {
    let seed = std::env::var("DMLS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(default);
    println!("DMLS_TEST_SEED={seed}");
    ChaCha20Rng::seed_from_u64(seed)
}

fn plaintext(rng: &mut impl Rng) -> Vec<u8> {
    let most = if rng.random() { 100 } else { 4096 };
    let mut plaintext = vec![0; rng.random_range(0..=most)];
    rng.fill(&mut plaintext[..]);
    plaintext
}

fn aad(rng: &mut impl Rng) -> MessageAad {
    let tips = (0..rng.random_range(0..=8)).map(|_| NodeId::from_bytes(rng.random())).collect();
    MessageAad::new(NODE, tips).unwrap()
}

struct Message {
    bytes: Vec<u8>,
    leaf: u32,
    generation: u32,
    aad: MessageAad,
    plaintext: Vec<u8>,
}

fn assert_reads(key: &EpochKey, message: &Message) {
    let read = key.decrypt(&message.bytes).unwrap();
    assert_eq!((read.leaf, read.generation), (message.leaf, message.generation));
    assert_eq!(read.aad, message.aad);
    assert!(read.plaintext == message.plaintext);
}

#[test]
fn all_members_have_the_same_epoch_key() {
    let rng = &mut seeded(1);
    for group in groups(rng) {
        let mut keys = group.0.values().map(|client| client.epoch_key().to_parts());
        let first = keys.next().unwrap();
        assert!(keys.all(|key| key == first));
    }
}

#[test]
fn we_read_openmls() {
    let rng = &mut seeded(2);
    for mut group in groups(rng) {
        let key = group.0[&group.random_leaf(rng)].epoch_key();
        let mut generations: BTreeMap<u32, u32> = BTreeMap::new();
        let mut messages: Vec<_> = (0..300)
            .map(|_| {
                let (aad, plaintext) = (aad(rng), plaintext(rng));
                let leaf = group.random_leaf(rng);
                let client = group.0.get_mut(&leaf).unwrap();
                let bytes = client.encrypt(aad.to_bytes(), &plaintext);
                let next = generations.entry(leaf).or_default();
                let generation = *next;
                *next += 1;
                Message { bytes, leaf, generation, aad, plaintext }
            })
            .collect();
        for message in &messages {
            assert_reads(&key, message);
        }
        // Again, in disorder, and by one who has read nothing yet.
        messages.shuffle(rng);
        let fresh = EpochKey::from_parts(key.to_parts()).unwrap();
        let mut once = fresh.clone();
        for message in &messages {
            assert_reads(&fresh, message);
            let (read, after) = once.decrypt_once(&message.bytes).unwrap();
            assert_eq!((read.leaf, read.generation), (message.leaf, message.generation));
            assert!(read.plaintext == message.plaintext);
            once = after;
            once.decrypt(&message.bytes).unwrap_err();
            if rng.random_ratio(1, 4) {
                assert_reads(&key, message);
            }
        }
    }
}

#[test]
fn openmls_reads_us() {
    let rng = &mut seeded(3);
    for mut group in groups(rng) {
        let key = group.0[&group.random_leaf(rng)].epoch_key();
        let mut generations: BTreeMap<u32, u32> = BTreeMap::new();
        let mut messages: Vec<_> = (0..300)
            .map(|_| {
                let (aad, plaintext) = (aad(rng), plaintext(rng));
                let leaf = group.random_leaf(rng);
                let next = generations.entry(leaf).or_default();
                // Some generations are never sent.
                *next += u32::from(rng.random_ratio(1, 10)) * rng.random_range(0..20);
                let generation = *next;
                *next += 1;
                let signer = group.0[&leaf].signing_key();
                let sender = MessageSender { leaf, generation, signer, reuse_guard: rng.random() };
                let bytes = key.encrypt(&sender, &aad, &plaintext).unwrap();
                Message { bytes, leaf, generation, aad, plaintext }
            })
            .collect();
        // The first half in order, the second somewhat out of it.
        for window in messages[150..].chunks_mut(16) {
            window.shuffle(rng);
        }
        for message in &messages {
            assert_reads(&key, message);
            let reader = loop {
                let leaf = group.random_leaf(rng);
                if leaf != message.leaf {
                    break leaf;
                }
            };
            let read = group.0.get_mut(&reader).unwrap().decrypt(&message.bytes).unwrap();
            assert_eq!(read.leaf, message.leaf);
            assert_eq!(read.aad, message.aad.to_bytes());
            assert!(read.plaintext == message.plaintext);
        }
    }
}

/// What one of the two refuses, the other does too.
#[test]
fn both_refuse_the_same() {
    let rng = &mut seeded(4);
    let mut group = Group::new(rng, 3, &[]);
    let key = group.0[&0].epoch_key();
    for generation in 0..200 {
        let aad = aad(rng);
        let signer = group.0[&1].signing_key();
        let sender = MessageSender { leaf: 1, generation, signer, reuse_guard: rng.random() };
        let mut bytes = key.encrypt(&sender, &aad, &plaintext(rng)).unwrap();
        let at = rng.random_range(0..bytes.len());
        bytes[at] ^= 1 << rng.random_range(0..8);
        key.decrypt(&bytes).unwrap_err();
        assert!(group.0.get_mut(&2).unwrap().decrypt(&bytes).is_err(), "byte {at}");
    }
}
