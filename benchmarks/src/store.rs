//! Messages and commits with everything on disk, in a small and a large room.

mod many_rooms;
mod megolm;
#[cfg(feature = "openmls")]
mod openmls;
mod room;
mod rows;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use matrix_sdk_crypto_mls::{
    Readiness,
    store::{Changes, MlsStore as _},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;

use self::room::Room;
pub use self::room::extension;
use crate::{disk, report::Report, sample::Samples};

/// The body of a message, in bytes.
const BODY: usize = 256;

/// The device count of the small room.
const SMALL: usize = 10;

/// How large, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the databases are made, in a directory that is removed at the end. It should be on a
    /// disk: in memory nothing is durable.
    pub directory: PathBuf,
    /// The large room's devices.
    pub devices: usize,
    /// The large room's members that have committed before, and go on doing so in turn.
    pub committers: usize,
    /// Messages that are measured, of each kind in each room.
    pub messages: usize,
    /// Epochs whose keys the large room's store has at the end.
    pub epochs: usize,
    /// Rooms in the store that is opened.
    pub rooms: usize,
    /// How often that is measured.
    pub opens: usize,
    /// What is done before each measurement, and not counted.
    pub warm_up: usize,
}

impl Options {
    /// What the bounds are for.
    pub const fn full(devices: usize, directory: PathBuf) -> Self {
        Self {
            directory,
            devices,
            committers: 16,
            messages: 200,
            epochs: 100,
            rooms: 1000,
            opens: 20,
            warm_up: 10,
        }
    }

    /// As little as possible, to see that it runs.
    pub const fn tiny(devices: usize, directory: PathBuf) -> Self {
        Self {
            directory,
            devices,
            committers: 4,
            messages: 12,
            epochs: 12,
            rooms: 5,
            opens: 2,
            warm_up: 2,
        }
    }
}

/// What one operation costs in a room.
#[derive(Clone, Debug, Default)]
struct Cost {
    ms: Samples,
    /// Bytes written to files, each time.
    bytes: Samples,
}

impl Cost {
    async fn measure<T>(&mut self, work: impl Future<Output = T>) -> T {
        let before = disk::written();
        let result = self.ms.time(work).await;
        if let Some((before, after)) = before.zip(disk::written()) {
            self.bytes.push(after.saturating_sub(before) as f64);
        }
        result
    }
}

/// Measures. `tell` hears what is being done.
///
/// # Errors
///
/// When something does not work; a missed bound is no error.
pub async fn run(options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let path = |name: &str| directory.path().join(name);
    let large = options.devices;
    tell(&format!("Making rooms of {SMALL} and {large} devices"));
    let mut small_room = Room::new(&path("small"), SMALL, options.committers.min(4)).await?;
    let mut large_room = Room::new(&path("large"), large, options.committers).await?;
    small_room.is_ready().await?;
    large_room.is_ready().await?;
    let sync = disk::sync_time(directory.path(), options.messages)?;

    tell("Commits");
    let commits = commits(&mut large_room, options).await?;
    let retained = retained(&large_room, &path("copy")).await?;
    tell("Messages");
    let [encrypted, decrypted] = messages(&mut small_room, &mut large_room, options).await?;
    tell("Megolm");
    let small_megolm = megolm::prepare(&small_room).await?;
    let large_megolm = megolm::prepare(&large_room).await?;
    let megolm =
        megolm::measure([(&small_room, &small_megolm), (&large_room, &large_megolm)], options)
            .await?;
    #[allow(unused_mut)] // Without the feature.
    let mut comparison = vec![rows::megolm(&megolm, large)];
    #[cfg(feature = "openmls")]
    {
        tell("OpenMLS alone");
        let openmls = [
            openmls::measure(&path("small-openmls"), SMALL, options).await?,
            openmls::measure(&path("large-openmls"), large, options).await?,
        ];
        comparison.push(rows::openmls(&openmls, large));
    }
    tell(&format!("A store with {} rooms", options.rooms));
    let opened = many_rooms::measure(&path("many"), &large_room.olm, options).await?;
    for room in [&small_room, &large_room] {
        room.store.close().await?;
        room.olm.store().close().await?;
    }

    directory.close()?;
    Ok(Report {
        setting: rows::setting(options, sync),
        rows: vec![
            rows::encrypt(&encrypted, large),
            rows::decrypt(&decrypted, large),
            rows::bytes(&encrypted, &decrypted, large),
            rows::commit(&commits, large),
            rows::retained(&retained, large),
            rows::open(opened, options.rooms),
        ],
        comparison,
    })
}

