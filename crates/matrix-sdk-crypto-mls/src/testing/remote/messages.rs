//! What goes over the line: requests and responses with the fields that the simulation looks at.

use std::collections::BTreeMap;

use matrix_sdk_crypto::types::requests::AnyOutgoingRequest as OlmRequest;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedEventId, OwnedMxcUri, OwnedOneTimeKeyId, OwnedRoomId,
    OwnedTransactionId, OwnedUserId, UInt,
    api::client::{
        authenticated_media::get_content,
        keys::{claim_keys, get_keys, upload_keys, upload_signatures},
        media::create_content,
        message::{get_message_events, send_message_event},
        room::get_room_event,
        state::send_state_event,
        to_device::send_event_to_device,
    },
    encryption::{DeviceKeys, OneTimeKey},
    events::{
        AnyMessageLikeEventContent, AnyStateEventContent, AnyTimelineEvent, AnyToDeviceEventContent,
    },
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};

use super::super::{
    SentMessage, SimResponse, SimSync,
    server::{OlmAnswer, media_response},
};
use crate::types::requests::{AnyOutgoingRequest, OutgoingRequest};

type OneTimeKeys = BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>;
type ByDevice<T> = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, T>>;

/// From the device.
#[derive(Serialize, Deserialize)]
pub(super) enum Call {
    Olm(Request),
    Mls(OwnedTransactionId, Request),
    Sync { since: u64 },
    Message(Box<SentMessage>, serde_json::Value),
}

/// To the device.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Olm(Option<Response>),
    Done(Response),
    Refused(u16),
    Unknown,
    Late,
    Sync(Box<SimSync>),
    Sent(Result<OwnedEventId, u16>),
}

#[derive(Serialize, Deserialize)]
pub(in super::super) enum Request {
    KeysUpload {
        device_keys: Option<Raw<DeviceKeys>>,
        one_time_keys: OneTimeKeys,
        fallback_keys: OneTimeKeys,
    },
    KeysQuery(BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>),
    KeysClaim(ByDevice<OneTimeKeyAlgorithm>),
    ToDevice {
        event_type: String,
        txn_id: OwnedTransactionId,
        messages:
            BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>,
    },
    SignatureUpload,
    RoomMessage {
        room_id: OwnedRoomId,
        event_type: String,
        txn_id: OwnedTransactionId,
        content: Raw<AnyMessageLikeEventContent>,
    },
    RoomState {
        room_id: OwnedRoomId,
        event_type: String,
        state_key: String,
        content: Raw<AnyStateEventContent>,
    },
    RoomEvent {
        room_id: OwnedRoomId,
        event_id: OwnedEventId,
    },
    RoomMessages {
        room_id: OwnedRoomId,
        from: Option<String>,
        limit: UInt,
        types: Option<Vec<String>>,
    },
    MediaUpload(Vec<u8>),
    MediaDownload(OwnedMxcUri),
}

#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Response {
    KeysUpload(BTreeMap<OneTimeKeyAlgorithm, UInt>),
    KeysQuery(ByDevice<Raw<DeviceKeys>>),
    KeysClaim(ByDevice<OneTimeKeys>),
    ToDevice,
    SignatureUpload,
    RoomMessage(OwnedEventId),
    RoomState(OwnedEventId),
    RoomEvent(Raw<AnyTimelineEvent>),
    RoomMessages { start: String, end: Option<String>, chunk: Vec<Raw<AnyTimelineEvent>> },
    MediaUpload(OwnedMxcUri),
    MediaDownload(Vec<u8>),
}

impl From<&upload_keys::v3::Request> for Request {
    fn from(request: &upload_keys::v3::Request) -> Self {
        Self::KeysUpload {
            device_keys: request.device_keys.clone(),
            one_time_keys: request.one_time_keys.clone(),
            fallback_keys: request.fallback_keys.clone(),
        }
    }
}

