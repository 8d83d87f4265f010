//! The way out of the MLS machine: its requests, sent and answered.

use matrix_sdk_crypto_mls::{
    AnyIncomingResponse, AnyOutgoingRequest, Notice, OutgoingRequest, RequestFailure,
};
use ruma::{TransactionId, api};

use super::MlsDevice;
use crate::{
    endpoint::{Authentication, EndpointPath},
    error::DriverError,
};

/// Rounds of requests that both machines may need to come to rest. Catching up with many commits
/// takes one for each that has to be fetched.
const ROUNDS: usize = 100;

impl MlsDevice {
    /// Sends what both machines want sent, and what they want after the responses, until they want
    /// nothing more. Then decrypts what has become readable.
    ///
    /// What the server refuses is noted in [`refusals`](Self::refusals). When a request may or may
    /// not have arrived, this fails; the machine repeats it at the next call.
    pub async fn pump(&mut self) -> Result<(), DriverError> {
        for _ in 0..ROUNDS {
            self.device.pump().await?;
            let requests = self.mls.outgoing_requests().await?;
            if requests.is_empty() {
                self.take_notices().await?;
                return self.look_again().await;
            }
            for request in &requests {
                self.send_mls_request(request).await?;
            }
        }
        Err(DriverError::PumpDoesNotSettle(ROUNDS))
    }

    /// Sends one of the MLS machine's requests and gives the response back to it.
    pub async fn send_mls_request(
        &mut self,
        outgoing: &OutgoingRequest,
    ) -> Result<(), DriverError> {
        let id = outgoing.request_id();
        match outgoing.request().clone() {
            AnyOutgoingRequest::KeysUpload(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::KeysClaim(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::ToDevice(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::RoomMessage(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::RoomState(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::RoomEvent(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::RoomMessages(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::MediaUpload(request) => self.deliver(id, request).await,
            AnyOutgoingRequest::MediaDownload(request) => self.deliver(id, request).await,
            _ => Err(DriverError::UnknownRequest),
        }
    }

    async fn deliver<R>(&mut self, id: &TransactionId, request: R) -> Result<(), DriverError>
    where
        R: api::OutgoingRequest,
        R::Authentication: Authentication,
        R::PathBuilder: EndpointPath,
        R::IncomingResponse: 'static,
        for<'a> AnyIncomingResponse<'a>: From<&'a R::IncomingResponse>,
    {
        let error = match self.device.http.send(request).await {
            Ok(response) => return Ok(self.mls.mark_request_as_sent(id, &response).await?),
            Err(error) => error,
        };
        let failure = error
            .status()
            .map_or(RequestFailure::Unknown, |status| RequestFailure::from_status(status.as_u16()));
        self.mls.mark_request_as_failed(id, failure).await?;
        if failure != RequestFailure::Refused {
            return Err(error.into());
        }
        self.refusals.push(error);
        Ok(())
    }

    /// Takes what the machine reports, and decrypts again what waited.
    async fn take_notices(&mut self) -> Result<(), DriverError> {
        for notice in self.mls.take_notices() {
            match notice {
                Notice::Readable { room_id, event, .. }
                | Notice::NotReadable { room_id, event, .. } => self.show(&room_id, &event).await?,
                other => self.notices.push(other),
            }
        }
        Ok(())
    }
}
