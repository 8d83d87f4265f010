//! Founding commits.

use crate::{
    IllFormed, NodeId, check_founding,
    test_utils::{
        ROOM, TestDevice,
        forge::{self, Commit, Context, Leaf},
    },
};

fn founding() -> Commit {
    let alice = TestDevice::new("alice", "PHONE");
    let mut commit = Commit::new(&alice, Some(0), None, &Context::new(0, &[]));
    commit.path = Leaf::in_path(&alice, 0).path();
    commit
}

#[track_caller]
fn refuses(commit: &Commit, why: IllFormed) {
    let message = commit.parse().unwrap();
    assert_eq!(check_founding(&message, &commit.context, ROOM).map(|_| ()), Err(why));
}

#[test]
fn gives_the_roster_of_the_private_epoch() {
    let commit = founding();
    let message = commit.parse().unwrap();
    let (record, roster) = check_founding(&message, &commit.context, ROOM).unwrap();
    let alice = TestDevice::new("alice", "PHONE").member();
    assert_eq!(**roster.get(0).unwrap(), alice);
    assert_eq!(roster.len(), 1);
    assert_eq!((record.epoch, record.parent, record.author.leaf), (1, None, Some(0)));
    assert_eq!(record.roster_after(&roster), roster);
}

#[test]
fn needs_an_epoch_0_without_a_past() {
    let mut commit = founding();
    commit.set_context(&Context::new(0, &[1; 32]));
    refuses(&commit, IllFormed::TranscriptHash);
    let mut commit = founding();
    commit.epoch = 1;
    refuses(&commit, IllFormed::Epoch);
    commit.set_context(&Context::new(1, &[]));
    refuses(&commit, IllFormed::Epoch);
    let mut commit = founding();
    commit.aad.parent = Some(NodeId::from_bytes([1; 32]));
    refuses(&commit, IllFormed::Parent);
}

#[test]
fn is_from_the_first_leaf_and_has_a_path() {
    let alice = TestDevice::new("alice", "PHONE");
    let mut commit = founding();
    commit.sender = Some(1);
    refuses(&commit, IllFormed::Founder);
    commit.sender = None;
    refuses(&commit, IllFormed::Founder);
    let mut commit = founding();
    commit.path = None;
    commit.proposals = vec![forge::add(&forge::KeyPackage::of(&TestDevice::new("bob", "PHONE")))];
    refuses(&commit, IllFormed::PathMissing);
    let mut commit = founding();
    commit.signer = TestDevice::new("bob", "PHONE").mls_key;
    refuses(&commit, IllFormed::Signature);
    let mut commit = founding();
    commit.proposals = vec![forge::add(&forge::KeyPackage::of(&alice))];
    refuses(&commit, IllFormed::DuplicateDevice);
    let mut commit = founding();
    commit.proposals = vec![forge::remove(0)];
    refuses(&commit, IllFormed::RemoveSelf);
    let mut commit = founding();
    commit.proposals = vec![forge::remove(1)];
    refuses(&commit, IllFormed::RemoveBlank);
}
