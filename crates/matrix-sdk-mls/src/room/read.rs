//! Reading events that do not come with a sync.

use matrix_sdk::{
    config::RequestConfig,
    deserialized_responses::{DecryptedRoomEvent, TimelineEvent, TimelineEventKind},
    room::{Messages, MessagesOptions},
};
use matrix_sdk_crypto_mls::DecryptionError;
use ruma::{
    EventId,
    api::client::{message::get_message_events, room::get_room_event},
    events::AnySyncTimelineEvent,
    serde::Raw,
};
use tracing::debug;

use super::Room;
use crate::{bridge, error::Error};

impl Room {
    /// As the SDK's, with the messages of an MLS room decrypted, and without putting those into the
    /// event cache. One that cannot be read stays as it
    /// came, of the kind [`TimelineEventKind::PlainText`]; [`Room::decrypt_mls_event`] says why.
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn messages(&self, options: MessagesOptions) -> matrix_sdk::Result<Messages> {
        if !self.is_mls().await? {
            return Box::pin(self.sdk.messages(options)).await;
        }
        // Not by the SDK: it would put the events into its cache as they came, also in the place of
        // those that are decrypted there.
        let MessagesOptions { from, to, dir, limit, filter, .. } = options;
        let mut request = get_message_events::v3::Request::new(self.sdk.room_id().to_owned(), dir);
        (request.from, request.to, request.limit, request.filter) = (from, to, limit, filter);
        let response = self.engine.sdk.send(request).await?;
        let mut messages = Messages::default();
        (messages.start, messages.end) = (response.start, response.end);
        messages.state = response.state;
        for event in response.chunk {
            messages.chunk.push(self.decrypted(event.cast()).await?);
        }
        Ok(messages)
    }

    /// As the SDK's, decrypted if it is a message of an MLS room; see [`Room::messages`].
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn event(
        &self,
        event_id: &EventId,
        config: Option<RequestConfig>,
    ) -> matrix_sdk::Result<TimelineEvent> {
        if !self.is_mls().await? {
            return Box::pin(self.sdk.event(event_id, config)).await;
        }
        // Not by the SDK, see above.
        let room_id = self.sdk.room_id().to_owned();
        let request = get_room_event::v3::Request::new(room_id, event_id.to_owned());
        let response = self.engine.sdk.send(request).with_request_config(config).await?;
        Ok(self.decrypted(response.event.cast()).await?)
    }

    /// As the SDK's, decrypted if it is a message of an MLS room; see [`Room::messages`].
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn load_or_fetch_event(
        &self,
        event_id: &EventId,
        config: Option<RequestConfig>,
    ) -> matrix_sdk::Result<TimelineEvent> {
        let mut event = Box::pin(self.sdk.load_or_fetch_event(event_id, config)).await?;
        if self.is_mls().await? {
            self.decrypt_in_place(&mut event).await?;
        }
        Ok(event)
    }

    /// Decrypts a message of an MLS room, or says why it cannot be read.
    ///
    /// # Errors
    ///
    /// [`Error::Decryption`] with the reason, or when a store fails.
    pub async fn decrypt_mls_event(
        &self,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<DecryptedRoomEvent, Error> {
        self.engine.decrypt(self.sdk.room_id(), event).await
    }

    /// An event that has come from the server, decrypted if it is a message.
    async fn decrypted(&self, event: Raw<AnySyncTimelineEvent>) -> Result<TimelineEvent, Error> {
        let is_message = bridge::is_message(&event);
        let mut event = TimelineEvent::from_plaintext(event);
        if is_message {
            self.decrypt_in_place(&mut event).await?;
        } else if let Some(context) = self.sdk.push_context().await? {
            let actions = context.for_event(event.raw()).await;
            event.set_push_actions(actions);
        }
        Ok(event)
    }

    async fn decrypt_in_place(&self, event: &mut TimelineEvent) -> Result<(), Error> {
        let TimelineEventKind::PlainText { event: raw } = &event.kind else { return Ok(()) };
        if !bridge::is_message(raw) {
            return Ok(());
        }
        match self.decrypt_mls_event(raw).await {
            Ok(decrypted) => {
                if let Some(context) = self.sdk.push_context().await? {
                    event.set_push_actions(context.for_event(&decrypted.event).await);
                }
                event.kind = TimelineEventKind::Decrypted(decrypted);
                Ok(())
            }
            Err(Error::Decryption(DecryptionError::Machine(error))) => Err(error.into()),
            Err(Error::Decryption(reason)) => {
                debug!(room_id = %self.sdk.room_id(), "A message cannot be read: {reason}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
