//! Where the history policy is `none`, nothing that a message could be read with is left in the files
//! once it was read.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{fs, path::Path, sync::Arc};

use common::directory;
use matrix_dmls::{Group, HistoryPolicy, Secret, TrustRequirement, testing::secrets_of_message};
use matrix_sdk_crypto_mls::{
    DecryptionError, RoomSettings,
    store::{MlsStore, StoredRoom},
    testing::{FaultyStore, SentMessage, SimDevice, SimServer},
    types::events::MlsEncryptedEventContent,
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

/// A copy of all files, opened as a store.
async fn stolen(directory: &Path, device: &SimDevice) -> StoredRoom {
    let copy = common::directory();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let store = SqliteMlsStore::open(&copy, None).await.unwrap();
    assert_eq!(store.check().await.unwrap(), []);
    store.load_room(device.room()).await.unwrap().unwrap()
}

fn group(device: &SimDevice, stored: StoredRoom) -> Group {
    let mut group = Group::new(device.room().as_str());
    group.apply(stored.group);
    group
}

fn reads(server: &SimServer, group: &Group, message: &SentMessage) -> bool {
    let content = server.event(&message.room_id, &message.event_id).content;
    let content: MlsEncryptedEventContent = serde_json::from_value(content).unwrap();
    group.decrypt(&content.ciphertext.0).is_ok()
}

fn is_in_files(directory: &Path, secret: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_is_not_left_in_the_file() {
    let directory = directory();
    let server = SimServer::new(1);
    let settings = {
        let mut settings = RoomSettings::default();
        settings.trust = TrustRequirement::All;
        settings.history = HistoryPolicy::None;
        settings
    };
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    // In the clear, so that what is there can be found.
    let store = SqliteMlsStore::open(&directory, None).await.unwrap();
    let bob = server.device("bob", "LAPTOP");
    let bob = bob.store(FaultyStore::around(Arc::new(store.clone()))).logs_in().await;
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    bob.syncs().await;
    let node = {
        alice.updates_keys().await;
        bob.syncs().await;
        alice.node().await.unwrap()
    };
    let fresh = group(&bob, stolen(directory.path(), &bob).await);
    let key = fresh.epoch_key(&node).unwrap();
    let root: Secret = key.encryption_secret().unwrap().clone();
    let width = key.roster().tree_width();
    assert!(is_in_files(directory.path(), root.as_bytes()));

    for number in 0..5 {
        alice.says(&format!("number {number}")).await;
    }
    server.drops_timeline_of(bob.name());
    let sent: Vec<_> = server.sent_messages().into_iter().filter(|m| m.node == node).collect();
    assert_eq!(sent.len(), 5);
    let mut erased = Vec::new();
    for (step, number) in [3, 1, 4, 0, 2].into_iter().enumerate() {
        let message = &sent[number];
        let before = group(&bob, stolen(directory.path(), &bob).await);
        assert!(reads(&server, &before, message), "the means are right");
        let json = server.event(bob.room(), &message.event_id).to_json();
        assert!(bob.mls().decrypt_room_event(&json, bob.room()).await.is_ok());
        // The log is emptied after the batch, before the next one.
        store.data_version().await.unwrap();

        erased.push(message);
        let after = group(&bob, stolen(directory.path(), &bob).await);
        for message in &sent {
            let is_erased = erased.iter().any(|erased| erased.event_id == message.event_id);
            assert_eq!(reads(&server, &after, message), !is_erased, "step {step}");
        }
        let leaf = key.roster().iter().find(|(_, m)| m.device().user_id == "@alice:example.org");
        let (leaf, _) = leaf.unwrap();
        for message in &erased {
            for secret in secrets_of_message(&root, width, leaf, message.generation) {
                assert!(!is_in_files(directory.path(), &secret), "step {step}");
            }
        }
        // What was skipped is there, and the scan finds it.
        if step == 0 {
            let skipped = secrets_of_message(&root, width, leaf, sent[0].generation);
            assert!(is_in_files(directory.path(), &skipped[skipped.len() - 2]));
        }
        let again = bob.mls().decrypt_room_event(&json, bob.room()).await;
        assert!(matches!(again, Err(DecryptionError::AlreadyRead)), "{again:?}");
    }
}
