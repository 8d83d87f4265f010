//! What a server, a member or a thief tried against the verbs.

use ed25519_dalek::Signer as _;
use openmls_traits::{
    OpenMlsProvider as _,
    signatures::{Signer, SignerError},
    types::SignatureScheme,
};

use super::{super::*, device::*};
use crate::{
    Identity,
    crypto::labelled,
    error::MalformedError,
    wire::{
        aad::CommitAad,
        extensions::Extension,
        group_info::GroupInfo,
        key_package::{KeyPackage, KeyPackageError},
        message::{WireFormat, begin},
        tls::Writer,
    },
};

fn write_extensions<'a>(out: &mut Writer, extensions: impl IntoIterator<Item = &'a Extension>) {
    let mut list = Writer::new();
    for extension in extensions {
        list.u16(extension.extension_type);
        list.opaque(&extension.data);
    }
    out.opaque(&list.into_bytes());
}

/// A second Welcome to a node, or the same one again, would bring back what was punctured there.
#[test]
fn a_welcome_does_not_undo_punctures() {
    let (mut devices, node) = room_of(&["alice"]);
    let mut bob = device("bob");
    let package = new_key_package(&bob.local, true).unwrap();
    let added = devices[0].adds(node, &[&package]);
    bob.joins(&added, &package);
    bob.enters(&devices[0].updates(added.node));
    assert_eq!(bob.group.vault(&added.node).unwrap().punctures(), 1);

    let refused = bob.tries_to_join(&added, &package);
    assert!(matches!(refused, Err(GroupError::AlreadyEntered(id)) if id == added.node));
    // Nor what was erased there.
    let erased = bob.group.erase_state(added.node);
    bob.group.apply(erased);
    assert!(bob.tries_to_join(&added, &package).is_err());
}

/// Whoever joins below a node that it knows must keep the record that everybody else has.
#[test]
fn one_who_comes_back_has_the_same_record_as_all() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let erased = carol.group.erase_state(node);
    carol.group.apply(erased);
    let package = carol.key_package();
    let back = alice.commits(
        node,
        CommitPlan {
            remove: vec![carol.leaf(node)],
            add: vec![package.key_package.clone()],
            ..CommitPlan::default()
        },
    );
    bob.enters(&back);
    carol.joins(&back, &package);
    assert_eq!(carol.group.graph().get(&back.node), bob.group.graph().get(&back.node));
    assert_eq!(carol.group.roster(&back.node), bob.group.roster(&back.node));
}

/// One who joins cannot see what the commit removed; once the parent is known it must.
#[test]
fn the_record_of_an_entrance_is_completed() {
    let (mut devices, node) = room_of(&["alice", "bob", "carol"]);
    let [alice, bob, carol] = devices.as_mut_slice() else { panic!() };
    let mut dave = device("dave");
    let package = dave.key_package();
    let event = alice.commits(
        node,
        CommitPlan {
            remove: vec![carol.leaf(node)],
            add: vec![package.key_package.clone()],
            ..CommitPlan::default()
        },
    );
    bob.enters(&event);
    dave.joins(&event, &package);
    assert!(matches!(dave.receives(&event), Received::Known(_)));

    let parent = GraphEntry {
        record: Arc::clone(bob.group.graph().get(&node).unwrap()),
        status: NodeStatus::Seen,
        roster: bob.group.roster(&node),
        summary: None,
    };
    dave.group.apply(GroupChanges { records: [(node, parent)].into(), ..Default::default() });
    // Had the epoch another tree than the commit makes, nobody else would be in it.
    let mut misled = dave.clone();
    let mut other = (*bob.group.roster(&node).unwrap()).clone();
    other.insert(9, Arc::new(local("eve").member()));
    misled.group.graph.set_roster(node, 0, Arc::new(other));
    assert!(matches!(misled.receives(&event), Received::Completed(..)));
    assert!(misled.group.state(&event.node).is_none());

    let received = dave.receives(&event);
    assert!(matches!(received, Received::Completed(id, _) if id == event.node), "{received:?}");
    assert!(dave.group.state(&event.node).is_some());
    assert_eq!(dave.group.graph().get(&event.node), bob.group.graph().get(&event.node));
    assert_eq!(dave.group.roster(&event.node), bob.group.roster(&event.node));
    assert!(matches!(dave.receives(&event), Received::Known(_)));
    all_talk(&mut [alice, bob, &mut dave], event.node);
}

/// Signs everything but the commit itself.
struct Unsigned<'a>(&'a LocalMember);

impl Signer for Unsigned<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        if payload.windows(16).any(|window| window == b"FramedContentTBS") {
            return Ok(vec![7; 64]);
        }
        Signer::sign(self.0, payload)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A Welcome to what is a commit for nobody else.
