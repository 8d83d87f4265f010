//! The signatures of a tree are verified on several threads, and all of them are.

use openmls::prelude::{ProposalStore, PublicGroup, RatchetTreeIn};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::DeserializeBytes as _;

use super::{
    super::{
        entrance::verifiable,
        signatures::{Checks, while_verified},
        *,
    },
    device::*,
};
use crate::{
    roster::Member,
    schedule::{Operation, Provider, Verified},
    wire::ratchet_tree::RatchetTree,
};

/// Leaves of key packages and of commits, with a blank one between them.
fn large_group() -> (Vec<TestDevice>, Event) {
    let names: Vec<_> = (0..40).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (mut devices, node) = room_of(&names);
    let updated = devices[7].updates(node);
    devices[0].enters(&updated);
    let remove = vec![devices[3].leaf(node)];
    let plan = CommitPlan { remove, ..CommitPlan::default() };
    let removed = devices[0].commits(updated.node, plan);
    (devices, removed)
}

/// What OpenMLS verifies of a tree.
fn openmls_verifies(
    event: &Event,
    tree: &[u8],
    verified: &Arc<Verified>,
) -> Result<(), GroupError> {
    let operation = Operation { verified: Arc::clone(verified), ..Operation::default() };
    let provider = Provider::new(operation);
    PublicGroup::from_external(
        provider.crypto(),
        provider.storage(),
        RatchetTreeIn::tls_deserialize_exact_bytes(tree).unwrap(),
        verifiable(&event.group_info).unwrap(),
        ProposalStore::new(),
    )
    .map(drop)
    .map_err(GroupError::openmls)
}

/// The tree with one byte changed: that at `offset` from the last place where these bytes are.
fn altered(tree: &[u8], bytes: &[u8], offset: isize) -> Vec<u8> {
    let place = tree.windows(bytes.len()).rposition(|window| window == bytes).unwrap();
    let mut tree = tree.to_vec();
    tree[place.wrapping_add_signed(offset)] ^= 1;
    tree
}

fn last_member(devices: &[TestDevice]) -> Member {
    devices[39].local.member()
}

#[test]
fn what_helpers_verify_is_what_openmls_asks_for() {
    let (devices, event) = large_group();
    let tree = RatchetTree::parse(&event.tree).unwrap();
    assert_eq!(tree.leaves().len(), 39);
    let verified = Arc::default();
    Checks::new(tree.leaves(), ROOM.as_bytes(), &verified).help();
    // The first check of leaves is the one that ended those of credentials.
    assert_eq!(verified.count(), 38);
    openmls_verifies(&event, &event.tree, &verified).unwrap();
    // One leaf and the GroupInfo were left.
    assert_eq!(verified.count(), 40);
    assert_eq!(verified.asked(), 40);

    let (_, roster) = while_verified(&tree, ROOM.as_bytes(), &verified, || Ok(())).unwrap();
    if std::thread::available_parallelism().is_ok_and(|threads| threads.get() > 1) {
        assert_eq!(Some(&roster), devices[0].group.roster(&event.node).as_deref());
    }
}

#[test]
fn helpers_stop_where_openmls_has_come() {
    let (_, event) = large_group();
    let tree = RatchetTree::parse(&event.tree).unwrap();
    let verified = Verified::default();
    let checks = Checks::new(tree.leaves(), ROOM.as_bytes(), &verified);
    for _ in 0..30 {
        verified.or_verify(&[0; 32], b"", &[0; 64], || false);
    }
    checks.help();
    assert_eq!(verified.count(), 39 - 30 - 1);
}

#[test]
fn nothing_is_believed_of_a_leaf_whose_signature_is_not_valid() {
    let (devices, event) = large_group();
    let last = last_member(&devices);
    // The last byte of the encryption key, before this one's length.
    let tree = altered(&event.tree, &last.signature_key, -2);
    let parsed = RatchetTree::parse(&tree).unwrap();
    let verified = Arc::default();
    let work = || openmls_verifies(&event, &tree, &verified);
    let refused = while_verified(&parsed, ROOM.as_bytes(), &verified, work);
    let Err(GroupError::Mls(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("signature"), "{reason}");

    Checks::new(parsed.leaves(), ROOM.as_bytes(), &verified).help();
    openmls_verifies(&event, &tree, &verified).unwrap_err();
}

#[test]
fn a_roster_with_a_credential_that_is_not_valid_is_not_given() {
    let (devices, event) = large_group();
    let identity = last_member(&devices).identity.to_bytes();
    // In the middle of the device's signature.
    let tree = altered(&event.tree, &identity[identity.len() - 30..], 0);
    let parsed = RatchetTree::parse(&tree).unwrap();
    let verified = Verified::default();
    let (_, roster) = while_verified(&parsed, ROOM.as_bytes(), &verified, || Ok(())).unwrap();
    assert!(roster.is_empty());
    assert!(parsed.verified_roster().is_err());
}

#[test]
fn helpers_end_when_the_work_fails() {
    let (_, event) = large_group();
    let tree = RatchetTree::parse(&event.tree).unwrap();
    let verified = Verified::default();
    let work = || Err::<(), _>(GroupError::WelcomeMismatch);
    let failed = while_verified(&tree, ROOM.as_bytes(), &verified, work);
    assert!(matches!(failed, Err(GroupError::WelcomeMismatch)), "{failed:?}");
}
