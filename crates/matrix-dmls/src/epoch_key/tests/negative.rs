//! What must not be read, and why it is not.

use ed25519_dalek::{Signer, SigningKey};

use super::fixtures::{NODE, epoch, group_context, message, signing_key};
use crate::{
    authenticated_data::MessageAad,
    crypto::labelled,
    epoch_key::{
        DecryptError, EncryptError, EpochKey, GENERATION_LIMIT, MAX_MESSAGE_LENGTH, MessageSender,
        SecretTree,
        framing::{Content, Header, PrivateMessage},
        peek,
        secret_tree::message_key,
        sender_data::SenderData,
    },
    error::MalformedError,
    ids::NodeId,
    wire::tls::Writer,
};

/// Builds messages as one who holds all secrets and breaks the rules.
struct Forger<'a> {
    key: &'a EpochKey,
    leaf: u32,
    generation: u32,
    signer: SigningKey,
    padding: Vec<u8>,
    /// Encrypted in place of a well-formed content.
    content: Option<Vec<u8>>,
    content_type: u8,
    authenticated_data: Vec<u8>,
}

impl<'a> Forger<'a> {
    fn new(key: &'a EpochKey) -> Self {
        Self {
            key,
            leaf: 1,
            generation: 0,
            signer: signing_key(1),
            padding: vec![0; 3],
            content: None,
            content_type: 1,
            authenticated_data: MessageAad::new(NODE, vec![]).unwrap().to_bytes(),
        }
    }

    fn message(&self) -> Vec<u8> {
        let Self { leaf, generation, .. } = *self;
        let key = &self.key.inner;
        let header = Header {
            group_id: &key.group_id,
            epoch: key.epoch,
            content_type: self.content_type,
            authenticated_data: &self.authenticated_data,
        };
        let signed = header.framed_content_tbs(leaf, b"forged", &key.group_context);
        let signature = self.signer.sign(&labelled("FramedContentTBS", &signed)).to_bytes();
        let content =
            Content { application_data: b"forged", signature: &signature, padding: &self.padding };
        let mut ciphertext = self.content.clone().unwrap_or_else(|| content.to_bytes());
        // Nobody else computes keys for generations or leaves that do not exist.
        let content_key = if generation < GENERATION_LIMIT && leaf < 4 {
            key.message_key(leaf, generation).unwrap()
        } else {
            let SecretTree::Whole(secret) = &key.tree else { panic!("punctured") };
            message_key(secret, generation)
        };
        content_key.guarded([1; 4]).seal(&header.content_aad(), &mut ciphertext).unwrap();
        let sender_data = SenderData { leaf, generation, reuse_guard: [1; 4] }
            .seal(&key.sender_data_secret, &ciphertext, &header.sender_data_aad())
            .unwrap();
        PrivateMessage { header, encrypted_sender_data: &sender_data, ciphertext: &ciphertext }
            .to_bytes()
    }

    fn verdict(&self) -> Result<Vec<u8>, DecryptError> {
        self.key.decrypt(&self.message()).map(|message| message.plaintext)
    }
}

#[test]
fn the_forger_can_also_be_honest() {
    let (key, _) = epoch(3);
    assert_eq!(Forger::new(&key).verdict().unwrap(), b"forged");
    let padding = vec![0; 5000];
    assert_eq!(Forger { padding, ..Forger::new(&key) }.verdict().unwrap(), b"forged");
}

#[test]
fn another_member_cannot_sign_for_one() {
    let (key, _) = epoch(3);
    let forger = Forger { signer: signing_key(2), ..Forger::new(&key) };
    assert_eq!(forger.verdict(), Err(DecryptError::Signature { leaf: 1 }));
}

#[test]
fn padding_is_zeros() {
    let (key, _) = epoch(3);
    for padding in [vec![1], vec![0, 0, 1], vec![0x80, 0]] {
        let forger = Forger { padding, ..Forger::new(&key) };
        assert_eq!(forger.verdict(), Err(DecryptError::Padding));
    }
}