#[test]
fn nobody_joins_by_a_commit_that_its_author_did_not_sign() {
    let (devices, node) = room_of(&["alice", "mallory"]);
    let [alice, mallory] = devices.as_slice() else { panic!() };
    let carol = device("carol");
    let package = carol.key_package();
    let (state, vault) = (mallory.group.state(&node).unwrap(), mallory.group.vault(&node).unwrap());
    let (provider, mut group) = hydrated::hydrate(state, vault, ROOM.as_bytes(), false).unwrap();
    let aad = CommitAad {
        parent: Some(node),
        parent_context_hash: crate::crypto::sha256(&[&state.context]),
        parent_tag: state.confirmation_tag,
        resolves: vec![],
    };
    group.set_aad(aad.to_bytes());
    let signer = Unsigned(&mallory.local);
    let bundle = group
        .commit_builder()
        .propose_adds([hydrated::key_package(&provider, &package.key_package).unwrap()])
        .load_psks(provider.storage())
        .unwrap()
        .use_ratchet_tree_extension(false)
        .build(provider.rand(), provider.crypto(), &signer, |_| true)
        .unwrap()
        .stage_commit(&provider)
        .unwrap();
    let (commit, welcome, _) = bundle.into_messages();
    group.merge_pending_commit(&provider).unwrap();
    let commit = commit::to_bytes(&commit).unwrap();
    let event = Event {
        node: CommitMessage::parse(&commit).unwrap().node_id(),
        commit,
        parent_context: state.context.clone(),
        welcome: Some(commit::to_bytes(&welcome.unwrap()).unwrap()),
        tree: tls_codec::Serialize::tls_serialize_detached(&group.export_ratchet_tree()).unwrap(),
        group_info: vec![],
    };
    assert!(alice.group.receive(&event.commit, &event.parent_context).is_err());
    let refused = carol.tries_to_join(&event, &package);
    assert!(
        matches!(refused, Err(GroupError::IllFormed(crate::record::IllFormed::Signature))),
        "{refused:?}"
    );
}

/// A few bytes on the wire become hundreds in memory, before anything is verified.
#[test]
fn what_would_fill_the_memory_is_refused_first() {
    let (mut devices, node) = room_of(&["alice"]);
    let carol = device("carol");
    let package = carol.key_package();
    let good = devices[0].adds(node, &[&package]);
    let too_large = |result: Result<GroupChanges, GroupError>| {
        assert!(
            matches!(result, Err(GroupError::Malformed(MalformedError::TooLarge))),
            "{result:?}"
        );
    };

    // Blank nodes only.
    let mut blank = Writer::new();
    blank.opaque(&vec![0; 4 * 16_384]);
    let blank = blank.into_bytes();
    too_large(carol.tries_to_join(&Event { tree: blank.clone(), ..good.clone() }, &package));
    let record = Arc::clone(devices[0].group.graph().get(&good.node).unwrap());
    let public = PublicState { record: &record, group_info: &good.group_info, tree: &blank };
    too_large(carol.group.external_commit(&carol.local, public).map(|(_, changes)| changes));

    // The same inside a GroupInfo, which has none in this protocol.
    let info = GroupInfo::parse(&good.group_info).unwrap();
    let mut out = begin(WireFormat::GroupInfo);
    out.raw(info.context.as_bytes());
    let tree = Extension { extension_type: 2, data: blank };
    write_extensions(&mut out, info.extensions.iter().chain([&tree]));
    out.opaque(&info.confirmation_tag);
    out.u32(info.signer);
    out.opaque(&[0; 64]);
    let group_info = out.into_bytes();
    let public = PublicState { record: &record, group_info: &group_info, tree: &good.tree };
    let refused = carol.group.external_commit(&carol.local, public).unwrap_err();
    assert!(matches!(refused, GroupError::Malformed(MalformedError::Unsupported)), "{refused:?}");

    // Or inside the Welcome's, whose length is all that shows before it is decrypted.
    let parsed = crate::wire::welcome::Welcome::parse(good.welcome.as_ref().unwrap()).unwrap();
    let secrets = parsed.secrets_for_recipient(&package.reference).unwrap();
    let welcome = crate::wire::welcome::Welcome::join(&secrets, &vec![0; 1 << 20]).unwrap();
    too_large(carol.tries_to_join(&Event { welcome: Some(welcome), ..good.clone() }, &package));

    let mut carol = carol;
    carol.joins(&good, &package);
}

