#![doc = include_str!("../README.md")]

// The guide's examples are compiled here.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/matrix-sdk.md")]
pub struct Guide;

mod bridge;
mod builder;
mod client;
mod encryption_info;
mod engine;
mod error;
mod event;
mod queue;
mod room;

pub use matrix_sdk;
pub use matrix_sdk_crypto_mls as machine;

pub use crate::{
    builder::{ClientBuilder, NewRooms},
    client::Client,
    engine::MlsMessage,
    error::{BuildError, Error},
    event::{Advice, MlsEvent},
    queue::{LocalEcho, RoomSendQueue, RoomSendQueueUpdate, SendHandle},
    room::{Room, RoomDevice, SendAttachment, SendMessageLikeEvent, SendRawMessageLikeEvent},
};
