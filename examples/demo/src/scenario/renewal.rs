//! New keys for a device, so that whoever has had a copy of the old ones is locked out.

use anyhow::Result;

use crate::{
    report::Step,
    stage::{Stage, status},
};

/// Bob's second device renews its keys.
pub async fn update(stage: &mut Stage, step: &mut Step) -> Result<()> {
    let room = stage.room.clone();
    let device = stage.device("Bob", 2)?;
    device.get_ready(&room).await?;
    let before = status(device, &room).await?;
    device.update_keys(&room).await?;
    let after = status(device, &room).await?;
    step.epoch("Bob/2", &after, "has renewed its keys");
    step.check(after.epoch == before.epoch + 1, "that is the next epoch")?;
    step.check(after.roster.len() == before.roster.len(), "with the same members")?;
    stage.agree(step, after.node).await?;
    let sent = stage.say(step, "Alice", 2, "New keys? Good.").await?;
    step.check(sent.node == after.node, "what follows is encrypted in it")
}
