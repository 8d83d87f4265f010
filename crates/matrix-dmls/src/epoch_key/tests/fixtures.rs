//! Epochs without a group: fixed keys and secrets.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use crate::{
    authenticated_data::MessageAad,
    credential::{Device, Identity},
    crypto::Secret,
    epoch_key::{EpochKey, MessageSender},
    ids::NodeId,
    roster::{Member, Roster},
    wire::tls::Writer,
};

pub(super) const NODE: NodeId = NodeId::from_bytes([0x40; 32]);

pub(super) fn signing_key(leaf: u32) -> SigningKey {
    let mut seed = [0x33; 32];
    seed[..4].copy_from_slice(&leaf.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

pub(super) fn member(name: &str, signature_key: [u8; 32]) -> Arc<Member> {
    let device = Device {
        user_id: format!("@{name}:example.org"),
        device_id: "DEVICE".to_owned(),
        device_key: [1; 32],
    };
    Arc::new(Member { identity: Identity::new(device, 1, [0; 64]), signature_key })
}

pub(super) fn roster(keys: &[SigningKey]) -> Arc<Roster> {
    let members = (0..).zip(keys).map(|(leaf, key): (u32, _)| {
        (leaf, member(&format!("user{leaf}"), key.verifying_key().to_bytes()))
    });
    Arc::new(members.collect())
}

pub(super) fn group_context(group_id: &[u8], epoch: u64) -> Vec<u8> {
    let mut out = Writer::new();
    out.u16(1);
    out.u16(1);
    out.opaque(group_id);
    out.u64(epoch);
    out.opaque(&[3; 32]);
    out.opaque(&[4; 32]);
    out.opaque(&[]);
    out.into_bytes()
}

/// An epoch with members at the first leaves, and their signing keys.
pub(super) fn epoch(members: u32) -> (EpochKey, Vec<SigningKey>) {
    let keys: Vec<_> = (0..members).map(signing_key).collect();
    let key = EpochKey::new(
        NODE,
        group_context(b"!room:example.org", 17),
        Secret::from_bytes([0x55; 32]),
        Secret::from_bytes([0x66; 32]),
        roster(&keys),
    )
    .unwrap();
    (key, keys)
}

/// A message without tips.
pub(super) fn message(
    key: &EpochKey,
    members: &[SigningKey],
    leaf: u32,
    generation: u32,
    plaintext: &[u8],
) -> Vec<u8> {
    let signer = &members[leaf as usize];
    let sender = MessageSender { leaf, generation, signer, reuse_guard: [5, 6, 7, 8] };
    let aad = MessageAad::new(key.node(), vec![]).unwrap();
    key.encrypt(&sender, &aad, plaintext).unwrap()
}
