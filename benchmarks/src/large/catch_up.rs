//! Coming back after hundreds of commits, of which a sync brings nothing.

use anyhow::{Context as _, Result, ensure};
use matrix_sdk_crypto_mls::testing::{RequestKind, SimDevice};

use super::{joins, sizes::Added, world::World};
use crate::cpu::{Meter, Spent};

/// So many devices commit in turns.
const COMMITTERS: usize = 8;

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    /// Commits that were missed.
    pub commits: usize,
    /// From the sync that brings one message until that is read.
    pub spent: Spent,
    /// Requests for pages of the room's history.
    pub pages: usize,
    /// Requests for single events.
    pub events: usize,
}

/// Makes a room of so many devices and so many commits. Gives too what the addition of one to it takes.
pub async fn measure(devices: usize, commits: usize) -> Result<(Added, CatchUp)> {
    let mut world = World::new(devices, None).await;
    world.found().await?;
    let text = "Good night.";
    let event = world.founder.says(text).await;
    // Eight of them, and one who sleeps.
    world.everybody_reads(&event, text, COMMITTERS + 1).await?;
    let added = joins::late(&world, "late").await?.added;
    let sleeper = world.others.pop().context("nobody is there")?;
    sleeper.syncs().await;
    for number in 0..commits {
        let turn = number % world.others.len();
        let device = world.others.get(turn).context("nobody is there")?;
        device.syncs().await;
        device.updates_keys().await;
    }
    let member = world.others.first().context("nobody is there")?;
    member.syncs().await;
    world.server.drops_messages_of(sleeper.name());
    let text = "Good morning.";
    let event = member.says(text).await;
    let before = requests(&sleeper);
    let meter = Meter::start();
    sleeper.syncs().await;
    let spent = meter.stop();
    ensure!(sleeper.text(&event).as_deref() == Some(text), "it cannot read");
    ensure!(sleeper.node().await == member.node().await, "it is elsewhere");
    let [pages, events] = requests(&sleeper);
    let [pages_before, events_before] = before;
    Ok((
        added,
        CatchUp { commits, spent, pages: pages - pages_before, events: events - events_before },
    ))
}

fn requests(of: &SimDevice) -> [usize; 2] {
    let requests = of.server().requests_of(of.name());
    [RequestKind::GetMessages, RequestKind::GetEvent]
        .map(|wanted| requests.iter().filter(|(kind, _)| *kind == wanted).count())
}
