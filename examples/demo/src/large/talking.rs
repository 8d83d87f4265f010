//! The founding, messages, and new keys.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use matrix_mls_tests::HttpClient;

use super::{Crowd, Traffic};
use crate::{report::Step, stage::status};

/// The first one founds the group and adds everybody.
pub async fn found(http: &HttpClient, crowd: &mut Crowd, step: &mut Step) -> Result<()> {
    let (room, all) = (crowd.room.clone(), crowd.people.len());
    let before = Traffic::of(http);
    let device = crowd.device(0)?;
    let without_mls = device.get_ready(&room).await?;
    let group = status(device, &room).await?;
    step.epoch("p1", &group, &format!("has added everybody in {} commits", group.epoch));
    step.check(without_mls.is_empty() && group.roster.len() == all, "all devices are in it")?;
    let traffic = Traffic::of(http).since(&before);
    step.note(format!(
        "Welcomes: {} bytes to {} devices directly, {} for each; {} bytes of files",
        traffic.to_device,
        all - 1,
        traffic.to_device / u64::try_from(all - 1)?.max(1),
        traffic.uploaded
    ));
    Ok(())
}

/// The first message, and one from somebody else.
pub async fn first(crowd: &mut Crowd, step: &mut Step) -> Result<()> {
    let (room, all) = (crowd.room.clone(), crowd.people.len());
    for (number, text) in [(0, "Hello, everybody!"), (all / 2, "Is anybody else here?")] {
        let sent = crowd.device(number)?.say(&room, text).await?;
        step.check(sent.without_mls.is_empty(), "a message for all devices")?;
        crowd.read(&sent, text).await?;
        step.check(true, format!("“{text}” is read on all {all} devices"))?;
    }
    Ok(())
}

/// So many devices, spread over the room, renew their keys one after the other; then the others
/// follow.
pub async fn renew(crowd: &mut Crowd, updates: usize, step: &mut Step) -> Result<()> {
    let (room, all) = (crowd.room.clone(), crowd.people.len());
    let begin = Instant::now();
    let mut last = None;
    for update in 0..updates {
        let device = crowd.device(update * all / updates)?;
        match last {
            Some(node) => device.wait_to_enter(&room, node).await?,
            None => drop(device.sync(Duration::ZERO).await?),
        }
        let before = status(device, &room).await?;
        device.update_keys(&room).await?;
        let after = status(device, &room).await?;
        anyhow::ensure!(after.epoch > before.epoch, "{} has no new keys", device.user_id());
        last = Some(after.node);
    }
    let last = last.context("nobody has renewed anything")?;
    step.note(format!("{updates} commits in {:.1} s", begin.elapsed().as_secs_f64()));
    let begin = Instant::now();
    let tip = crowd.come_together().await?;
    step.note(format!("all have caught up {:.1} s later", begin.elapsed().as_secs_f64()));
    let device = crowd.device(0)?;
    let group = status(device, &room).await?;
    let graph = device.mls.store().load_room(&room).await?.context("no room")?.group;
    let counts = graph.records.contains_key(&last) && group.node == tip;
    step.check(counts, format!("all {all} devices send in the epoch {}", tip.short()))?;
    let text = "Do these keys fit?";
    let sent = crowd.device(all - 1)?.say(&room, text).await?;
    crowd.read(&sent, text).await?;
    step.check(true, format!("“{text}” is read on all {all} devices"))
}
