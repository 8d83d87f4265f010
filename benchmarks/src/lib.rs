//! What the machine and its store cost, in small and large rooms.
//!
//! Times vary with the machine, so what is to be compared is measured in one run, in turns, and given
//! as a ratio; see `docs/benchmarks.md`. `cargo xtask bench` builds and runs this.

pub mod cpu;
pub mod disk;
pub mod forks;
pub mod large;
pub mod people;
pub mod report;
pub mod sample;
pub mod store;
