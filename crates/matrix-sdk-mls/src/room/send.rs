//! Sending.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use matrix_sdk::{
    RoomState, config::RequestConfig, room::futures::SendMessageLikeEventResult,
    utils::IntoRawMessageLikeEventContent,
};
use ruma::{
    OwnedTransactionId, TransactionId,
    events::{AnyMessageLikeEventContent, MessageLikeEventContent},
    serde::Raw,
};
use serde_json::value::to_raw_value;

use super::Room;
use crate::{encryption_info, engine::Engine, error::Error};

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Room {
    /// As the SDK's. In an MLS room the event is encrypted with MLS, reactions too; relations stay in
    /// the clear. The room's group is brought up to date first, for which this may have to wait until
    /// a sync has come.
    pub fn send(&self, content: impl MessageLikeEventContent) -> SendMessageLikeEvent<'_> {
        let event_type = content.event_type().to_string();
        let content = to_raw_value(&content).map(Raw::from_json);
        SendMessageLikeEvent { room: self, event_type, content, options: Options::default() }
    }

    /// As the SDK's; see [`Room::send`].
    pub fn send_raw<'a>(
        &'a self,
        event_type: &'a str,
        content: impl IntoRawMessageLikeEventContent,
    ) -> SendRawMessageLikeEvent<'a> {
        let content = content.into_raw_message_like_event_content();
        SendRawMessageLikeEvent { room: self, event_type, content, options: Options::default() }
    }
}

/// How an event is sent.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) transaction_id: Option<OwnedTransactionId>,
    pub(crate) config: Option<RequestConfig>,
}

impl Engine {
    /// Sends an event to any room: with MLS to an MLS room, or not at all.
    pub(crate) async fn send_to(
        &self,
        room: &matrix_sdk::Room,
        event_type: &str,
        content: Raw<AnyMessageLikeEventContent>,
        options: Options,
    ) -> matrix_sdk::Result<SendMessageLikeEventResult> {
        let Options { transaction_id, config } = options;
        let room_id = room.room_id();
        if !self.is_mls(room_id).await? {
            let mut future = room.send_raw(event_type, content);
            if let Some(id) = &transaction_id {
                future = future.with_transaction_id(id);
            }
            if let Some(config) = config {
                future = future.with_request_config(config);
            }
            return future.await;
        }
        if room.state() != RoomState::Joined {
            return Err(Error::NotJoined(room_id.to_owned()).into());
        }
        let transaction_id = transaction_id.unwrap_or_else(TransactionId::new);
        let sent = self.send(room_id, event_type, &content, transaction_id, config);
        let response = Box::pin(sent).await?;
        let own = encryption_info::own(&self.olm().await?);
        Ok(SendMessageLikeEventResult { response, encryption_info: Some(own) })
    }
}

/// What [`Room::send`] returns; await it.
#[must_use]
pub struct SendMessageLikeEvent<'a> {
    room: &'a Room,
    event_type: String,
    content: serde_json::Result<Raw<AnyMessageLikeEventContent>>,
    options: Options,
}

impl SendMessageLikeEvent<'_> {
    /// The transaction ID; a new one unless set. With the same one the event is sent once only.
    pub fn with_transaction_id(mut self, transaction_id: OwnedTransactionId) -> Self {
        self.options.transaction_id = Some(transaction_id);
        self
    }

    /// How the request behaves.
    pub fn with_request_config(mut self, config: RequestConfig) -> Self {
        self.options.config = Some(config);
        self
    }
}

impl<'a> IntoFuture for SendMessageLikeEvent<'a> {
    type Output = matrix_sdk::Result<SendMessageLikeEventResult>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { room, event_type, content, options } = self;
        Box::pin(async move {
            let content = content.map_err(Error::Json)?;
            room.engine.send_to(&room.sdk, &event_type, content, options).await
        })
    }
}

impl fmt::Debug for SendMessageLikeEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SendMessageLikeEvent");
        debug.field("event_type", &self.event_type).finish_non_exhaustive()
    }
}

/// What [`Room::send_raw`] returns; await it.
#[must_use]
pub struct SendRawMessageLikeEvent<'a> {
    room: &'a Room,
    event_type: &'a str,
    content: Raw<AnyMessageLikeEventContent>,
    options: Options,
}

impl SendRawMessageLikeEvent<'_> {
    /// The transaction ID; a new one unless set. With the same one the event is sent once only.
    pub fn with_transaction_id(mut self, transaction_id: &TransactionId) -> Self {
        self.options.transaction_id = Some(transaction_id.to_owned());
        self
    }

    /// How the request behaves.
    pub fn with_request_config(mut self, config: RequestConfig) -> Self {
        self.options.config = Some(config);
        self
    }
}

impl<'a> IntoFuture for SendRawMessageLikeEvent<'a> {
    type Output = matrix_sdk::Result<SendMessageLikeEventResult>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { room, event_type, content, options } = self;
        Box::pin(async move { room.engine.send_to(&room.sdk, event_type, content, options).await })
    }
}

impl fmt::Debug for SendRawMessageLikeEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SendRawMessageLikeEvent");
        debug.field("event_type", &self.event_type).finish_non_exhaustive()
    }
}
