//! Applications on matrix-sdk with MLS rooms, on a real homeserver. Every test has users and a room of
//! its own.

// What tests have in common is a test too, although it is not marked as one.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

mod cold_start;
mod events;
mod lies;
mod more;
mod queue;
mod session;
mod support;
mod syncs;
mod talking;
mod timeline;
