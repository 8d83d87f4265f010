//! The leaves that a commit sets: by a member's path, and by Adds.

use super::Epoch;
use crate::{
    CredentialError, IllFormed, KeyPackageError, LeafError,
    test_utils::{
        TestDevice,
        forge::{self, KeyPackage, Leaf, Source},
        key,
    },
};

#[test]
fn the_path_leaf_is_checked_for_this_place() {
    let epoch = Epoch::new();
    let good = Leaf::in_path(&epoch.bob, 1);
    let leaf = |spoil: fn(&mut Leaf)| {
        let mut leaf = good.clone();
        spoil(&mut leaf);
        leaf
    };
    for (leaf, why) in [
        (Leaf::in_key_package(&epoch.bob), LeafError::Source),
        (leaf(|leaf| leaf.source = Source::Update), LeafError::Source),
        (leaf(|leaf| leaf.place.1 = 0), LeafError::Signature),
        (leaf(|leaf| leaf.place.0 = b"!other:example.org".to_vec()), LeafError::Signature),
        (leaf(|leaf| leaf.signer = key("other")), LeafError::Signature),
        (leaf(|leaf| leaf.versions = vec![2]), LeafError::Capabilities),
        (leaf(|leaf| leaf.suites = vec![2, 3]), LeafError::Capabilities),
        (leaf(|leaf| leaf.extension_types = vec![]), LeafError::Capabilities),
        (leaf(|leaf| leaf.credential_types = vec![2]), LeafError::Capabilities),
        (leaf(|leaf| leaf.extensions = vec![(0xF000, vec![])]), LeafError::Capabilities),
    ] {
        let mut commit = epoch.commit();
        commit.path = leaf.path();
        epoch.refuses(&commit, IllFormed::PathLeaf(why));
    }
    // What we do not know is skipped, as long as the leaf says that it supports what it has.
    let mut commit = epoch.commit();
    commit.path = leaf(|leaf| {
        leaf.extensions = vec![(0x0a0a, vec![1]), (0xF000, vec![2]), (1, vec![3])];
        leaf.extension_types = vec![0xF2D1, 0xF000, 0x0a0a, 0x1a1a];
        leaf.source = Source::Commit(vec![]);
    })
    .path();
    epoch.check(&commit).unwrap();
}

#[test]
fn the_credential_is_of_the_leaf_key() {
    let epoch = Epoch::new();
    // A signature of the device key over another MLS key.
    let mut bob = epoch.bob.with_seq(2);
    bob.mls_key = key("other");
    let mut commit = epoch.commit();
    commit.path = Leaf::in_path(&bob, 1).path();
    epoch.refuses(&commit, IllFormed::PathLeaf(LeafError::Credential(CredentialError::Signature)));
}

#[test]
fn a_member_keeps_its_device_and_goes_forward() {
    let mut epoch = Epoch::new();
    let mut commit = epoch.commit();
    commit.path = Leaf::in_path(&epoch.bob.with_seq(2), 1).path();
    let record = epoch.check(&commit).unwrap();
    assert_eq!(*record.updated.unwrap().1, epoch.bob.with_seq(2).member());

    let others = [
        TestDevice::new("dave", "PHONE"),
        TestDevice::new("bob", "LAPTOP"),
        TestDevice::with_device_key("bob", "PHONE", key("other"), 2),
    ];
    for other in others {
        let mut commit = epoch.commit();
        commit.path = Leaf::in_path(&other, 1).path();
        epoch.refuses(&commit, IllFormed::DeviceChanged);
    }

    let newer = epoch.bob.with_seq(2);
    epoch.roster.insert(1, newer.member().into());
    let mut commit = epoch.commit();
    commit.signer = newer.mls_key;
    epoch.refuses(&commit, IllFormed::SeqDecreased);
}

