#![doc = include_str!("../README.md")]

mod chunks;
mod cipher;
mod codec;
mod config;
mod connection;
mod error;
mod hook;
mod inspect;
mod known;
mod lease;
mod ledger;
mod load;
mod pack;
mod right_of_way;
mod rows;
mod save;
mod schema;
mod seal;
mod store;
mod table;
mod transaction;

#[cfg(feature = "testing")]
pub use crate::hook::{WriteHook, WritePoint};
pub use crate::{
    config::SqliteMlsStoreConfig,
    error::OpenStoreError,
    inspect::{Inspection, Problem, RoomInspection},
    store::SqliteMlsStore,
};
