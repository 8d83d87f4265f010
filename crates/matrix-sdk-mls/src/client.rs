//! The client.

use std::{fmt, ops::Deref, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use matrix_sdk::{RoomState, config::SyncSettings, deserialized_responses::TimelineEvent};
use matrix_sdk_crypto_mls::{MlsMachine, Notice, dmls::ALGORITHM, make_mls_room};
use ruma::{
    EventId, OwnedServerName, RoomId, RoomOrAliasId, UserId, api::client::room::create_room,
    events::AnyInitialStateEvent, serde::Raw,
};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    bridge,
    builder::{ClientBuilder, NewRooms},
    engine::{MlsMessage, Owner},
    error::Error,
    event::MlsEvent,
    room::Room,
};

/// A `matrix_sdk::Client` whose rooms may be MLS rooms.
///
/// It derefs to the SDK's; the methods here are those that MLS changes. Cheap to clone; clones are
/// the same client.
#[derive(Clone)]
pub struct Client {
    pub(crate) engine: Arc<Owner>,
}

impl Client {
    /// Makes a client, step by step.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// The MLS machine of this device, for what has no method here. It is another one after the SDK
    /// has had to load its crypto store anew, so do not keep it.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoggedIn`], or when the store fails or belongs to another device.
    pub async fn mls_machine(&self) -> Result<MlsMachine, Error> {
        self.engine.machine().await
    }

