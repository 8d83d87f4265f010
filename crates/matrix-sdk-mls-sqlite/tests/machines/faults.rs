//! A device whose store fails at the n-th write of every command.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use matrix_sdk_crypto_mls::{MlsMachine, store::StoreError, testing::SimDevice};
use matrix_sdk_mls_sqlite::{SqliteMlsStore, WriteHook, WritePoint};

use super::{
    device::{Command, Endangered, Report},
    story::{Victim, World, at_every_write},
};

/// How the database fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Another process has the lock at one command, the disk does not do what it is told at the next
    /// one, and so on in turns.
    Failing,
    /// There is room for so many more pages.
    Full,
}

struct Failing {
    endangered: Endangered,
    world: Arc<World>,
    fault: Fault,
    /// At which write of every command; for a full disk, after how many pages.
    at: u32,
    /// How many writes are left until one fails; negative is never.
    countdown: Arc<AtomicI64>,
    /// Whether it is the lock's turn.
    is_busy: Arc<AtomicBool>,
    failures: usize,
}

impl Failing {
    async fn new(directory: &tempfile::TempDir, world: &Arc<World>, fault: Fault, at: u32) -> Self {
        let countdown = Arc::new(AtomicI64::new(-1));
        let is_busy = Arc::new(AtomicBool::new(at.is_multiple_of(2)));
        let (left, busy) = (Arc::clone(&countdown), Arc::clone(&is_busy));
        let hook: WriteHook = Arc::new(move |point| {
            let counts = point != WritePoint::Committed;
            if !counts || left.fetch_sub(1, Ordering::SeqCst) != 0 {
                return Ok(());
            }
            Err(match busy.load(Ordering::SeqCst) {
                true => StoreError::Busy,
                false => StoreError::Backend("the disk fails".into()),
            })
        });
        let store = Endangered::store(directory.path(), hook).await;
        let olm = Endangered::olm(directory.path(), &world.vera).await;
        let builder = world.server.device(world.vera.0.localpart(), world.vera.1.as_str());
        let endangered = Endangered::starts(store, olm, builder).await;
        Self { endangered, world: Arc::clone(world), fault, at, countdown, is_busy, failures: 0 }
    }

    async fn arm(&self, armed: bool) {
        if self.fault == Fault::Full {
            self.store().limit_pages(armed.then_some(self.at)).await.unwrap();
        } else {
            let at = if armed { i64::from(self.at) } else { -1 };
            self.countdown.store(at, Ordering::SeqCst);
        }
    }

    const fn store(&self) -> &SqliteMlsStore {
        &self.endangered.store
    }

    fn check_kind(&self, error: &StoreError) {
        let is_busy = self.is_busy.fetch_not(Ordering::SeqCst);
        match (self.fault, error) {
            (Fault::Failing, StoreError::Busy) if is_busy => {}
            (Fault::Failing, StoreError::Backend(error))
                if !is_busy && error.to_string() == "the disk fails" => {}
            (Fault::Full, StoreError::Backend(error)) if error.to_string().contains("full") => {}
            (fault, error) => panic!("{fault:?} gives {error:?}"),
        }
    }

    /// What the machine has in memory is what another one finds in the store.
    async fn memory_is_the_store(&self) {
        let device = &self.endangered.device;
        let store = Arc::new(self.store().clone());
        let fresh = MlsMachine::with_store(device.olm().clone(), store).await.unwrap();
        assert_eq!(state(&device.mls(), device).await, state(&fresh, device).await);
    }
}

async fn state(machine: &MlsMachine, device: &SimDevice) -> String {
    use matrix_sdk_crypto_mls::store::MlsStore as _;

    let mut text = String::new();
    for room_id in device.store().room_ids().await.unwrap() {
        let status = machine.group_status(&room_id).await.unwrap();
        let status = status.map(|s| (s.node, s.epoch, s.is_chosen, s.tips, s.roster.len()));
        writeln!(text, "{room_id} {status:?}").unwrap();
    }
    text
}

impl Victim for Failing {
    async fn does(&mut self, command: Command) -> Report {
        self.arm(true).await;
        let first = self.endangered.obeys(&command).await;
        self.arm(false).await;
        match first {
            Ok(report) => return report,
            Err(error) => self.check_kind(&error),
        }
        self.failures += 1;
        self.memory_is_the_store().await;
        if matches!(&command, Command::Say(_, text) if self.world.has_heard(text)) {
            return Report::default();
        }
        self.endangered.obeys(&command).await.unwrap()
    }
}

/// The story with one kind of fault at the n-th write of every command. How many there were.
async fn story(fault: Fault, at: u32) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let world = Arc::new(World::begins().await);
    let mut victim = Failing::new(&directory, &world, fault, at).await;
    world.tells(&mut victim).await;
    victim.failures
}

#[test]
fn every_write_fails() {
    let (writes, failures) = at_every_write(|at| story(Fault::Failing, at));
    eprintln!("{failures} failures, at up to {writes} writes of a command");
    assert!(writes > 50 && failures > 300, "{failures} failures, at up to {writes} writes");
}

#[test]
fn the_disk_is_full() {
    let (pages, failures) = at_every_write(|at| story(Fault::Full, at));
    eprintln!("{failures} failures, with room for up to {pages} pages");
    assert!(failures > 20, "{failures} failures");
}
