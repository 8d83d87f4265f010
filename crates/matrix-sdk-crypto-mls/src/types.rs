//! What goes over the wire: event contents, and the requests that carry them.

pub mod events;
pub mod requests;
