//! The parsers against what OpenMLS writes, and against what this protocol does not have.

use openmls::prelude::tls_codec::Serialize as _;
use openmls_traits::OpenMlsProvider as _;

use super::tls::Writer;
use crate::{
    CommitMessage, CommitProposal, GroupInfo, KeyPackage, KeyPackageError, KeyPackageRef,
    MAX_COMMIT_BYTES, MAX_GROUP_CONTEXT_BYTES, MAX_GROUP_INFO_BYTES, MAX_LEAVES, MAX_WELCOME_BYTES,
    MalformedError, NodeId, Welcome, key_package_ref,
    test_utils::{
        Changes, TestDevice, TestMember, extension,
        forge::{self, Commit, Context, Leaf},
    },
};

#[test]
fn key_packages_of_openmls_are_read_and_named_alike() {
    let alice = TestMember::new("alice", "PHONE");
    let crypto = openmls_rust_crypto::OpenMlsRustCrypto::default();
    for key_package in [alice.key_package(), alice.last_resort_key_package()] {
        let bytes = key_package.tls_serialize_detached().unwrap();
        let read = KeyPackage::parse_and_verify(&bytes).unwrap();
        assert_eq!(read.member(), alice.device.member());
        assert_eq!(read.as_bytes(), bytes);
        assert_eq!(read.init_key, key_package.hpke_init_key().as_slice());
        let reference = key_package.hash_ref(crypto.crypto()).unwrap();
        assert_eq!(read.reference().as_bytes().as_slice(), reference.as_slice());
        assert_eq!(key_package_ref(&bytes), read.reference());
        let long = [bytes.as_slice(), &[0]].concat();
        assert_eq!(
            KeyPackage::parse_and_verify(&long),
            Err(KeyPackageError::Malformed(MalformedError::TrailingBytes))
        );
    }
}

#[test]
fn every_byte_of_a_key_package_is_checked() {
    let bytes = TestMember::new("alice", "PHONE").key_package().tls_serialize_detached().unwrap();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] ^= mask;
            assert!(KeyPackage::parse_and_verify(&altered).is_err(), "byte {at}");
        }
        assert!(KeyPackage::parse_and_verify(&bytes[..at]).is_err());
    }
}

#[test]
fn key_packages_are_limited_and_of_this_protocol() {
    let alice = TestDevice::new("alice", "PHONE");
    let refuses = |spoil: fn(&mut forge::KeyPackage), why| {
        let mut key_package = forge::KeyPackage::of(&alice);
        spoil(&mut key_package);
        assert_eq!(
            KeyPackage::parse_and_verify(&key_package.encode()),
            Err(KeyPackageError::Malformed(why))
        );
    };
    KeyPackage::parse_and_verify(&forge::KeyPackage::of(&alice).encode()).unwrap();
    refuses(|kp| kp.version = 2, MalformedError::Unsupported);
    refuses(|kp| kp.suite = 2, MalformedError::Unsupported);
    refuses(|kp| kp.init_key = vec![1; 31], MalformedError::Length);
    refuses(|kp| kp.leaf.encryption_key = vec![1; 33], MalformedError::Length);
    refuses(|kp| kp.leaf.credential_type = 2, MalformedError::Unsupported);
    refuses(|kp| kp.leaf.identity = vec![0; 10], MalformedError::String);
    refuses(|kp| kp.leaf.source = forge::Source::Commit(vec![1]), MalformedError::Length);
    refuses(
        |kp| kp.extensions = vec![(0xF000, vec![]), (0xF000, vec![1])],
        MalformedError::Duplicate,
    );
    refuses(
        |kp| kp.leaf.extensions = vec![(0xF000, vec![]), (0xF000, vec![1])],
        MalformedError::Duplicate,
    );
    refuses(|kp| kp.extensions = vec![(0xF000, vec![0; 16 * 1024])], MalformedError::TooLarge);
}

#[test]
fn a_group_info_is_read_and_its_signature_checked() {
    let mut alice = TestMember::new("alice", "PHONE");
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let info = GroupInfo::parse(&founding.group_info).unwrap();
    assert_eq!(info.context.as_bytes(), alice.context());
    assert_eq!(info.context.extension, extension());
    assert_eq!(info.confirmation_tag, *founding.message.confirmation_tag());
    assert_eq!(info.signer, 0);
    assert!(info.external_pub().is_some());
    assert!(GroupInfo::parse(&alice.group_info()).unwrap().ratchet_tree().is_some());
    assert!(info.is_signed_by(&alice.device.member().signature_key));
    assert!(!info.is_signed_by(&TestDevice::new("bob", "PHONE").member().signature_key));
    for at in 0..founding.group_info.len() {
        assert!(GroupInfo::parse(&founding.group_info[..at]).is_err());
        let mut altered = founding.group_info.clone();
        altered[at] ^= 1;
        let passes = GroupInfo::parse(&altered)
            .is_ok_and(|info| info.is_signed_by(&alice.device.member().signature_key));
        assert!(!passes, "byte {at}");
    }
}

