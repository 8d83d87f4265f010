//! A send queue for rooms that may be MLS rooms, of the same shape as the SDK's, which cannot be used
//! there.
//!
//! Events of a room are sent in the order in which they were given, one after the other. They are
//! stored before anything else is done with them, and keep their transaction ID, so each is in the
//! room once, whatever happens.

mod store;
mod task;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex as StdMutex, Weak},
};

use matrix_sdk::utils::IntoRawMessageLikeEventContent;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedTransactionId, RoomId, TransactionId,
    events::{AnyMessageLikeEventContent, MessageLikeEventContent},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::sync::{Mutex, Notify, broadcast};
use tracing::warn;

use crate::{
    engine::{Engine, lock},
    error::Error,
};

/// This many updates wait for each of those who listen; the oldest go first.
const UPDATES: usize = 256;

/// An event that waits to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    transaction_id: OwnedTransactionId,
    event_type: String,
    content: Raw<AnyMessageLikeEventContent>,
    /// Why it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wedged: Option<String>,
}

/// All rooms' queues.
#[derive(Default)]
pub(crate) struct Queues {
    rooms: StdMutex<BTreeMap<OwnedRoomId, Arc<Queue>>>,
    /// Held while the list of rooms with waiting events is changed.
    index: Mutex<()>,
}

/// One room's queue.
struct Queue {
    room_id: OwnedRoomId,
    /// `None` until it was loaded.
    waiting: Mutex<Option<Waiting>>,
    wake: Notify,
    updates: broadcast::Sender<RoomSendQueueUpdate>,
    enabled: StdMutex<bool>,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    /// What is being sent, and so cannot be taken back.
    sending: Option<OwnedTransactionId>,
}

/// A room's send queue; see [`Room::mls_send_queue`](crate::Room::mls_send_queue). Cheap to clone.
#[derive(Clone)]
pub struct RoomSendQueue {
    engine: Weak<Engine>,
    queue: Arc<Queue>,
}

/// An event that waits to be sent, for the application to show.
#[derive(Clone, Debug)]
pub struct LocalEcho {
    /// Its transaction ID, by which the event is known when it comes back in a sync.
    pub transaction_id: OwnedTransactionId,
    /// Its type.
    pub event_type: String,
    /// Its content, not encrypted.
    pub content: Raw<AnyMessageLikeEventContent>,
    /// Why it was given up, if it was. Retry or abort it.
    pub wedged: Option<String>,
    /// To take it back, or to try again.
    pub send_handle: SendHandle,
}

/// Something has happened in a room's send queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RoomSendQueueUpdate {
    /// There is another event.
    NewLocalEvent(LocalEcho),
    /// The event was taken back.
    CancelledLocalEvent {
        /// Which one.
        transaction_id: OwnedTransactionId,
    },
    /// The event could not be sent.
    SendError {
        /// Which one.
        transaction_id: OwnedTransactionId,
        /// Why.
        error: Arc<matrix_sdk::Error>,
        /// Whether the queue tries again by itself, and the others wait. If not, the event stays
        /// where it is until it is retried or aborted, and those after it are sent.
        is_recoverable: bool,
    },
    /// An event that was given up is tried again.
    RetryEvent {
        /// Which one.
        transaction_id: OwnedTransactionId,
    },
    /// The server has the event.
    SentEvent {
        /// Which one.
        transaction_id: OwnedTransactionId,
        /// The event.
        event_id: OwnedEventId,
    },
}

/// An event that was given to a send queue.
#[derive(Clone)]
pub struct SendHandle {
    room: RoomSendQueue,
    transaction_id: OwnedTransactionId,
}

impl RoomSendQueue {
    pub(crate) fn of(engine: &Engine, room_id: &RoomId) -> Self {
        let mut rooms = lock(&engine.queues.rooms);
        let queue = rooms.entry(room_id.to_owned()).or_insert_with(|| {
            let queue = Arc::new(Queue {
                room_id: room_id.to_owned(),
                waiting: Mutex::default(),
                wake: Notify::new(),
                updates: broadcast::Sender::new(UPDATES),
                enabled: StdMutex::new(true),
            });
            engine.spawn(task::run(engine.weak(), Arc::clone(&queue)));
            queue
        });
        Self { engine: engine.weak(), queue: Arc::clone(queue) }
    }

