//! How large a store is, and how long its operations take, in a room of ten and a large one.
//!
//! `cargo run --release -p matrix-sdk-mls-sqlite --example sizes [DEVICES]`

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{
    KEY, extension, member,
    scenario::{generation, in_room, ledger_entry, room_id},
};
use matrix_dmls::{CommitPlan, Group, NodeId, new_key_package};
use matrix_sdk_crypto_mls::store::{Changes, MemoryStore, MessageKey, MlsStore};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

const NODES: usize = 64;
const EPOCHS: usize = 100;
const MESSAGES: u32 = 2000;

/// The longest of the measured times.
fn longest(times: &[f64]) -> f64 {
    times.iter().copied().fold(0.0, f64::max)
}

/// The middle of the measured times.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn timed<T>(times: &mut Vec<f64>, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = work.await;
    times.push(start.elapsed().as_secs_f64() * 1000.0);
    result
}

struct Measured {
    store: SqliteMlsStore,
    memory: MemoryStore,
    sqlite_ms: Vec<f64>,
    memory_ms: Vec<f64>,
    compute_ms: Vec<f64>,
}

impl Measured {
    async fn save(&mut self, changes: Changes) {
        timed(&mut self.memory_ms, self.memory.save_changes(changes.clone())).await.unwrap();
        timed(&mut self.sqlite_ms, self.store.save_changes(changes)).await.unwrap();
    }
}

async fn measure(devices: usize) {
    let directory = common::directory();
    let mut measured = Measured {
        store: SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap(),
        memory: MemoryStore::new(),
        sqlite_ms: Vec::new(),
        memory_ms: Vec::new(),
        compute_ms: Vec::new(),
    };
    let room = room_id("large");
    let alice = member("alice");
    let packages = (1..devices)
        .map(|n| new_key_package(&member(&format!("m{n}")), false).unwrap().key_package)
        .collect();
    let mut group = Group::new(room.as_str());
    let (mut node, changes) = group.found(&alice, &extension(), packages).unwrap();
    group.apply(changes);
    let changes = group.accept(node).unwrap();
    group.apply(changes.clone());
    measured.save(in_room(&room, |room| room.group = changes)).await;
    println!("{devices} devices, founded: {} bytes", size(&measured).await);

    measured.sqlite_ms.clear();
    measured.memory_ms.clear();
    let mut states = vec![node];
    for _ in 1..EPOCHS {
        let start = Instant::now();
        let (child, changes) = group.commit(node, &alice, CommitPlan::default()).unwrap();
        let mut batch = changes.clone();
        group.apply(changes);
        let changes = group.accept(child).unwrap();
        group.apply(changes.clone());
        measured.compute_ms.push(start.elapsed().as_secs_f64() * 1000.0);
        batch.extend(changes);
        // As somebody else's would be stored: entered at once.
        batch.pending.clear();
        if states.len() == NODES {
            let changes = group.erase_state(states.remove(0));
            group.apply(changes.clone());
            batch.extend(changes);
        }
        measured.save(in_room(&room, |room| room.group = batch)).await;
        states.push(child);
        node = child;
    }
    println!(
        "  {NODES} nodes and {EPOCHS} epoch keys: {} bytes\n  \
         a commit: {:.2} ms to make, {:.2} ms to store, {:.3} ms in memory",
        size(&measured).await,
        median(measured.compute_ms.clone()),
        median(measured.sqlite_ms.clone()),
        median(measured.memory_ms.clone()),
    );
    messages(&mut measured, &room, &group, node).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        timed(&mut times, measured.store.load_room(&room)).await.unwrap();
    }
    println!("  loading the room: {:.1} ms", median(times));
    print!("{}", measured.store.inspect().await.unwrap());
    assert_eq!(measured.store.check().await.unwrap(), []);
}

async fn messages(measured: &mut Measured, room: &ruma::RoomId, group: &Group, node: NodeId) {
    let alice = member("alice");
    measured.store.save_changes(Changes::default()).await.unwrap();
    let (mut encrypt, mut save) = (Vec::new(), Vec::new());
    for next in 0..MESSAGES {
        timed(&mut save, measured.store.save_changes(generation(room, node, next + 1)))
            .await
            .unwrap();
        timed(&mut encrypt, async { group.encrypt(node, &alice, next, vec![], &[7; 256]) })
            .await
            .unwrap();
    }
    let (mut lookup, mut read) = (Vec::new(), Vec::new());
    for generation in 0..MESSAGES {
        let key = MessageKey { node, leaf: 1, generation };
        let changes = in_room(room, |room| {
            room.ledger.insert(key, ledger_entry("event"));
        });
        timed(&mut lookup, measured.store.ledger_entry(room, &key)).await.unwrap();
        timed(&mut read, measured.store.save_changes(changes)).await.unwrap();
    }
    println!(
        "  a message sent: {:.3} ms to store (at most {:.1}), {:.3} ms to encrypt\n  \
         a message read: {:.3} ms to store (at most {:.1}), {:.3} ms to look up",
        median(save.clone()),
        longest(&save),
        median(encrypt),
        median(read.clone()),
        longest(&read),
        median(lookup),
    );
}

async fn size(measured: &Measured) -> u64 {
    let inspection = measured.store.inspect().await.unwrap();
    inspection.file_bytes + inspection.log_bytes
}

/// Many rooms: opening, and an answer for one.
async fn many_rooms(count: usize) {
    let directory = common::directory();
    let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
    for n in 0..count {
        let node = NodeId::from_bytes([1; 32]);
        store.save_changes(generation(&room_id(&format!("r{n}")), node, 1)).await.unwrap();
    }
    store.close().await.unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        timed(&mut times, async {
            let store = SqliteMlsStore::open_with_key(&directory, Some(&KEY)).await.unwrap();
            store.load_room(&room_id("r500")).await.unwrap().unwrap();
        })
        .await;
    }
    println!("{count} rooms: opened, and one loaded, in {:.1} ms", median(times));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let devices = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    measure(10).await;
    measure(devices).await;
    many_rooms(1000).await;
}