#[test]
fn key_packages_are_checked() {
    let epoch = Epoch::new();
    let refuses = |spoil: fn(&mut KeyPackage), why| {
        let mut key_package = KeyPackage::of(&epoch.dave);
        spoil(&mut key_package);
        epoch.refuses(&epoch.adding(&key_package), IllFormed::Add(why));
        // A claimed key package meets the same check.
        assert_eq!(crate::KeyPackage::parse_and_verify(&key_package.encode()), Err(why));
    };
    refuses(|kp| kp.signer = key("other"), KeyPackageError::Signature);
    refuses(|kp| kp.init_key = kp.leaf.encryption_key.clone(), KeyPackageError::InitKey);
    refuses(|kp| kp.leaf.source = Source::KeyPackage(1, u64::MAX), KeyPackageError::Lifetime);
    refuses(|kp| kp.leaf.source = Source::KeyPackage(0, u64::MAX - 1), KeyPackageError::Lifetime);
    refuses(|kp| kp.leaf.source = Source::Commit(vec![]), LeafError::Source.into());
    refuses(|kp| kp.leaf.source = Source::Update, LeafError::Source.into());
    refuses(|kp| kp.leaf.signer = key("other"), LeafError::Signature.into());
    refuses(|kp| kp.leaf.extension_types = vec![], LeafError::Capabilities.into());
    refuses(|kp| kp.extensions = vec![(10, vec![])], LeafError::Capabilities.into());
    refuses(
        |kp| {
            let other = TestDevice::new("erin", "PHONE");
            kp.leaf.identity = other.identity.to_bytes();
        },
        LeafError::Credential(CredentialError::Signature).into(),
    );
}

#[test]
fn leaves_support_what_the_group_requires() {
    let epoch = Epoch::new();
    // Extension 0xF001, proposal 0xF002, credential type 2.
    for required in [
        vec![4, 0xF2, 0xD1, 0xF0, 1, 0, 0],
        vec![2, 0xF2, 0xD1, 2, 0xF0, 2, 0],
        vec![2, 0xF2, 0xD1, 0, 2, 0, 2],
    ] {
        let mut context = epoch.context();
        context.extensions[0].1 = required;
        let mut commit = epoch.commit();
        commit.set_context(&context);
        epoch.refuses(&commit, IllFormed::PathLeaf(LeafError::Capabilities));
        let mut commit = epoch.adding(&KeyPackage::of(&epoch.dave));
        commit.set_context(&context);
        epoch.refuses(&commit, IllFormed::Add(LeafError::Capabilities.into()));

        let mut commit = epoch.commit();
        let mut leaf = Leaf::in_path(&epoch.bob, 1);
        leaf.extension_types.push(0xF001);
        leaf.proposal_types.push(0xF002);
        leaf.credential_types.push(2);
        commit.path = leaf.path();
        commit.set_context(&context);
        epoch.check(&commit).unwrap();
    }
}

#[test]
fn devices_and_keys_are_in_the_tree_once() {
    let epoch = Epoch::new();
    epoch.refuses(&epoch.adding(&KeyPackage::of(&epoch.carol)), IllFormed::DuplicateDevice);
    // Another key, or another device key, makes no other (user, device).
    for again in
        [epoch.carol.with_seq(2), TestDevice::with_device_key("carol", "PHONE", key("other"), 3)]
    {
        epoch.refuses(&epoch.adding(&KeyPackage::of(&again)), IllFormed::DuplicateDevice);
    }
    // Twice in one commit.
    let add = forge::add(&KeyPackage::of(&epoch.dave));
    let mut commit = epoch.commit();
    commit.proposals = vec![add.clone(), add];
    epoch.refuses(&commit, IllFormed::DuplicateDevice);
    // Removed and added is once.
    let mut commit = epoch.commit();
    commit.proposals =
        vec![forge::add(&KeyPackage::of(&epoch.carol.with_seq(2))), forge::remove(3)];
    let record = epoch.check(&commit).unwrap();
    assert_eq!(record.removes_without_readding().count(), 0);
    // A key that two devices share.
    let laptop = TestDevice::new("carol", "LAPTOP").with_mls_key_of(&epoch.carol);
    epoch.refuses(&epoch.adding(&KeyPackage::of(&laptop)), IllFormed::DuplicateSignatureKey);
    let mut commit = epoch.commit();
    commit.path = Leaf::in_path(&epoch.bob.with_mls_key_of(&epoch.carol), 1).path();
    epoch.refuses(&commit, IllFormed::DuplicateSignatureKey);
}
