//! The way out of the Olm machine: its requests, sent and answered.

use matrix_sdk_crypto::types::requests::{
    AnyOutgoingRequest, KeysQueryRequest, OutgoingRequest, RoomMessageRequest, ToDeviceRequest,
};
use ruma::{
    TransactionId, UserId,
    api::client::{
        keys::{get_keys, upload_signatures},
        message::send_message_event,
        to_device::send_event_to_device,
    },
    events::MessageLikeEventContent as _,
};

use crate::{device::Device, error::DriverError, room::raw};

/// Rounds of requests that a machine may need to come to rest. Three are usual: upload keys, query
/// keys, claim keys.
const ROUNDS: usize = 20;

impl Device {
    /// Sends what the Olm machine wants sent, and what it wants after the responses, until it wants
    /// nothing more.
    pub async fn pump(&self) -> Result<(), DriverError> {
        for _ in 0..ROUNDS {
            let requests = self.olm.outgoing_requests().await?;
            if requests.is_empty() {
                return Ok(());
            }
            for request in &requests {
                self.send_outgoing(request).await?;
            }
        }
        Err(DriverError::PumpDoesNotSettle(ROUNDS))
    }

    /// Sends one of the Olm machine's requests and gives the response back to it.
    pub async fn send_outgoing(&self, outgoing: &OutgoingRequest) -> Result<(), DriverError> {
        let id = outgoing.request_id();
        match outgoing.request() {
            AnyOutgoingRequest::KeysUpload(request) => {
                let response = self.http.send(request.clone()).await?;
                self.olm.mark_request_as_sent(id, &response).await?;
            }
            AnyOutgoingRequest::KeysQuery(query) => self.query_keys(id, query.clone()).await?,
            AnyOutgoingRequest::KeysClaim(request) => {
                let response = self.http.send(request.clone()).await?;
                self.olm.mark_request_as_sent(id, &response).await?;
            }
            AnyOutgoingRequest::ToDeviceRequest(request) => self.send_to_device(request).await?,
            AnyOutgoingRequest::SignatureUpload(request) => {
                let response = self.upload_signatures(request.clone()).await?;
                self.olm.mark_request_as_sent(id, &response).await?;
            }
            AnyOutgoingRequest::RoomMessage(message) => {
                let RoomMessageRequest { room_id, txn_id, content } = message.as_ref();
                let request = send_message_event::v3::Request::new_raw(
                    room_id.clone(),
                    txn_id.clone(),
                    content.event_type(),
                    raw(content)?,
                );
                let response = self.http.send(request).await?;
                self.olm.mark_request_as_sent(id, &response).await?;
            }
        }
        Ok(())
    }

    /// Sends to-device messages, one for each recipient in the request, and tells the Olm machine.
    pub async fn send_to_device(&self, request: &ToDeviceRequest) -> Result<(), DriverError> {
        let ToDeviceRequest { event_type, txn_id, messages } = request.clone();
        let response = self
            .http
            .send(send_event_to_device::v3::Request::new_raw(event_type, txn_id, messages))
            .await?;
        Ok(self.olm.mark_request_as_sent(&request.txn_id, &response).await?)
    }

    /// Claims one-time keys so that the Olm machine has a session with each device of these users.
    /// They must be tracked.
    pub async fn open_olm_sessions<'a>(
        &self,
        users: impl IntoIterator<Item = &'a UserId>,
    ) -> Result<(), DriverError> {
        if let Some((id, request)) = self.olm.get_missing_sessions(users.into_iter()).await? {
            let response = self.http.send(request).await?;
            self.olm.mark_request_as_sent(&id, &response).await?;
        }
        Ok(())
    }

    pub(crate) async fn query_keys(
        &self,
        id: &TransactionId,
        query: KeysQueryRequest,
    ) -> Result<(), DriverError> {
        let mut request = get_keys::v3::Request::new();
        request.timeout = query.timeout;
        request.device_keys = query.device_keys;
        let response = self.http.send(request).await?;
        Ok(self.olm.mark_request_as_sent(id, &response).await?)
    }

    pub(crate) async fn upload_signatures(
        &self,
        request: upload_signatures::v3::Request,
    ) -> Result<upload_signatures::v3::Response, DriverError> {
        let response = self.http.send(request).await?;
        if response.failures.is_empty() {
            Ok(response)
        } else {
            Err(DriverError::SignaturesRejected(response.failures))
        }
    }
}
