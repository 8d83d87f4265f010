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
use crate::{encryption_info, error::Error};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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

    async fn send_with(
        &self,
        event_type: &str,
        content: Raw<AnyMessageLikeEventContent>,
        options: Options,
    ) -> matrix_sdk::Result<SendMessageLikeEventResult> {
        let Options { transaction_id, config } = options;
        if !self.is_mls().await? {
            let mut future = self.sdk.send_raw(event_type, content);
            if let Some(id) = &transaction_id {
                future = future.with_transaction_id(id);
            }
            if let Some(config) = config {
                future = future.with_request_config(config);
            }
            return future.await;
        }
        if self.sdk.state() != RoomState::Joined {
            return Err(Error::NotJoined(self.sdk.room_id().to_owned()).into());
        }
        let transaction_id = transaction_id.unwrap_or_else(TransactionId::new);
        let room_id = self.sdk.room_id();
        let engine = &self.engine;
        let sent = engine.send(room_id, event_type, &content, transaction_id, config);
        let response = Box::pin(sent).await?;
        let own = encryption_info::own(&engine.olm().await?);
        Ok(SendMessageLikeEventResult { response, encryption_info: Some(own) })
    }
}

#[derive(Default)]
struct Options {
    transaction_id: Option<OwnedTransactionId>,
    config: Option<RequestConfig>,
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
            room.send_with(&event_type, content, options).await
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
        Box::pin(async move { room.send_with(event_type, content, options).await })
    }
}

impl fmt::Debug for SendRawMessageLikeEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SendRawMessageLikeEvent");
        debug.field("event_type", &self.event_type).finish_non_exhaustive()
    }
}
