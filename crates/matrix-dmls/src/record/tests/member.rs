//! Members' commits: their place, their author and the shape of their changes.

use super::Epoch;
use crate::{
    GroupExtension, HistoryPolicy, IllFormed, MalformedError, Member, NodeId, TrustRequirement,
    interim_transcript_hash,
    test_utils::{
        TestDevice,
        forge::{self, Context, KeyPackage},
    },
};

#[test]
fn an_update_is_well_formed() {
    let epoch = Epoch::new();
    let record = epoch.check(&epoch.commit()).unwrap();
    assert_eq!((record.epoch, record.parent), (6, Some(epoch.node)));
    assert_eq!(record.roster_after(&epoch.roster), epoch.roster);
    let interim = interim_transcript_hash(&epoch.confirmed_transcript_hash, &[9; 32]);
    assert_eq!(
        record.confirmed_transcript_hash,
        crate::confirmed_transcript_hash(
            &interim,
            epoch.commit().parse().unwrap().confirmed_transcript_hash_input()
        )
    );
}

#[test]
fn the_context_is_the_signed_one_of_this_room_and_of_the_parent() {
    let epoch = Epoch::new();
    let mut commit = epoch.commit();
    commit.context.push(0);
    epoch.refuses(&commit, IllFormed::Context(MalformedError::TrailingBytes));
    let mut commit = epoch.commit();
    commit.context = Context::new(5, &[8; 32]).encode();
    epoch.refuses(&commit, IllFormed::ContextHash);

    let mut commit = epoch.commit();
    commit.group_id = b"!other:example.org".to_vec();
    epoch.refuses(&commit, IllFormed::GroupId);
    let mut context = epoch.context();
    context.group_id = b"!other:example.org".to_vec();
    commit.set_context(&context);
    epoch.refuses(&commit, IllFormed::GroupId);

    let mut commit = epoch.commit();
    commit.epoch = 6;
    epoch.refuses(&commit, IllFormed::Epoch);
    commit.set_context(&Context::new(6, &epoch.confirmed_transcript_hash));
    epoch.refuses(&commit, IllFormed::Epoch);

    for hash in [&[8; 32][..], &[]] {
        let mut commit = epoch.commit();
        commit.set_context(&Context::new(5, hash));
        epoch.refuses(&commit, IllFormed::TranscriptHash);
    }

    let mut commit = epoch.commit();
    let mut context = epoch.context();
    let other = GroupExtension { history: HistoryPolicy::None, ..epoch.extension.clone() };
    context.extensions[1].1 = other.to_bytes();
    commit.set_context(&context);
    epoch.refuses(&commit, IllFormed::ParentExtension);

    for parent in [None, Some(NodeId::from_bytes([4; 32]))] {
        let mut commit = epoch.commit();
        commit.aad.parent = parent;
        epoch.refuses(&commit, IllFormed::Parent);
    }
}

#[test]
fn the_last_epoch_has_no_child() {
    let mut epoch = Epoch::new();
    epoch.epoch = u64::MAX;
    epoch.refuses(&epoch.commit(), IllFormed::Epoch);
}

#[test]
fn contexts_without_our_extensions_are_refused() {
    let epoch = Epoch::new();
    let ours = epoch.context().extensions[1].clone();
    let required = epoch.context().extensions[0].clone();
    for (extensions, error) in [
        (vec![], MalformedError::Missing),
        (vec![ours.clone()], MalformedError::Missing),
        (vec![required.clone()], MalformedError::Missing),
        (vec![(3, vec![0, 0, 0]), ours.clone()], MalformedError::Missing),
        (vec![required.clone(), ours.clone(), ours.clone()], MalformedError::Duplicate),
        (vec![required.clone(), (0xF2D1, vec![0, 2])], MalformedError::Unsupported),
        (vec![(3, vec![0, 0]), ours], MalformedError::Truncated),
    ] {
        let mut commit = epoch.commit();
        let mut context = epoch.context();
        context.extensions = extensions;
        commit.set_context(&context);
        epoch.refuses(&commit, IllFormed::Context(error));
    }
    for spoil in [|c: &mut Context| c.version = 2, |c: &mut Context| c.suite = 2] {
        let mut commit = epoch.commit();
        let mut context = epoch.context();
        spoil(&mut context);
        commit.set_context(&context);
        epoch.refuses(&commit, IllFormed::Context(MalformedError::Unsupported));
    }
}

#[test]
fn the_author_is_in_the_tree_and_signed() {
    let epoch = Epoch::new();
    let mut commit = epoch.commit();
    commit.sender = Some(2);
    epoch.refuses(&commit, IllFormed::Author);
    commit.sender = Some(0);
    epoch.refuses(&commit, IllFormed::Signature);
    let mut commit = epoch.commit();
    commit.signer = epoch.alice.mls_key.clone();
    epoch.refuses(&commit, IllFormed::Signature);
}

