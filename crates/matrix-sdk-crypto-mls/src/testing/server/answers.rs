//! Requests, answered well or badly.

use matrix_sdk_crypto::types::requests::AnyOutgoingRequest as OlmRequest;
use ruma::{
    OwnedEventId, OwnedTransactionId, TransactionId,
    api::client::{
        authenticated_media::get_content,
        keys::{claim_keys, get_keys, upload_keys, upload_signatures},
        media::create_content,
        message::{get_message_events, send_message_event},
        room::get_room_event,
        state::send_state_event,
        to_device::send_event_to_device,
    },
    events::StaticEventContent as _,
};
use serde_json::Value;

use super::{
    super::{
        SentMessage, SimSync,
        remote::{Homeserver, Request, Response},
    },
    Device, DeviceName, SimServer,
};
use crate::types::{
    events::{
        ToDeviceCommitRequestEventContent, ToDeviceGraphEventContent,
        ToDeviceKeyAnswerEventContent, ToDeviceKeyRequestEventContent,
    },
    requests::{AnyIncomingResponse, AnyOutgoingRequest, OutgoingRequest},
};

/// The requests of an `MlsMachine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Key packages go up.
    KeysUpload,
    /// Others' key packages come down.
    KeysClaim,
    /// Welcomes.
    ToDevice,
    /// A request for commits.
    CommitRequest,
    /// The answer to one.
    Graph,
    /// A request for epoch keys.
    KeyRequest,
    /// The answer to one.
    KeyAnswer,
    /// A commit.
    Commit,
    /// Which group is the room's.
    GroupState,
    /// A missing event.
    GetEvent,
    /// A page of a room's commits.
    GetMessages,
    /// A file goes up.
    Upload,
    /// A file comes down.
    Download,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server answers 403.
    Refused,
    /// It never reaches the server.
    RequestLost,
    /// The server does it, but its answer gets lost.
    ResponseLost,
    /// The server does it, but its answer comes only with
    /// [`super::super::SimDevice::gets_late_answers`].
    Late,
}

/// A response to an `MlsMachine`'s request.
#[derive(Clone, Debug)]
pub enum SimResponse {
    /// To `POST /keys/upload`.
    KeysUpload(upload_keys::v3::Response),
    /// To `POST /keys/claim`.
    KeysClaim(claim_keys::v3::Response),
    /// To `PUT /sendToDevice`.
    ToDevice(send_event_to_device::v3::Response),
    /// To `PUT /rooms/{}/send`.
    RoomMessage(send_message_event::v3::Response),
    /// To `PUT /rooms/{}/state`.
    RoomState(send_state_event::v3::Response),
    /// To `GET /rooms/{}/event/{}`.
    RoomEvent(get_room_event::v3::Response),
    /// To `GET /rooms/{}/messages`.
    RoomMessages(get_message_events::v3::Response),
    /// To `POST /media/v3/upload`.
    MediaUpload(create_content::v3::Response),
    /// To `GET /media/download`.
    MediaDownload(get_content::v1::Response),
}

impl<'a> From<&'a SimResponse> for AnyIncomingResponse<'a> {
    fn from(response: &'a SimResponse) -> Self {
        match response {
            SimResponse::KeysUpload(response) => response.into(),
            SimResponse::KeysClaim(response) => response.into(),
            SimResponse::ToDevice(response) => response.into(),
            SimResponse::RoomMessage(response) => response.into(),
            SimResponse::RoomState(response) => response.into(),
            SimResponse::RoomEvent(response) => response.into(),
            SimResponse::RoomMessages(response) => response.into(),
            SimResponse::MediaUpload(response) => response.into(),
            SimResponse::MediaDownload(response) => response.into(),
        }
    }
}

/// What comes of a request.
pub(in super::super) enum Answer {
    Done(SimResponse),
    Refused(u16),
    Unknown,
    Late,
}

/// A response to an `OlmMachine`'s request.
pub(in super::super) enum OlmAnswer {
    KeysUpload(upload_keys::v3::Response),
    KeysQuery(get_keys::v3::Response),
    KeysClaim(claim_keys::v3::Response),
    ToDevice(send_event_to_device::v3::Response),
    SignatureUpload(upload_signatures::v3::Response),
}