#[test]
fn a_welcome_is_cut_down_to_one_recipient_and_still_opens() {
    let mut alice = TestMember::new("alice", "PHONE");
    let mut joiners = ["bob", "carol", "dave"].map(|user| TestMember::new(user, "PHONE"));
    alice.create_group(&extension());
    let founding = alice.commit(Changes { adds: joiners.iter().collect(), ..Changes::default() });
    let bytes = founding.welcome.unwrap();
    let welcome = Welcome::parse(&bytes).unwrap();

    // The references are those of the commit's key packages, in its order.
    let added = founding.message.proposals().iter().map(|proposal| {
        let CommitProposal::Add(key_package) = proposal else { panic!() };
        key_package.reference()
    });
    let recipients: Vec<_> = welcome.recipients().collect();
    assert_eq!(recipients, added.collect::<Vec<_>>());
    let stranger = KeyPackageRef::from_bytes([0; 32]);
    assert_eq!(welcome.for_recipient(&stranger), None);
    assert_eq!(welcome.secrets_for_recipient(&stranger), None);

    let shared = welcome.encrypted_group_info();
    for (joiner, recipient) in joiners.iter_mut().zip(recipients) {
        let whole = welcome.for_recipient(&recipient).unwrap();
        assert!(whole.len() < bytes.len());
        let secrets = welcome.secrets_for_recipient(&recipient).unwrap();
        assert!(secrets.len() < 300);
        assert!(Welcome::parse(&secrets).unwrap().encrypted_group_info().is_empty());
        assert_eq!(Welcome::join(&secrets, shared).unwrap(), whole);
        assert_eq!(Welcome::join(&whole, shared), Err(MalformedError::Duplicate));
        joiner.join(&whole, founding.message.node_id());
        assert_eq!(joiner.context(), alice.context());
    }
    for end in 0..bytes.len() {
        assert!(Welcome::parse(&bytes[..end]).is_err());
    }
}

#[test]
fn a_welcome_is_limited_exact_and_without_repetition() {
    let welcome = |members: &[u32], shared: usize| {
        let mut list = Writer::new();
        for member in members {
            let reference = crate::crypto::sha256(&[&member.to_be_bytes()]);
            list.opaque(&reference);
            list.opaque(&[1; 32]);
            list.opaque(&[2; 84]);
        }
        let mut out = Writer::new();
        out.raw(&[0, 1, 0, 3, 0, 1]);
        out.opaque(&list.into_bytes());
        out.opaque(&vec![3; shared]);
        out.into_bytes()
    };
    let mut bytes = welcome(&[1, 2], 10);
    assert_eq!(Welcome::parse(&bytes).unwrap().recipients().len(), 2);
    bytes.push(0);
    assert_eq!(Welcome::parse(&bytes), Err(MalformedError::TrailingBytes));
    assert_eq!(Welcome::parse(&welcome(&[1, 1], 10)), Err(MalformedError::Duplicate));
    let mut bytes = welcome(&[1], 10);
    bytes[5] = 2;
    assert_eq!(Welcome::parse(&bytes), Err(MalformedError::Unsupported));

    let members: Vec<_> = (0..=MAX_LEAVES as u32).collect();
    assert!(Welcome::parse(&welcome(&members[1..], 0)).is_ok());
    assert_eq!(Welcome::parse(&welcome(&members, 0)), Err(MalformedError::TooLarge));

    let secrets = welcome(&[1], 0);
    let shared = vec![0; MAX_WELCOME_BYTES - secrets.len()];
    assert_eq!(Welcome::join(&secrets, &shared), Err(MalformedError::TooLarge));
    let whole = Welcome::join(&secrets, &shared[4..]).unwrap();
    assert_eq!(Welcome::parse(&whole).unwrap().encrypted_group_info(), &shared[4..]);
}

fn commit() -> Commit {
    let bob = TestDevice::new("bob", "PHONE");
    let context = Context::new(5, &[2; 32]);
    let mut commit = Commit::new(&bob, Some(1), Some(NodeId::from_bytes([3; 32])), &context);
    commit.path = Leaf::in_path(&bob, 1).path();
    commit
}

