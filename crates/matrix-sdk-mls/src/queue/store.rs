//! Where the queues are kept: with the SDK's state, which encrypts it.

use ruma::{OwnedRoomId, RoomId};
use tokio::sync::MutexGuard;

use super::{Queue, Request, Waiting};
use crate::{engine::Engine, error::Error};

/// The rooms in which something waits.
const INDEX: &str = "io.github.matrix-mls.send_queue";

fn key(room_id: &RoomId) -> String {
    format!("{INDEX} {room_id}")
}

impl Engine {
    /// Looks at a queue.
    pub(super) async fn look<T>(
        &self,
        queue: &Queue,
        look: impl FnOnce(&mut Waiting) -> T,
    ) -> Result<T, Error> {
        let mut guard = queue.waiting.lock().await;
        Ok(look(self.load(queue, &mut guard).await?))
    }

    /// Changes a queue, and stores it. If that fails nothing has changed.
    pub(super) async fn change(
        &self,
        queue: &Queue,
        change: impl FnOnce(&mut Waiting),
    ) -> Result<(), Error> {
        let mut guard = queue.waiting.lock().await;
        let waiting = self.load(queue, &mut guard).await?;
        let before = waiting.requests.clone();
        change(waiting);
        let saved = self.save(&queue.room_id, &waiting.requests).await;
        if saved.is_err() {
            waiting.requests = before;
        }
        saved
    }

    async fn load<'a>(
        &self,
        queue: &Queue,
        guard: &'a mut MutexGuard<'_, Option<Waiting>>,
    ) -> Result<&'a mut Waiting, Error> {
        if guard.is_none() {
            let store = self.sdk.state_store();
            let stored = store.get_custom_value(key(&queue.room_id).as_bytes()).await;
            let requests = match stored.map_err(matrix_sdk::Error::from)? {
                Some(bytes) => serde_json::from_slice(&bytes)?,
                None => Vec::new(),
            };
            **guard = Some(Waiting { requests, sending: None });
        }
        Ok(guard.get_or_insert_default())
    }

    async fn save(&self, room_id: &RoomId, requests: &[Request]) -> Result<(), Error> {
        let store = self.sdk.state_store();
        let key = key(room_id);
        if requests.is_empty() {
            store.remove_custom_value(key.as_bytes()).await.map_err(matrix_sdk::Error::from)?;
            return self.list(room_id, false).await;
        }
        // First the list: a room in it without a queue does no harm.
        self.list(room_id, true).await?;
        let bytes = serde_json::to_vec(requests)?;
        let saved = store.set_custom_value_no_read(key.as_bytes(), bytes).await;
        Ok(saved.map_err(matrix_sdk::Error::from)?)
    }

    /// Puts a room on the list, or takes it off.
    async fn list(&self, room_id: &RoomId, is_waiting: bool) -> Result<(), Error> {
        let _one_at_a_time = self.queues.index.lock().await;
        let mut rooms = self.rooms_with_queues().await?;
        if rooms.iter().any(|listed| listed == room_id) == is_waiting {
            return Ok(());
        }
        rooms.retain(|listed| listed != room_id);
        if is_waiting {
            rooms.push(room_id.to_owned());
        }
        let store = self.sdk.state_store();
        let saved = store.set_custom_value_no_read(INDEX.as_bytes(), serde_json::to_vec(&rooms)?);
        Ok(saved.await.map_err(matrix_sdk::Error::from)?)
    }

    pub(super) async fn rooms_with_queues(&self) -> Result<Vec<OwnedRoomId>, Error> {
        let stored = self.sdk.state_store().get_custom_value(INDEX.as_bytes()).await;
        match stored.map_err(matrix_sdk::Error::from)? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
            None => Ok(Vec::new()),
        }
    }
}
