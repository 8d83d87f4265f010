//! Two processes of one device, an application and its notification extension, each with its machines
//! on the same stores and with no lock between them.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use common::{KEY, directory};
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{
    DecryptionError, MlsMachine,
    testing::{FaultyStore, SimDevice, SimServer},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use matrix_sdk_sqlite::SqliteCryptoStore;
use ruma::{
    RoomId,
    events::{AnyMessageLikeEventContent, AnySyncTimelineEvent},
    serde::Raw,
    user_id,
};
use serde_json::{Value, json};

const DIRECTORY: &str = "MLS_SQLITE_MACHINES_DIRECTORY";
const TEST: &str = "two_machines_hammer_one_room";

/// How many commits come meanwhile, and how many messages of others before each.
const COMMITS: usize = 8;
const MESSAGES: usize = 12;

/// At most so many messages does the extension send.
const MAX_SENT: usize = 400;

fn raw<T>(json: &Value) -> Raw<T> {
    Raw::from_json(serde_json::value::to_raw_value(json).unwrap())
}

async fn olm(directory: &Path) -> OlmMachine {
    let store = SqliteCryptoStore::open(directory.join("crypto"), None).await.unwrap();
    let alice = user_id!("@alice:example.org");
    OlmMachine::with_store(alice, "PHONE".into(), store, None).await.unwrap()
}

async fn mls_store(directory: &Path) -> SqliteMlsStore {
    SqliteMlsStore::open_with_key(directory, Some(&KEY)).await.unwrap()
}

/// What has to be known before the processes start, and what comes while they run.
struct Scene {
    bob: SimDevice,
    script: Vec<Value>,
}

/// Alice's device, which is in a room with Bob's and Carol's; and what those do while it is away.
async fn set_up(directory: &Path) -> Scene {
    let server = SimServer::new(1);
    let store = mls_store(directory).await;
    let alice = server.device("alice", "PHONE").olm(olm(directory).await);
    let alice = alice.store(FaultyStore::around(Arc::new(store.clone()))).logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    alice.invites(&carol);
    let (bob, carol) = (bob.joins(&alice).await, carol.joins(&alice).await);
    for _ in 0..3 {
        alice.syncs().await;
        alice.says("hello").await;
        bob.syncs().await;
        carol.syncs().await;
    }
    bob.says("hello Alice").await;
    carol.syncs().await;
    alice.syncs().await;
    let before = server.events(bob.room()).len();
    for _ in 0..COMMITS {
        for number in 0..MESSAGES {
            let who = if number % 2 == 0 { &bob } else { &carol };
            who.says("while you were away").await;
        }
        bob.updates_keys().await;
        carol.syncs().await;
    }
    let script: Vec<Value> = server.events(bob.room())[before..]
        .iter()
        .map(|event| event.to_json::<Value>().deserialize().unwrap())
        .collect();
    store.close().await.unwrap();
    Scene { bob, script }
}

/// One of the two processes.
struct Process {
    directory: PathBuf,
    name: &'static str,
    other: &'static str,
    mls: MlsMachine,
    store: SqliteMlsStore,
    room: ruma::OwnedRoomId,
    sent: fs::File,
    count: usize,
    /// How much of what the other one has sent was read, in bytes.
    read: usize,
}

impl Process {
    async fn start(directory: &Path, room: &RoomId, names: [&'static str; 2]) -> Self {
        let [name, other] = names;
        let store = mls_store(directory).await;
        let mls = MlsMachine::with_store(olm(directory).await, store.clone()).await.unwrap();
        let sent = fs::File::create(directory.join(name)).unwrap();
        let (directory, room) = (directory.to_owned(), room.to_owned());
        Self { directory, name, other, mls, store, room, sent, count: 0, read: 0 }
    }

    /// Sends a message, and writes it down for the other one.
    async fn sends(&mut self) {
        let content =
            json!({ "msgtype": "m.text", "body": format!("{} {}", self.name, self.count) });
        let content: Raw<AnyMessageLikeEventContent> = raw(&content);
        let message = self
            .mls
            .encrypt_room_event_raw(&self.room, "m.room.message", &content)
            .await
            .unwrap_or_else(|error| panic!("{} cannot send: {error}", self.name));
        let line = json!({
            "node": message.node.to_base64(),
            "generation": message.generation,
            "event": {
                "type": "m.room.encrypted",
                "event_id": format!("${}-{}", self.name, self.count),
                "sender": "@alice:example.org",
                "origin_server_ts": 0,
                "content": message.content,
            },
        });
        // In one piece, so that the other one does not see half of it.
        self.sent.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.count += 1;
    }

    /// Reads what the other one has sent since the last time.
    async fn reads_the_other(&mut self) {
        let sent = fs::read_to_string(self.directory.join(self.other)).unwrap_or_default();
        let whole = sent.rfind('\n').map_or(0, |end| end + 1);
        for line in sent[self.read..whole].lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let event: Raw<AnySyncTimelineEvent> = raw(&line["event"]);
            let read = self.mls.decrypt_room_event(&event, &self.room).await;
            let read = read.unwrap_or_else(|error| panic!("{} cannot read: {error}", self.name));
            assert!(!read.encryption_info.generation_reused, "{line}");
        }
        self.read = whole;
    }

    async fn ends(self) {
        let tip = self.mls.group_status(&self.room).await.unwrap().unwrap().node;
        self.store.close().await.unwrap();
        fs::write(self.directory.join(format!("{}-tip", self.name)), tip.to_base64()).unwrap();
    }

    fn says_that_it_is_done(&self) {
        fs::write(self.directory.join(format!("{}-is-done", self.name)), "").unwrap();
    }

    fn the_other_is_done(&self) -> bool {
        self.directory.join(format!("{}-is-done", self.other)).exists()
    }
}

fn is_commit(event: &Value) -> bool {
    event["type"] != "m.room.encrypted"
}

/// The application syncs: it takes everything in its order.
async fn application(directory: &Path, room: &RoomId, script: &[Value]) {
    let mut process = Process::start(directory, room, ["app", "extension"]).await;
    for event in script {
        if is_commit(event) {
            process.mls.receive_room_events(room, &[], &[raw(event)]).await.unwrap();
        } else {
            process.mls.decrypt_room_event(&raw(event), room).await.unwrap();
        }
        process.sends().await;
        process.reads_the_other().await;
    }
    process.says_that_it_is_done();
    while !process.the_other_is_done() {
        process.reads_the_other().await;
        tokio::task::yield_now().await;
    }
    process.reads_the_other().await;
    process.ends().await;
}

/// The extension is told of messages only, and of each at once.
async fn extension(directory: &Path, room: &RoomId, script: &[Value]) {
    let mut process = Process::start(directory, room, ["extension", "app"]).await;
    let mut waiting: Vec<_> = script.iter().filter(|event| !is_commit(event)).collect();
    loop {
        // Whether it is the last time: before anything is looked at.
        let last = process.the_other_is_done();
        let mut still = Vec::new();
        for event in waiting {
            match process.mls.decrypt_room_event(&raw(event), room).await {
                Ok(_) => {}
                // The application has not entered its epoch yet.
                Err(DecryptionError::UnknownEpoch(_)) => still.push(event),
                Err(error) => panic!("{error}: {event}"),
            }
            if process.count < MAX_SENT {
                process.sends().await;
            }
        }
        waiting = still;
        process.reads_the_other().await;
        if last {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(waiting.is_empty(), "never read: {waiting:?}");
    process.says_that_it_is_done();
    process.ends().await;
}

/// Does not outlive the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process has sent.
fn sent_by(directory: &Path, name: &str) -> Vec<Value> {
    let lines = fs::read_to_string(directory.join(name)).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn two_machines_hammer_one_room() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        let script = fs::read_to_string(directory.join("script")).unwrap();
        let (room, script): (ruma::OwnedRoomId, Vec<Value>) =
            serde_json::from_str(&script).unwrap();
        return extension(directory, &room, &script).await;
    }
    let directory = directory();
    let Scene { bob, script } = set_up(directory.path()).await;
    assert_eq!(script.iter().filter(|event| is_commit(event)).count(), COMMITS);
    let scene = serde_json::to_string(&(bob.room(), &script)).unwrap();
    fs::write(directory.path().join("script"), scene).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let runs = application(directory.path(), bob.room(), &script);
    let mut runs = std::pin::pin!(runs);
    // Should the other one fail, nobody waits for it.
    loop {
        tokio::select! {
            () = &mut runs => break,
            () = tokio::task::yield_now() => {
                if let Some(status) = child.0.try_wait().unwrap() {
                    assert!(status.success(), "the extension has failed");
                }
            }
        }
    }
    assert!(child.0.wait().unwrap().success());

    let mut used = BTreeSet::new();
    let mut count = BTreeMap::new();
    for name in ["app", "extension"] {
        for line in sent_by(directory.path(), name) {
            let key = (line["node"].to_string(), line["generation"].as_u64().unwrap());
            assert!(used.insert(key), "used twice: {line}");
            *count.entry(name).or_insert(0) += 1;
            // Somebody else reads it too.
            let event: Raw<AnySyncTimelineEvent> = raw(&line["event"]);
            bob.reads_event(bob.room(), &event).await.unwrap();
            let id = event.get_field("event_id").unwrap().unwrap();
            assert!(bob.reading(&id).unwrap().is_clear(), "{line}");
        }
    }
    assert!(count["app"] == script.len() && count["extension"] > 0, "{count:?}");
    let tip = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(tip("app-tip"), tip("extension-tip"));
    assert_eq!(tip("app-tip"), bob.node().await.unwrap().to_base64());
    let store = mls_store(directory.path()).await;
    assert_eq!(store.check().await.unwrap(), []);
}
