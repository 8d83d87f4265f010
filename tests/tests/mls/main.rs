//! MLS rooms on a real homeserver. Every test has users and a room of its own.

// What tests have in common is a test too, although it is not marked as one.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

mod alone;
mod branches;
mod faults;
mod files;
mod hostile;
mod left_behind;
mod lost;
mod membership;
mod missing;
mod other_clients;
mod removal;
mod restart;
mod support;
mod talking;
mod vanished;
mod welcomes;
