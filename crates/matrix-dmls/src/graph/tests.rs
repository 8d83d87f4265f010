//! Tests of the graph. A scenario is written as text, one commit a line; see [`scenario`].

mod attacks;
mod bounds;
mod branches;
mod compaction;
mod connection;
mod consequences;
mod nodes;
mod properties;
pub(crate) mod random;
mod reference;
mod retention;
pub(crate) mod scenario;
mod start;
