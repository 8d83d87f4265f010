//! Two that come late: one is added, one adds itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use matrix_mls_tests::HttpClient;
use matrix_sdk_crypto_mls::Notice;

use super::{
    Crowd, Traffic,
    crowd::{arrive, each},
};
use crate::{report::Step, stage::status};

/// Somebody joins, and the next one who writes adds it.
pub async fn by_welcome(http: &HttpClient, crowd: &mut Crowd, step: &mut Step) -> Result<()> {
    let room = crowd.room.clone();
    let mut late = arrive(http, "late").await?;
    late.first().join(&room).await?;
    let id = late.id().to_owned();
    let member = crowd.device(1)?;
    member
        .sync_until("the newcomer in the room", async |device| {
            Ok(device.room(&room).is_some_and(|room| room.members().joined.contains(&id)))
        })
        .await?;
    let before = status(member, &room).await?.roster.len();
    let traffic = Traffic::of(http);
    let text = "Welcome!";
    let sent = member.say(&room, text).await?;
    let traffic = Traffic::of(http).since(&traffic);
    let group = status(member, &room).await?;
    step.epoch("p2", &group, "has added the newcomer");
    step.check(group.roster.len() == before + 1, "it is in the group")?;
    step.note(format!(
        "{} bytes to it directly, {} bytes of files",
        traffic.to_device, traffic.uploaded
    ));
    crowd.people.push(late);
    crowd.read(&sent, text).await?;
    let text = "Thank you. What have I missed?";
    let last = crowd.people.len() - 1;
    let answer = crowd.device(last)?.say(&room, text).await?;
    step.check(answer.node == sent.node, "it can write without a further commit")?;
    crowd.read(&answer, text).await?;
    step.check(true, "it reads, and is read, everywhere")
}

/// Somebody joins and writes at once, before anybody has noticed it.
pub async fn by_external_commit(
    http: &HttpClient,
    crowd: &mut Crowd,
    step: &mut Step,
) -> Result<()> {
    let room = crowd.room.clone();
    let mut late = arrive(http, "later").await?;
    let device = late.first();
    device.join(&room).await?;
    device.sync(Duration::ZERO).await?;
    let traffic = Traffic::of(http);
    let text = "Sorry, I am late.";
    let sent = device.say(&room, text).await?;
    let traffic = Traffic::of(http).since(&traffic);
    let group = status(device, &room).await?;
    step.epoch("later", &group, "has added itself");
    step.check(sent.without_mls.is_empty(), "its first message is for all devices")?;
    step.note(format!("{} bytes of files to get in", traffic.downloaded));
    crowd.people.push(late);
    crowd.read(&sent, text).await?;
    let seen = each(&mut crowd.people, async |device| {
        Ok(device.notices.iter().any(|notice| {
            matches!(notice, Notice::EpochEntered { node, is_external: true, .. } if *node == sent.node)
        }))
    })
    .await?;
    let seen = seen.into_iter().filter(|seen| *seen).count();
    let all = crowd.people.len();
    step.check(seen == all, format!("all {all} devices know that nobody has added it"))?;
    crowd.come_together().await.context("after the external commit")?;
    Ok(())
}
