//! MLS rooms on a real homeserver. Every test has users and a room of its own.

// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

mod branches;
mod faults;
mod hostile;
mod membership;
mod other_clients;
mod removal;
mod support;
mod talking;
