//! Somebody is removed, and provably cannot read on.

use anyhow::{Context as _, Result, bail, ensure};
use matrix_mls_tests::{DriverError, MlsDevice};
use matrix_sdk_crypto_mls::{
    DecryptionError, MlsError,
    dmls::{EpochKey, NAMESPACE},
    types::events::MlsEncryptedEventContent,
};
use ruma::{
    OwnedEventId, RoomId,
    api::{
        Direction,
        client::{filter::RoomEventFilter, message::get_message_events},
    },
    events::AnySyncTimelineEvent,
    serde::Raw,
    uint,
};

use crate::{
    report::{Line, Step},
    stage::{Person, Stage, status},
};

/// What was written after Carol was removed.
const AFTERWARDS: [(&str, usize, &str); 3] = [
    ("Alice", 1, "Carol is not among us any more."),
    ("Bob", 2, "And cannot read this."),
    ("Alice", 2, "Nor this, an epoch later."),
];

/// Carol, and the epochs that she was in.
pub struct Removed {
    carol: Person,
    epochs: usize,
}

/// Alice kicks Carol; the next message is preceded by the commit that removes her.
pub async fn kick(stage: &mut Stage, step: &mut Step) -> Result<Removed> {
    let room = stage.room.clone();
    let carol = stage.person("Carol")?.user.id().to_owned();
    stage.device("Alice", 1)?.kick(&room, &carol).await?;
    let alice = stage.device("Alice", 1)?;
    alice
        .sync_until("Carol's leaving", async |device| {
            Ok(device.room(&room).is_some_and(|room| !room.members().joined.contains(&carol)))
        })
        .await?;
    let mut carol = stage.dismiss("Carol")?;
    step.note("Alice has kicked Carol from the room");
    let before = status(stage.device("Alice", 1)?, &room).await?;
    let [first, second, third] = AFTERWARDS;
    let message = stage.write(first.0, first.1, first.2).await?;
    let after = status(stage.device("Alice", 1)?, &room).await?;
    step.epoch("Alice/1", &after, "has removed Carol");
    step.check(message.sent.node == after.node, "the next message is not encrypted to Carol")?;
    step.check(
        after.roster.len() + 1 == before.roster.len()
            && !after.roster.has_user(carol.user.id().as_str()),
        "Carol's device is not in that epoch, all others are",
    )?;
    stage.read(step, &message).await?;
    stage.say(step, second.0, second.1, second.2).await?;

    // And another commit, to be handed to Carol as well.
    stage.device("Bob", 1)?.update_keys(&room).await?;
    let after = status(stage.device("Bob", 1)?, &room).await?;
    step.epoch("Bob/1", &after, "has renewed its keys");
    stage.agree(step, after.node).await?;
    stage.say(step, third.0, third.1, third.2).await?;
    let epochs = keys(carol.first(), &room).await?.len();
    Ok(Removed { carol, epochs })
}

/// A member hands Carol every event, and Carol tries all she has on them.
pub async fn try_everything(stage: &mut Stage, removed: Removed, step: &mut Step) -> Result<()> {
    let Removed { mut carol, epochs } = removed;
    let room = stage.room.clone();
    let events = history(stage.device("Bob", 1)?, &room).await?;
    let members = keys(stage.device("Bob", 1)?, &room).await?;
    let device = carol.first();
    device.sync(std::time::Duration::ZERO).await?;
    device.mls.receive_room_events(&room, &[], &events).await?;
    device.pump().await?;
    step.note(format!("Bob hands Carol all {} commits and messages of the room", events.len()));

    let own = keys(device, &room).await?;
    step.check(own.len() == epochs, format!("Carol has the keys of {epochs} epochs, as before"))?;
    let (mut readable, mut unreadable, mut attempts) = (0, 0, 0);
    for event in &events {
        let Ok(Some(content)) = event.get_field::<MlsEncryptedEventContent>("content") else {
            continue;
        };
        let id = event.get_field::<OwnedEventId>("event_id")?;
        let id = id.context("an event without ID")?;
        let text =
            stage.people.iter_mut().find_map(|person| person.first().event(&room, &id)?.body());
        let text = text.context("nobody else can read it either")?;
        match device.read(&room, event).await {
            Ok(_) if own.iter().any(|key| key.node() == content.epoch) => {
                readable += 1;
                continue;
            }
            Ok(_) => bail!("Carol can read “{text}”"),
            Err(DecryptionError::AfterOurRemoval) => {}
            Err(other) => bail!("“{text}” is not readable for another reason: {other}"),
        }
        let reason = DecryptionError::AfterOurRemoval.to_string();
        step.line(Line::Unreadable { device: "Carol/1".to_owned(), text, reason });
        unreadable += 1;
        let right = members.iter().find(|member| member.node() == content.epoch);
        let right = right.context("Bob has not the key of an epoch that he has read in")?;
        ensure!(right.decrypt(&content.ciphertext.0).is_ok(), "Bob's key does not open it");
        for key in &own {
            ensure!(key.decrypt(&content.ciphertext.0).is_err(), "an old key opens it");
            // The same secrets with all that is public of the right epoch.
            let mut parts = right.to_parts();
            parts.tree = key.tree().clone();
            parts.sender_data_secret = key.sender_data_secret().clone();
            let forged = EpochKey::from_parts(parts)?;
            ensure!(forged.decrypt(&content.ciphertext.0).is_err(), "old secrets open it");
            attempts += 2;
        }
    }
    step.check(unreadable == AFTERWARDS.len(), "that is all that was written since")?;
    step.check(readable > 0, format!("what was written before ({readable}) stays readable"))?;
    step.check(true, format!("{attempts} attempts with the secrets of her own epochs fail"))?;
    let sent = device.say(&room, "Hello?").await;
    let refused = matches!(sent, Err(DriverError::Mls(MlsError::Removed { .. })));
    step.check(refused, "Carol's client knows that she was removed, and sends nothing")
}

/// The keys of all epochs that a device has been in.
async fn keys(device: &MlsDevice, room: &RoomId) -> Result<Vec<EpochKey>> {
    let stored = device.mls.store().load_room(room).await?.unwrap_or_default();
    Ok(stored.group.epoch_keys.into_values().flatten().map(|key| (*key).clone()).collect())
}

/// The commits and messages of a room, oldest first, as a member can fetch them.
pub async fn history(device: &MlsDevice, room: &RoomId) -> Result<Vec<Raw<AnySyncTimelineEvent>>> {
    let mut request = get_message_events::v3::Request::new(room.to_owned(), Direction::Forward);
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec![format!("{NAMESPACE}.commit"), "m.room.encrypted".to_owned()]);
    request.filter = filter;
    request.limit = uint!(200);
    Ok(device.messages(request).await?.chunk.into_iter().map(Raw::cast).collect())
}
