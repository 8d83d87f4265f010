//! Accounts, devices, and the room.

use std::path::Path;

use anyhow::{Context as _, Result};
use matrix_mls_tests::{HttpClient, RoomOptions};
use matrix_sdk_crypto_mls::dmls::ALGORITHM;
use ruma::events::StateEventType;
use serde_json::Value;

use crate::{
    report::Step,
    stage::{Person, Stage},
};

/// Registers everybody and logs in on all devices.
pub async fn log_in(http: &HttpClient, stores: &Path, step: &mut Step) -> Result<Vec<Person>> {
    let mut people = Vec::new();
    for (name, devices) in [("Alice", 2), ("Bob", 2), ("Carol", 1)] {
        let mut person = Person::arrive(http, stores, name, devices).await.context(name)?;
        let labels: Vec<_> = person
            .devices()
            .map(|(label, device)| format!("{label} ({})", device.session.device_id))
            .collect();
        step.note(format!("{name} is {}: {}", person.user.id(), labels.join(", ")));
        people.push(person);
    }
    for person in &mut people {
        for (label, device) in person.devices() {
            let (user, id) = (device.user_id().to_owned(), device.session.device_id.clone());
            let own = device.olm.get_device(&user, &id, None).await?;
            let signed = own.is_some_and(|own| own.is_cross_signed_by_owner());
            // A later device hears of its own signature with its next sync.
            if !signed {
                device
                    .sync_until(&format!("the owner's signature on {label}"), async |device| {
                        let own = device.olm.get_device(&user, &id, None).await?;
                        Ok(own.is_some_and(|own| own.is_cross_signed_by_owner()))
                    })
                    .await?;
            }
        }
    }
    step.note("each keeps its state in two encrypted databases in a directory of its own");
    step.check(true, "every device is cross-signed by its owner; the room lets in no others")?;
    Ok(people)
}

/// Alice makes a room, and the others join it.
pub async fn gather(people: &mut [Person], step: &mut Step) -> Result<Stage> {
    let mut options = RoomOptions::mls();
    let (alice, others) = people.split_first_mut().context("nobody is there")?;
    for person in others.iter() {
        options = options.with_invite(person.user.id());
    }
    let room = alice.first().create_room(options).await?;
    step.note(format!("{} has made {room} and invited the others, who join", alice.name));
    for person in others.iter_mut() {
        person.user.join(&room).await?;
    }
    let all = others.len() + 1;
    for person in people.iter_mut() {
        for (label, device) in person.devices() {
            device
                .sync_until("everybody in the room", async |device| {
                    Ok(device.room(&room).is_some_and(|room| room.members().joined.len() == all))
                })
                .await
                .context(label)?;
            let mls = device.mls.is_mls_room(&room).await?;
            anyhow::ensure!(mls, "a device does not see that it is an MLS room");
            let state = device.room(&room).context("no room")?;
            let encryption: Value = state
                .content(&StateEventType::RoomEncryption, "")
                .context("no m.room.encryption")?;
            anyhow::ensure!(encryption.get("algorithm").is_some_and(|name| name == ALGORITHM));
        }
    }
    step.check(true, format!("all {all} are in it, and see that it is encrypted with"))?;
    step.note(ALGORITHM);
    Ok(Stage { room, people: Vec::new() })
}
