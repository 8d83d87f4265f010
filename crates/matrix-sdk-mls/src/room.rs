//! Rooms.

mod attachment;
mod devices;
mod group;
mod read;
mod send;

use std::{fmt, ops::Deref, sync::Arc};

use matrix_sdk_crypto_mls::{
    GroupStatus, Readiness,
    dmls::ALGORITHM,
    types::events::{CommitEventContent, GroupEventContent},
};
use ruma::{
    api::client::state::{get_state_event_for_key, send_state_event},
    events::{AnyStateEventContent, StateEventType, StaticEventContent},
    serde::Raw,
};
use serde_json::{Value, json, value::to_raw_value};

pub(crate) use self::send::Options;
pub use self::send::{SendMessageLikeEvent, SendRawMessageLikeEvent};
pub use self::{attachment::SendAttachment, devices::RoomDevice};
use crate::{builder::NewRooms, client::Client, engine::Owner, error::Error, queue::RoomSendQueue};

/// A `matrix_sdk::Room` that may be an MLS room.
///
/// It derefs to the SDK's; the methods here are those that MLS changes. In rooms that are not MLS
/// rooms they are the SDK's.
#[derive(Clone)]
pub struct Room {
    pub(crate) sdk: matrix_sdk::Room,
    pub(crate) engine: Arc<Owner>,
}

impl Room {
    /// The client that the room is of.
    pub fn client(&self) -> Client {
        Client { engine: Arc::clone(&self.engine) }
    }

    /// The room's send queue: the SDK's for rooms that may be MLS rooms. It works in all rooms.
    ///
    /// This is not the SDK's `send_queue`, which fails in MLS rooms.
    pub fn mls_send_queue(&self) -> RoomSendQueue {
        RoomSendQueue::of(&self.engine, self.sdk.room_id())
    }

    /// Whether the room is an MLS room. Once it was, it is for ever.
    ///
    /// # Errors
    ///
    /// When this cannot be told, because a store or the server has failed. Nothing is sent then.
    pub async fn is_mls(&self) -> Result<bool, Error> {
        self.engine.is_mls(self.sdk.room_id()).await
    }

    /// How the room's group stands; `None` while this device is in none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn mls_status(&self) -> Result<Option<GroupStatus>, Error> {
        Ok(self.engine.machine().await?.group_status(self.sdk.room_id()).await?)
    }

    /// Gets the room ready to be sent to, which sending does too: call it when the user begins to
    /// write. Says which of the members' devices cannot read what is sent.
    ///
    /// # Errors
    ///
    /// When the room cannot be sent to.
    pub async fn prepare_mls(&self) -> Result<Readiness, Error> {
        Box::pin(self.engine.get_ready(self.sdk.room_id())).await
    }

    /// As the SDK's. With [`NewRooms::Mls`] a room that is not encrypted becomes an MLS room.
    ///
    /// # Errors
    ///
    /// As the SDK's, and those of [`Room::enable_mls`].
    pub async fn enable_encryption(&self) -> matrix_sdk::Result<()> {
        if self.is_mls().await? {
            return Ok(());
        }
        if self.engine.new_rooms == NewRooms::Mls
            && !Box::pin(self.sdk.latest_encryption_state()).await?.is_encrypted()
        {
            return Ok(self.enable_mls().await?);
        }
        Box::pin(self.sdk.enable_encryption()).await
    }

    /// Makes the room an MLS room, for ever; also one that is encrypted with Megolm. Nothing happens
    /// if it is one.
    ///
    /// The room's power levels are changed so that everybody may send commits and only admins may
    /// name another group. Who may not change them leaves them as they are.
    ///
    /// # Errors
    ///
    /// When the server refuses, or a store fails.
    pub async fn enable_mls(&self) -> Result<(), Error> {
        if self.is_mls().await? {
            return Ok(());
        }
        self.allow_commits().await?;
        let content = json!({ "algorithm": ALGORITHM });
        self.put_state(StateEventType::RoomEncryption, &content).await?;
        self.engine.complete(self.sdk.room_id()).await
    }

    /// Sets the power levels of the protocol's events, where the room's would keep members from
    /// sending commits.
    async fn allow_commits(&self) -> Result<(), Error> {
        let request = get_state_event_for_key::v3::Request::new(
            self.sdk.room_id().to_owned(),
            StateEventType::RoomPowerLevels,
            String::new(),
        );
        let response = self.engine.sdk.send(request).await?;
        let mut levels: Value = serde_json::from_str(response.event_or_content.get())?;
        let Some(levels_of) = levels.as_object_mut() else { return Ok(()) };
        let events = levels_of.entry("events").or_insert_with(|| json!({}));
        let Some(events) = events.as_object_mut() else { return Ok(()) };
        let before = events.clone();
        events.insert(CommitEventContent::TYPE.to_owned(), 0.into());
        events.insert(GroupEventContent::TYPE.to_owned(), 100.into());
        if *events == before {
            return Ok(());
        }
        match self.put_state(StateEventType::RoomPowerLevels, &levels).await {
            Err(Error::Sdk(error)) if is_forbidden(&error) => Ok(()),
            result => result,
        }
    }

    async fn put_state(&self, event_type: StateEventType, content: &Value) -> Result<(), Error> {
        let content: Raw<AnyStateEventContent> = Raw::from_json(to_raw_value(content)?);
        let request = send_state_event::v3::Request::new_raw(
            self.sdk.room_id().to_owned(),
            event_type,
            String::new(),
            content,
        );
        self.engine.sdk.send(request).await?;
        Ok(())
    }
}

fn is_forbidden(error: &matrix_sdk::Error) -> bool {
    error.as_client_api_error().is_some_and(|error| error.status_code.as_u16() == 403)
}

impl Deref for Room {
    type Target = matrix_sdk::Room;

    fn deref(&self) -> &matrix_sdk::Room {
        &self.sdk
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("room_id", &self.sdk.room_id()).finish_non_exhaustive()
    }
}
