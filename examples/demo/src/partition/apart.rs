//! Each half by itself.

use anyhow::{Context as _, Result, ensure};
use matrix_mls_tests::{Federation, Side};

use super::{
    Said,
    before::{Half, sees},
};
use crate::{
    report::Step,
    stage::{Stage, status},
};

/// Who does what in a half, and what they say.
#[derive(Debug)]
pub struct Script {
    leader: &'static str,
    second: &'static str,
    leaves: &'static str,
    lines: [&'static str; 3],
}

/// The half on the first server.
pub const A: Script = Script {
    leader: "Alice",
    second: "Bob",
    leaves: "Gina",
    lines: ["Carol is here, and Gina is not.", "Here I am.", "Dave is so quiet today."],
};

/// The half on the second one.
pub const B: Script = Script {
    leader: "Dave",
    second: "Erin",
    leaves: "Hank",
    lines: ["Frank is here, and Hank is not.", "With new keys even.", "Are we alone?"],
};

/// Nothing goes from one server to the other any more.
pub async fn cut(net: &mut Federation, step: &mut Step) -> Result<()> {
    net.cut().await?;
    for (from, to) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let what = format!("{from:?} gets no answer from {to:?}");
        step.check(!net.reaches(from, to).await?, what)?;
    }
    Ok(())
}

/// One comes, one is removed, keys are renewed, and people talk.
pub async fn go_on(half: &mut Half, script: &Script, step: &mut Step) -> Result<Said> {
    let Script { leader, second, leaves, lines: [first_line, second_line, third_line] } = script;
    let room = half.stage.room.clone();
    let mut newcomer = half.newcomer.take().context("nobody comes")?;
    let comes = newcomer.name;
    let (id, gone) = (newcomer.user.id().to_owned(), half.stage.dismiss(leaves)?);
    half.stage.device(leader, 1)?.invite(&room, &id).await?;
    newcomer.user.join(&room).await?;
    half.stage.device(leader, 1)?.kick(&room, gone.user.id()).await?;
    step.note(format!("{leader} has invited {comes}, who has joined, and removed {leaves}"));
    let device = half.stage.device(second, 1)?;
    sees(device, &room, &id, true).await?;
    sees(device, &room, gone.user.id(), false).await?;

    let first = half.stage.write(second, 1, first_line).await?;
    let group = status(half.stage.device(second, 1)?, &room).await?;
    step.epoch(&format!("{second}/1"), &group, &format!("has added {comes}, removed {leaves}"));
    let is_in = |user: &str| group.roster.iter().any(|(_, m)| m.device().user_id == user);
    ensure!(is_in(id.as_str()), "{comes} is not in the group");
    step.check(!is_in(gone.user.id().as_str()), format!("{leaves} is no longer in the group"))?;
    half.stage.people.push(newcomer);
    half.stage.read(step, &first).await?;

    update(&mut half.stage, comes, step).await?;
    let second = half.stage.write(comes, 1, second_line).await?;
    half.stage.read(step, &second).await?;
    update(&mut half.stage, leader, step).await?;
    let third = half.stage.write(leader, 1, third_line).await?;
    half.stage.read(step, &third).await?;
    half.removed = Some(gone);
    Ok(vec![first, second, third])
}

async fn update(stage: &mut Stage, name: &str, step: &mut Step) -> Result<()> {
    let room = stage.room.clone();
    let device = stage.device(name, 1)?;
    device.update_keys(&room).await?;
    let group = status(device, &room).await?;
    step.epoch(&format!("{name}/1"), &group, "has renewed its keys");
    Ok(())
}
