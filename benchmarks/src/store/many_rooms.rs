//! A store with many rooms.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use matrix_dmls::{Group, LocalMember};
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{
    MlsMachine,
    room::RoomView,
    store::{Changes, MlsStore as _},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use ruma::RoomId;

use super::{
    Options,
    room::{KEY, extension},
};
use crate::{
    people::Person,
    sample::{Samples, Summary},
};

/// How many rooms are stored at a time.
const BATCH: usize = 50;

/// How long it takes to open a store with many rooms, make a machine from it and ask it how one of
/// the rooms stands, in milliseconds.
pub async fn measure(directory: &Path, olm: &OlmMachine, options: &Options) -> Result<Summary> {
    let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await?;
    drop(MlsMachine::with_store(olm.clone(), store.clone()).await?);
    let account = store.load_account().await?.context("the machine has no account")?;
    let local = LocalMember::new(account.identity, &account.seed)?;
    let others = [Person::new(1)?, Person::new(2)?];
    let packages = others.map(|person| person.package.key_package);
    let extension = extension();
    let mut last = RoomId::parse("!none:example.org")?;
    let mut changes = Changes::default();
    for number in 0..options.rooms {
        last = RoomId::parse(format!("!room{number}:example.org"))?;
        let mut group = Group::new(last.as_str());
        let (founding, made) = group.found(&local, &extension, packages.to_vec())?;
        group.apply(made);
        let room = changes.room(&last);
        room.group = group.accept(founding)?;
        room.view = Some(RoomView { entrance: Some(founding), ..RoomView::default() });
        if (number + 1) % BATCH == 0 || number + 1 == options.rooms {
            store.save_changes(std::mem::take(&mut changes)).await?;
        }
    }
    store.close().await?;

    let mut times = Samples::default();
    for _ in 0..options.opens {
        let begin = Instant::now();
        let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await?;
        let machine = MlsMachine::with_store(olm.clone(), store.clone()).await?;
        let status = machine.group_status(&last).await?.context("not in the group")?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        ensure!(status.roster.len() == packages.len() + 1, "another group");
        store.close().await?;
    }
    Ok(times.summary())
}
