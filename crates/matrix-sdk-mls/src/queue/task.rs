//! Sending what waits.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use matrix_sdk::config::RequestConfig;
use matrix_sdk_crypto_mls::MlsError;
use tracing::warn;

use super::{Queue, Request, RoomSendQueueUpdate};
use crate::{
    engine::{Engine, lock},
    error::Error,
    room::Options,
};

/// How long the queue waits after a failure before it tries again; twice as long each time.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What to do after an event was tried.
enum Next {
    GoOn,
    /// Nothing is to be sent now.
    Rest,
    TryLater,
}

pub(super) async fn run(engine: Weak<Engine>, queue: Arc<Queue>) {
    let mut pause = PAUSE;
    loop {
        let Some(strong) = engine.upgrade() else { return };
        let next = match Box::pin(strong.send_next(&queue)).await {
            Ok(next) => next,
            Err(error) => {
                warn!(room_id = %queue.room_id, "The send queue has failed: {error}");
                Next::TryLater
            }
        };
        drop(strong);
        match next {
            Next::GoOn => pause = PAUSE,
            Next::Rest => {
                pause = PAUSE;
                queue.wake.notified().await;
            }
            Next::TryLater => {
                tokio::time::timeout(pause, queue.wake.notified()).await.ok();
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Engine {
    /// Sends the first event that waits.
    async fn send_next(&self, queue: &Queue) -> Result<Next, Error> {
        if !*lock(&queue.enabled) {
            return Ok(Next::Rest);
        }
        let request = self
            .look(queue, |waiting| {
                let request = waiting.requests.iter().find(|it| it.wedged.is_none()).cloned();
                waiting.sending = request.as_ref().map(|it| it.transaction_id.clone());
                request
            })
            .await?;
        let Some(Request { transaction_id, event_type, content, .. }) = request else {
            return Ok(Next::Rest);
        };
        let result = match self.sdk.get_room(&queue.room_id) {
            Some(room) => {
                let options = Options {
                    transaction_id: Some(transaction_id.clone()),
                    // The queue tries again by itself, and says so.
                    config: Some(RequestConfig::short_retry()),
                };
                Box::pin(self.send_to(&room, &event_type, content, options)).await
            }
            None => Err(Error::NotJoined(queue.room_id.clone()).into()),
        };
        let update = match result {
            Ok(sent) => {
                self.change(queue, |waiting| {
                    waiting.sending = None;
                    waiting.requests.retain(|it| it.transaction_id != transaction_id);
                })
                .await?;
                let event_id = sent.response.event_id;
                RoomSendQueueUpdate::SentEvent { transaction_id, event_id }
            }
            Err(error) => {
                let is_recoverable = is_recoverable(&error);
                self.change(queue, |waiting| {
                    waiting.sending = None;
                    let requests = waiting.requests.iter_mut();
                    for request in requests.filter(|it| it.transaction_id == transaction_id) {
                        request.wedged = (!is_recoverable).then(|| error.to_string());
                    }
                })
                .await?;
                let error = Arc::new(error);
                RoomSendQueueUpdate::SendError { transaction_id, error, is_recoverable }
            }
        };
        let next = match &update {
            RoomSendQueueUpdate::SendError { is_recoverable: true, .. } => Next::TryLater,
            _ => Next::GoOn,
        };
        // Nobody need listen.
        queue.updates.send(update).ok();
        Ok(next)
    }
}

/// Whether it may be different another time, without anybody doing something about it.
fn is_recoverable(error: &matrix_sdk::Error) -> bool {
    match Error::of(error) {
        Some(Error::NeverReady(_)) => true,
        Some(Error::Mls(error)) => matches!(
            error,
            MlsError::Store(_)
                | MlsError::OlmStore(_)
                | MlsError::LeftBehind
                | MlsError::CommitsRefused
                | MlsError::NotReady(_)
        ),
        Some(_) => false,
        None => match error {
            matrix_sdk::Error::Http(error) => {
                let status = error.as_client_api_error().map(|error| error.status_code.as_u16());
                status.is_none_or(|status| matches!(status, 408 | 429 | 500..))
            }
            matrix_sdk::Error::ConcurrentRequestFailed | matrix_sdk::Error::Timeout => true,
            _ => false,
        },
    }
}
