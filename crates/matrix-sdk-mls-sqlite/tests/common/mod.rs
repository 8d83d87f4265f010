//! What the tests share: devices, a scenario as a list of batches, and a store's whole content.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

pub mod scenario;

use std::{collections::BTreeMap, sync::Arc};

use ed25519_dalek::{Signer, SigningKey};
use matrix_dmls::{Device, ExternalJoins, GroupExtension, HistoryPolicy, Identity, InstanceId};
use matrix_dmls::{
    LocalMember, NodeStatus, PendingCommit, Roster, Secret, SecretTree, TrustRequirement,
};
use matrix_sdk_crypto_mls::store::{MessageKey, MlsStore, StoredAccount, StoredRoom};
use ruma::OwnedRoomId;
use serde_json::{Value, json};

/// A key of a store.
pub const KEY: [u8; 32] = [42; 32];

/// The secret half of every test member's MLS key is recognisable.
pub fn seed(name: &str) -> Secret {
    let mut seed = [b'#'; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    Secret::from_bytes(seed)
}

pub fn user_id(name: &str) -> String {
    format!("@{name}:recognisable.example")
}

/// A device with an MLS key, as the crate's front page makes it.
pub fn member(name: &str) -> LocalMember {
    let mut key = [7; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    let device_key = SigningKey::from_bytes(&key);
    let device = Device {
        user_id: user_id(name),
        device_id: "RECOGNISABLEPHONE".to_owned(),
        device_key: device_key.verifying_key().to_bytes(),
    };
    let seed = seed(name);
    let text = Identity::signed_json(&device, 1, &LocalMember::public_key_of(&seed));
    let signature = device_key.sign(text.as_bytes()).to_bytes();
    LocalMember::new(Identity::new(device, 1, signature), &seed).unwrap()
}

pub fn account(name: &str) -> StoredAccount {
    StoredAccount {
        identity: member(name).identity().clone(),
        seed: seed(name),
        published: true,
        last_resort: None,
        last_resort_since: 1,
        seqs: BTreeMap::default(),
    }
}

pub fn extension() -> GroupExtension {
    GroupExtension {
        instance: InstanceId::from_bytes([7; 32]),
        trust: TrustRequirement::All,
        external: ExternalJoins::Allowed,
        history: HistoryPolicy::Keep,
    }
}

fn hash(roster: &Arc<Roster>) -> Value {
    json!(roster.content_hash())
}

fn pending(pending: &PendingCommit) -> Value {
    let node = &pending.node;
    json!({
        "record": *node.record, "state": *node.state, "vault": node.vault,
        "key": epoch_key(&node.epoch_key), "roster": hash(&node.roster),
        "commit": pending.commit, "context": pending.parent_context, "welcome": pending.welcome,
        "group_info": pending.group_info, "tree": pending.tree,
    })
}

fn epoch_key(key: &matrix_dmls::EpochKey) -> Value {
    let parts = key.to_parts();
    let tree = match &parts.tree {
        SecretTree::Whole(secret) => json!(secret),
        SecretTree::Punctured(tree) => json!(tree),
    };
    json!([parts.node, parts.group_context, tree, parts.sender_data_secret, hash(&parts.roster)])
}

/// Everything of a room that can be loaded.
pub fn room(room: &StoredRoom) -> Value {
    let group = &room.group;
    let records: Vec<_> = group
        .records
        .iter()
        .map(|(node, entry)| {
            let entered = entry.status == NodeStatus::Entered;
            json!([node, *entry.record, entered, entry.roster.as_ref().map(hash)])
        })
        .collect();
    let states: BTreeMap<_, _> =
        group.states.iter().map(|(node, state)| (node.to_base64(), state.as_deref())).collect();
    let vaults: BTreeMap<_, _> =
        group.vaults.iter().map(|(node, vault)| (node.to_base64(), vault)).collect();
    let keys: Vec<_> = group.epoch_keys.values().flatten().map(|key| epoch_key(key)).collect();
    let waiting: Vec<_> = group.pending.values().flatten().map(|p| pending(p)).collect();
    let generations: Vec<_> = room.generations.iter().collect();
    let commit_events: Vec<_> = room.commit_events.iter().collect();
    json!({
        "view": room.view, "records": records, "states": states, "vaults": vaults,
        "epoch_keys": keys, "pending": waiting, "generations": generations,
        "commit_events": commit_events,
    })
}

/// Everything that a store gives, with the ledger entries that are asked for.
pub async fn dump(store: &dyn MlsStore, messages: &[(OwnedRoomId, MessageKey)]) -> String {
    let mut rooms = Vec::new();
    for room_id in store.room_ids().await.unwrap() {
        let stored = store.load_room(&room_id).await.unwrap().unwrap();
        let mut commits = Vec::new();
        let mut queued = Vec::new();
        for node in stored.group.records.keys() {
            commits.push(json!(store.commit(&room_id, node).await.unwrap()));
            queued.push(json!(store.queued_events(&room_id, node).await.unwrap()));
        }
        let count = store.queued_event_count(&room_id).await.unwrap();
        let welcomes = store.held_welcomes(&room_id).await.unwrap();
        rooms.push(json!([room_id, room(&stored), commits, queued, count, welcomes]));
    }
    let mut packages = Vec::new();
    for reference in store.key_package_refs().await.unwrap() {
        packages.push(json!(store.key_package(&reference).await.unwrap()));
    }
    let mut ledger = Vec::new();
    for (room_id, key) in messages {
        ledger.push(json!(store.ledger_entry(room_id, key).await.unwrap()));
    }
    json!({
        "account": store.load_account().await.unwrap(),
        "packages": packages,
        "outbox": store.outbox().await.unwrap(),
        "rooms": rooms,
        "ledger": ledger,
    })
    .to_string()
}

/// A directory that is deleted at the end.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
