//! What can be typed.

use anyhow::{Context as _, Result, bail};
use matrix_sdk::ruma::{
    RoomId, RoomOrAliasId, UserId,
    api::client::room::create_room,
    events::{
        InitialStateEvent,
        room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
    },
};
use tokio::io::AsyncWrite;

use crate::{Chat, Room, view::View};

const HELP: &str = "\
/rooms                  the rooms
/open ROOM              opens a room, by its ID; what is typed then goes there
/new NAME [USER]...     makes an encrypted room, invites these users and opens it
/join ROOM              accepts an invitation, or joins, and opens the room
/invite USER            invites somebody to the room that is open
/who                    its members, and their devices
/epoch                  how its group stands
/quit                   ends this";

impl<W: AsyncWrite + Unpin> Chat<W> {
    /// Does what a line says.
    pub(crate) async fn take(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        match words.next() {
            None => Ok(()),
            Some("/help") => self.say(HELP).await,
            Some("/rooms") => self.rooms().await,
            Some("/open") => {
                let id = RoomId::parse(words.next().context("which room?")?)?;
                let room = self.client.get_room(&id).context("there is no such room")?;
                self.open(room).await
            }
            Some("/new") => {
                let name = words.next().context("what is it called?")?.to_owned();
                let mut request = create_room::v3::Request::new();
                request.name = Some(name);
                request.invite = words.map(UserId::parse).collect::<Result<_, _>>()?;
                let content = RoomEncryptionEventContent::with_recommended_defaults();
                let encryption = InitialStateEvent::with_empty_state_key(content);
                request.initial_state = vec![encryption.to_raw_any()];
                let room = self.client.create_room(request).await?;
                self.open(room).await
            }
            Some("/join") => {
                let id = RoomOrAliasId::parse(words.next().context("which room?")?)?;
                let room = self.client.join_room_by_id_or_alias(&id, &[]).await?;
                self.open(room).await
            }
            Some("/invite") => {
                let user = UserId::parse(words.next().context("whom?")?)?;
                Ok(self.current()?.invite_user_by_id(&user).await?)
            }
            Some("/who") => self.who().await,
            Some("/epoch") => self.epoch().await,
            Some(word) if word.starts_with('/') => bail!("there is no {word}; try /help"),
            Some(_) => {
                let room = self.current()?;
                room.send(RoomMessageEventContent::text_plain(line)).await?;
                Ok(())
            }
        }
    }

    fn current(&self) -> Result<Room> {
        let (room, _) = self.open.as_ref().context("no room is open")?;
        Ok(room.clone())
    }

    async fn rooms(&mut self) -> Result<()> {
        for room in self.client.rooms() {
            let name = room.display_name().await?;
            self.say(&format!("{} {name} ({:?})", room.room_id(), room.state())).await?;
        }
        Ok(())
    }

    async fn open(&mut self, room: Room) -> Result<()> {
        self.say(&format!("{} is open", room.room_id())).await?;
        let view = View::open(&room).await?;
        self.open = Some((room, view));
        self.show().await
    }

    async fn who(&mut self) -> Result<()> {
        let room = self.current()?;
        #[cfg(not(feature = "mls"))]
        for member in room.members(matrix_sdk::RoomMemberships::JOIN).await? {
            self.say(member.user_id().as_str()).await?;
        }
        #[cfg(feature = "mls")]
        for device in room.mls_devices().await? {
            let state = match (device.in_group, device.is_known) {
                (_, false) => "should not be here",
                (true, _) if device.is_verified => "reads along, verified",
                (true, _) => "reads along, not verified",
                (false, _) => "does not read along",
            };
            self.say(&format!("{} {}: {state}", device.user_id, device.device_id)).await?;
        }
        Ok(())
    }

    async fn epoch(&mut self) -> Result<()> {
        let room = self.current()?;
        #[cfg(not(feature = "mls"))]
        let text = format!("{} is not an MLS room", room.room_id());
        #[cfg(feature = "mls")]
        let text = match room.mls_status().await? {
            None => "this device is in no group".to_owned(),
            Some(status) => {
                let graph = self.client.mls_machine().await?.epoch_graph(room.room_id()).await?;
                let devices = status.roster.iter().count();
                format!("epoch {}, {devices} devices\n{graph}", status.epoch)
            }
        };
        self.say(&text).await
    }
}
