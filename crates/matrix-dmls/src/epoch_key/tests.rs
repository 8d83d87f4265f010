//! Tests of messages, by what they hold them against: the official vectors, OpenMLS, bad input, and
//! statements for all inputs.

mod fixtures;
mod memory;
mod negative;
mod openmls;
mod openmls_group;
mod properties;
mod punctured;
mod vectors;

use std::sync::Arc;

use self::fixtures::{epoch, roster, signing_key};
use super::*;

#[test]
fn everybody_reads_everybody() {
    let (key, members) = epoch(5);
    for (leaf, signer) in members.iter().enumerate() {
        let aad = MessageAad::new(key.node(), vec![NodeId::from_bytes([9; 32])]).unwrap();
        let sender =
            MessageSender { leaf: leaf as u32, generation: 3, signer, reuse_guard: [1, 2, 3, 4] };
        let bytes = key.encrypt(&sender, &aad, b"hello").unwrap();
        let header = peek(&bytes).unwrap();
        assert_eq!((&header.group_id[..], header.epoch), (key.group_id(), key.epoch()));
        assert_eq!(header.aad, aad);
        let message = key.decrypt(&bytes).unwrap();
        assert_eq!((message.leaf, message.generation), (leaf as u32, 3));
        assert_eq!(message.sender.signature_key, signer.verifying_key().to_bytes());
        assert_eq!(message.plaintext, b"hello");
        assert_eq!(message.aad, aad);
    }
}

#[test]
fn a_stored_key_reads_the_same() {
    let (key, members) = epoch(3);
    let bytes = fixtures::message(&key, &members, 1, 200, b"kept");
    let restored = EpochKey::from_parts(key.to_parts()).unwrap();
    assert!(restored.to_parts() == key.to_parts());
    assert_eq!(restored.decrypt(&bytes), key.decrypt(&bytes));
    assert_eq!(restored.decrypt(&bytes).unwrap().plaintext, b"kept");
    assert_eq!(restored.clone().decrypt(&bytes).unwrap().plaintext, b"kept");
}

#[test]
fn lengths_show_only_their_padme_step() {
    let (key, members) = epoch(2);
    let lengths: Vec<usize> = [993, 1000, 1023, 1024]
        .map(|length| fixtures::message(&key, &members, 0, 0, &vec![7; length]).len())
        .to_vec();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    let next = fixtures::message(&key, &members, 0, 0, &[7; 1025]).len();
    assert_eq!(next, lengths[0] + 64);
}

#[test]
fn the_longest_message_fits_and_a_longer_one_is_refused() {
    let (key, members) = epoch(2);
    let aad = MessageAad::new(key.node(), vec![NodeId::from_bytes([9; 32]); 8]).unwrap();
    let sender = MessageSender { leaf: 0, generation: 0, signer: &members[0], reuse_guard: [0; 4] };
    let bytes = key.encrypt(&sender, &aad, &[1; 47_104]).unwrap();
    assert!(bytes.len() <= MAX_MESSAGE_LENGTH);
    assert_eq!(key.decrypt(&bytes).unwrap().plaintext.len(), 47_104);
    for length in [47_105, MAX_MESSAGE_LENGTH, MAX_MESSAGE_LENGTH + 1] {
        let refused = key.encrypt(&sender, &aad, &vec![1; length]);
        assert_eq!(refused, Err(EncryptError::TooLarge));
    }
}

#[test]
fn secrets_and_contents_are_not_printed() {
    let (key, members) = epoch(2);
    let bytes = fixtures::message(&key, &members, 1, 7, b"private");
    let message = key.decrypt(&bytes).unwrap();
    let sender = MessageSender { leaf: 0, generation: 0, signer: &members[0], reuse_guard: [0; 4] };
    insta::assert_snapshot!(
        format!("{key:?}\n{:?}\n{message:?}\n{sender:?}", key.to_parts()),
        @r"
    EpochKey { node: NodeId(QEBAQE), epoch: 17, members: 2, .. }
    EpochKeyParts { node: NodeId(QEBAQE), members: 2, .. }
    DecryptedMessage { leaf: 1, generation: 7, sender: @user1:example.org/DEVICE#1, aad: MessageAad { epoch: NodeId(QEBAQE), tips: [] }, .. }
    MessageSender { leaf: 0, generation: 0, .. }
    "
    );
}

/// Stored history must stay readable: all that goes into a message is fixed here, so its bytes are.
#[test]
fn the_bytes_of_a_message_never_change() {
    let (key, members) = epoch(3);
    let bytes = fixtures::message(&key, &members, 2, 70, b"hello");
    insta::assert_snapshot!(hex::encode(bytes), @"000100021121726f6f6d3a6578616d706c652e6f7267000000000000001101240001204040404040404040404040404040404040404040404040404040404040404040001c73646ca9dc218a40edcbb874114983ee40d8214295f39ec7479c42954058fd4cdf0e5e759c7a4757f5556233e1c9ef28614278dda21312260bbdeb99f92a0009188f2b81ead206b7b1ebabc97db71191382026eab340f11181f40342b86d338fd9e5685d85905ec66967138a2793b9b1302bc78ee334");
}

#[test]
fn can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<EpochKey>();

    let (key, members) = epoch(4);
    let messages: Vec<_> = (0..40)
        .map(|i| fixtures::message(&key, &members, i % 4, i * 13 % 256, &i.to_be_bytes()))
        .collect();
    let messages = Arc::new(messages);
    let readers: Vec<_> = (0..4_usize)
        .map(|start| {
            let (key, messages) = (key.clone(), Arc::clone(&messages));
            std::thread::spawn(move || {
                for i in (0..40).map(|i| (i * 7 + start * 11) % 40) {
                    let message = key.decrypt(&messages[i]).unwrap();
                    assert_eq!(message.plaintext, (i as u32).to_be_bytes());
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_roster_that_is_too_wide_is_refused() {
    let (key, _) = epoch(2);
    let mut parts = key.to_parts();
    let mut wide = (*parts.roster).clone();
    let member = Arc::clone(wide.get(0).unwrap());
    wide.insert(MAX_LEAVES - 1, Arc::clone(&member));
    parts.roster = Arc::new(wide.clone());
    EpochKey::from_parts(parts.clone()).unwrap();
    wide.insert(u32::MAX, member);
    parts.roster = Arc::new(wide);
    assert_eq!(EpochKey::from_parts(parts).unwrap_err(), MalformedError::TooLarge);
}

#[test]
fn nobody_speaks_in_an_empty_epoch() {
    let (key, members) = epoch(2);
    let bytes = fixtures::message(&key, &members, 1, 0, b"x");
    let mut parts = key.to_parts();
    parts.roster = Arc::new(Roster::new());
    let empty = EpochKey::from_parts(parts.clone()).unwrap();
    assert_eq!(empty.decrypt(&bytes), Err(DecryptError::UnknownSender { leaf: 1 }));
    // The tree's width is part of what is derived from: with it wrong, nothing opens.
    parts.roster = roster(&(0..5).map(signing_key).collect::<Vec<_>>());
    let wide = EpochKey::from_parts(parts).unwrap();
    assert_eq!(wide.decrypt(&bytes), Err(DecryptError::Aead));
}
