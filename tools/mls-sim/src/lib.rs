//! A simulator: whole machines (`MlsMachine` beside `OlmMachine`) on homeservers in memory, and a seed
//! that says what happens to them. See `docs/simulator.md`.
//!
//! A run is a list of [`Action`]s: a [`Plan`] draws it from the seed, a [`World`] does it, and after
//! everything was healed it is checked what must hold then. Whatever the devices choose is compared
//! with a model of its own, which shares no code with them.

// A simulation ends where something is not as it must be; a panic is such an end, and is reported with
// the trace that led there.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used
)]

mod action;
mod check;
mod executor;
mod failure;
mod heal;
mod insider;
mod minimise;
mod model;
mod outcome;
mod plan;
mod report;
mod scenario;
mod world;

pub use crate::{
    action::Action,
    failure::Failure,
    minimise::minimise,
    outcome::{Outcome, Stats, run},
    plan::Plan,
    report::Report,
    scenario::Scenario,
    world::World,
};