#[test]
fn a_leaf_that_nobody_has_says_nothing() {
    let (key, _) = epoch(3);
    for leaf in [3, 4, 16_384, u32::MAX] {
        let forger = Forger { leaf, ..Forger::new(&key) };
        assert_eq!(forger.verdict(), Err(DecryptError::UnknownSender { leaf }));
    }
}

#[test]
fn generations_end() {
    let (key, members) = epoch(3);
    let last = GENERATION_LIMIT - 1;
    let bytes = message(&key, &members, 1, last, b"last");
    assert_eq!(key.decrypt(&bytes).unwrap().generation, last);
    for generation in [GENERATION_LIMIT, u32::MAX] {
        let (fresh, _) = epoch(3);
        let forger = Forger { generation, ..Forger::new(&fresh) };
        assert_eq!(forger.verdict(), Err(DecryptError::GenerationTooHigh { generation }));

        let signer = &members[1];
        let sender = MessageSender { leaf: 1, generation, signer, reuse_guard: [0; 4] };
        let aad = MessageAad::new(NODE, vec![]).unwrap();
        let refused = fresh.encrypt(&sender, &aad, b"x");
        assert_eq!(refused, Err(EncryptError::GenerationTooHigh { generation }));
        // Nothing was derived.
        assert_eq!(fresh.inner.ratchets.len(), 0);
    }
}

#[test]
fn content_is_well_formed() {
    let (key, _) = epoch(3);
    for content in [vec![], vec![5, 1], vec![0x40, 1, 0], vec![1, 7]] {
        let forger = Forger { content: Some(content), ..Forger::new(&key) };
        assert!(matches!(forger.verdict(), Err(DecryptError::Malformed(_))));
    }
    // A signature that is not 64 bytes.
    let content = Some(vec![1, 7, 2, 8, 8]);
    let forger = Forger { content, ..Forger::new(&key) };
    assert_eq!(forger.verdict(), Err(DecryptError::Signature { leaf: 1 }));
}

#[test]
fn only_application_messages_are_read() {
    let (key, _) = epoch(3);
    for (content_type, error) in [
        (0, MalformedError::Unsupported.into()),
        (2, DecryptError::NotApplication),
        (3, DecryptError::NotApplication),
        (4, MalformedError::Unsupported.into()),
        (255, MalformedError::Unsupported.into()),
    ] {
        let forger = Forger { content_type, ..Forger::new(&key) };
        assert_eq!(forger.verdict(), Err(error));
        assert_eq!(peek(&forger.message()), Err(MalformedError::Unsupported));
    }
}

#[test]
fn authenticated_data_is_well_formed_and_names_the_node() {
    let (key, members) = epoch(3);
    for authenticated_data in [vec![], vec![0, 1, 0, 0], b"hello".to_vec()] {
        let forger = Forger { authenticated_data, ..Forger::new(&key) };
        assert!(matches!(forger.verdict(), Err(DecryptError::Malformed(_))));
        assert!(peek(&forger.message()).is_err());
    }
    let aad = MessageAad::new(NodeId::from_bytes([1; 32]), vec![]).unwrap();
    let forger = Forger { authenticated_data: aad.to_bytes(), ..Forger::new(&key) };
    assert_eq!(forger.verdict(), Err(DecryptError::WrongNode));
    assert_eq!(peek(&forger.message()).unwrap().aad, aad);

    let sender = MessageSender { leaf: 0, generation: 0, signer: &members[0], reuse_guard: [0; 4] };
    assert_eq!(key.encrypt(&sender, &aad, b"x"), Err(EncryptError::WrongNode));
}

