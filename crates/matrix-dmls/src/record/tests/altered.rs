//! Copies that somebody altered on the way.

use proptest::prelude::*;

use super::Epoch;
use crate::{
    CommitMessage, GroupContext, GroupInfo, KeyPackage, ParentView, Welcome, check_founding,
    check_well_formed,
    test_utils::{
        Changes, ROOM, TestMember, extension,
        forge::{self, KeyPackage as ForgedKeyPackage},
    },
};

/// Flips every bit pattern that a byte can be flipped by once, at every byte: what is left is either
/// refused, or (in the tags) the same node.
fn flip_everything(bytes: &[u8], tags: usize, mut check: impl FnMut(&CommitMessage) -> bool) {
    let original = CommitMessage::parse(bytes).unwrap();
    assert!(check(&original));
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut altered = bytes.to_vec();
            altered[at] ^= mask;
            let Ok(commit) = CommitMessage::parse(&altered) else { continue };
            if check(&commit) {
                assert!(at >= bytes.len() - tags, "byte {at} of {} is not signed", bytes.len());
                assert_eq!(commit.node_id(), original.node_id());
            } else {
                assert_ne!(commit.node_id(), original.node_id(), "byte {at} is not hashed");
            }
        }
    }
}

#[test]
fn no_byte_but_the_tags_can_be_altered() {
    let (mut alice, mut bob) = (TestMember::new("alice", "PHONE"), TestMember::new("bob", "PHONE"));
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let (record, before) =
        check_founding(&founding.message, &founding.parent_context, ROOM).unwrap();
    let roster = record.roster_after(&before);
    let tag = 1 + 32;
    flip_everything(founding.message.as_bytes(), 2 * tag, |commit| {
        check_founding(commit, &founding.parent_context, ROOM).is_ok()
    });

    let carol = TestMember::new("carol", "PHONE");
    let external = bob.join_externally(&founding.group_info, founding.message.node_id());
    let add = alice.commit(Changes { adds: vec![&carol], ..Changes::default() });
    let parent = ParentView::new(ROOM, &record, &roster);
    for (commit, tags) in [(add, 2 * tag), (external, tag)] {
        flip_everything(commit.message.as_bytes(), tags, |altered| {
            check_well_formed(altered, &commit.parent_context, parent).is_ok()
        });
    }
}

#[test]
fn altered_tags_keep_the_node_id() {
    let epoch = Epoch::new();
    let mut commit = epoch.commit();
    let original = commit.parse().unwrap();
    commit.confirmation_tag = vec![0xcc; 32];
    commit.membership_tag = vec![0xdd; 32];
    let altered = commit.parse().unwrap();
    assert_ne!(altered, original);
    assert_eq!(altered.node_id(), original.node_id());
    assert_eq!(altered.confirmation_tag(), &[0xcc; 32]);
    assert_eq!(altered.membership_tag(), Some(&[0xdd; 32]));
    // And the record: nothing in it comes from a tag.
    let of_original = check_well_formed(&original, &commit.context, epoch.view()).unwrap();
    assert_eq!(check_well_formed(&altered, &commit.context, epoch.view()).unwrap(), of_original);
}

#[test]
fn a_signature_has_one_encoding() {
    // S + L is the same scalar as S, and a sloppy verification would take both: two IDs.
    let epoch = Epoch::new();
    let commit = epoch.commit();
    let mut bytes = commit.encode();
    let l: [u8; 32] = {
        let mut l = [0; 32];
        l[..16].copy_from_slice(&[
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14,
        ]);
        l[31] = 0x10;
        l
    };
    let s = bytes.len() - 66 - 32;
    let mut carry = 0;
    for (byte, add) in bytes[s..s + 32].iter_mut().zip(l) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    let altered = CommitMessage::parse(&bytes).unwrap();
    assert_eq!(
        check_well_formed(&altered, &commit.context, epoch.view()),
        Err(crate::IllFormed::Signature)
    );
}

#[test]
fn whatever_is_cut_off_or_added_is_refused() {
    let epoch = Epoch::new();
    let mut commit = epoch.adding(&ForgedKeyPackage::of(&epoch.dave));
    commit.proposals.push(forge::remove(0));
    let bytes = commit.encode();
    for end in 0..bytes.len() {
        assert!(CommitMessage::parse(&bytes[..end]).is_err());
    }
    for end in 0..commit.context.len() {
        assert!(GroupContext::parse(&commit.context[..end]).is_err());
    }
    let long = [bytes.as_slice(), &[0]].concat();
    assert_eq!(CommitMessage::parse(&long), Err(crate::MalformedError::TrailingBytes));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        parse_everything(&bytes);
    }

    #[test]
    fn damaged_messages_do_not_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let epoch = Epoch::new();
        let mut commit = epoch.commit();
        commit.proposals = vec![
            forge::add(&ForgedKeyPackage::of(&epoch.dave)),
            forge::remove(0),
            forge::group_context_extensions(&epoch.context().extensions),
        ];
        let mut bytes = commit.encode();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(commit_message) = CommitMessage::parse(&bytes) {
            let _ = check_well_formed(&commit_message, &commit.context, epoch.view());
        }
        bytes.truncate(cut.index(bytes.len()));
        parse_everything(&bytes);
    }
}

fn parse_everything(bytes: &[u8]) {
    let _ = GroupContext::parse(bytes);
    let _ = KeyPackage::parse_and_verify(bytes);
    for wire_format in [1, 3, 4] {
        let message = [&[0, 1, 0, wire_format], bytes].concat();
        let _ = CommitMessage::parse(&message);
        let _ = Welcome::parse(&message);
        let _ = Welcome::join(&message, bytes);
        let _ = GroupInfo::parse(&message);
    }
}