/// Both rooms in turns, so that whatever else the machine does hits both.
async fn messages(small: &mut Room, large: &mut Room, options: &Options) -> Result<[[Cost; 2]; 2]> {
    let content = room::message(BODY)?;
    let mut encrypted = [Cost::default(), Cost::default()];
    let mut decrypted = [Cost::default(), Cost::default()];
    for round in 0..options.warm_up + options.messages {
        for (number, room) in [&mut *small, &mut *large].into_iter().enumerate() {
            let mut ignored = Cost::default();
            let measured = round >= options.warm_up;
            let into = encrypted.get_mut(number).filter(|_| measured).unwrap_or(&mut ignored);
            let machine = &room.machine;
            let work = machine.encrypt_room_event_raw(&room.id, "m.room.message", &content);
            into.measure(work).await?;

            let event = room.next_message(BODY)?;
            let into = decrypted.get_mut(number).filter(|_| measured).unwrap_or(&mut ignored);
            into.measure(room.machine.decrypt_room_event(&event, &room.id)).await?;
        }
    }
    Ok([encrypted, decrypted])
}

/// The same commits, taken by the machine on SQLite and by the one in memory.
async fn commits(room: &mut Room, options: &Options) -> Result<[Samples; 2]> {
    let mut times = [Samples::default(), Samples::default()];
    let made = room.epochs().await?;
    for round in made..options.epochs {
        let event = room.next_commit()?;
        let events = [event];
        // In turns, which of them is the first to have the event in its cache.
        let mut order = [(0, &room.machine), (1, &room.in_memory)];
        if round % 2 == 1 {
            order.reverse();
        }
        for (number, machine) in order {
            let mut ignored = Samples::default();
            let measured = round >= made + options.warm_up;
            let into = times.get_mut(number).filter(|_| measured).unwrap_or(&mut ignored);
            into.time(machine.receive_room_events(&room.id, &[], &events)).await?;
            let status = machine.group_status(&room.id).await?.context("not in the group")?;
            ensure!(status.node == room.tip(), "the commit was not entered");
        }
    }
    Ok(times)
}

/// The database, and its log; what else is there belongs to those who have it open.
const FILE: &str = "matrix-sdk-mls.sqlite3";
const LOG: &str = "matrix-sdk-mls.sqlite3-wal";

/// What a store has of a room, and how large it is.
struct Retained {
    nodes: usize,
    keys: usize,
    /// A store with nothing but these.
    bytes: u64,
    /// The store with all that it has: the commits' events and the list of members too.
    whole: u64,
}

/// Measures a copy that is opened and closed, so that all is in the file and nothing in the log.
async fn retained(room: &Room, directory: &Path) -> Result<Retained> {
    let stored = room.store.load_room(&room.id).await?.context("no room")?;
    fs::create_dir(directory)?;
    let mut copied = 0;
    for entry in fs::read_dir(room.store.path().parent().context("no directory")?)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if [FILE, LOG].contains(&&*name.to_string_lossy()) {
            fs::copy(entry, directory.join(name))?;
            copied += 1;
        }
    }
    ensure!(copied > 0, "there is no database");
    let copy = SqliteMlsStore::open_with_key(directory, Some(&room::KEY)).await?;
    ensure!(copy.check().await?.is_empty(), "the store is not sound");
    copy.close().await?;
    let (nodes, keys) = (stored.group.states.len(), stored.group.epoch_keys.len());
    let alone = directory.join("alone");
    let alone = SqliteMlsStore::open_with_key(&alone, Some(&room::KEY)).await?;
    let mut changes = Changes::default();
    changes.room(&room.id).group = stored.group;
    alone.save_changes(changes).await?;
    alone.close().await?;
    let size = |store: &SqliteMlsStore| fs::metadata(store.path()).map(|file| file.len());
    Ok(Retained { nodes, keys, bytes: size(&alone)?, whole: size(&copy)? })
}

impl Room {
    /// How many epochs it has the keys of.
    async fn epochs(&self) -> Result<usize> {
        let stored = self.store.load_room(&self.id).await?.context("no room")?;
        Ok(stored.group.epoch_keys.len())
    }

    /// Whether the room can be sent to at once.
    ///
    /// # Errors
    ///
    /// When it cannot, so that nothing else than an encryption would be measured.
    pub async fn is_ready(&self) -> Result<()> {
        let readiness = self.machine.prepare_room(&self.id).await?;
        let ready =
            matches!(&readiness, Readiness::Ready { without_mls, .. } if without_mls.is_empty());
        ensure!(ready, "the room is not ready: {readiness:?}");
        Ok(())
    }
}
