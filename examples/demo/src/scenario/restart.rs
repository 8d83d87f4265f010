//! Nothing is lost when applications are closed: what matters is on disk.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, ensure};
use matrix_sdk_crypto_mls::{AnyOutgoingRequest, Readiness};

use crate::{
    report::Step,
    stage::{Stage, status},
};

/// Bob and Carol are closed, Alice writes and begins a commit, and is closed too. Then all are opened
/// again, and go on where they were.
pub async fn everybody(stage: &mut Stage, step: &mut Step) -> Result<()> {
    let room = stage.room.clone();
    // The next generation of Bob's in this epoch.
    let last = stage.say(step, "Bob", 1, "I will close my laptop now.").await?;
    let before = readable(stage)?;
    let mut stopped = Vec::new();
    for name in ["Bob", "Carol"] {
        stopped.push(stage.dismiss(name)?.stop().await.context(name)?);
    }
    step.note("Bob and Carol have closed their applications");
    let missed = stage.write("Alice", 1, "Sleep well!").await?;
    step.check(missed.sent.node == last.node, "Alice writes meanwhile, in the same epoch")?;

    let alice = stage.device("Alice", 1)?;
    let made = alice.mls.update_keys(&room).await? == Readiness::NeedsRequests;
    step.check(made, "Alice has made a commit, and closes her applications before it is sent")?;
    stopped.insert(0, stage.dismiss("Alice")?.stop().await?);
    ensure!(stage.people.is_empty(), "somebody is still there");
    let (mut devices, mut bytes) = (0, 0);
    for directory in stopped.iter().flat_map(|person| person.user.directories()) {
        devices += 1;
        bytes += size(directory).context("a device's directory cannot be read")?;
    }
    step.note(format!("what is left: {} kB on disk, of {devices} devices", bytes / 1000));

    for person in stopped {
        stage.people.push(person.start().await?);
    }
    step.note("everybody has opened the application again: new machines, the same stores");
    let read = read_again(stage).await?;
    step.check(read == before, format!("all {read} messages can be decrypted once more"))?;

    let sent = stage.write("Bob", 1, "Good morning.").await?;
    let goes_on = sent.sent.node == last.node && sent.sent.generation == last.generation + 1;
    step.check(goes_on, "Bob goes on in the same epoch, and uses no key a second time")?;
    let alice = stage.device("Alice", 1)?;
    let old = status(alice, &room).await?;
    let requests = alice.mls.outgoing_requests().await?;
    let waits =
        requests.iter().any(|one| matches!(one.request(), AnyOutgoingRequest::RoomMessage(_)));
    step.check(waits && old.node == last.node, "Alice's commit still waits to be sent")?;
    alice.pump().await?;
    let new = status(alice, &room).await?;
    step.epoch("Alice/1", &new, "has sent it, and renewed its keys");
    step.check(new.epoch == old.epoch + 1, "what was begun is finished")?;

    stage.read(step, &missed).await?;
    stage.read(step, &sent).await?;
    stage.agree(step, new.node).await?;
    stage.say(step, "Carol", 1, "I have slept well, thank you.").await?;
    Ok(())
}

/// How many messages all devices have read.
fn readable(stage: &mut Stage) -> Result<usize> {
    let room = stage.room.clone();
    let mut count = 0;
    for person in &mut stage.people {
        for (label, device) in person.devices() {
            let events = device.timeline(&room);
            ensure!(events.iter().all(|event| event.result.is_ok()), "{label} misses something");
            count += events.len();
        }
    }
    Ok(count)
}

/// Has all devices decrypt all that they have, and counts it.
async fn read_again(stage: &mut Stage) -> Result<usize> {
    let room = stage.room.clone();
    let mut count = 0;
    for person in &mut stage.people {
        for (label, device) in person.devices() {
            for event in device.timeline(&room) {
                let what = || format!("{label} cannot read {} any more", event.event_id);
                let again = device.read(&room, &event.raw).await.with_context(what)?;
                let body = event.body();
                let content = again.event.get_field::<serde_json::Value>("content")?;
                let again = content.as_ref().and_then(|content| content.get("body")?.as_str());
                ensure!(again == body.as_deref(), "{label} reads something else now");
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The bytes of a directory's files.
fn size(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(directory)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