impl SimServer {
    /// A device logs in.
    pub fn adds_device(&self, name: &DeviceName) {
        let mut state = self.state();
        state.devices.insert(name.clone(), Device::default());
        state.show_rooms(name);
    }

    /// Lets the next request of a kind from a device go wrong. Several such wishes are fulfilled in
    /// turn.
    pub fn next_goes_wrong(&self, by: &DeviceName, kind: RequestKind, fault: Fault) {
        self.state().device(by).faults.push_back((kind, fault));
    }

    /// What was to go wrong with a device's requests, and has not yet, does not.
    pub fn nothing_goes_wrong_any_more(&self, by: &DeviceName) {
        self.state().device(by).faults.clear();
    }

    /// The requests of an `MlsMachine` that have reached the server.
    pub fn requests_of(&self, by: &DeviceName) -> Vec<(RequestKind, OwnedTransactionId)> {
        self.state().device(by).requests.clone()
    }

    pub(in super::super) fn take_late(
        &self,
        by: &DeviceName,
    ) -> Vec<(OwnedTransactionId, SimResponse)> {
        std::mem::take(&mut self.state().device(by).late)
    }

    /// Answers an `OlmMachine`, whose request has come over a line; `None` if the answer gets lost.
    pub(in super::super) fn answer_request(
        &self,
        by: &DeviceName,
        request: Request,
    ) -> Option<Response> {
        let answer = match request {
            Request::KeysUpload { device_keys, one_time_keys, fallback_keys } => {
                let mut request = upload_keys::v3::Request::new();
                request.device_keys = device_keys;
                request.one_time_keys = one_time_keys;
                request.fallback_keys = fallback_keys;
                OlmAnswer::KeysUpload(self.upload_keys(by, &request))
            }
            Request::KeysQuery(users) => OlmAnswer::KeysQuery(self.query_keys(by, &users)?),
            Request::KeysClaim(keys) => OlmAnswer::KeysClaim(self.claim_keys(by, &keys)),
            Request::ToDevice { event_type, txn_id, messages } => {
                self.send_to_device(by, &event_type, &txn_id, &messages);
                OlmAnswer::ToDevice(send_event_to_device::v3::Response::new())
            }
            Request::SignatureUpload => {
                OlmAnswer::SignatureUpload(upload_signatures::v3::Response::new())
            }
            _ => panic!("not an OlmMachine's request"),
        };
        Some(answer.into())
    }

    /// Answers an `MlsMachine`.
    pub(in super::super) fn answer(&self, by: &DeviceName, request: &OutgoingRequest) -> Answer {
        let kind = RequestKind::of(request.request());
        let fault = {
            let mut state = self.state();
            let faults = &mut state.device(by).faults;
            let at = faults.iter().position(|(of, _)| *of == kind);
            at.and_then(|at| faults.remove(at)).map(|(_, fault)| fault)
        };
        match fault {
            Some(Fault::Refused) => return Answer::Refused(403),
            Some(Fault::RequestLost) => return Answer::Unknown,
            _ => {}
        }
        self.state().device(by).requests.push((kind, request.request_id().to_owned()));
        match (self.does(by, request.request()), fault) {
            (Err(status), _) => Answer::Refused(status),
            (Ok(_), Some(Fault::ResponseLost)) => Answer::Unknown,
            (Ok(response), Some(Fault::Late)) => {
                let late = (request.request_id().to_owned(), response);
                self.state().device(by).late.push(late);
                Answer::Late
            }
            (Ok(response), _) => Answer::Done(response),
        }
    }

