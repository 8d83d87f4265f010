//! Two commits on one epoch.

use anyhow::{Context as _, Result};
use matrix_sdk_crypto_mls::{Readiness, dmls::Rule};

use crate::{
    report::Step,
    stage::{Stage, status},
};

/// Alice and Bob commit without having heard of each other, and both write on their own branch.
pub async fn race(stage: &mut Stage, step: &mut Step) -> Result<()> {
    let room = stage.room.clone();
    let both = [("Alice", 1), ("Bob", 1)];
    for (name, number) in both {
        let device = stage.device(name, number)?;
        device.get_ready(&room).await?;
        let made = device.mls.update_keys(&room).await? == Readiness::NeedsRequests;
        step.check(made, format!("{name} has made a commit, and not sent it yet"))?;
    }
    for (name, number) in both {
        let device = stage.device(name, number)?;
        device.pump().await?;
        let group = status(device, &room).await?;
        step.epoch(&format!("{name}/{number}"), &group, "has sent it, and is in a new epoch");
    }
    let left = stage.write("Alice", 1, "I have not heard of Bob's commit.").await?;
    let right = stage.write("Bob", 1, "Nor I of Alice's.").await?;
    step.check(left.sent.node != right.sent.node, "they write on different branches")?;
    stage.read(step, &left).await?;
    stage.read(step, &right).await?;

    let node = status(stage.device("Carol", 1)?, &room).await?.node;
    let one_of_them = node == left.sent.node || node == right.sent.node;
    step.check(one_of_them, "Carol has entered both, and goes on in one of them")?;
    let choice = stage.device("Carol", 1)?.mls.explain_choice(&room).await?;
    let last = choice.last().context("there was nothing to choose")?;
    step.note(format!("the choice: {}", in_words(last.by)));
    stage.agree(step, node).await?;
    let sent = stage.say(step, "Carol", 1, "I have read both of you.").await?;
    step.check(sent.node == node, "no further commit was needed")
}

fn in_words(rule: Rule) -> &'static str {
    match rule {
        Rule::Users => "the branch where more users have committed",
        Rule::Removal => "the branch that removes the other one's author",
        Rule::Swept => "the branch that removes fewer users",
        Rule::Leaf => "as many users on both sides, so the one whose author was in the tree first",
        Rule::Id => "all else is equal, so the one with the lower ID",
    }
}