#[test]
fn commits_have_only_what_this_protocol_has() {
    let refuses = |spoil: fn(&mut Commit), why| {
        let mut commit = commit();
        commit.parse().unwrap();
        spoil(&mut commit);
        assert_eq!(commit.parse().map(|_| ()), Err(why));
    };
    let unsupported = MalformedError::Unsupported;
    refuses(|commit| commit.version = 2, unsupported);
    // PrivateMessage, Welcome, GroupInfo, KeyPackage.
    refuses(|commit| commit.wire_format = 2, unsupported);
    refuses(|commit| commit.wire_format = 3, unsupported);
    refuses(|commit| commit.wire_format = 4, unsupported);
    refuses(|commit| commit.wire_format = 5, unsupported);
    // An application message, a standalone proposal.
    refuses(|commit| commit.content_type = 1, unsupported);
    refuses(|commit| commit.content_type = 2, unsupported);
    // By reference, with a 32-byte reference.
    refuses(|commit| commit.proposals = vec![[&[2, 32], [7; 32].as_slice()].concat()], unsupported);
    // Update, PreSharedKey, ReInit, GREASE, SelfRemove.
    refuses(|commit| commit.proposals = vec![vec![1, 0, 2, 0]], unsupported);
    refuses(|commit| commit.proposals = vec![vec![1, 0, 4, 0]], unsupported);
    refuses(|commit| commit.proposals = vec![vec![1, 0, 5, 0]], unsupported);
    refuses(|commit| commit.proposals = vec![vec![1, 0x0a, 0x0a, 0]], unsupported);
    refuses(|commit| commit.proposals = vec![vec![1, 0, 10]], unsupported);
    let twice = MalformedError::Duplicate;
    refuses(|commit| commit.proposals = vec![forge::external_init(); 2], twice);
    refuses(|commit| commit.proposals = vec![forge::group_context_extensions(&[]); 2], twice);
    refuses(|commit| commit.proposals = vec![vec![1, 0, 6, 1, 0]], MalformedError::Length);
    refuses(|commit| commit.aad.resolves = vec![NodeId::from_bytes([1; 32]); 2], twice);
    refuses(
        |commit| commit.aad.resolves = (0..33).map(|n| NodeId::from_bytes([n; 32])).collect(),
        MalformedError::TooLarge,
    );
    refuses(|commit| commit.confirmation_tag = vec![1; 31], MalformedError::Length);
    refuses(|commit| commit.membership_tag = vec![1; 33], MalformedError::Length);
    // A joiner has no membership tag.
    refuses(
        |commit| {
            commit.sender = None;
            commit.confirmation_tag = [&[1; 32], [32].as_slice(), &[2; 32]].concat();
        },
        MalformedError::Length,
    );
}

#[test]
fn senders_from_outside_are_refused() {
    let bytes = commit().encode();
    // version, wire format, group ID, epoch
    let at = 2 + 2 + 1 + crate::test_utils::ROOM.len() + 8;
    assert_eq!(bytes[at], 1);
    for sender in [0, 2, 3, 5] {
        let mut altered = bytes.clone();
        altered[at] = sender;
        assert_eq!(CommitMessage::parse(&altered), Err(MalformedError::Unsupported));
    }
}

/// A commit with a path of so many nodes, each with one more secret than the one before.
fn commit_with_path(count: usize, secret: &[u8]) -> Commit {
    let mut nodes = Writer::new();
    for secrets in 0..count {
        nodes.opaque(&[secrets as u8; 32]);
        let mut list = Writer::new();
        for _ in 0..secrets {
            list.opaque(&[1; 32]);
            list.opaque(secret);
        }
        nodes.opaque(&list.into_bytes());
    }
    let mut path = Writer::new();
    path.raw(&Leaf::in_path(&TestDevice::new("bob", "PHONE"), 1).encode());
    path.opaque(&nodes.into_bytes());
    let mut commit = commit();
    commit.path = Some(path.into_bytes());
    commit
}

#[test]
fn path_nodes_are_counted() {
    assert_eq!(commit_with_path(3, &[2; 48]).parse().unwrap().path().unwrap().nodes, 3);
}

/// OpenMLS takes many times the memory that they have on the wire.
#[test]
fn paths_have_no_more_and_no_shorter_secrets_than_a_tree_needs() {
    commit_with_path(14, &[2; 48]).parse().unwrap();
    assert_eq!(commit_with_path(15, &[2; 48]).parse(), Err(MalformedError::TooLarge));
    assert_eq!(commit_with_path(2, &[]).parse(), Err(MalformedError::Length));
    assert_eq!(commit_with_path(2, &[2; 49]).parse(), Err(MalformedError::Length));
}

#[test]
fn sizes_are_limited_before_anything_is_read() {
    let too_large = MalformedError::TooLarge;
    assert_eq!(CommitMessage::parse(&vec![0; MAX_COMMIT_BYTES + 1]), Err(too_large));
    assert_eq!(GroupInfo::parse(&vec![0; MAX_GROUP_INFO_BYTES + 1]), Err(too_large));
    assert_eq!(Welcome::parse(&vec![0; MAX_WELCOME_BYTES + 1]), Err(too_large));
    let context = vec![0; MAX_GROUP_CONTEXT_BYTES + 1];
    assert_eq!(crate::GroupContext::parse(&context), Err(too_large));
    let mut commit = commit();
    commit.proposals = vec![forge::remove(0); MAX_LEAVES];
    assert_eq!(commit.parse().unwrap().proposals().len(), MAX_LEAVES);
    commit.proposals.push(forge::remove(0));
    assert_eq!(commit.parse().map(|_| ()), Err(too_large));
}