    fn does(&self, by: &DeviceName, request: &AnyOutgoingRequest) -> Result<SimResponse, u16> {
        Ok(match request {
            AnyOutgoingRequest::KeysUpload(request) => {
                SimResponse::KeysUpload(self.upload_keys(by, request))
            }
            AnyOutgoingRequest::KeysClaim(request) => {
                SimResponse::KeysClaim(self.claim_keys(by, &request.one_time_keys))
            }
            AnyOutgoingRequest::ToDevice(request) => {
                let event_type = request.event_type.to_string();
                self.send_to_device(by, &event_type, &request.txn_id, &request.messages);
                SimResponse::ToDevice(send_event_to_device::v3::Response::new())
            }
            AnyOutgoingRequest::RoomMessage(request) => {
                let content: Value =
                    request.body.deserialize_as_unchecked().map_err(|_| 400_u16)?;
                let event_type = request.event_type.to_string();
                let event_id =
                    self.send_event(by, &request.room_id, &event_type, &request.txn_id, content)?;
                SimResponse::RoomMessage(send_message_event::v3::Response::new(event_id))
            }
            AnyOutgoingRequest::RoomState(request) => {
                let content: Value =
                    request.body.deserialize_as_unchecked().map_err(|_| 400_u16)?;
                let event_type = request.event_type.to_string();
                let event_id = self.send_state(
                    &by.0,
                    &request.room_id,
                    &event_type,
                    &request.state_key,
                    content,
                )?;
                SimResponse::RoomState(send_state_event::v3::Response::new(event_id))
            }
            AnyOutgoingRequest::RoomEvent(request) => {
                let event = self.get_event(by, &request.room_id, &request.event_id)?;
                SimResponse::RoomEvent(get_room_event::v3::Response::new(event))
            }
            AnyOutgoingRequest::RoomMessages(request) => {
                SimResponse::RoomMessages(self.get_messages(by, request)?)
            }
            AnyOutgoingRequest::MediaUpload(request) => {
                SimResponse::MediaUpload(self.upload_media(request.file.clone())?)
            }
            AnyOutgoingRequest::MediaDownload(request) => {
                SimResponse::MediaDownload(self.download_media(request)?)
            }
        })
    }
}

impl Homeserver for SimServer {
    fn answer_olm(&self, by: &DeviceName, request: &OlmRequest) -> Option<OlmAnswer> {
        // In-room verification is nothing to these tests.
        let request = Request::of_olm(request)?;
        self.answer_request(by, request).map(Response::into_olm)
    }

    fn answer(&self, by: &DeviceName, request: &OutgoingRequest) -> Answer {
        Self::answer(self, by, request)
    }

    fn sync(&self, by: &DeviceName) -> SimSync {
        Self::sync(self, by)
    }

    fn has_synced(&self, _: &DeviceName) {}

    fn send_message(
        &self,
        by: &DeviceName,
        message: SentMessage,
        content: Value,
    ) -> Result<OwnedEventId, u16> {
        let txn_id = TransactionId::new();
        let event_id =
            self.send_event(by, &message.room_id, "m.room.encrypted", &txn_id, content)?;
        self.note_sent(SentMessage { event_id: event_id.clone(), ..message });
        Ok(event_id)
    }
}

impl RequestKind {
    fn of(request: &AnyOutgoingRequest) -> Self {
        match request {
            AnyOutgoingRequest::KeysUpload(_) => Self::KeysUpload,
            AnyOutgoingRequest::KeysClaim(_) => Self::KeysClaim,
            AnyOutgoingRequest::ToDevice(request) => {
                match request.event_type.to_string().as_str() {
                    ToDeviceCommitRequestEventContent::TYPE => Self::CommitRequest,
                    ToDeviceGraphEventContent::TYPE => Self::Graph,
                    ToDeviceKeyRequestEventContent::TYPE => Self::KeyRequest,
                    ToDeviceKeyAnswerEventContent::TYPE => Self::KeyAnswer,
                    _ => Self::ToDevice,
                }
            }
            AnyOutgoingRequest::RoomMessage(_) => Self::Commit,
            AnyOutgoingRequest::RoomState(_) => Self::GroupState,
            AnyOutgoingRequest::RoomEvent(_) => Self::GetEvent,
            AnyOutgoingRequest::RoomMessages(_) => Self::GetMessages,
            AnyOutgoingRequest::MediaUpload(_) => Self::Upload,
            AnyOutgoingRequest::MediaDownload(_) => Self::Download,
        }
    }
}
