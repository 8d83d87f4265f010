//! Getting a room ready, and sending to it.

use std::time::{Duration, Instant};

use matrix_sdk::config::RequestConfig;
use matrix_sdk_crypto_mls::{MlsError, RawEncryptionResult, Readiness};
use ruma::{
    OwnedTransactionId, RoomId, api::client::message::send_message_event,
    events::AnyMessageLikeEventContent, serde::Raw,
};
use tracing::debug;

use super::Engine;
use crate::error::Error;

/// How long a room may take to become ready: somebody who is in the group may have to let us in.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it is waited for something to come before the machine is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Rounds of requests without a wait in between: key queries, claims, commits.
const ROUNDS: usize = 20;

/// How often a room that was ready may turn out not to be before a message is given up.
const ATTEMPTS: usize = 20;

impl Engine {
    /// Gets the room ready to be sent to.
    pub(crate) async fn get_ready(&self, room_id: &RoomId) -> Result<Readiness, Error> {
        let begin = Instant::now();
        let mut rounds = 0;
        loop {
            let mut progress = self.progress.subscribe();
            self.ensure_complete(room_id).await?;
            let machine = self.machine().await?;
            match Box::pin(machine.prepare_room(room_id)).await? {
                ready @ Readiness::Ready { .. } => {
                    Box::pin(self.tell_of_readiness(&machine, room_id, ready.clone())).await?;
                    return Ok(ready);
                }
                Readiness::NeedsRequests if rounds < ROUNDS => rounds += 1,
                readiness => {
                    debug!(%room_id, ?readiness, "Waiting for the room to become ready");
                    rounds = 0;
                    progress.mark_unchanged();
                    tokio::time::timeout(PAUSE, progress.changed()).await.ok();
                }
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::NeverReady(room_id.to_owned()));
            }
            self.query_keys().await?;
            Box::pin(self.pump()).await?;
        }
    }

    async fn encrypt(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: &Raw<AnyMessageLikeEventContent>,
    ) -> Result<RawEncryptionResult, Error> {
        for _ in 0..ATTEMPTS {
            self.get_ready(room_id).await?;
            let machine = self.machine().await?;
            match Box::pin(machine.encrypt_room_event_raw(room_id, event_type, content)).await {
                // Something has come in between.
                Err(MlsError::NotReady(_)) => {}
                encrypted => return Ok(encrypted?),
            }
        }
        Err(Error::NeverReady(room_id.to_owned()))
    }

    /// Encrypts an event and sends it.
    pub(crate) async fn send(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: &Raw<AnyMessageLikeEventContent>,
        transaction_id: OwnedTransactionId,
        config: Option<RequestConfig>,
    ) -> Result<send_message_event::v3::Response, Error> {
        let encrypted = Box::pin(self.encrypt(room_id, event_type, content)).await?;
        let request = send_message_event::v3::Request::new_raw(
            room_id.to_owned(),
            transaction_id,
            "m.room.encrypted".into(),
            encrypted.content.cast_unchecked(),
        );
        Ok(self.sdk.send(request).with_request_config(config).await?)
    }
}
