//! Everybody in the room, and what all of them do.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use matrix_mls_tests::{HttpClient, MlsDevice, Sent, User};
use matrix_sdk_crypto_mls::{RoomSettings, Verdict, dmls::NodeId};
use ruma::OwnedRoomId;

use crate::stage::status;

/// So many devices talk to the server at a time: one process cannot do more, and a server that has to
/// answer all of them at once lets some wait too long.
pub const LANES: usize = 8;

/// How long it may take until all devices are in the same epoch.
const PATIENCE: Duration = Duration::from_secs(600);

/// Everybody in the room. Nobody has more than one device, which makes device lists, key packages and
/// Welcomes as many as they can be.
#[derive(Debug)]
pub struct Crowd {
    /// The room.
    pub room: OwnedRoomId,
    /// Those in it; the first one has made it.
    pub people: Vec<User>,
}

/// Registers somebody and logs in.
pub async fn arrive(http: &HttpClient, name: &str) -> Result<User> {
    let user = User::register_with(http, name, 1, RoomSettings::default()).await;
    user.with_context(|| format!("{name} cannot log in"))
}

/// Does the same with everybody, a few at a time. The results are in order.
pub async fn each<'p, T, F: Future<Output = Result<T>>>(
    people: impl IntoIterator<Item = &'p mut User>,
    mut work: impl FnMut(&'p mut MlsDevice) -> F,
) -> Result<Vec<T>> {
    let work = people.into_iter().map(|user| work(user.first()));
    stream::iter(work).buffered(LANES).try_collect().await
}

impl Crowd {
    /// Somebody's device, counted from 0.
    pub fn device(&mut self, number: usize) -> Result<&mut MlsDevice> {
        Ok(self.people.get_mut(number).context("there is nobody")?.first())
    }

    /// Everybody reads a message.
    pub async fn read(&mut self, sent: &Sent, text: &str) -> Result<()> {
        let room = &self.room;
        each(&mut self.people, async |device| {
            reads(device, room, sent, text)
                .await
                .with_context(|| format!("{} and “{text}”", device.user_id()))
        })
        .await?;
        Ok(())
    }

    /// Everybody syncs until all devices send in the same epoch, which is returned.
    pub async fn come_together(&mut self) -> Result<NodeId> {
        let begin = Instant::now();
        let room = &self.room;
        loop {
            let tips = each(&mut self.people, async |device| {
                device.sync(Duration::ZERO).await?;
                Ok(device.status(room).await?.map(|status| status.node))
            })
            .await?;
            let tips: BTreeSet<_> = tips.into_iter().collect();
            if let (Some(Some(tip)), 1) = (tips.first(), tips.len()) {
                return Ok(*tip);
            }
            ensure!(begin.elapsed() < PATIENCE, "devices stay in {} epochs", tips.len());
        }
    }
}

/// A device gets a message, and has read what was written, by whom it was written.
async fn reads(device: &mut MlsDevice, room: &OwnedRoomId, sent: &Sent, text: &str) -> Result<()> {
    let own = device.user_id().to_owned();
    let event = device.wait_for(room, &sent.event_id).await?;
    let info = match &event.result {
        Ok(decrypted) => &decrypted.encryption_info,
        Err(reason) => bail!("it cannot be read: {reason}"),
    };
    ensure!(event.body().as_deref() == Some(text), "it says {:?}", event.body());
    ensure!(info.sender.user_id == event.sender.as_str(), "it is signed by {:?}", info.sender);
    let trusted = matches!(info.verdict, Verdict::CrossSigned | Verdict::Verified);
    ensure!(trusted || event.sender == own, "its sender is {:?}", info.verdict);
    ensure!(device.holds(room, sent.node).await?, "the epoch's key is not there");
    status(device, room).await?;
    Ok(())
}
