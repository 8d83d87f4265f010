//! Somebody joins when much has been said.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use matrix_mls_tests::HttpClient;
use matrix_sdk_crypto_mls::DecryptionError;
use ruma::OwnedEventId;

use super::removal::history;
use crate::{
    report::Step,
    stage::{Person, Stage, status},
};

/// Dave is invited, joins with two devices, and reads from then on.
pub async fn join(
    http: &HttpClient,
    stores: &Path,
    stage: &mut Stage,
    step: &mut Step,
) -> Result<()> {
    let room = stage.room.clone();
    let mut dave = Person::arrive(http, stores, "Dave", 2).await?;
    let id = dave.user.id().to_owned();
    stage.device("Alice", 1)?.invite(&room, &id).await?;
    dave.user.join(&room).await?;
    step.note("Alice has invited Dave, who has joined with two devices");
    stage
        .device("Bob", 1)?
        .sync_until("Dave in the room", async |device| {
            Ok(device.room(&room).is_some_and(|room| room.members().joined.contains(&id)))
        })
        .await?;
    let events = history(stage.device("Bob", 1)?, &room).await?;
    stage.people.push(dave);

    let before = status(stage.device("Bob", 1)?, &room).await?;
    let welcome = stage.write("Bob", 1, "Welcome, Dave!").await?;
    let after = status(stage.device("Bob", 1)?, &room).await?;
    step.epoch(
        "Bob/1",
        &after,
        &format!("has added {} devices", after.roster.len() - before.roster.len()),
    );
    step.check(after.roster.len() == before.roster.len() + 2, "both of Dave's are in")?;
    stage.read(step, &welcome).await?;
    let sent = stage.say(step, "Dave", 2, "Thank you. What have I missed?").await?;
    step.check(sent.node == welcome.sent.node, "he could write without a further commit")?;

    for number in 1..=2 {
        let mut missed = 0;
        for event in &events {
            if event.get_field::<String>("type")?.as_deref() != Some("m.room.encrypted") {
                continue;
            }
            let device = stage.device("Dave", number)?;
            if let Err(DecryptionError::UnknownEpoch(_)) = device.read(&room, event).await {
                // The machine asks for the commits that lead there, and then knows.
                device.pump().await?;
            }
            let id = event.get_field::<OwnedEventId>("event_id")?;
            let id = id.context("an event without ID")?;
            match device.read(&room, event).await {
                Ok(_) => bail!("Dave/{number} can read {id} from before he joined"),
                Err(DecryptionError::BeforeOurJoin) => missed += 1,
                Err(other) => bail!("Dave/{number} cannot read {id}, but because {other}"),
            }
        }
        let what = format!("Dave/{number} cannot read the {missed} messages from before he joined");
        step.check(missed > 0, what)?;
    }
    stage.agree(step, welcome.sent.node).await
}
