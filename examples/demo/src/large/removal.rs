//! Somebody is removed, and cannot read what comes after.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use matrix_mls_tests::{DriverError, Sent};
use matrix_sdk_crypto_mls::{DecryptionError, MlsError};

use super::Crowd;
use crate::{report::Step, stage::status};

/// The first one removes the third, who is then given everything that follows.
pub async fn kick(crowd: &mut Crowd, step: &mut Step) -> Result<()> {
    let room = crowd.room.clone();
    ensure!(crowd.people.len() > 3, "too few to remove one");
    let mut gone = crowd.people.remove(2);
    let id = gone.id().to_owned();
    let device = crowd.device(0)?;
    device.sync(Duration::ZERO).await?;
    device.kick(&room, &id).await?;
    device
        .sync_until("its leaving", async |device| {
            Ok(device.room(&room).is_some_and(|room| !room.members().joined.contains(&id)))
        })
        .await?;
    let before = status(device, &room).await?.roster.len();
    let text = "p3 is not among us any more.";
    let sent = device.say(&room, text).await?;
    let group = status(device, &room).await?;
    step.epoch("p1", &group, "has removed p3");
    let is_out = group.roster.len() + 1 == before && !group.roster.has_user(id.as_str());
    step.check(is_out, "its device is not in that epoch, all others are")?;
    crowd.read(&sent, text).await?;
    step.check(true, format!("the other {} read on", crowd.people.len()))?;
    // Who confirms a removal does so after a while.
    crowd.come_together().await?;
    let later = "Nor can it read this.";
    let last = crowd.device(1)?.say(&room, later).await?;
    crowd.read(&last, later).await?;

    let member = crowd.device(1)?;
    let events = member.room(&room).context("no room")?.timeline.clone();
    let device = gone.first();
    let held = device.mls.store().load_room(&room).await?.context("no room")?.group;
    device.sync(Duration::ZERO).await?;
    device.mls.receive_room_events(&room, &[], &events).await?;
    device.pump().await?;
    for Sent { event_id, node, .. } in [&sent, &last] {
        ensure!(!device.holds(&room, *node).await?, "it has the key of {}", node.short());
        let raw = &member.event(&room, event_id).context("the member has it not")?.raw;
        let reason = device.read(&room, raw).await.err();
        let is_right = matches!(reason, Some(DecryptionError::AfterOurRemoval));
        ensure!(is_right, "what is sent after a removal: {reason:?}");
    }
    let holds = device.mls.store().load_room(&room).await?.context("no room")?.group;
    let same = holds.epoch_keys.keys().eq(held.epoch_keys.keys());
    step.check(same, "given what the others have, it cannot read what came after its removal")?;
    let refused = device.say(&room, "Hello?").await;
    let refused = matches!(refused, Err(DriverError::Mls(MlsError::Removed { .. })));
    step.check(refused, "and knows that it was removed")
}
