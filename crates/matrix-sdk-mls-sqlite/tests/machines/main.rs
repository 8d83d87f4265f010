//! Whole machines on this store: killed at every write, and with every write failing. Whatever happens
//! to one device, in the end the story is the same as without it.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod device;
mod faults;
mod kill;
mod story;
