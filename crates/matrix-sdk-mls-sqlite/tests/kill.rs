//! A process killed at any write: its store has whole batches, and none is missing that was
//! acknowledged.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    KEY, directory, dump,
    scenario::{generation, scenario},
};
use matrix_sdk_crypto_mls::store::{MemoryStore, MessageKey, MlsStore};
use matrix_sdk_mls_sqlite::{SqliteMlsStore, SqliteMlsStoreConfig, WriteHook, WritePoint};
use ruma::OwnedRoomId;

const DIRECTORY: &str = "MLS_SQLITE_KILL_DIRECTORY";
const WRITE: &str = "MLS_SQLITE_KILL_AT";

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What the child tells, in a file: it survives the kill, as what a process has written does.
#[derive(Default)]
struct Report {
    /// Of the content after each batch.
    expected: Vec<u64>,
    messages: Vec<(OwnedRoomId, MessageKey)>,
    /// How many batches were acknowledged.
    acknowledged: usize,
    /// One more was committed.
    committed: bool,
}

impl Report {
    fn read(path: &Path) -> Self {
        let mut report = Self::default();
        for line in fs::read_to_string(path).unwrap().lines() {
            match line.split_once(' ').unwrap() {
                ("expect", hash) => report.expected.push(hash.parse().unwrap()),
                ("messages", json) => report.messages = serde_json::from_str(json).unwrap(),
                ("acknowledged", n) => {
                    report.acknowledged = n.parse().unwrap();
                    report.committed = false;
                }
                ("committed", _) => report.committed = true,
                other => panic!("{other:?}"),
            }
        }
        report
    }
}

/// The child: kills itself at its n-th write.
#[tokio::main(flavor = "current_thread")]
async fn child(directory: &Path, kill_at: u64) {
    let mut report = File::create(directory.join("report")).unwrap();
    let scenario = scenario();
    let memory = MemoryStore::new();
    writeln!(report, "messages {}", serde_json::to_string(&scenario.messages).unwrap()).unwrap();
    writeln!(report, "expect {}", hash(&dump(&memory, &scenario.messages).await)).unwrap();
    for (_, batch) in &scenario.batches {
        memory.save_changes(batch.clone()).await.unwrap();
        writeln!(report, "expect {}", hash(&dump(&memory, &scenario.messages).await)).unwrap();
    }
    let writes = AtomicU64::new(0);
    let committed = report.try_clone().unwrap();
    let hook: WriteHook = Arc::new(move |point| {
        if point == WritePoint::Committed {
            writeln!(&committed, "committed -").unwrap();
        }
        if writes.fetch_add(1, Ordering::SeqCst) == kill_at {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap();
        }
        Ok(())
    });
    let config = SqliteMlsStoreConfig::new(directory).key(Some(&KEY));
    let store = SqliteMlsStore::open_for_testing(&config, hook).await.unwrap();
    for (done, (_, batch)) in scenario.batches.into_iter().enumerate() {
        store.save_changes(batch).await.unwrap();
        writeln!(report, "acknowledged {}", done + 1).unwrap();
    }
}

/// Runs the child; whether it was killed.
fn run_child(directory: &Path, kill_at: u64) -> bool {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed_at_every_write", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(WRITE, kill_at.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
    !status.success()
}

async fn check(directory: &Path, kill_at: u64) {
    let report = Report::read(&directory.join("report"));
    let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await.unwrap();
    assert_eq!(store.check().await.unwrap(), [], "killed at {kill_at}");
    let found = hash(&dump(&store, &report.messages).await);
    let expected = report.acknowledged + usize::from(report.committed);
    assert_eq!(
        report.expected.iter().position(|hash| *hash == found),
        report.expected.iter().position(|hash| *hash == report.expected[expected]),
        "killed at {kill_at}, with {} batches acknowledged",
        report.acknowledged
    );
    // It goes on, and generations go up from where they were.
    for room_id in store.room_ids().await.unwrap() {
        let before = store.load_room(&room_id).await.unwrap().unwrap();
        for (node, next) in before.generations {
            store.save_changes(generation(&room_id, node, next + 1)).await.unwrap();
            let after = store.load_room(&room_id).await.unwrap().unwrap();
            assert_eq!(after.generations[&node], next + 1);
        }
    }
    store.close().await.unwrap();
}

#[test]
fn killed_at_every_write() {
    if let (Some(directory), Some(kill_at)) = (env::var_os(DIRECTORY), env::var_os(WRITE)) {
        child(Path::new(&directory), kill_at.to_str().unwrap().parse().unwrap());
        return;
    }
    let next = AtomicU64::new(0);
    let kills = AtomicU64::new(0);
    // Two at a time.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                loop {
                    let kill_at = next.fetch_add(1, Ordering::SeqCst);
                    let directory = directory();
                    let killed = run_child(directory.path(), kill_at);
                    runtime.block_on(check(directory.path(), kill_at));
                    if !killed {
                        break;
                    }
                    kills.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let kills = kills.into_inner();
    assert!(kills > 100, "{kills}");
}
