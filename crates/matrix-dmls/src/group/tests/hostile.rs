//! Altered copies, other clients, garbage.

use openmls::prelude::{
    MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
    ProcessedWelcome,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{super::*, device::*};
use crate::wire::commit::CommitMessage;

#[test]
fn a_copy_with_altered_tags_has_the_same_id_and_does_not_bar_the_true_one() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let event = alice.updates(node);
    let commit = CommitMessage::parse(&event.commit).unwrap();
    let at = |tag: &[u8]| event.commit.windows(32).position(|window| window == tag).unwrap();
    let tags = [at(commit.confirmation_tag()), at(commit.membership_tag().unwrap())];
    for position in tags {
        let mut copy = event.clone();
        copy.commit[position] ^= 1;
        assert_eq!(CommitMessage::parse(&copy.commit).unwrap().node_id(), event.node);
        let mut victim = bob.clone();
        let received = victim.receives(&copy);
        assert!(
            matches!(&received, Received::Seen(id, SeenBecause::Inadmissible(_), _) if *id == event.node),
            "{received:?}"
        );
        assert!(victim.group.state(&event.node).is_none());
        assert_eq!(victim.group.vault(&node).unwrap().punctures(), 0);
        victim.enters(&event);
        all_talk(&mut [&mut *alice, &mut victim], event.node);
    }
}

#[test]
fn every_flipped_byte_is_dropped_or_only_seen() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let event = alice.updates(node);
    for position in 0..event.commit.len() {
        let mut commit = event.commit.clone();
        commit[position] ^= 0x10;
        match bob.group.receive(&commit, &event.parent_context) {
            Err(_) => {}
            Ok(Received::Seen(id, SeenBecause::Inadmissible(_), _)) => assert_eq!(id, event.node),
            Ok(other) => panic!("byte {position}: {other:?}"),
        }
    }
    for position in 0..event.parent_context.len() {
        let mut context = event.parent_context.clone();
        context[position] ^= 0x10;
        assert!(bob.group.receive(&event.commit, &context).is_err());
    }
    bob.enters(&event);
}

#[test]
fn a_client_with_the_ordinary_key_schedule_is_shut_out() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };

    // It joins by Welcome, where the key schedules are alike ...
    let plain = OpenMlsRustCrypto::default();
    let carol = local("carol");
    let package = openmls::prelude::KeyPackage::builder()
        .key_package_lifetime(openmls::prelude::Lifetime::init(0, u64::MAX))
        .leaf_node_capabilities(hydrated::capabilities())
        .build(CIPHERSUITE, &plain, &carol, carol.credential())
        .unwrap();
    let bytes = package.key_package().tls_serialize_detached().unwrap();
    let added = alice.commits(node, CommitPlan { add: vec![bytes], ..CommitPlan::default() });
    bob.enters(&added);
    let welcome = MlsMessageIn::tls_deserialize_exact_bytes(added.welcome.as_ref().unwrap());
    let MlsMessageBodyIn::Welcome(welcome) = welcome.unwrap().extract() else { panic!() };
    let config =
        MlsGroupJoinConfig::builder().wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY).build();
    let tree = openmls::prelude::RatchetTreeIn::tls_deserialize_exact_bytes(&added.tree).unwrap();
    let processed = ProcessedWelcome::new_from_welcome(&plain, &config, welcome).unwrap();
    let mut group = openmls::prelude::JoinBuilder::new(&plain, processed)
        .with_ratchet_tree(tree)
        .build()
        .unwrap()
        .into_group(&plain)
        .unwrap();

    // ... and cannot follow the first commit.
    let updated = bob.updates(added.node);
    alice.enters(&updated);
    let message = MlsMessageIn::tls_deserialize_exact_bytes(&updated.commit)
        .unwrap()
        .try_into_protocol_message()
        .unwrap();
    let error = group.process_message(&plain, message).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("confirmation tag"), "{error}");
}

#[test]
fn a_commit_of_another_room_is_refused() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let event = devices[0].updates(node);
    let elsewhere = Group::new("!elsewhere:example.org");
    let refused = elsewhere.receive(&event.commit, &event.parent_context);
    assert!(matches!(refused, Err(GroupError::WrongRoom)));
}

#[test]
fn plans_that_cannot_be_carried_out_are_refused() {
    let (devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_slice() else { panic!() };
    let try_plan = |plan| alice.group.commit(node, &alice.local, plan).map(|_| ()).unwrap_err();
    let remove = |leaf| CommitPlan { remove: vec![leaf], ..CommitPlan::default() };
    assert!(matches!(try_plan(remove(0)), GroupError::RemovesItself));
    assert!(matches!(try_plan(remove(9)), GroupError::BlankLeaf(9)));
    // Bob is in already.
    let add = vec![bob.key_package().key_package];
    assert!(matches!(
        try_plan(CommitPlan { add, ..CommitPlan::default() }),
        GroupError::KeyPackage(_)
    ));
    let add = vec![b"no key package".to_vec()];
    let refused = try_plan(CommitPlan { add, ..CommitPlan::default() });
    assert!(matches!(refused, GroupError::KeyPackage(_)));
    let nowhere = NodeId::from_bytes([9; 32]);
    let refused = alice.group.commit(nowhere, &alice.local, CommitPlan::default());
    assert!(matches!(refused, Err(GroupError::NoState(_))));
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_never_panic(
            commit in proptest::collection::vec(any::<u8>(), 0..300),
            context in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let group = Group::new(ROOM);
            prop_assert!(group.receive(&commit, &context).is_err());
            prop_assert!(group.decrypt(&commit).is_err());
        }
    }
}
