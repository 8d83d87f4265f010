#![doc = include_str!("../README.md")]

// The project's front page has an example too; it is compiled here.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct FrontPage;

mod clock;
mod create_room;
mod error;
mod machine;
mod notice;
pub mod room;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod trust;
pub mod types;

pub use matrix_dmls as dmls;

pub use crate::{
    clock::{Clock, SystemClock},
    create_room::make_mls_room,
    error::{DecryptionError, MlsError},
    machine::{
        DecryptedRoomEvent, EncryptionSyncChanges, GroupStatus, MlsEncryptionInfo, MlsMachine,
        MlsMachineBuilder, RawEncryptionResult, Readiness, ReplacedGroup, RoomSettings,
    },
    notice::{Notice, Obstacle},
    trust::Verdict,
    types::requests::{AnyIncomingResponse, AnyOutgoingRequest, OutgoingRequest, RequestFailure},
};
