#![doc = include_str!("../README.md")]

mod clock;
mod error;
mod machine;
mod notice;
pub mod room;
pub mod store;
mod trust;
pub mod types;

pub use matrix_dmls as dmls;

pub use crate::{
    clock::{Clock, SystemClock},
    error::{DecryptionError, MlsError},
    machine::{
        DecryptedRoomEvent, EncryptionSyncChanges, GroupStatus, MlsEncryptionInfo, MlsMachine,
        MlsMachineBuilder, RawEncryptionResult, Readiness, RoomSettings,
    },
    notice::Notice,
    trust::Verdict,
    types::requests::{AnyIncomingResponse, AnyOutgoingRequest, OutgoingRequest, RequestFailure},
};
