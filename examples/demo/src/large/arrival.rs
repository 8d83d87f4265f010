//! Accounts, devices, and the room.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use matrix_mls_tests::{HttpClient, RoomOptions, User};
use ruma::api::client::room::create_room::v3::RoomPreset;

use super::crowd::{Crowd, LANES, arrive, each};
use crate::report::Step;

/// Registers everybody, each with one device.
pub async fn log_in(http: &HttpClient, devices: usize, step: &mut Step) -> Result<Vec<User>> {
    let arrivals = (1..=devices).map(async |number| arrive(http, &format!("p{number}")).await);
    let people: Vec<_> = stream::iter(arrivals).buffered(LANES).try_collect().await?;
    let what = format!("{devices} devices, each of another user, cross-signed by its owner");
    step.check(people.len() == devices, what)?;
    Ok(people)
}

/// The first one makes a room that is open to all, and everybody else comes in.
pub async fn gather(mut people: Vec<User>, step: &mut Step) -> Result<Crowd> {
    let options = RoomOptions { preset: Some(RoomPreset::PublicChat), ..RoomOptions::mls() };
    let all = people.len();
    let (first, others) = people.split_first_mut().context("nobody is there")?;
    let room = first.first().create_room(options).await?;
    // One after the other: the server puts them in order anyway.
    for user in others {
        user.first().join(&room).await?;
    }
    let mut crowd = Crowd { room, people };
    let room = &crowd.room;
    each(&mut crowd.people, async |device| {
        device
            .sync_until("everybody in the room", async |device| {
                Ok(device.room(room).is_some_and(|room| room.members().joined.len() == all))
            })
            .await?;
        ensure!(device.mls.is_mls_room(room).await?, "it is no MLS room");
        Ok(())
    })
    .await?;
    step.check(true, format!("all {all} are in {room}, and know one another's devices"))?;
    Ok(crowd)
}
