//! Reading events that do not come with a sync.

use matrix_sdk::{
    config::RequestConfig,
    deserialized_responses::{DecryptedRoomEvent, TimelineEvent, TimelineEventKind},
    room::{Messages, MessagesOptions},
};
use matrix_sdk_crypto_mls::DecryptionError;
use ruma::{EventId, events::AnySyncTimelineEvent, serde::Raw};
use tracing::debug;

use super::Room;
use crate::{bridge, encryption_info, error::Error};

impl Room {
    /// As the SDK's, with the messages of an MLS room decrypted. One that cannot be read stays as it
    /// came, of the kind [`TimelineEventKind::PlainText`]; [`Room::decrypt_mls_event`] says why.
    ///
    /// # Errors
    ///
    /// As the SDK's.
    pub async fn messages(&self, options: MessagesOptions) -> matrix_sdk::Result<Messages> {
        let mut messages = Box::pin(self.sdk.messages(options)).await?;
        if self.is_mls().await? {
            for event in &mut messages.chunk {
                self.decrypt_in_place(event).await?;
            }
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
        let mut event = Box::pin(self.sdk.event(event_id, config)).await?;
        if self.is_mls().await? {
            self.decrypt_in_place(&mut event).await?;
        }
        Ok(event)
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
        let machine = self.engine.machine().await?;
        let decrypted = Box::pin(machine.decrypt_room_event(event, self.sdk.room_id())).await?;
        let info = encryption_info::of(machine.olm_machine(), &decrypted.encryption_info).await?;
        Ok(DecryptedRoomEvent {
            event: decrypted.event,
            encryption_info: info,
            unsigned_encryption_info: None,
        })
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
