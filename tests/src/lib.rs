//! A small HTTP driver that runs the sans-I/O machines against a real homeserver.
//!
//! `OlmMachine` and `MlsMachine` only say which requests to send and take the responses.
//! Integration tests and the demo need somebody who sends them: an [`Account`] registers and logs
//! in, a [`Device`] is one logged-in session with its machine and the rooms it saw, an
//! [`HttpClient`] sends ruma's typed requests, and a [`WireLog`] counts what went over the wire.
//!
//! A [`Device`] splits its loop into public steps, so that a second machine can hang into it:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use matrix_mls_tests::{Account, Device, DriverError, HttpClient};
//! # async fn alice() -> Result<(), DriverError> {
//! let http = HttpClient::connect("http://127.0.0.1:8008").await?;
//! let (account, session) = Account::register(&http, "alice").await?;
//! let mut device = Device::new(&http, session).await;
//!
//! // One step …
//! let update = device.sync_once(Duration::ZERO).await?;
//! // … is the same as these three. Another machine takes its share of `update` after `process_sync`.
//! let response = device.sync_raw(Duration::ZERO).await?;
//! let update = device.process_sync(response).await?;
//! device.pump().await?;
//! # Ok(())
//! # }
//! ```

mod account;
mod device;
mod endpoint;
mod error;
mod http;
mod outgoing;
mod room;
mod sync;
mod trust;
mod wire_log;

pub use self::{
    account::{Account, Session},
    device::Device,
    endpoint::{Authentication, EndpointPath},
    error::{DriverError, HttpError},
    http::HttpClient,
    room::{Members, RoomOptions, RoomState},
    sync::{RoomUpdate, SyncUpdate},
    wire_log::{WireCount, WireLog},
};
