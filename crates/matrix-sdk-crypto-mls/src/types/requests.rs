//! The requests that the machine wants sent, and the responses that it wants back: ruma's types
//! throughout, since every endpoint is a standard one.

use ruma::{
    OwnedRoomId, OwnedTransactionId, TransactionId,
    api::client::{
        authenticated_media::get_content,
        keys::{claim_keys, upload_keys},
        media::create_content,
        message::{get_message_events, send_message_event},
        room::get_room_event,
        state::send_state_event,
        to_device::send_event_to_device,
    },
};

/// A request that the application sends as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyOutgoingRequest {
    /// `POST /keys/upload`: key packages.
    KeysUpload(upload_keys::v3::Request),
    /// `POST /keys/claim`: other devices' key packages.
    KeysClaim(claim_keys::v3::Request),
    /// `PUT /sendToDevice`: Welcomes, requests for commits and their answers.
    ToDevice(send_event_to_device::v3::Request),
    /// `PUT /rooms/{}/send`: a commit, our own or another member's that is missing in the room.
    RoomMessage(send_message_event::v3::Request),
    /// `PUT /rooms/{}/state`: which group is the room's.
    RoomState(send_state_event::v3::Request),
    /// `GET /rooms/{}/event/{}`: a commit that is missing here.
    RoomEvent(get_room_event::v3::Request),
    /// `GET /rooms/{}/messages`: commits that are missing here, a page at a time.
    RoomMessages(get_message_events::v3::Request),
    /// `POST /media/v3/upload`: a commit or a ratchet tree that is too large for an event.
    MediaUpload(create_content::v3::Request),
    /// `GET /media/download`: the same. Its `timeout_ms` is the request's default.
    MediaDownload(get_content::v1::Request),
}

/// A request with its ID, under which [`crate::MlsMachine::mark_request_as_sent`] wants the response.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    pub(crate) request_id: OwnedTransactionId,
    pub(crate) room_id: Option<OwnedRoomId>,
    pub(crate) request: AnyOutgoingRequest,
}

impl OutgoingRequest {
    /// The request's ID.
    pub fn request_id(&self) -> &TransactionId {
        &self.request_id
    }

    /// The room that it is for, if it is for one.
    pub fn room_id(&self) -> Option<&ruma::RoomId> {
        self.room_id.as_deref()
    }

    /// What to send.
    pub const fn request(&self) -> &AnyOutgoingRequest {
        &self.request
    }
}

/// The response to an [`AnyOutgoingRequest`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AnyIncomingResponse<'a> {
    /// To `POST /keys/upload`.
    KeysUpload(&'a upload_keys::v3::Response),
    /// To `POST /keys/claim`.
    KeysClaim(&'a claim_keys::v3::Response),
    /// To `PUT /sendToDevice`.
    ToDevice(&'a send_event_to_device::v3::Response),
    /// To `PUT /rooms/{}/send`.
    RoomMessage(&'a send_message_event::v3::Response),
    /// To `PUT /rooms/{}/state`.
    RoomState(&'a send_state_event::v3::Response),
    /// To `GET /rooms/{}/event/{}`.
    RoomEvent(&'a get_room_event::v3::Response),
    /// To `GET /rooms/{}/messages`.
    RoomMessages(&'a get_message_events::v3::Response),
    /// To `POST /media/v3/upload`.
    MediaUpload(&'a create_content::v3::Response),
    /// To `GET /media/download`.
    MediaDownload(&'a get_content::v1::Response),
}

macro_rules! from_response {
    ($($variant:ident($response:ty);)*) => {$(
        impl<'a> From<&'a $response> for AnyIncomingResponse<'a> {
            fn from(response: &'a $response) -> Self {
                Self::$variant(response)
            }
        }
    )*};
}

from_response! {
    KeysUpload(upload_keys::v3::Response);
    KeysClaim(claim_keys::v3::Response);
    ToDevice(send_event_to_device::v3::Response);
    RoomMessage(send_message_event::v3::Response);
    RoomState(send_state_event::v3::Response);
    RoomEvent(get_room_event::v3::Response);
    RoomMessages(get_message_events::v3::Response);
    MediaUpload(create_content::v3::Response);
    MediaDownload(get_content::v1::Response);
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestFailure {
    /// The server has answered that it will not do it (a 4xx other than 408 and 429): asking again
    /// changes nothing.
    Refused,
    /// Nobody knows whether the server did it (no answer, a timeout, a 5xx, too many requests): the
    /// same request stays in [`crate::MlsMachine::outgoing_requests`], under the same transaction ID.
    Unknown,
}

impl RequestFailure {
    /// What an HTTP status means.
    pub const fn from_status(status: u16) -> Self {
        match status {
            408 | 429 => Self::Unknown,
            400..=499 => Self::Refused,
            _ => Self::Unknown,
        }
    }
}
