//! The official test vectors (github.com/mlswg/mls-implementations), cipher suite 1 only.

use ed25519_dalek::{Signer, SigningKey};
use serde_json::Value;

use super::fixtures::{NODE, member};
use crate::{
    crypto::{Secret, derive_secret, expand_with_label_array, labelled, verify_with_label},
    epoch_key::{
        EpochKey, MessageSender, decrypt, encrypt,
        error::DecryptError,
        secret_tree::{
            application_ratchet, derive_tree_secret, leaf_secret, message_key, next_secret,
        },
        sender_data::sender_data_key,
    },
    wire::tls::Writer,
};

fn load(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn secret(value: &Value) -> Secret {
    Secret::from_slice(&bytes(value)).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn crypto_basics() {
    let vectors = load(include_str!("../../../tests/vectors/crypto-basics.json"));
    assert_eq!(vectors.len(), 1);
    for vector in vectors {
        let test = &vector["derive_secret"];
        let out = derive_secret(&secret(&test["secret"]), test["label"].as_str().unwrap());
        assert_eq!(out, secret(&test["out"]));

        let test = &vector["expand_with_label"];
        assert_eq!(number(&test["length"]), 16);
        let label = test["label"].as_str().unwrap();
        let out: [u8; 16] =
            expand_with_label_array(&secret(&test["secret"]), label, &bytes(&test["context"]));
        assert_eq!(out[..], bytes(&test["out"]));

        let test = &vector["derive_tree_secret"];
        assert_eq!(number(&test["length"]), 32);
        let label = test["label"].as_str().unwrap();
        let out: [u8; 32] =
            derive_tree_secret(&secret(&test["secret"]), label, number(&test["generation"]));
        assert_eq!(out[..], bytes(&test["out"]));

        let test = &vector["sign_with_label"];
        let (label, content) = (test["label"].as_str().unwrap(), bytes(&test["content"]));
        let key = SigningKey::from_bytes(&bytes(&test["priv"]).try_into().unwrap());
        let public: [u8; 32] = bytes(&test["pub"]).try_into().unwrap();
        assert_eq!(key.verifying_key().to_bytes(), public);
        assert!(verify_with_label(&public, label, &content, &bytes(&test["signature"])));
        let ours = key.sign(&labelled(label, &content)).to_bytes();
        assert_eq!(ours[..], bytes(&test["signature"]));
    }
}

#[test]
fn secret_tree() {
    let vectors = load(include_str!("../../../tests/vectors/secret-tree.json"));
    let widths: Vec<_> = vectors.iter().map(|v| v["leaves"].as_array().unwrap().len()).collect();
    assert_eq!(widths, [1, 8, 32]);
    for vector in vectors {
        let test = &vector["sender_data"];
        let key =
            sender_data_key(&secret(&test["sender_data_secret"]), &bytes(&test["ciphertext"]));
        assert_eq!(key.key[..], bytes(&test["key"]));
        assert_eq!(key.nonce[..], bytes(&test["nonce"]));

        let root = secret(&vector["encryption_secret"]);
        let leaves = vector["leaves"].as_array().unwrap();
        for (leaf, generations) in (0..).zip(leaves) {
            let leaf = leaf_secret(&root, leaves.len() as u32, leaf);
            // We have no use for the other ratchet, but what it shares with ours is tested by it too.
            let handshake = Secret::from_bytes(expand_with_label_array(&leaf, "handshake", &[]));
            for (name, first) in
                [("application", application_ratchet(&leaf)), ("handshake", handshake)]
            {
                for test in generations.as_array().unwrap() {
                    let generation = number(&test["generation"]);
                    let mut ratchet = first.clone();
                    for at in 0..generation {
                        ratchet = next_secret(&ratchet, at);
                    }
                    let key = message_key(&ratchet, generation);
                    assert_eq!(key.key[..], bytes(&test[format!("{name}_key")]));
                    assert_eq!(key.nonce[..], bytes(&test[format!("{name}_nonce")]));
                }
            }
        }
    }
}

/// The vectors' tree has two leaves, and leaf 1 speaks.
fn message_protection_key(vector: &Value) -> (EpochKey, SigningKey) {
    let mut context = Writer::new();
    context.u16(1);
    context.u16(1);
    context.opaque(&bytes(&vector["group_id"]));
    context.u64(vector["epoch"].as_u64().unwrap());
    context.opaque(&bytes(&vector["tree_hash"]));
    context.opaque(&bytes(&vector["confirmed_transcript_hash"]));
    context.opaque(&[]);
    let signer = SigningKey::from_bytes(&bytes(&vector["signature_priv"]).try_into().unwrap());
    let public = bytes(&vector["signature_pub"]).try_into().unwrap();
    assert_eq!(signer.verifying_key().to_bytes(), public);
    let roster = [(0, member("zero", [0; 32])), (1, member("one", public))];
    let key = EpochKey::new(
        NODE,
        context.into_bytes(),
        secret(&vector["encryption_secret"]),
        secret(&vector["sender_data_secret"]),
        std::sync::Arc::new(roster.into_iter().collect()),
    )
    .unwrap();
    (key, signer)
}

#[test]
fn message_protection() {
    let vectors = load(include_str!("../../../tests/vectors/message-protection.json"));
    assert_eq!(vectors.len(), 1);
    for vector in vectors {
        let (key, signer) = message_protection_key(&vector);
        let plaintext = bytes(&vector["application"]);

        let message = bytes(&vector["application_priv"]);
        let opened = decrypt::parse(&key.inner, &message)
            .and_then(|message| decrypt::open(&key.inner, &message))
            .unwrap();
        assert_eq!(opened.leaf, 1);
        assert_eq!(opened.plaintext, plaintext);

        let generation = opened.generation + 1;
        let sender = MessageSender { leaf: 1, generation, signer: &signer, reuse_guard: [9; 4] };
        let ours = encrypt::seal(&key.inner, &sender, b"any", &plaintext).unwrap();
        let parsed = decrypt::parse(&key.inner, &ours).unwrap();
        assert_eq!(parsed.header.authenticated_data, b"any");
        let opened = decrypt::open(&key.inner, &parsed).unwrap();
        assert_eq!((opened.leaf, opened.generation), (1, generation));
        assert_eq!(opened.plaintext, plaintext);

        // The vectors' other messages are none of ours.
        for handshake in ["proposal_priv", "commit_priv"] {
            let message = bytes(&vector[handshake]);
            assert_eq!(key.decrypt(&message), Err(DecryptError::NotApplication));
        }
        for public in ["proposal_pub", "commit_pub"] {
            assert!(matches!(
                key.decrypt(&bytes(&vector[public])),
                Err(DecryptError::Malformed(_))
            ));
        }
    }
}