impl Request {
    /// `None` for what the server does not answer.
    pub(in super::super) fn of_olm(request: &OlmRequest) -> Option<Self> {
        Some(match request {
            OlmRequest::KeysUpload(request) => request.into(),
            OlmRequest::KeysQuery(request) => Self::KeysQuery(request.device_keys.clone()),
            OlmRequest::KeysClaim(request) => Self::KeysClaim(request.one_time_keys.clone()),
            OlmRequest::ToDeviceRequest(request) => Self::ToDevice {
                event_type: request.event_type.to_string(),
                txn_id: request.txn_id.clone(),
                messages: request.messages.clone(),
            },
            OlmRequest::SignatureUpload(_) => Self::SignatureUpload,
            OlmRequest::RoomMessage(_) => return None,
        })
    }

    pub(super) fn of_mls(request: &AnyOutgoingRequest) -> Self {
        match request {
            AnyOutgoingRequest::KeysUpload(request) => request.into(),
            AnyOutgoingRequest::KeysClaim(request) => {
                Self::KeysClaim(request.one_time_keys.clone())
            }
            AnyOutgoingRequest::ToDevice(request) => Self::ToDevice {
                event_type: request.event_type.to_string(),
                txn_id: request.txn_id.clone(),
                messages: request.messages.clone(),
            },
            AnyOutgoingRequest::RoomMessage(request) => Self::RoomMessage {
                room_id: request.room_id.clone(),
                event_type: request.event_type.to_string(),
                txn_id: request.txn_id.clone(),
                content: request.body.clone(),
            },
            AnyOutgoingRequest::RoomState(request) => Self::RoomState {
                room_id: request.room_id.clone(),
                event_type: request.event_type.to_string(),
                state_key: request.state_key.clone(),
                content: request.body.clone(),
            },
            AnyOutgoingRequest::RoomEvent(request) => Self::RoomEvent {
                room_id: request.room_id.clone(),
                event_id: request.event_id.clone(),
            },
            AnyOutgoingRequest::RoomMessages(request) => Self::RoomMessages {
                room_id: request.room_id.clone(),
                from: request.from.clone(),
                limit: request.limit,
                types: request.filter.types.clone(),
            },
            AnyOutgoingRequest::MediaUpload(request) => Self::MediaUpload(request.file.clone()),
            AnyOutgoingRequest::MediaDownload(request) => Self::MediaDownload(
                format!("mxc://{}/{}", request.server_name, request.media_id).into(),
            ),
        }
    }

    /// As the `MlsMachine` has made it.
    pub(super) fn into_mls(self, request_id: OwnedTransactionId) -> OutgoingRequest {
        let request = match self {
            Self::KeysUpload { device_keys, one_time_keys, fallback_keys } => {
                let mut request = upload_keys::v3::Request::new();
                request.device_keys = device_keys;
                request.one_time_keys = one_time_keys;
                request.fallback_keys = fallback_keys;
                AnyOutgoingRequest::KeysUpload(request)
            }
            Self::KeysClaim(keys) => {
                AnyOutgoingRequest::KeysClaim(claim_keys::v3::Request::new(keys))
            }
            Self::ToDevice { event_type, txn_id, messages } => {
                let event_type = event_type.into();
                let request =
                    send_event_to_device::v3::Request::new_raw(event_type, txn_id, messages);
                AnyOutgoingRequest::ToDevice(request)
            }
            Self::RoomMessage { room_id, event_type, txn_id, content } => {
                let event_type = event_type.into();
                let request =
                    send_message_event::v3::Request::new_raw(room_id, txn_id, event_type, content);
                AnyOutgoingRequest::RoomMessage(request)
            }
            Self::RoomState { room_id, event_type, state_key, content } => {
                let event_type = event_type.into();
                let request =
                    send_state_event::v3::Request::new_raw(room_id, event_type, state_key, content);
                AnyOutgoingRequest::RoomState(request)
            }
            Self::RoomEvent { room_id, event_id } => {
                AnyOutgoingRequest::RoomEvent(get_room_event::v3::Request::new(room_id, event_id))
            }
            Self::RoomMessages { room_id, from, limit, types } => {
                let mut request = get_message_events::v3::Request::backward(room_id).from(from);
                request.limit = limit;
                request.filter.types = types;
                AnyOutgoingRequest::RoomMessages(request)
            }
            Self::MediaUpload(file) => {
                AnyOutgoingRequest::MediaUpload(create_content::v3::Request::new(file))
            }
            Self::MediaDownload(uri) => AnyOutgoingRequest::MediaDownload(
                get_content::v1::Request::from_uri(&uri).expect("it was one"),
            ),
            Self::KeysQuery(_) | Self::SignatureUpload => panic!("not an MlsMachine's request"),
        };
        OutgoingRequest { request_id, room_id: None, request }
    }
}

