//! The bytes on the wire: the TLS presentation language and the structures written in it.
//!
//! OpenMLS parses all of this too, but shows little of it, and nothing before a message has been
//! processed with the state of its group. What decides whether a commit is well-formed must be
//! readable by everybody, so we read it ourselves. Every parser here is exact (one encoding, no
//! trailing bytes), checks limits before it allocates, never recurses and never panics.

pub(crate) mod aad;
pub(crate) mod commit;
pub(crate) mod extensions;
pub(crate) mod group_context;
pub(crate) mod group_info;
pub(crate) mod key_package;
pub(crate) mod leaf_node;
pub(crate) mod message;
pub(crate) mod proposal;
pub(crate) mod ratchet_tree;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod transcript;
pub(crate) mod welcome;
