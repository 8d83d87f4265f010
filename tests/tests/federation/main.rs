//! MLS rooms on two homeservers that are cut off from one another now and then.

// What tests have in common is a test too, although it is not marked as one.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

mod partition;
mod rooms;
mod soft_failed;
// Not everything in it is needed here.
#[allow(dead_code)]
#[path = "../mls/support.rs"]
mod support;
mod unreachable;
