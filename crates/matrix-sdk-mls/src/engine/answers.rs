//! One of the machine's requests, and the answer to it.

use std::fmt;

use matrix_sdk::{HttpError, HttpResult, config::RequestConfig};
use matrix_sdk_crypto_mls::{
    AnyIncomingResponse, AnyOutgoingRequest, MlsError, MlsMachine, OutgoingRequest, RequestFailure,
};
use ruma::TransactionId;
use tracing::warn;

use super::Engine;
use crate::error::Error;

impl Engine {
    /// Sends a request, and gives the answer to the machine. An error if nobody knows whether it has
    /// arrived: the machine repeats it.
    pub(super) async fn answer(
        &self,
        machine: &MlsMachine,
        outgoing: OutgoingRequest,
    ) -> Result<(), Error> {
        let id = outgoing.request_id();
        // The machine repeats by itself what has failed, so the SDK need not for long.
        let config = RequestConfig::short_retry();
        macro_rules! send {
            ($request:expr) => {{
                let request = self.sdk.send($request.clone()).with_request_config(config);
                give(machine, id, request.await).await
            }};
        }
        match outgoing.request() {
            AnyOutgoingRequest::KeysUpload(request) => send!(request),
            AnyOutgoingRequest::KeysClaim(request) => send!(request),
            AnyOutgoingRequest::ToDevice(request) => send!(request),
            AnyOutgoingRequest::RoomMessage(request) => send!(request),
            AnyOutgoingRequest::RoomState(request) => send!(request),
            AnyOutgoingRequest::RoomEvent(request) => send!(request),
            AnyOutgoingRequest::RoomMessages(request) => send!(request),
            AnyOutgoingRequest::MediaUpload(request) => send!(request),
            AnyOutgoingRequest::MediaDownload(request) => send!(request),
            request => {
                warn!("A request of a kind that is not known: {request:?}");
                Ok(machine.mark_request_as_failed(id, RequestFailure::Unknown).await?)
            }
        }
    }
}

async fn give<R>(
    machine: &MlsMachine,
    id: &TransactionId,
    result: HttpResult<R>,
) -> Result<(), Error>
where
    R: fmt::Debug,
    for<'a> AnyIncomingResponse<'a>: From<&'a R>,
{
    let answered = match result {
        Ok(response) => Box::pin(machine.mark_request_as_sent(id, &response)).await,
        Err(error) => {
            let failure = failure(&error);
            match Box::pin(machine.mark_request_as_failed(id, failure)).await {
                // It was given up with another one: a commit with two files, of which one was refused.
                Ok(()) | Err(MlsError::UnknownRequest) => {}
                Err(error) => return Err(error.into()),
            }
            if failure == RequestFailure::Refused {
                warn!("The server refuses a request: {error}");
                return Ok(());
            }
            return Err(error.into());
        }
    };
    match answered {
        // A sync was faster, or another process.
        Err(MlsError::UnknownRequest) => Ok(()),
        answered => Ok(answered?),
    }
}

fn failure(error: &HttpError) -> RequestFailure {
    let status = error.as_client_api_error().map(|error| error.status_code.as_u16());
    status.map_or(RequestFailure::Unknown, RequestFailure::from_status)
}
