//! Who is there, and the room while all is well.

use std::path::Path;

use anyhow::{Context as _, Result};
use matrix_mls_tests::{Federation, MlsDevice, RoomOptions};
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::json;

use crate::{
    report::Step,
    stage::{Person, Stage, status},
};

/// The people, by homeserver.
#[derive(Debug)]
pub struct Halves {
    /// Those on the first one.
    pub a: Half,
    /// Those on the second one.
    pub b: Half,
}

/// The people on one homeserver.
#[derive(Debug)]
pub struct Half {
    /// The room, and those who are in it.
    pub stage: Stage,
    /// Who comes while the servers are cut off.
    pub newcomer: Option<Person>,
    /// Who was removed meanwhile.
    pub removed: Option<Person>,
}

/// Registers everybody. The first of each half has two devices.
pub async fn arrive(net: &Federation, stores: &Path, step: &mut Step) -> Result<Halves> {
    let halves =
        [(&net.a, ["Alice", "Bob", "Gina", "Carol"]), (&net.b, ["Dave", "Erin", "Hank", "Frank"])];
    let mut people = Vec::new();
    for (http, names) in halves {
        let mut half = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let devices = if number == 0 { 2 } else { 1 };
            half.push(Person::arrive(http, stores, name, devices).await.context(name)?);
        }
        let server = half.first().map(|person| person.user.id().server_name().to_string());
        step.note(format!("{} on {}", names.join(", "), server.unwrap_or_default()));
        people.push(half);
    }
    let (Some(mut b), Some(mut a)) = (people.pop(), people.pop()) else {
        anyhow::bail!("nobody is there");
    };
    let (carol, frank) = (a.pop(), b.pop());
    let room = make_room(&mut a, &mut b).await?;
    step.check(true, format!("Alice has made {room}, and five have joined it, from both servers"))?;
    let half = |people, newcomer| Half {
        stage: Stage { room: room.clone(), people },
        newcomer,
        removed: None,
    };
    Ok(Halves { a: half(a, carol), b: half(b, frank) })
}

/// The first of the other half may remove people, too.
async fn make_room(a: &mut [Person], b: &mut [Person]) -> Result<OwnedRoomId> {
    let (founder, others) = a.split_first_mut().context("nobody is there")?;
    let other = b.first().context("nobody is there")?.user.id();
    let levels = json!({ "users": { other: 50 }, "invite": 0, "kick": 50 });
    let mut options = RoomOptions { power_levels: Some(levels), ..RoomOptions::mls() };
    for person in others.iter().chain(b.iter()) {
        options = options.with_invite(person.user.id());
    }
    let room = founder.first().create_room(options).await?;
    for person in others.iter_mut().chain(b.iter_mut()) {
        person.user.join(&room).await?;
    }
    let everybody: Vec<_> = a.iter().chain(b.iter()).map(|p| p.user.id().to_owned()).collect();
    for person in a.iter_mut().chain(b.iter_mut()) {
        for (label, device) in person.devices() {
            for user in &everybody {
                sees(device, &room, user, true).await.context(label.clone())?;
            }
        }
    }
    Ok(room)
}

/// Waits until a device has seen that a user is in the room, or is not.
pub async fn sees(
    device: &mut MlsDevice,
    room: &RoomId,
    user: &UserId,
    joined: bool,
) -> Result<()> {
    let what = format!("{user} {} {room}", if joined { "in" } else { "out of" });
    let has_seen = async |device: &MlsDevice| {
        let members = device.room(room).map(|room| room.members().joined);
        Ok(members.is_some_and(|members| members.contains(user) == joined))
    };
    Ok(device.sync_until(&what, has_seen).await?)
}

/// Somebody on each server writes, and everybody on both reads it.
pub async fn talk(halves: &mut Halves, step: &mut Step) -> Result<()> {
    let Halves { a, b } = halves;
    let room = a.stage.room.clone();
    let first = a.stage.write("Alice", 1, "Hello over there.").await?;
    let group = status(a.stage.device("Alice", 1)?, &room).await?;
    let what = format!("has founded the group with {} devices", group.roster.len());
    step.epoch("Alice/1", &group, &what);
    a.stage.read(step, &first).await?;
    b.stage.read(step, &first).await?;
    let second = b.stage.write("Dave", 2, "Hello yourself.").await?;
    step.check(second.sent.node == first.sent.node, "it needed no other commit")?;
    b.stage.read(step, &second).await?;
    a.stage.read(step, &second).await?;
    step.check(
        group.roster.len() == 8,
        "key packages, Welcomes and messages went from server to server",
    )
}
