//! Epoch keys that members give one another.

use super::{super::*, device::*};
use crate::{extension::HistoryPolicy, wire::group_context::GroupContext};

/// Alice and Bob, and an epoch of Alice's that Bob is a member of and cannot enter any more.
fn bob_is_late(extension: &GroupExtension) -> (TestDevice, TestDevice, NodeId, NodeId) {
    let (mut alice, mut bob) = (device("alice"), device("bob"));
    let founded = alice.founds_with(extension);
    let package = bob.key_package();
    let added = alice.adds(founded.node, &[&package]);
    bob.joins(&added, &package);
    let together = alice.updates(added.node);
    bob.enters(&together);
    let late = alice.updates(added.node);
    bob.group.apply(bob.group.erase_state(added.node));
    bob.only_sees(&late);
    (alice, bob, late.node, together.node)
}

#[test]
fn a_given_key_reads_and_does_nothing_else() {
    let (mut alice, mut bob, late, _) = bob_is_late(&extension());
    let message = alice.writes(late, "on the other side");
    assert!(matches!(bob.group.decrypt(&message), Err(GroupError::NoEpochKey(_))));
    let (secret, public) = new_request_key().unwrap();
    let sealed = alice.group.seal_epoch_key(late, &public, "1").unwrap();
    assert_eq!(sealed.kem_output.len(), 32);
    let context = alice.group.epoch_key(&late).unwrap().group_context().len();
    assert!((context + 81..=context + 84).contains(&sealed.ciphertext.len()));
    let key = bob.group.open_epoch_key(late, &secret, "1", &sealed).unwrap();
    assert_eq!(&key.decrypt(&message).unwrap().plaintext, b"on the other side");
    bob.group.apply(bob.group.take_epoch_key(key.clone()));
    assert_eq!(bob.reads(&message), "on the other side");
    assert!(bob.group.state(&late).is_none() && bob.group.vault(&late).is_none());
    assert_eq!(bob.group.graph().status(&late), Some(NodeStatus::Seen));
    assert!(bob.group.encrypt(late, &bob.local, 0, vec![], b"").is_err());
    // It has taken nothing of Bob's place in the branch.
    bob.group.apply(bob.group.take_epoch_key(key));
    assert_eq!(bob.group.entered().count(), 1);
}

#[test]
fn a_given_key_is_for_one_request_one_epoch_and_one_room() {
    let (alice, bob, late, together) = bob_is_late(&extension());
    let (secret, public) = new_request_key().unwrap();
    let sealed = alice.group.seal_epoch_key(late, &public, "1").unwrap();
    // The control.
    assert!(bob.group.open_epoch_key(late, &secret, "1", &sealed).is_ok());
    assert!(bob.group.open_epoch_key(late, &secret, "2", &sealed).is_err());
    assert!(bob.group.open_epoch_key(together, &secret, "1", &sealed).is_err());
    let (other, _) = new_request_key().unwrap();
    assert!(bob.group.open_epoch_key(late, &other, "1", &sealed).is_err());
    let unknown = NodeId::from_bytes([9; 32]);
    let error = bob.group.open_epoch_key(unknown, &secret, "1", &sealed).unwrap_err();
    assert!(matches!(error, GroupError::NoState(_)), "{error}");
    for at in (0..sealed.ciphertext.len()).step_by(13) {
        let mut altered = sealed.clone();
        altered.ciphertext[at] ^= 1;
        assert!(bob.group.open_epoch_key(late, &secret, "1", &altered).is_err());
    }
    let empty = SealedEpochKey { kem_output: vec![], ciphertext: vec![] };
    assert!(bob.group.open_epoch_key(late, &secret, "1", &empty).is_err());
    // No public key: of small order.
    assert!(alice.group.seal_epoch_key(late, &[0; 32], "1").is_err());
    assert!(alice.group.seal_epoch_key(unknown, &public, "1").is_err());
}

#[test]
fn a_key_with_another_epochs_context_is_refused() {
    let (mut alice, bob, late, together) = bob_is_late(&extension());
    // Alice says that the key of one epoch is another's.
    let parts = alice.group.epoch_key(&together).unwrap().to_parts();
    let lie = EpochKey::from_parts(crate::EpochKeyParts { node: late, ..parts }).unwrap();
    alice.group.epoch_keys.insert(late, Arc::new(lie));
    let (secret, public) = new_request_key().unwrap();
    let sealed = alice.group.seal_epoch_key(late, &public, "1").unwrap();
    let error = bob.group.open_epoch_key(late, &secret, "1", &sealed).unwrap_err();
    assert!(matches!(error, GroupError::WrongEpochKey(_)), "{error}");
    let (context, record) = (
        GroupContext::parse(alice.group.epoch_key(&together).unwrap().group_context()).unwrap(),
        bob.group.graph().get(&late).unwrap(),
    );
    // The number alone would not have told.
    assert_eq!(context.epoch, record.epoch);
}

#[test]
fn keys_of_messages_that_are_read_once_are_given_to_nobody() {
    let extension = GroupExtension { history: HistoryPolicy::None, ..extension() };
    let (alice, _, late, _) = bob_is_late(&extension);
    let (_, public) = new_request_key().unwrap();
    let error = alice.group.seal_epoch_key(late, &public, "1").unwrap_err();
    assert!(matches!(error, GroupError::NoEpochKey(_)), "{error}");
}

#[test]
fn the_tag_is_known_to_the_members_of_one_epoch() {
    let (mut alice, mut bob, late, together) = bob_is_late(&extension());
    let tag = |device: &TestDevice, node, request: &[u8]| {
        device.group.key_request_tag(node, request).unwrap()
    };
    let bobs = tag(&bob, together, b"request");
    assert_eq!(bobs, tag(&alice, together, b"request"));
    assert!(alice.group.is_key_request_tag(together, b"request", &bobs).unwrap());
    for wrong in [&bobs[..31], &[0; 32], &[]] {
        assert!(!alice.group.is_key_request_tag(together, b"request", wrong).unwrap());
    }
    assert_ne!(bobs, tag(&alice, together, b"another"));
    assert_ne!(bobs, tag(&alice, late, b"request"));
    let updated = bob.updates(together);
    alice.enters(&updated);
    assert_ne!(bobs, tag(&alice, updated.node, b"request"));
    let error = bob.group.key_request_tag(late, b"request").unwrap_err();
    assert!(matches!(error, GroupError::NoState(_)), "{error}");
}

#[test]
fn the_key_of_an_epoch_that_was_entered_stays() {
    let (alice, bob, _, together) = bob_is_late(&extension());
    let key = alice.group.epoch_key(&together).unwrap();
    assert!(bob.group.take_epoch_key((**key).clone()).is_empty());
}
