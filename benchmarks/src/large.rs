//! A large room of whole machines on a simulated homeserver: what it costs to make it, to get into it,
//! to be removed, to renew keys, and to catch up.

mod catch_up;
mod joins;
#[cfg(feature = "openmls")]
mod openmls;
mod rows;
mod sizes;
mod world;

use anyhow::{Context as _, Result, ensure};

use self::world::World;
use crate::{
    cpu::{Meter, Spent},
    report::Report,
};

/// How large, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// The devices of the large room.
    pub devices: usize,
    /// Those of the smaller rooms that it is compared with.
    pub smaller: [usize; 2],
    /// Devices that renew their keys.
    pub updates: usize,
    /// Devices that come late by Welcome, one after the other, each measured.
    pub joins: usize,
    /// Commits that somebody has missed in the larger of the smaller rooms.
    pub missed: usize,
    /// How large the content of an event may be in the large room, in bytes, if it is not to be as large
    /// as can be: so that a small one has files too.
    pub event_content: Option<usize>,
}

impl Options {
    /// What the bounds are for.
    pub const fn full(devices: usize) -> Self {
        Self {
            devices,
            smaller: [10, 100],
            updates: 50,
            joins: 5,
            missed: 500,
            event_content: None,
        }
    }

    /// As little as possible, to see that it runs.
    pub const fn tiny(devices: usize) -> Self {
        let event_content = Some(8 * 1024);
        Self { devices, smaller: [6, 10], updates: 4, joins: 2, missed: 110, event_content }
    }
}

/// What was found in the large room.
struct Found {
    /// Until the founder had the keys of all devices.
    lists: Spent,
    /// From the founding until everybody was added.
    create: Spent,
    commits: usize,
    /// Of Welcomes to all of them.
    welcomes: usize,
    /// Files that the founder uploaded, in bytes.
    files: usize,
    /// Devices that have read the first message, and what all of that took.
    read: usize,
    reading: Spent,
    late: Vec<joins::Late>,
    external: joins::External,
    /// Whether the removed device could not read what came after, and all others could.
    removal: bool,
    updates: Spent,
    /// Devices that were still there at the end, and whether all of them sent in the same epoch.
    followers: usize,
    one_tip: bool,
    sizes: sizes::Largest,
}

/// Measures. `tell` hears what is being done.
///
/// # Errors
///
/// When something does not work; a missed bound is no error.
pub async fn run(options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let [small, medium] = options.smaller;
    tell(&format!("Rooms of {small} and {medium} devices"));
    let mut added = vec![smaller(small).await?];
    let missed = options.missed;
    tell(&format!("Catching up {missed} commits in a room of {medium} devices"));
    let (addition, catch_up) = catch_up::measure(medium, missed).await?;
    added.push(addition);
    let found = large(options, tell).await?;
    added.extend(found.late.first().map(|late| late.added));
    Ok(rows::report(options, &found, &added, &catch_up))
}

/// What it takes to add somebody to a room.
async fn smaller(devices: usize) -> Result<sizes::Added> {
    let mut world = World::new(devices, None).await;
    world.found().await?;
    Ok(joins::late(&world, "late").await?.added)
}

async fn large(options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Result<Found> {
    let devices = options.devices;
    tell(&format!("{devices} devices log in"));
    let mut world = World::new(devices, options.event_content).await;
    tell("The first one founds the group");
    let meter = Meter::start();
    world.founder.syncs().await;
    let lists = meter.stop();
    let meter = Meter::start();
    world.found().await?;
    let create = meter.stop();
    let commits = world.commits();
    let welcomes = sizes::welcomes(&world.server, &world.others);
    let files = world.server.media_sizes().iter().sum();

    tell("Everybody reads");
    let meter = Meter::start();
    let text = "Hello, everybody!";
    let event = world.founder.says(text).await;
    let read = world.everybody_reads(&event, text, options.updates + 1).await?;
    let reading = meter.stop();

    tell("Some come late");
    #[cfg(feature = "openmls")]
    let mut openmls = openmls::Group::new(devices, world.credential_size().await?)?;
    let mut late = Vec::new();
    for number in 0..options.joins {
        #[allow(unused_mut)] // Without the feature.
        let mut one = joins::late(&world, &format!("late{number}")).await?;
        #[cfg(feature = "openmls")]
        {
            // In turns, so that whatever else the machine does hits both.
            one.openmls = Some(openmls.join()?);
        }
        late.push(one);
    }
    let external = joins::external(&world).await?;

    tell("One is removed");
    let removal = world.removes_one().await?;

    let updates = options.updates;
    tell(&format!("{updates} devices renew their keys"));
    let meter = Meter::start();
    for device in world.others.iter().take(updates) {
        device.syncs().await;
        let before = device.epoch().await.context("it is not in the group")?;
        device.updates_keys().await;
        let after = device.epoch().await.context("it is not in the group")?;
        ensure!(after > before, "no new keys");
    }
    let updates = meter.stop();
    let one_tip = world.comes_together().await?;
    Ok(Found {
        lists,
        create,
        commits,
        welcomes,
        files,
        read,
        reading,
        late,
        external,
        removal,
        updates,
        followers: world.others.len() + 1,
        one_tip,
        sizes: sizes::Largest::of(&world.server, world.founder.room()),
    })
}