    /// Queues an event. It is stored when this returns, and sent when its turn has come.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn send(&self, content: impl MessageLikeEventContent) -> Result<SendHandle, Error> {
        let event_type = content.event_type().to_string();
        self.push(event_type, Raw::from_json(to_raw_value(&content)?)).await
    }

    /// The same, with the content as JSON.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn send_raw(
        &self,
        content: impl IntoRawMessageLikeEventContent,
        event_type: String,
    ) -> Result<SendHandle, Error> {
        self.push(event_type, content.into_raw_message_like_event_content()).await
    }

    async fn push(
        &self,
        event_type: String,
        content: Raw<AnyMessageLikeEventContent>,
    ) -> Result<SendHandle, Error> {
        let engine = self.engine()?;
        let transaction_id = TransactionId::new();
        let request = Request { transaction_id, event_type, content, wedged: None };
        let echo = self.echo(&request);
        let handle = echo.send_handle.clone();
        engine.change(&self.queue, |waiting| waiting.requests.push(request)).await?;
        self.publish(RoomSendQueueUpdate::NewLocalEvent(echo));
        self.queue.wake.notify_one();
        Ok(handle)
    }

    /// What waits, in order, and what happens from now on.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn subscribe(
        &self,
    ) -> Result<(Vec<LocalEcho>, broadcast::Receiver<RoomSendQueueUpdate>), Error> {
        let engine = self.engine()?;
        let mut echoes = Vec::new();
        let updates = self.queue.updates.subscribe();
        engine
            .look(&self.queue, |waiting| {
                echoes = waiting.requests.iter().map(|request| self.echo(request)).collect();
            })
            .await?;
        Ok((echoes, updates))
    }

    /// Whether events are sent, as they are unless that was turned off.
    pub fn is_enabled(&self) -> bool {
        *lock(&self.queue.enabled)
    }

    /// Turns sending off, or on again. What is given to the queue meanwhile waits. Turn it on when
    /// there is a network again: then the queue does not wait until it would try by itself.
    pub fn set_enabled(&self, enabled: bool) {
        *lock(&self.queue.enabled) = enabled;
        self.queue.wake.notify_one();
    }

    fn engine(&self) -> Result<Arc<Engine>, Error> {
        self.engine.upgrade().filter(|engine| !engine.has_ended()).ok_or(Error::NotLoggedIn)
    }

    fn echo(&self, request: &Request) -> LocalEcho {
        let Request { transaction_id, event_type, content, wedged } = request.clone();
        let room = self.clone();
        let send_handle = SendHandle { room, transaction_id: transaction_id.clone() };
        LocalEcho { transaction_id, event_type, content, wedged, send_handle }
    }

    fn publish(&self, update: RoomSendQueueUpdate) {
        // Nobody need listen.
        self.queue.updates.send(update).ok();
    }
}

impl SendHandle {
    /// The event's transaction ID.
    pub fn transaction_id(&self) -> &TransactionId {
        &self.transaction_id
    }

    /// Takes the event back, if it was not sent and is not being sent; whether it was.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn abort(&self) -> Result<bool, Error> {
        let mut aborted = false;
        let engine = self.room.engine()?;
        engine
            .change(&self.room.queue, |waiting| {
                if waiting.sending.as_ref() != Some(&self.transaction_id) {
                    let before = waiting.requests.len();
                    waiting.requests.retain(|it| it.transaction_id != self.transaction_id);
                    aborted = waiting.requests.len() < before;
                }
            })
            .await?;
        if aborted {
            let transaction_id = self.transaction_id.clone();
            self.room.publish(RoomSendQueueUpdate::CancelledLocalEvent { transaction_id });
        }
        Ok(aborted)
    }

    /// Tries an event again that was given up.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn unwedge(&self) -> Result<(), Error> {
        let mut retried = false;
        let engine = self.room.engine()?;
        engine
            .change(&self.room.queue, |waiting| {
                let requests = waiting.requests.iter_mut();
                for request in requests.filter(|it| it.transaction_id == self.transaction_id) {
                    retried = request.wedged.take().is_some();
                }
            })
            .await?;
        if retried {
            let transaction_id = self.transaction_id.clone();
            self.room.publish(RoomSendQueueUpdate::RetryEvent { transaction_id });
            self.room.queue.wake.notify_one();
        }
        Ok(())
    }
}

impl Engine {
    /// Goes on with what an earlier process has left.
    pub(crate) async fn resume_queues(&self) {
        match self.rooms_with_queues().await {
            Ok(rooms) => rooms.iter().for_each(|room_id| drop(RoomSendQueue::of(self, room_id))),
            Err(error) => warn!("The send queues could not be loaded: {error}"),
        }
    }
}

impl fmt::Debug for RoomSendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RoomSendQueue");
        debug.field("room_id", &self.queue.room_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for SendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SendHandle");
        debug.field("transaction_id", &self.transaction_id).finish_non_exhaustive()
    }
}
