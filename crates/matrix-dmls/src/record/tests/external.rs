//! External commits (protocol §6).

use super::Epoch;
use crate::{
    ExternalJoins, IllFormed, LeafError,
    test_utils::{
        TestDevice,
        forge::{self, Context, KeyPackage, Leaf},
    },
};

#[test]
fn a_stranger_joins_at_the_lowest_free_leaf() {
    let epoch = Epoch::new();
    let record = epoch.check(&epoch.joining(&epoch.dave, 2)).unwrap();
    assert_eq!(record.author.leaf, None);
    assert_eq!(record.added.len(), 1);
    assert_eq!((record.added[0].0, &*record.added[0].1), (2, &epoch.dave.member()));
    assert_eq!((record.updated, record.removed.len()), (None, 0));
    // Signed for another index.
    epoch.refuses(&epoch.joining(&epoch.dave, 4), IllFormed::PathLeaf(LeafError::Signature));
}

#[test]
fn a_device_with_a_leaf_replaces_it() {
    let epoch = Epoch::new();
    for bob in [epoch.bob.clone(), epoch.bob.with_seq(2)] {
        // Its own index has become the lowest free one.
        let mut commit = epoch.joining(&bob, 1);
        commit.proposals.push(forge::remove(1));
        let record = epoch.check(&commit).unwrap();
        assert_eq!((record.removed[0].0, record.added[0].0), (1, 1));
        assert_eq!(record.removes_without_readding().count(), 0);
        assert_eq!(record.roster_after(&epoch.roster).len(), 3);
    }
    // Carol's is not: 2 is lower.
    let mut commit = epoch.joining(&epoch.carol, 2);
    commit.proposals.push(forge::remove(3));
    let record = epoch.check(&commit).unwrap();
    assert_eq!((record.removed[0].0, record.added[0].0), (3, 2));
}

#[test]
fn another_device_key_replaces_the_leaf_but_is_another_device() {
    let epoch = Epoch::new();
    let other = TestDevice::with_device_key("bob", "PHONE", crate::test_utils::key("other"), 9);
    let mut commit = epoch.joining(&other, 1);
    epoch.refuses(&commit, IllFormed::ExternalRemove);
    commit.proposals.push(forge::remove(1));
    assert_eq!(epoch.check(&commit).unwrap().removes_without_readding().count(), 1);
}

#[test]
fn it_removes_nothing_but_the_own_leaf() {
    let epoch = Epoch::new();
    // None although there is one.
    epoch.refuses(&epoch.joining(&epoch.bob.with_seq(2), 2), IllFormed::ExternalRemove);
    // Somebody else's.
    let mut commit = epoch.joining(&epoch.bob, 0);
    commit.proposals.push(forge::remove(0));
    epoch.refuses(&commit, IllFormed::ExternalRemove);
    // One too many, a stranger's any, and one of the same user's other device.
    let mut commit = epoch.joining(&epoch.bob, 0);
    commit.proposals.extend([forge::remove(1), forge::remove(0)]);
    epoch.refuses(&commit, IllFormed::ExternalRemove);
    let laptop = TestDevice::new("bob", "LAPTOP");
    for joiner in [&epoch.dave, &laptop] {
        let mut commit = epoch.joining(joiner, 1);
        commit.proposals.push(forge::remove(1));
        epoch.refuses(&commit, IllFormed::ExternalRemove);
    }
    let mut commit = epoch.joining(&epoch.bob, 1);
    commit.proposals.extend([forge::remove(1), forge::remove(1)]);
    epoch.refuses(&commit, IllFormed::RemoveTwice);
    let mut commit = epoch.joining(&epoch.bob, 1);
    commit.proposals.push(forge::remove(2));
    epoch.refuses(&commit, IllFormed::RemoveBlank);
}

#[test]
fn it_has_one_external_init_a_path_and_nothing_else() {
    let epoch = Epoch::new();
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.proposals.clear();
    epoch.refuses(&commit, IllFormed::ExternalInit);
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.path = None;
    epoch.refuses(&commit, IllFormed::PathMissing);
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.proposals.push(forge::add(&KeyPackage::of(&TestDevice::new("erin", "PHONE"))));
    epoch.refuses(&commit, IllFormed::ExternalProposal);
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.proposals.push(forge::group_context_extensions(&epoch.context().extensions));
    epoch.refuses(&commit, IllFormed::ExternalProposal);
}

#[test]
fn the_group_can_forbid_it_to_strangers_only() {
    let mut epoch = Epoch::new();
    epoch.extension.external = ExternalJoins::Forbidden;
    epoch.refuses(&epoch.joining(&epoch.dave, 2), IllFormed::ExternalForbidden);
    // Another device of a member, and a member itself.
    epoch.check(&epoch.joining(&TestDevice::new("bob", "LAPTOP"), 2)).unwrap();
    let mut commit = epoch.joining(&epoch.bob, 1);
    commit.proposals.push(forge::remove(1));
    epoch.check(&commit).unwrap();
    // Saying that the group allows it does not help.
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.set_context(&Context::new(epoch.epoch, &epoch.confirmed_transcript_hash));
    epoch.refuses(&commit, IllFormed::ParentExtension);
}

#[test]
fn it_is_signed_by_the_joiner_and_its_leaf_is_checked() {
    let epoch = Epoch::new();
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.signer = epoch.bob.mls_key.clone();
    epoch.refuses(&commit, IllFormed::Signature);
    let mut commit = epoch.joining(&epoch.dave, 2);
    commit.path = Leaf::in_key_package(&epoch.dave).path();
    epoch.refuses(&commit, IllFormed::PathLeaf(LeafError::Source));
    // Another device with a key that is in the tree.
    let thief = epoch.dave.with_mls_key_of(&epoch.bob);
    epoch.refuses(&epoch.joining(&thief, 2), IllFormed::DuplicateSignatureKey);
}
