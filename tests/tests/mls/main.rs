//! MLS rooms on a real homeserver. Every test has users and a room of its own.

mod support;
mod talking;