    /// What happens in MLS rooms and a user may want to see, from now on, and how the key backup
    /// stands. It ends with the client, or when this device is logged out. Of those that are not taken out in time the oldest are lost,
    /// after 1,024, which is told as [`MlsEvent::Missed`].
    pub fn subscribe_to_mls_events(&self) -> impl Stream<Item = MlsEvent> + Send + Unpin + use<> {
        let events = self.engine.subscribe_to_events();
        // After that, so that no change is missed.
        let backup = self.engine.sdk.encryption().backups().state();
        let events = stream::unfold(events, |mut events| async {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(missed)) => Some((MlsEvent::Missed(missed), events)),
                Err(RecvError::Closed) => None,
            }
        });
        Box::pin(stream::iter([MlsEvent::BackupState(backup)]).chain(events))
    }

    /// All that the machine reports, as it reports it, from now on: more than
    /// [`Client::subscribe_to_mls_events`] has, and for looking into what goes wrong. Of those that
    /// are not taken out in time the oldest are lost, after 1,024.
    pub fn subscribe_to_mls_notices(&self) -> broadcast::Receiver<Notice> {
        self.engine.subscribe()
    }

    /// The messages of MLS rooms that come with syncs, decrypted or with the reason why not, from now
    /// on, in the order of each room. For applications without timelines, such as bots: the SDK's
    /// event handlers get these messages encrypted. What a limited sync leaves out is not in it. Of
    /// those that are not taken out in time the oldest are lost, after 1,024.
    pub fn subscribe_to_mls_messages(&self) -> broadcast::Receiver<MlsMessage> {
        self.engine.subscribe_to_messages()
    }

    /// The event that a push notification is about, from its room and event ID alone: fetched, and
    /// decrypted if it is a message of an MLS room. If the epoch is not known yet, its commits are
    /// fetched first.
    ///
    /// For a second process, such as a notification extension: make a client there on the same
    /// directory, with another holder in `cross_process_store_config`, and restore the session.
    ///
    /// Nothing is synced, and nothing is taken away from the application's next sync. If this device
    /// was added to the room a moment ago, its Welcome waits for that sync on the server; it is looked
    /// at there and left there. That reaches the first hundred to-device events that wait. The event of
    /// a room that no sync has brought yet has no push actions.
    ///
    /// # Errors
    ///
    /// [`Error::Decryption`] with the reason why it cannot be read, and [`Advice::on`] says what to do:
    /// with [`Advice::Wait`] show that there is a message, and have the application sync.
    /// [`Error::NotJoined`] if this user may not see the event, or when the server or a store fails.
    ///
    /// [`Advice::on`]: crate::Advice::on
    /// [`Advice::Wait`]: crate::Advice::Wait
    pub async fn notification_event(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<TimelineEvent, Error> {
        let mut event = self.fetch(room_id, event_id).await?;
        if is_undecrypted(&event) {
            // The machine knows what is missing since it has tried.
            Box::pin(self.engine.pump()).await?;
            event = self.fetch(room_id, event_id).await?;
        }
        if is_undecrypted(&event) {
            Box::pin(self.engine.take_waiting_welcomes(room_id)).await?;
            event = self.fetch(room_id, event_id).await?;
        }
        if is_undecrypted(&event) {
            self.engine.decrypt(room_id, event.raw()).await?;
        }
        Ok(event)
    }

    async fn fetch(&self, room_id: &RoomId, event_id: &EventId) -> Result<TimelineEvent, Error> {
        match self.get_room(room_id) {
            Some(room) if room.state() == RoomState::Joined => {
                Ok(room.event(event_id, None).await?)
            }
            // It may wait for a sync, too, that this user is in the room.
            _ => self.engine.fetch(room_id, event_id).await,
        }
    }

    /// As the SDK's, and ends everything that runs for MLS: the tasks, the send queues and the streams.
    /// The same happens when this device is logged out in any other way, as soon as the server says
    /// so. [`Error::NotLoggedIn`] is what all that needs the machine gives from then on.
    ///
    /// What is stored stays. The stores are this device's, and refused to any other: make the client
    /// for the next login on another directory, or delete this one once all clients and rooms on it
    /// are dropped.
    ///
    /// # Errors
    ///
    /// As the SDK's; then nothing has ended.
    pub async fn logout(&self) -> matrix_sdk::Result<()> {
        Box::pin(self.engine.sdk.logout()).await?;
        self.engine.end().await;
        Ok(())
    }

    /// As the SDK's, and what the sync has brought has reached the MLS machine when this returns.
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn sync_once(
        &self,
        settings: SyncSettings,
    ) -> matrix_sdk::Result<matrix_sdk::sync::SyncResponse> {
        let response = Box::pin(self.engine.sdk.sync_once(settings)).await?;
        self.engine.flush().await;
        Ok(response)
    }

    /// As the SDK's.
    pub fn get_room(&self, room_id: &RoomId) -> Option<Room> {
        self.engine.sdk.get_room(room_id).map(|room| self.room(room))
    }

    /// As the SDK's.
    pub fn rooms(&self) -> Vec<Room> {
        self.all(self.engine.sdk.rooms())
    }

    /// As the SDK's.
    pub fn joined_rooms(&self) -> Vec<Room> {
        self.all(self.engine.sdk.joined_rooms())
    }

    /// As the SDK's.
    pub fn invited_rooms(&self) -> Vec<Room> {
        self.all(self.engine.sdk.invited_rooms())
    }

    /// As the SDK's.
    pub fn left_rooms(&self) -> Vec<Room> {
        self.all(self.engine.sdk.left_rooms())
    }

    /// As the SDK's.
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn join_room_by_id(&self, room_id: &RoomId) -> matrix_sdk::Result<Room> {
        let room = Box::pin(self.engine.sdk.join_room_by_id(room_id)).await?;
        Ok(self.room(room))
    }

    /// As the SDK's.
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn join_room_by_id_or_alias(
        &self,
        alias: &RoomOrAliasId,
        servers: &[OwnedServerName],
    ) -> matrix_sdk::Result<Room> {
        let room = Box::pin(self.engine.sdk.join_room_by_id_or_alias(alias, servers)).await?;
        Ok(self.room(room))
    }

    /// As the SDK's. If the request's initial state has an `m.room.encryption` event that names the
    /// algorithm of MLS rooms, or any at all with [`NewRooms::Mls`], the room is an MLS room.
    ///
    /// # Errors
    ///
    /// As the SDK's, and those of [`Client::create_mls_room`].
    pub async fn create_room(&self, request: create_room::v3::Request) -> matrix_sdk::Result<Room> {
        let algorithm = request.initial_state.iter().find_map(algorithm_of);
        let wants_mls = match &algorithm {
            Some(algorithm) => algorithm == ALGORITHM || self.engine.new_rooms == NewRooms::Mls,
            None => false,
        };
        if wants_mls {
            return Ok(self.create_mls_room(request).await?);
        }
        let room = Box::pin(self.engine.sdk.create_room(request)).await?;
        Ok(self.room(room))
    }

    /// Creates an MLS room; whatever the request says of encryption is replaced. Its group is founded
    /// when the first message is sent.
    ///
    /// # Errors
    ///
    /// When the server refuses, or the store fails.
    pub async fn create_mls_room(
        &self,
        mut request: create_room::v3::Request,
    ) -> Result<Room, Error> {
        make_mls_room(&mut request)?;
        let room = self.room(Box::pin(self.engine.sdk.create_room(request)).await?);
        // Before anybody can send: the SDK does not know yet that the room is encrypted.
        self.engine.complete(room.room_id()).await?;
        Ok(room)
    }

    /// As the SDK's. With [`NewRooms::Mls`] the room is an MLS room.
    ///
    /// # Errors
    ///
    /// As [`Client::create_room`].
    pub async fn create_dm(&self, user_id: &UserId) -> matrix_sdk::Result<Room> {
        if self.engine.new_rooms != NewRooms::Mls {
            let room = Box::pin(self.engine.sdk.create_dm(user_id)).await?;
            return Ok(self.room(room));
        }
        let mut request = create_room::v3::Request::new();
        request.invite = vec![user_id.to_owned()];
        request.is_direct = true;
        request.preset = Some(create_room::v3::RoomPreset::TrustedPrivateChat);
        Ok(self.create_mls_room(request).await?)
    }

    /// As the SDK's.
    pub fn get_dm_room(&self, user_id: &UserId) -> Option<Room> {
        self.engine.sdk.get_dm_room(user_id).map(|room| self.room(room))
    }

    /// One of the SDK's rooms, of this client, as one that may be an MLS room.
    pub fn room(&self, room: matrix_sdk::Room) -> Room {
        Room { sdk: room, engine: Arc::clone(&self.engine) }
    }

    fn all(&self, rooms: Vec<matrix_sdk::Room>) -> Vec<Room> {
        rooms.into_iter().map(|room| self.room(room)).collect()
    }
}

/// Whether it is a message of an MLS room that could not be read.
fn is_undecrypted(event: &TimelineEvent) -> bool {
    event.encryption_info().is_none() && bridge::is_message(event.raw())
}

/// The algorithm that an initial state event turns on; empty if it names none.
fn algorithm_of(event: &Raw<AnyInitialStateEvent>) -> Option<String> {
    if event.get_field::<String>("type").ok()?? != "m.room.encryption" {
        return None;
    }
    let content = event.get_field::<serde_json::Value>("content").ok().flatten();
    let algorithm = content.as_ref().and_then(|content| content.get("algorithm"));
    Some(algorithm.and_then(|name| name.as_str()).unwrap_or_default().to_owned())
}

impl Deref for Client {
    type Target = matrix_sdk::Client;

    fn deref(&self) -> &matrix_sdk::Client {
        &self.engine.sdk
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("user_id", &self.engine.sdk.user_id())
            .finish_non_exhaustive()
    }
}
