//! The people in the room, and what they do there all the time.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use matrix_mls_tests::{HttpClient, MlsDevice, Sent, StoppedUser, TimelineEvent, User};
use matrix_sdk_crypto_mls::{GroupStatus, RoomSettings, Verdict, dmls::NodeId};
use ruma::{OwnedRoomId, RoomId};

use crate::report::{Line, Step};

/// Somebody with devices.
#[derive(Debug)]
pub struct Person {
    /// What they are called here.
    pub name: &'static str,
    /// Who they are on the homeserver.
    pub user: User,
}

impl Person {
    /// Registers somebody and logs in on so many devices, which have their stores below this
    /// directory.
    pub async fn arrive(
        http: &HttpClient,
        stores: &Path,
        name: &'static str,
        devices: usize,
    ) -> Result<Self> {
        let settings = RoomSettings::default();
        let user =
            User::register_on_disk(http, &name.to_lowercase(), devices, settings, stores).await?;
        Ok(Self { name, user })
    }

    /// Closes the application on every device.
    pub async fn stop(self) -> Result<Stopped> {
        Ok(Stopped { name: self.name, user: self.user.stop().await? })
    }

    /// The first device.
    pub fn first(&mut self) -> &mut MlsDevice {
        self.user.first()
    }

    /// All devices with what they are called here.
    pub fn devices(&mut self) -> impl Iterator<Item = (String, &mut MlsDevice)> {
        let name = self.name;
        self.user.devices().enumerate().map(move |(number, device)| (label(name, number), device))
    }
}

/// Somebody whose devices are switched off.
#[derive(Debug)]
pub struct Stopped {
    name: &'static str,
    /// What is left of them.
    pub user: StoppedUser,
}

impl Stopped {
    /// Starts the application on every device.
    pub async fn start(self) -> Result<Person> {
        Ok(Person { name: self.name, user: self.user.start().await? })
    }
}

/// The room and those in it.
#[derive(Debug)]
pub struct Stage {
    /// The room.
    pub room: OwnedRoomId,
    /// Who is in it.
    pub people: Vec<Person>,
}

/// A message on its way to everybody.
#[derive(Debug)]
pub struct Message {
    from: String,
    text: String,
    epoch: u64,
    /// What the server has of it.
    pub sent: Sent,
}

impl Stage {
    /// Somebody in the room.
    pub fn person(&mut self, name: &str) -> Result<&mut Person> {
        let found = self.people.iter_mut().find(|person| person.name == name);
        found.with_context(|| format!("{name} is not in the room"))
    }

    /// Takes somebody off the stage.
    pub fn dismiss(&mut self, name: &str) -> Result<Person> {
        let found = self.people.iter().position(|person| person.name == name);
        Ok(self.people.remove(found.with_context(|| format!("{name} is not in the room"))?))
    }

    /// A device of somebody in the room; the first one is number 1.
    pub fn device(&mut self, name: &str, number: usize) -> Result<&mut MlsDevice> {
        Ok(self.person(name)?.user.device(number.saturating_sub(1))?)
    }

    /// Somebody writes, and everybody reads it on every device.
    pub async fn say(
        &mut self,
        step: &mut Step,
        name: &str,
        number: usize,
        text: &str,
    ) -> Result<Sent> {
        let message = self.write(name, number, text).await?;
        self.read(step, &message).await?;
        Ok(message.sent)
    }

    /// Somebody writes.
    pub async fn write(&mut self, name: &str, number: usize, text: &str) -> Result<Message> {
        let room = self.room.clone();
        let from = label(name, number.saturating_sub(1));
        let device = self.device(name, number)?;
        let sent = device.say(&room, text).await.with_context(|| format!("{from} cannot write"))?;
        ensure!(sent.without_mls.is_empty(), "{:?} are left out", sent.without_mls);
        let epoch = status(device, &room).await?.epoch;
        Ok(Message { from, text: text.to_owned(), epoch, sent })
    }

    /// Everybody reads a message, on every device.
    pub async fn read(&mut self, step: &mut Step, message: &Message) -> Result<()> {
        let Message { from, text, epoch, sent } = message;
        let mut read_by = Vec::new();
        let room = &self.room;
        for person in &mut self.people {
            for (label, device) in person.devices() {
                let is_own = label == *from;
                let event = device.wait_for(room, &sent.event_id).await?;
                check(event, text, is_own).with_context(|| format!("{label} and “{text}”"))?;
                ensure!(device.holds(room, sent.node).await?, "{label} has not the epoch's key");
                read_by.push(label);
            }
        }
        step.line(Line::Message {
            from: from.clone(),
            text: text.clone(),
            epoch: *epoch,
            node: sent.node.short(),
            read_by,
        });
        Ok(())
    }

    /// Waits until every device sends in this epoch, and in no other.
    pub async fn agree(&mut self, step: &mut Step, node: NodeId) -> Result<()> {
        let room = &self.room;
        let (mut devices, mut members) = (0, 0);
        for person in &mut self.people {
            for (label, device) in person.devices() {
                let what = format!("everybody in the epoch {}", node.short());
                let is_there = async |device: &MlsDevice| {
                    Ok(device.status(room).await?.is_some_and(|status| status.node == node))
                };
                device.sync_until(&what, is_there).await.context(label)?;
                members = status(device, room).await?.roster.len();
                devices += 1;
            }
        }
        let what = format!(
            "all {devices} devices send in the epoch {}, which has {members} members",
            node.short()
        );
        step.check(devices == members, what)
    }
}

/// What a device is called here; the first one has the number 0.
fn label(name: &str, number: usize) -> String {
    format!("{name}/{}", number + 1)
}

/// How the group stands for a device that is in it.
pub async fn status(device: &MlsDevice, room: &RoomId) -> Result<GroupStatus> {
    device.status(room).await?.context("a device is not in the group")
}

/// A device has read what was written, from whom it really comes, and knows that.
fn check(event: &TimelineEvent, text: &str, is_own: bool) -> Result<()> {
    let info = match &event.result {
        Ok(decrypted) => &decrypted.encryption_info,
        Err(reason) => bail!("it cannot be read: {reason}"),
    };
    let body = event.body();
    ensure!(body.as_deref() == Some(text), "it says {body:?}");
    ensure!(info.sender.user_id == event.sender.as_str(), "it is signed by {:?}", info.sender);
    let trusted = matches!(info.verdict, Verdict::CrossSigned | Verdict::Verified);
    ensure!(trusted || is_own, "its sender is {:?}", info.verdict);
    Ok(())
}
