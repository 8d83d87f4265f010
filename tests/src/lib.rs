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
//!
//! The second machine is there already: an [`MlsDevice`] is a [`Device`] that speaks MLS, and a
//! [`User`] is somebody with several of them.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use matrix_mls_tests::{DriverError, HttpClient, RoomOptions, User};
//! # async fn talk(http: &HttpClient) -> Result<(), DriverError> {
//! let mut alice = User::register(http, "alice", 2).await?;
//! let mut bob = User::register(http, "bob", 1).await?;
//! let room = alice.first().create_room(RoomOptions::mls().with_invite(bob.id())).await?;
//! bob.first().join(&room).await?;
//!
//! alice.first().sync(Duration::ZERO).await?;
//! let sent = alice.first().say(&room, "hello").await?;
//! let received = bob.first().wait_for(&room, &sent.event_id).await?;
//! assert_eq!(received.body().as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! Devices keep everything in memory, or both machines' stores in a [`Home`] on disk
//! ([`User::register_on_disk`]): such a one can be stopped and started again.

mod account;
mod device;
mod endpoint;
mod error;
mod federation;
mod home;
mod http;
mod liar;
mod link;
mod mls_device;
mod outgoing;
mod room;
mod sync;
mod trust;
mod user;
mod wire_log;

pub use self::{
    account::{Account, Session},
    device::Device,
    endpoint::{Authentication, EndpointPath},
    error::{DriverError, HttpError, LinkError},
    federation::Federation,
    home::Home,
    http::HttpClient,
    liar::{Exchange, Liar},
    link::{Link, Side},
    mls_device::{MlsDevice, Sent, StoppedDevice, TimelineEvent, come_together},
    room::{Members, RoomOptions, RoomState},
    sync::{RoomUpdate, SyncUpdate},
    user::{StoppedUser, User},
    wire_log::{WireCount, WireLog},
};
