//! A homeserver in memory and devices on it, for tests: of this crate, of stores, and of applications.
//!
//! A [`SimServer`] does what the Client-Server API does for the endpoints that the machines use:
//! keys, to-device messages, rooms with memberships, power levels and history visibility, and a sync
//! per device. It also does what real ones do on bad days: answers get lost or come late, to-device
//! messages are doubled or swapped, events arrive at one device long after the others, two halves of
//! the network do not see one another. A [`SimDevice`] is an `OlmMachine` with an `MlsMachine`
//! beside it, and its methods read as what a person does: `alice.invites(&bob)`.
//!
//! Time is a [`TestClock`]. What happens is a function of the calls and of the server's seed, except
//! for the keys that the machines make.
//!
//! Everything here panics when something is not as it should be, so that a test fails where it
//! happens; methods that begin with `tries_to` give the error instead.

// For tests only, and there a panic is the report.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used
)]

mod clock;
mod device;
mod insider;
mod remote;
mod rng;
mod server;
mod store;

pub use self::{
    clock::TestClock,
    device::{Reading, SimDevice, SimDeviceBuilder, SimError},
    insider::{ForgedCommit, Insider},
    remote::{RemoteServer, SimLink},
    rng::SimRng,
    server::{
        DeviceName, Fault, RequestKind, RoomOptions, SentMessage, SimEvent, SimResponse,
        SimRoomSync, SimServer, SimSync,
    },
    store::FaultyStore,
};
