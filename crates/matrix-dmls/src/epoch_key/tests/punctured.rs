//! Keys that are erased as they are used.

use std::sync::Arc;

use proptest::prelude::*;

use super::fixtures::{epoch, message};
use crate::{
    crypto::Secret,
    epoch_key::{
        DecryptError, EncryptError, EpochKey, EpochKeyParts, GENERATION_LIMIT, MAX_SKIPPED_KEYS,
        MessageSender, PuncturedTree, SecretTree, secrets_above,
    },
    error::MalformedError,
};

fn tree(key: &EpochKey) -> &PuncturedTree {
    match key.tree() {
        SecretTree::Whole(_) => panic!("not punctured"),
        SecretTree::Punctured(tree) => tree,
    }
}

fn stored(key: &EpochKey) -> Vec<u8> {
    rmp_serde::to_vec_named(tree(key)).unwrap()
}

/// Stores a key and loads it.
fn reloaded(key: &EpochKey) -> EpochKey {
    let tree = SecretTree::Punctured(Arc::new(rmp_serde::from_slice(&stored(key)).unwrap()));
    let loaded = EpochKey::from_parts(EpochKeyParts { tree, ..key.to_parts() }).unwrap();
    assert!(loaded.to_parts() == key.to_parts());
    loaded
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn root(key: &EpochKey) -> &Secret {
    key.encryption_secret().unwrap()
}

fn erased(leaf: u32, generation: u32) -> DecryptError {
    DecryptError::KeyErased { leaf, generation }
}

#[test]
fn a_message_is_read_once() {
    let (whole, members) = epoch(5);
    let bytes = [(3, 0), (3, 1), (0, 0)].map(|(l, g)| message(&whole, &members, l, g, b"text"));
    let (read, key) = whole.decrypt_once(&bytes[0]).unwrap();
    assert_eq!(Ok(read), whole.decrypt(&bytes[0]));
    assert_eq!(key.decrypt(&bytes[0]), Err(erased(3, 0)));
    assert_eq!(key.decrypt_once(&bytes[0]).unwrap_err(), erased(3, 0));
    // Reading without using up, as a sender does for its own key, changes nothing.
    assert!(key.decrypt(&bytes[1]).is_ok() && key.decrypt(&bytes[2]).is_ok());
    assert!(key.decrypt_once(&bytes[1]).is_ok() && key.decrypt_once(&bytes[2]).is_ok());
    assert!(key.encryption_secret().is_none());
    assert_eq!(format!("{:?}", key.tree()), "PuncturedTree { used_leaves: 1, skipped: 0, .. }");
}

/// Nothing that a used key follows from is left, in memory or as it is stored. The scan finds what
/// is there: before, and of messages that were not read.
#[test]
fn what_was_used_follows_from_nothing_that_is_left() {
    let (whole, members) = epoch(6);
    let mut key = whole.clone();
    let read = [(1, 4), (1, 2), (5, 0), (1, 9), (0, 70), (5, 1)];
    for (number, (leaf, generation)) in read.into_iter().enumerate() {
        let bytes = message(&whole, &members, leaf, generation, b"text");
        let open = |at: &EpochKey| {
            let all = secrets_above(root(&whole), 8, leaf, generation);
            let bytes = match at.tree() {
                SecretTree::Whole(secret) => secret.as_bytes().to_vec(),
                SecretTree::Punctured(_) => stored(at),
            };
            all.iter().any(|secret| contains(&bytes, secret))
        };
        assert!(open(&key), "{number}: found before");
        key = reloaded(&key.decrypt_once(&bytes).unwrap().1);
        for (leaf, generation) in &read[..=number] {
            for secret in secrets_above(root(&whole), 8, *leaf, *generation) {
                assert!(!contains(&stored(&key), &secret), "{number}: {leaf} {generation}");
            }
        }
    }
    // Leaf 1: 0, 1, 3 and 5 to 8; leaf 0: 0 to 69.
    assert_eq!(tree(&key).skipped(), 7 + 70);
    let skipped = secrets_above(root(&whole), 8, 1, 3);
    let (nonce, key_of_it) = (&skipped[skipped.len() - 1], &skipped[skipped.len() - 2]);
    assert!(contains(&stored(&key), nonce) && contains(&stored(&key), key_of_it));
}

#[test]
fn what_is_refused_uses_nothing_up() {
    let (whole, members) = epoch(3);
    let good = message(&whole, &members, 1, 5, b"text");
    let (_, key) = whole.decrypt_once(&message(&whole, &members, 1, 2, b"other")).unwrap();
    for at in [good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        key.decrypt_once(&bad).unwrap_err();
    }
    // Signed by another member.
    let mut others = members.clone();
    others.swap(0, 1);
    let parts = EpochKeyParts { roster: super::fixtures::roster(&others), ..whole.to_parts() };
    let forger = EpochKey::from_parts(parts).unwrap();
    let forged = message(&forger, &others, 1, 5, b"text");
    assert_eq!(key.decrypt_once(&forged).unwrap_err(), DecryptError::Signature { leaf: 1 });
    assert_eq!(key.decrypt_once(&good).unwrap().0.plaintext, b"text");
}

#[test]
fn a_used_generation_is_not_encrypted_with_again() {
    let (whole, members) = epoch(2);
    let (_, key) = whole.decrypt_once(&message(&whole, &members, 0, 1, b"mine")).unwrap();
    let aad = crate::authenticated_data::MessageAad::new(key.node(), vec![]).unwrap();
    let sender = |generation| MessageSender {
        leaf: 0,
        generation,
        signer: &members[0],
        reuse_guard: [5, 6, 7, 8],
    };
    let refused = key.encrypt(&sender(1), &aad, b"again");
    assert_eq!(refused, Err(EncryptError::KeyErased { generation: 1 }));
    // One that was skipped, and one that comes, are as they would be.
    for generation in [0, 2] {
        let bytes = key.encrypt(&sender(generation), &aad, b"text").unwrap();
        assert_eq!(bytes, message(&whole, &members, 0, generation, b"text"));
    }
}

/// A page of history read backward, the whole limit long.
#[test]
fn skipped_keys_are_held_up_to_the_limit() {
    let (whole, members) = epoch(2);
    let last = MAX_SKIPPED_KEYS as u32 + 5;
    let read = |key: &EpochKey, generation| {
        key.decrypt_once(&message(&whole, &members, 1, generation, b"x")).map(|(_, key)| key)
    };
    let mut key = read(&whole, last).unwrap();
    assert_eq!(tree(&key).skipped(), MAX_SKIPPED_KEYS);
    for generation in (last - 50..last).rev() {
        key = read(&key, generation).unwrap();
    }
    assert_eq!(tree(&reloaded(&key)).skipped(), MAX_SKIPPED_KEYS - 50);
    // The oldest were given up.
    for generation in 0..5 {
        assert_eq!(read(&key, generation).unwrap_err(), erased(1, generation));
    }
    read(&key, 5).unwrap();
    // The end of all.
    let key = read(&key, GENERATION_LIMIT - 1).unwrap();
    assert_eq!(tree(&reloaded(&key)).skipped(), MAX_SKIPPED_KEYS);
    read(&key, GENERATION_LIMIT - 1).unwrap_err();
    read(&key, GENERATION_LIMIT - 2).unwrap();
}

/// Members that skip as much as they can lose their own messages, and nobody else's.
#[test]
fn who_skips_most_loses_its_oldest() {
    let (whole, members) = epoch(4);
    let read = |key: &EpochKey, leaf, generation| {
        key.decrypt_once(&message(&whole, &members, leaf, generation, b"x")).map(|(_, key)| key)
    };
    let mut key = read(&whole, 0, 100).unwrap();
    for leaf in [1, 2] {
        key = read(&key, leaf, GENERATION_LIMIT - 1).unwrap();
        assert_eq!(tree(&key).skipped(), MAX_SKIPPED_KEYS);
    }
    for generation in 0..100 {
        key = read(&key, 0, generation).unwrap();
    }
    read(&key, 3, 0).unwrap();
    let half = (MAX_SKIPPED_KEYS as u32 - 100) / 2;
    for leaf in [1, 2] {
        read(&key, leaf, GENERATION_LIMIT - 1 - half).unwrap();
        read(&key, leaf, GENERATION_LIMIT - 3 - half).unwrap_err();
    }
}

#[test]
fn a_tree_of_another_width_is_refused() {
    let (whole, members) = epoch(3);
    let (_, key) = whole.decrypt_once(&message(&whole, &members, 1, 0, b"x")).unwrap();
    let roster = Arc::clone(epoch(5).0.roster());
    let refused = EpochKey::from_parts(EpochKeyParts { roster, ..key.to_parts() });
    assert_eq!(refused.unwrap_err(), MalformedError::Unsupported);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order they come in, each message is read once and as the whole key reads it.
    #[test]
    fn any_order_reads_each_once(
        size in 1_u32..9,
        messages in prop::collection::vec((0_u32..9, 0_u32..40), 1..30),
    ) {
        let (whole, members) = epoch(size);
        let mut key = whole.clone();
        let mut read = std::collections::BTreeSet::new();
        for (leaf, generation) in messages {
            let leaf = leaf % size;
            let bytes = message(&whole, &members, leaf, generation, b"text");
            match key.decrypt_once(&bytes) {
                Ok((message, after)) => {
                    prop_assert_eq!(Ok(message), whole.decrypt(&bytes));
                    prop_assert!(read.insert((leaf, generation)));
                    key = reloaded(&after);
                }
                Err(error) => {
                    prop_assert_eq!(error, erased(leaf, generation));
                    prop_assert!(read.contains(&(leaf, generation)));
                }
            }
        }
    }

    /// A stored tree that was damaged is refused, or is another tree; it does not panic.
    #[test]
    fn damage_never_panics(
        at: prop::sample::Index,
        byte: u8,
        leaf in 0_u32..8,
        generation in 0_u32..20,
    ) {
        let (whole, members) = epoch(6);
        let (_, key) = whole.decrypt_once(&message(&whole, &members, 2, 3, b"x")).unwrap();
        let mut bytes = stored(&key);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(tree) = rmp_serde::from_slice::<PuncturedTree>(&bytes) {
            let _ = tree.message_key(leaf, generation);
            let _ = tree.without(leaf, generation).map(|after| after.secrets());
        }
    }
}