/// An author who makes many commits at once decides by their number who enters which; the chosen one
/// is entered by all.
#[test]
fn the_chosen_one_of_a_flood_is_entered() {
    let (mut devices, node) = room_of(&["alice", "mallory"]);
    let [alice, mallory] = devices.as_mut_slice() else { panic!() };
    let mut events: Vec<_> = (0..6).map(|_| mallory.updates(node)).collect();
    // The lowest node ID wins, and comes last.
    events.sort_by_key(|event| std::cmp::Reverse(event.node));
    for event in &events[..4] {
        alice.enters(event);
    }
    for event in &events[4..] {
        let received = alice.receives(event);
        assert!(matches!(received, Received::Seen(_, SeenBecause::TooMany, _)), "{received:?}");
    }
    assert_eq!(alice.group.chosen_tip(), Some(events[5].node));
    assert!(matches!(alice.receives(&events[4]), Received::Seen(_, SeenBecause::TooMany, _)));
    alice.enters(&events[5]);
    all_talk(&mut [alice, mallory], events[5].node);
}

#[test]
fn a_plan_that_removes_one_leaf_over_and_over_is_refused() {
    let (devices, node) = room_of(&["alice", "bob"]);
    let alice = &devices[0];
    let plan = CommitPlan { remove: vec![1; 9], ..CommitPlan::default() };
    assert!(alice.group.commit(node, &alice.local, plan).is_err());
}

/// GroupInfos are signed by a leaf of the tree beside them, which a server can invent altogether.
#[test]
fn nobody_lets_itself_into_an_invented_tree_of_a_node_that_it_knows() {
    let (mut devices, node) = room_of(&["alice", "bob"]);
    let [alice, bob] = devices.as_mut_slice() else { panic!() };
    let record = Arc::clone(bob.group.graph().get(&node).unwrap());
    let context =
        crate::wire::group_context::GroupContext::parse(&bob.group.state(&node).unwrap().context)
            .unwrap();
    let erased = bob.group.erase_state(node);
    bob.group.apply(erased);

    let mut server = device("server");
    let invented = server.founds();
    let info = GroupInfo::parse(&invented.group_info).unwrap();
    let mut signed = Writer::new();
    signed.u16(1);
    signed.u16(1);
    signed.opaque(ROOM.as_bytes());
    signed.u64(context.epoch);
    signed.opaque(&info.context.tree_hash);
    signed.opaque(&context.confirmed_transcript_hash.unwrap());
    write_extensions(&mut signed, &context.extensions);
    write_extensions(&mut signed, &info.extensions);
    signed.opaque(&info.confirmation_tag);
    signed.u32(info.signer);
    let signed = signed.into_bytes();
    let signature = server.local.signing_key().sign(&labelled("GroupInfoTBS", &signed));
    let mut group_info = begin(WireFormat::GroupInfo);
    group_info.raw(&signed);
    group_info.opaque(&signature.to_bytes());
    let group_info = group_info.into_bytes();

    let public = PublicState { record: &record, group_info: &group_info, tree: &invented.tree };
    // One who knows nothing must check who is in it.
    let stranger = device("stranger");
    stranger.group.external_commit(&stranger.local, public).unwrap();
    let refused = bob.group.external_commit(&bob.local, public);
    assert!(matches!(refused, Err(GroupError::WrongTree)), "{refused:?}");
    drop(alice.updates(node));
}

/// One device's key package must not keep everybody from committing.
#[test]
fn a_key_package_that_mls_refuses_is_not_fit_to_be_added() {
    let carol = device("carol");
    let bytes = carol.key_package().key_package;
    KeyPackage::parse_and_verify(&bytes).unwrap();
    // Without its extensions (none) and its signature.
    let mut signed = Writer::new();
    signed.raw(&bytes[..bytes.len() - 1 - 2 - 64]);
    let tree = Extension { extension_type: 2, data: vec![1, 2, 3] };
    write_extensions(&mut signed, [&tree]);
    let signed = signed.into_bytes();
    let signature = carol.local.signing_key().sign(&labelled("KeyPackageTBS", &signed));
    let mut altered = Writer::new();
    altered.raw(&signed);
    altered.opaque(&signature.to_bytes());
    let altered = altered.into_bytes();

    let provider = crate::schedule::Provider::new(crate::schedule::Operation::default());
    assert!(hydrated::key_package(&provider, &altered).is_err());
    assert_eq!(KeyPackage::parse_and_verify(&altered), Err(KeyPackageError::Refused));
}

/// As the well-formedness of all further commits requires.
#[test]
fn a_tree_with_a_device_or_a_key_twice_is_refused() {
    let (alice, bob) = (local("alice"), local("bob"));
    let leaf = |index: u32, member: &LocalMember| openmls::prelude::Member {
        index: openmls::prelude::LeafNodeIndex::new(index),
        credential: member.credential().credential,
        encryption_key: vec![0; 32],
        signature_key: member.member().signature_key.to_vec(),
    };
    hydrated::roster([leaf(0, &alice), leaf(1, &bob)].into_iter(), &Roster::new()).unwrap();
    // Another key under alice's user and device ID.
    let again = local_as("alice", 9);
    assert_ne!(again.member().signature_key, alice.member().signature_key);
    let twice = hydrated::roster([leaf(0, &alice), leaf(1, &again)].into_iter(), &Roster::new());
    assert!(matches!(twice, Err(GroupError::DuplicateDevice)), "{twice:?}");
}