#[test]
fn one_sends_only_as_oneself() {
    let (key, members) = epoch(3);
    let aad = MessageAad::new(NODE, vec![]).unwrap();
    let sender = MessageSender { leaf: 1, generation: 0, signer: &members[0], reuse_guard: [0; 4] };
    assert_eq!(key.encrypt(&sender, &aad, b"x"), Err(EncryptError::WrongSigner { leaf: 1 }));
    let sender = MessageSender { leaf: 3, ..sender };
    assert_eq!(key.encrypt(&sender, &aad, b"x"), Err(EncryptError::UnknownSender { leaf: 3 }));
}

#[test]
fn other_groups_epochs_and_branches_are_told_apart() {
    let (key, members) = epoch(3);
    let bytes = message(&key, &members, 0, 0, b"x");
    let with_context = |context| {
        let mut parts = key.to_parts();
        parts.group_context = context;
        EpochKey::from_parts(parts).unwrap().decrypt(&bytes)
    };
    let context = group_context(b"!other:example.org", 17);
    assert_eq!(with_context(context), Err(DecryptError::WrongGroup));
    let context = group_context(b"!room:example.org", 18);
    assert_eq!(with_context(context), Err(DecryptError::WrongEpoch));
    // The same group and number, another history: the signature covers all of the context.
    let mut context = group_context(b"!room:example.org", 17);
    *context.last_mut().unwrap() = 1;
    context.push(0);
    assert_eq!(with_context(context), Err(DecryptError::Signature { leaf: 0 }));

    let mut parts = key.to_parts();
    parts.node = NodeId::from_bytes([1; 32]);
    let branch = EpochKey::from_parts(parts).unwrap();
    assert_eq!(branch.decrypt(&bytes), Err(DecryptError::WrongNode));

    for wrong in 0..2 {
        let mut parts = key.to_parts();
        let secret = crate::crypto::Secret::from_bytes([1; 32]);
        if wrong == 0 {
            parts.tree = SecretTree::Whole(secret);
        } else {
            parts.sender_data_secret = secret;
        }
        let other = EpochKey::from_parts(parts).unwrap();
        assert_eq!(other.decrypt(&bytes), Err(DecryptError::Aead));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (key, members) = epoch(3);
    let bytes = message(&key, &members, 2, 70, b"do not touch");
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            key.decrypt(&flipped).unwrap_err();
            let _ = peek(&flipped);
        }
    }
    assert_eq!(key.decrypt(&bytes).unwrap().plaintext, b"do not touch");
}

#[test]
fn nothing_may_be_missing_or_added() {
    let (key, members) = epoch(3);
    let bytes = message(&key, &members, 2, 70, b"whole");
    for end in 0..bytes.len() {
        assert!(matches!(key.decrypt(&bytes[..end]), Err(DecryptError::Malformed(_))));
        assert!(peek(&bytes[..end]).is_err());
    }
    let mut long = bytes;
    long.push(0);
    assert_eq!(key.decrypt(&long), Err(MalformedError::TrailingBytes.into()));
}

#[test]
fn what_is_too_long_is_not_parsed() {
    let (key, _) = epoch(3);
    let padding = vec![0; MAX_MESSAGE_LENGTH];
    let long = Forger { padding, ..Forger::new(&key) }.message();
    assert_eq!(key.decrypt(&long), Err(DecryptError::TooLarge));
    assert_eq!(peek(&long), Err(MalformedError::TooLarge));
    let zeros = vec![0; MAX_MESSAGE_LENGTH + 1];
    assert_eq!(key.decrypt(&zeros), Err(DecryptError::TooLarge));
}

#[test]
fn sender_data_has_one_length() {
    let (key, members) = epoch(3);
    let bytes = message(&key, &members, 2, 0, b"x");
    let parsed = PrivateMessage::from_bytes(&bytes).unwrap();
    for length in [0, 27, 29] {
        let mut out = Writer::new();
        out.raw(&[0, 1, 0, 2]);
        out.raw(&parsed.header.content_aad());
        out.opaque(&vec![0; length]);
        out.opaque(parsed.ciphertext);
        assert_eq!(key.decrypt(&out.into_bytes()), Err(MalformedError::Length.into()));
    }
}
