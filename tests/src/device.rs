//! One logged-in device: its machine, its rooms, and what it can do in them.

use std::{collections::BTreeMap, fmt};

use matrix_sdk_crypto::{DecryptionSettings, OlmMachine, TrustRequirement};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, TransactionId, UserId,
    api::client::{
        filter::FilterDefinition,
        membership::{
            ban_user, get_member_events,
            invite_user::{self, v3::InviteUserId},
            join_room_by_id, kick_user, leave_room,
        },
        message::{get_message_events, send_message_event},
        redact::redact_event,
        room::{create_room, get_room_event},
        state::send_state_event,
    },
    events::{AnyTimelineEvent, room::member::MembershipState},
    serde::Raw,
};
use serde::Serialize;

use crate::{
    account::Session,
    error::DriverError,
    http::HttpClient,
    room::{Members, RoomOptions, RoomState, raw},
};

/// A device and its Olm machine. Everything is public: a second machine beside `olm` uses `http`,
/// and what [`process_sync`](Self::process_sync) returns.
pub struct Device {
    /// Sends as this device.
    pub http: HttpClient,
    /// Device keys, Olm sessions, trust.
    pub olm: OlmMachine,
    /// Who this is.
    pub session: Session,
    /// Where the next sync goes on from.
    pub sync_token: Option<String>,
    /// What each sync asks for; lower `room.timeline.limit` to get limited timelines.
    pub sync_filter: FilterDefinition,
    /// Whose to-device messages and room keys the Olm machine takes.
    pub decryption_settings: DecryptionSettings,
    /// The rooms that were seen, left ones included.
    pub rooms: BTreeMap<OwnedRoomId, RoomState>,
}

impl Device {
    /// A device with a new Olm machine, in memory. Nothing is sent; the first [`pump`](Self::pump)
    /// uploads its keys.
    pub async fn new(http: &HttpClient, session: Session) -> Self {
        let olm = OlmMachine::new(&session.user_id, &session.device_id).await;
        Self::with_machine(http, session, olm)
    }

    /// A device with a machine of its own kind, for instance one with a persistent store.
    pub fn with_machine(http: &HttpClient, session: Session, olm: OlmMachine) -> Self {
        Self {
            http: http.with_token(session.access_token.clone()),
            olm,
            session,
            sync_token: None,
            sync_filter: FilterDefinition::default(),
            decryption_settings: DecryptionSettings {
                sender_device_trust_requirement: TrustRequirement::Untrusted,
            },
            rooms: BTreeMap::new(),
        }
    }

    /// The user.
    pub fn user_id(&self) -> &UserId {
        &self.session.user_id
    }

    /// What was seen of a room, if it was seen.
    pub fn room(&self, room: &RoomId) -> Option<&RoomState> {
        self.rooms.get(room)
    }

    /// Makes a room.
    pub async fn create_room(&self, options: RoomOptions) -> Result<OwnedRoomId, DriverError> {
        let request: create_room::v3::Request = options.into_request()?;
        Ok(self.http.send(request).await?.room_id)
    }

    /// Invites a user.
    pub async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), DriverError> {
        let recipient = InviteUserId::new(user.to_owned()).into();
        self.http.send(invite_user::v3::Request::new(room.to_owned(), recipient)).await?;
        Ok(())
    }

    /// Joins a room by its identifier.
    pub async fn join(&self, room: &RoomId) -> Result<(), DriverError> {
        self.http.send(join_room_by_id::v3::Request::new(room.to_owned())).await?;
        Ok(())
    }

    /// Leaves a room, or declines an invitation.
    pub async fn leave(&self, room: &RoomId) -> Result<(), DriverError> {
        self.http.send(leave_room::v3::Request::new(room.to_owned())).await?;
        Ok(())
    }

    /// Removes a user from a room.
    pub async fn kick(&self, room: &RoomId, user: &UserId) -> Result<(), DriverError> {
        self.http.send(kick_user::v3::Request::new(room.to_owned(), user.to_owned())).await?;
        Ok(())
    }

    /// Removes a user from a room for good.
    pub async fn ban(&self, room: &RoomId, user: &UserId) -> Result<(), DriverError> {
        self.http.send(ban_user::v3::Request::new(room.to_owned(), user.to_owned())).await?;
        Ok(())
    }

    /// Sends a message-like event with any content, a [`Raw`] or a JSON value. The server takes one
    /// event for each `txn`.
    pub async fn send_event(
        &self,
        room: &RoomId,
        event_type: &str,
        content: &(impl Serialize + ?Sized),
        txn: &TransactionId,
    ) -> Result<OwnedEventId, DriverError> {
        let request = send_message_event::v3::Request::new_raw(
            room.to_owned(),
            txn.to_owned(),
            event_type.into(),
            raw(content)?,
        );
        Ok(self.http.send(request).await?.event_id)
    }

    /// Sets a state event with any content.
    pub async fn send_state(
        &self,
        room: &RoomId,
        event_type: &str,
        state_key: &str,
        content: &(impl Serialize + ?Sized),
    ) -> Result<OwnedEventId, DriverError> {
        let request = send_state_event::v3::Request::new_raw(
            room.to_owned(),
            event_type.into(),
            state_key.to_owned(),
            raw(content)?,
        );
        Ok(self.http.send(request).await?.event_id)
    }

    /// Has the server take an event's content away.
    pub async fn redact(&self, room: &RoomId, event: &EventId) -> Result<(), DriverError> {
        let txn = TransactionId::new();
        let request = redact_event::v3::Request::new(room.to_owned(), event.to_owned(), txn);
        self.http.send(request).await?;
        Ok(())
    }

    /// Fetches one event.
    pub async fn get_event(
        &self,
        room: &RoomId,
        event: &EventId,
    ) -> Result<Raw<AnyTimelineEvent>, DriverError> {
        let request = get_room_event::v3::Request::new(room.to_owned(), event.to_owned());
        Ok(self.http.send(request).await?.event)
    }

    /// Fetches a part of a room's history. The request says which: `Request::backward(room)`, with
    /// `from`, `to`, `limit` and `filter`.
    pub async fn messages(
        &self,
        request: get_message_events::v3::Request,
    ) -> Result<get_message_events::v3::Response, DriverError> {
        Ok(self.http.send(request).await?)
    }

    /// Asks the server who is in a room now.
    pub async fn members(&self, room: &RoomId) -> Result<Members, DriverError> {
        let mut request = get_member_events::v3::Request::new(room.to_owned());
        request.not_membership = Some(MembershipState::Leave);
        let mut members = Members::default();
        for event in self.http.send(request).await?.chunk {
            let user = event.get_field::<OwnedUserId>("state_key")?;
            let event = event.deserialize()?;
            if let Some(user) = user {
                members.insert(user, event.membership());
            }
        }
        Ok(members)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("session", &self.session)
            .field("sync_token", &self.sync_token)
            .finish_non_exhaustive()
    }
}