/// Credentials are verified beside OpenMLS, from what we read of the tree ourselves.
#[test]
fn a_credential_that_was_verified_is_believed_of_the_very_same_leaf_only() {
    let (alice, bob) = (local("alice"), local("bob"));
    let leaf = |index: u32, identity: &Identity, key: &LocalMember| openmls::prelude::Member {
        index: openmls::prelude::LeafNodeIndex::new(index),
        credential: openmls::prelude::BasicCredential::new(identity.to_bytes()).into(),
        encryption_key: vec![0; 32],
        signature_key: key.member().signature_key.to_vec(),
    };
    let right = alice.member().identity;
    let unsigned = Identity::new(right.device.clone(), right.seq, [0; 64]);
    let roster = |leaf, verified: &Roster| hydrated::roster([leaf].into_iter(), verified);
    let verified = roster(leaf(0, &right, &alice), &Roster::new()).unwrap();
    assert_eq!(roster(leaf(0, &right, &alice), &verified).unwrap(), verified);
    for verified in [&Roster::new(), &verified] {
        for forged in [leaf(0, &unsigned, &alice), leaf(0, &right, &bob)] {
            let refused = roster(forged, verified);
            assert!(matches!(refused, Err(GroupError::Credential(_))), "{refused:?}");
        }
    }
}

#[test]
fn a_group_of_forty_is_joined() {
    let names: Vec<_> = (0..40).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (devices, node) = room_of(&names);
    let rosters: Vec<_> = devices.iter().map(|device| device.group.roster(&node)).collect();
    assert!(rosters.iter().all(|roster| roster.is_some() && *roster == rosters[0]));
    assert_eq!(rosters[0].as_ref().map(|roster| roster.len()), Some(40));
}

/// A key package with somebody else's public key in it: valid by itself, and impossible to add.
#[test]
fn a_key_package_with_a_stolen_key_is_named() {
    let (devices, node) = room_of(&["alice", "bob"]);
    let alice = &devices[0];
    let mallory = device("mallory");
    let victim = devices[1].key_package();
    let stolen = KeyPackage::parse_and_verify(&victim.key_package).unwrap().init_key;
    let own = mallory.key_package().key_package;
    let key = KeyPackage::parse_and_verify(&own).unwrap();

    // The init key stands behind version and suite; the leaf is as it was.
    let mut bytes = own.clone();
    bytes.truncate(own.len() - 2 - 64);
    assert_eq!(bytes[5..37], key.init_key);
    let other = device("other").key_package().key_package;
    bytes[5..37].copy_from_slice(&stolen);
    let signature = mallory.local.signing_key().sign(&labelled("KeyPackageTBS", &bytes));
    let mut out = Writer::new();
    out.raw(&bytes);
    out.opaque(&signature.to_bytes());
    let copied = out.into_bytes();
    let reference = KeyPackage::parse_and_verify(&copied).unwrap().reference();

    let carol = device("carol").key_package().key_package;
    let removes_bob = |add| CommitPlan { remove: vec![1], add, ..CommitPlan::default() };
    let plan = removes_bob(vec![victim.key_package.clone(), carol.clone(), copied, other]);
    let refused = alice.group.commit(node, &alice.local, plan);
    assert!(
        matches!(refused, Err(GroupError::KeyPackage(named)) if named == reference),
        "{refused:?}"
    );
    let plan = removes_bob(vec![victim.key_package, carol]);
    alice.group.commit(node, &alice.local, plan).unwrap();
}

#[test]
fn an_altered_copy_of_our_own_commit_is_not_its_acceptance() {
    let (devices, node) = room_of(&["alice", "bob"]);
    let mut alice = devices[0].clone();
    let (id, changes) = alice.group.commit(node, &alice.local, CommitPlan::default()).unwrap();
    alice.group.apply(changes);
    let pending = Arc::clone(alice.group.pending_commit(&id).unwrap());
    let mut altered = pending.commit.clone();
    *altered.last_mut().unwrap() ^= 1;
    let refused = alice.group.receive(&altered, &pending.parent_context);
    assert!(matches!(refused, Err(GroupError::AlteredCopy)), "{refused:?}");
    let received = alice.group.receive(&pending.commit, &pending.parent_context).unwrap();
    assert!(matches!(received, Received::Own(_)), "{received:?}");
}
