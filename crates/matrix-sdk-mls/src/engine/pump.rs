//! From the machine to the server.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, stream};
use matrix_sdk_crypto::types::requests::AnyOutgoingRequest;
use ruma::{RoomId, api::client::keys::get_keys};
use tracing::{debug, warn};

use super::{Engine, lock};
use crate::error::Error;

/// Rounds of requests that the machine may need to come to rest. Catching up with many commits takes
/// one for each that has to be fetched.
const ROUNDS: usize = 100;

/// How many rooms are completed at once.
const AT_ONCE: usize = 8;

/// How long the task rests after a request has failed, unless something comes; twice as long each time.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long it rests if the machine names no time.
const REST: Duration = Duration::from_secs(600);

/// Sends what the machine wants sent, whenever something has come and at the machine's deadlines.
pub(super) async fn run(engine: Weak<Engine>) {
    let mut pause = PAUSE;
    let mut has_session = false;
    let Some(wake) = engine.upgrade().map(|engine| Arc::clone(&engine.wake)) else { return };
    loop {
        let rest = {
            let Some(engine) = engine.upgrade() else { return };
            if !has_session && engine.machine().await.is_ok() {
                has_session = true;
                Box::pin(engine.look_at_all_latches()).await;
                engine.resume_queues().await;
            }
            match Box::pin(engine.tend()).await {
                Ok(rest) => {
                    pause = PAUSE;
                    rest
                }
                Err(Error::NotLoggedIn) => REST,
                Err(error) => {
                    warn!("What the MLS machine wants could not be sent: {error}");
                    let rest = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    rest
                }
            }
        };
        // Nobody holds the engine meanwhile; when it goes, this task is ended.
        tokio::time::timeout(rest, wake.notified()).await.ok();
    }
}

impl Engine {
    /// Everything that is due. How long it can rest afterwards.
    async fn tend(&self) -> Result<Duration, Error> {
        let machine = self.machine().await?;
        let wanted = lock(&self.completeness).wanted();
        // After a start that is every room with news: the server is waited for, not computed with.
        let mut completions: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        for room_id in &wanted {
            completions.push(Box::pin(self.complete_or_forget(room_id)));
        }
        stream::iter(completions).buffer_unordered(AT_ONCE).collect::<()>().await;
        Box::pin(self.refresh_key_counts()).await?;
        Box::pin(self.pump()).await?;
        self.look_at_newcomers().await?;
        Box::pin(self.look_at_readiness(&machine)).await?;
        Ok(machine.next_deadline().map_or(REST, until).min(REST))
    }

    async fn complete_or_forget(&self, room_id: &RoomId) {
        // The room may have been left meanwhile, which is no reason to leave the others.
        if let Err(error) = Box::pin(self.complete(room_id)).await {
            warn!(%room_id, "The room's state could not be asked for: {error}");
            lock(&self.completeness).forget(room_id);
        }
    }

    /// Sends what the machine wants sent, and what it wants after the answers, until it wants
    /// nothing more.
    pub(crate) async fn pump(&self) -> Result<(), Error> {
        let _one_at_a_time = self.pump.lock().await;
        let machine = self.machine().await?;
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            let requests = Box::pin(machine.outgoing_requests()).await?;
            if requests.is_empty() {
                break;
            }
            // One that fails does not hold up the others.
            for request in requests {
                result = result.and(Box::pin(self.answer(&machine, request)).await);
            }
            if result.is_err() {
                break;
            }
        }
        Box::pin(self.take_notices(&machine)).await;
        result
    }

    /// Asks for the device lists that the OlmMachine wants, without waiting for a sync.
    pub(super) async fn query_keys(&self) -> Result<(), Error> {
        let olm = self.olm().await?;
        let requests = olm.outgoing_requests().await.map_err(crypto_store)?;
        for outgoing in requests {
            let AnyOutgoingRequest::KeysQuery(query) = outgoing.request() else { continue };
            debug!("Asking for device lists");
            let mut request = get_keys::v3::Request::new();
            request.timeout = query.timeout;
            request.device_keys = query.device_keys.clone();
            let response = self.sdk.send(request).await?;
            let id = outgoing.request_id();
            olm.mark_request_as_sent(id, &response).await.map_err(matrix_sdk::Error::from)?;
        }
        Ok(())
    }
}

fn crypto_store(error: matrix_sdk_crypto::CryptoStoreError) -> Error {
    matrix_sdk::Error::from(error).into()
}

/// How long it is until a time, in milliseconds since 1970.
fn until(deadline: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline).saturating_sub(now)
}
