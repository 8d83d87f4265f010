//! The first messages.

use anyhow::Result;

use crate::{
    report::Step,
    stage::{Stage, status},
};

/// The first message founds the group; then everybody writes.
pub async fn founding(stage: &mut Stage, step: &mut Step) -> Result<()> {
    let first = stage.write("Alice", 1, "Who is there?").await?;
    let room = stage.room.clone();
    let group = status(stage.device("Alice", 1)?, &room).await?;
    step.epoch(
        "Alice/1",
        &group,
        &format!("has founded the group with {} devices", group.roster.len()),
    );
    stage.read(step, &first).await?;
    for (name, number, text) in [
        ("Alice", 2, "I am, on my other device."),
        ("Bob", 1, "I am."),
        ("Bob", 2, "So am I. I am Bob, too."),
        ("Carol", 1, "Carol. What do we talk about?"),
    ] {
        let sent = stage.say(step, name, number, text).await?;
        step.check(sent.node == first.sent.node, "it needed no other commit")?;
    }
    stage.agree(step, first.sent.node).await
}