impl From<SimResponse> for Response {
    fn from(response: SimResponse) -> Self {
        match response {
            SimResponse::KeysUpload(response) => Self::KeysUpload(response.one_time_key_counts),
            SimResponse::KeysClaim(response) => Self::KeysClaim(response.one_time_keys),
            SimResponse::ToDevice(_) => Self::ToDevice,
            SimResponse::RoomMessage(response) => Self::RoomMessage(response.event_id),
            SimResponse::RoomState(response) => Self::RoomState(response.event_id),
            SimResponse::RoomEvent(response) => Self::RoomEvent(response.event),
            SimResponse::RoomMessages(response) => Self::RoomMessages {
                start: response.start,
                end: response.end,
                chunk: response.chunk,
            },
            SimResponse::MediaUpload(response) => Self::MediaUpload(response.content_uri),
            SimResponse::MediaDownload(response) => Self::MediaDownload(response.file),
        }
    }
}

impl Response {
    pub(super) fn into_mls(self) -> SimResponse {
        match self {
            Self::KeysUpload(counts) => {
                SimResponse::KeysUpload(upload_keys::v3::Response::new(counts))
            }
            Self::KeysClaim(keys) => SimResponse::KeysClaim(claim_keys::v3::Response::new(keys)),
            Self::ToDevice => SimResponse::ToDevice(send_event_to_device::v3::Response::new()),
            Self::RoomMessage(event_id) => {
                SimResponse::RoomMessage(send_message_event::v3::Response::new(event_id))
            }
            Self::RoomState(event_id) => {
                SimResponse::RoomState(send_state_event::v3::Response::new(event_id))
            }
            Self::RoomEvent(event) => {
                SimResponse::RoomEvent(get_room_event::v3::Response::new(event))
            }
            Self::RoomMessages { start, end, chunk } => {
                let mut response = get_message_events::v3::Response::new();
                (response.start, response.end, response.chunk) = (start, end, chunk);
                SimResponse::RoomMessages(response)
            }
            Self::MediaUpload(uri) => {
                SimResponse::MediaUpload(create_content::v3::Response::new(uri))
            }
            Self::MediaDownload(file) => SimResponse::MediaDownload(media_response(file)),
            Self::KeysQuery(_) | Self::SignatureUpload => panic!("not for an MlsMachine"),
        }
    }

    pub(in super::super) fn into_olm(self) -> OlmAnswer {
        match self {
            Self::KeysUpload(counts) => {
                OlmAnswer::KeysUpload(upload_keys::v3::Response::new(counts))
            }
            Self::KeysQuery(keys) => {
                let mut response = get_keys::v3::Response::new();
                response.device_keys = keys;
                OlmAnswer::KeysQuery(response)
            }
            Self::KeysClaim(keys) => OlmAnswer::KeysClaim(claim_keys::v3::Response::new(keys)),
            Self::ToDevice => OlmAnswer::ToDevice(send_event_to_device::v3::Response::new()),
            Self::SignatureUpload => {
                OlmAnswer::SignatureUpload(upload_signatures::v3::Response::new())
            }
            _ => panic!("not for an OlmMachine"),
        }
    }
}

impl From<OlmAnswer> for Response {
    fn from(answer: OlmAnswer) -> Self {
        match answer {
            OlmAnswer::KeysUpload(response) => Self::KeysUpload(response.one_time_key_counts),
            OlmAnswer::KeysQuery(response) => Self::KeysQuery(response.device_keys),
            OlmAnswer::KeysClaim(response) => Self::KeysClaim(response.one_time_keys),
            OlmAnswer::ToDevice(_) => Self::ToDevice,
            OlmAnswer::SignatureUpload(_) => Self::SignatureUpload,
        }
    }
}
