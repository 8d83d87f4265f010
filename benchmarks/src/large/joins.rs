//! Coming late: by a Welcome, and by an external commit.

use anyhow::{Context as _, Result, ensure};

use super::{sizes::Added, world::World};
use crate::cpu::{Meter, Spent};

/// Somebody who was added.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// What it took to send.
    pub added: Added,
    /// What the member did that added it, and wrote: one commit.
    pub adding: Spent,
    /// From the sync that brings the Welcome until the first message is read.
    pub joining: Spent,
    /// OpenMLS alone, in a group of the same size, if that was measured.
    pub openmls: Option<Spent>,
}

/// Somebody who has added itself.
#[derive(Clone, Copy, Debug)]
pub struct External {
    /// Until its first message was sent.
    pub joining: Spent,
    /// Whether everybody who is there has read it.
    pub read: bool,
}

/// Somebody comes, and a member adds it. It has the device lists of everybody before that.
pub async fn late(world: &World, name: &str) -> Result<Late> {
    let device = world.arrives(name).await;
    let member = world.others.first().context("nobody is there")?;
    member.syncs().await;
    let devices = member.devices_in_group().await.len() + 1;
    let text = format!("Welcome, {name}!");
    let meter = Meter::start();
    let event = member.says(&text).await;
    let adding = meter.stop();
    ensure!(member.sees(&device).await, "{name} was not added");
    let added = Added::of(&world.server, &device, devices).context("there is no commit")?;
    let meter = Meter::start();
    device.syncs().await;
    let joining = meter.stop();
    ensure!(device.text(&event).as_deref() == Some(&*text), "{name} cannot read");
    ensure!(device.node().await == member.node().await, "{name} is elsewhere");
    Ok(Late { added, adding, joining, openmls: None })
}

/// Somebody comes, and writes before anybody has noticed it. It has the device lists of everybody
/// before that.
pub async fn external(world: &World) -> Result<External> {
    let device = world.arrives("external").await;
    let text = "Sorry, I am late.";
    let meter = Meter::start();
    let event = device.says(text).await;
    let joining = meter.stop();
    let mut read = true;
    for other in world.others.iter().chain([&world.founder]) {
        other.syncs().await;
        read &= other.text(&event).as_deref() == Some(text);
    }
    Ok(External { joining, read })
}