#[test]
fn adds_fill_the_gaps_after_the_removes() {
    let epoch = Epoch::new();
    let [erin, frank] = ["erin", "frank"].map(|user| TestDevice::new(user, "PHONE"));
    let mut commit = epoch.commit();
    commit.proposals = vec![
        forge::add(&KeyPackage::of(&epoch.dave)),
        forge::remove(0),
        forge::add(&KeyPackage::of(&erin)),
        forge::add(&KeyPackage::of(&frank)),
    ];
    let record = epoch.check(&commit).unwrap();
    let leaves: Vec<_> = record.added.iter().map(|(leaf, member)| (*leaf, &**member)).collect();
    let members: Vec<Member> = [&epoch.dave, &erin, &frank].map(TestDevice::member).into();
    assert_eq!(leaves, [(0, &members[0]), (2, &members[1]), (4, &members[2])]);
    assert_eq!(record.removed[0].0, 0);
    let after = record.roster_after(&epoch.roster);
    assert_eq!(after.len(), 5);
    assert_eq!(after.leaf_of(&epoch.alice.identity.device), None);
}

#[test]
fn only_a_commit_that_only_adds_goes_without_a_path() {
    let epoch = Epoch::new();
    let add = forge::add(&KeyPackage::of(&epoch.dave));
    let extensions = forge::group_context_extensions(&epoch.context().extensions);
    let mut commit = epoch.commit();
    commit.path = None;
    for proposals in [
        vec![],
        vec![forge::remove(0)],
        vec![add.clone(), forge::remove(0)],
        vec![extensions.clone()],
        vec![add.clone(), extensions],
    ] {
        commit.proposals = proposals;
        epoch.refuses(&commit, IllFormed::PathMissing);
    }
    commit.proposals = vec![add];
    epoch.check(&commit).unwrap();
}

#[test]
fn removes_name_others_who_are_there_once() {
    let epoch = Epoch::new();
    for (leaves, why) in [
        (vec![1], IllFormed::RemoveSelf),
        (vec![0, 1], IllFormed::RemoveSelf),
        (vec![2], IllFormed::RemoveBlank),
        (vec![u32::MAX], IllFormed::RemoveBlank),
        (vec![0, 0], IllFormed::RemoveTwice),
    ] {
        let mut commit = epoch.commit();
        commit.proposals = leaves.into_iter().map(forge::remove).collect();
        epoch.refuses(&commit, why);
    }
}

#[test]
fn a_member_makes_no_external_init() {
    let epoch = Epoch::new();
    let mut commit = epoch.commit();
    commit.proposals = vec![forge::external_init()];
    epoch.refuses(&commit, IllFormed::ExternalInit);
}

#[test]
fn group_context_extensions_change_the_history_and_nothing_else() {
    let epoch = Epoch::new();
    let old = epoch.context().extensions;
    let with = |list: Vec<(u16, Vec<u8>)>| {
        let mut commit = epoch.commit();
        commit.proposals = vec![forge::group_context_extensions(&list)];
        commit
    };
    let changed = |change: fn(&mut GroupExtension)| {
        let mut extension = epoch.extension.clone();
        change(&mut extension);
        with(vec![old[0].clone(), (0xF2D1, extension.to_bytes())])
    };
    epoch.check(&with(old.clone())).unwrap();
    let record = epoch.check(&changed(|e| e.history = HistoryPolicy::None)).unwrap();
    assert_eq!(record.extension.history, HistoryPolicy::None);

    let mut reversed = old.clone();
    reversed.reverse();
    let mut more = old.clone();
    more.push((0xF000, vec![]));
    let mut looser = old.clone();
    looser[0].1 = vec![0, 0, 0];
    let mut other_type = old.clone();
    other_type[1].0 = 0xF2D2;
    let mut unreadable = old.clone();
    unreadable[1].1[1] = 2;
    for commit in [
        changed(|e| e.instance = crate::InstanceId::from_bytes([8; 32])),
        changed(|e| e.trust = TrustRequirement::All),
        changed(|e| e.external = crate::ExternalJoins::Forbidden),
        with(vec![]),
        with(old[1..].to_vec()),
        with(reversed),
        with(more),
        with(looser),
        with(other_type),
        with(unreadable),
    ] {
        epoch.refuses(&commit, IllFormed::GroupContextExtensions);
    }
}

#[test]
fn the_group_does_not_grow_beyond_its_limit() {
    let mut epoch = Epoch::new();
    let device = epoch.alice.identity.device.clone();
    for leaf in 4..16_385 {
        let device = crate::Device { device_id: leaf.to_string(), ..device.clone() };
        let mut signature_key = [0; 32];
        signature_key[..4].copy_from_slice(&u32::to_be_bytes(leaf));
        let identity = crate::Identity::new(device, 1, [0; 64]);
        epoch.roster.insert(leaf, Member { identity, signature_key }.into());
    }
    // 16,384 members, one leaf blank.
    assert_eq!(epoch.roster.len(), 16_384);
    let mut commit = epoch.commit();
    commit.proposals = vec![forge::add(&KeyPackage::of(&epoch.dave))];
    epoch.refuses(&commit, IllFormed::TooManyLeaves);
    commit.proposals.push(forge::remove(0));
    epoch.check(&commit).unwrap();
}
