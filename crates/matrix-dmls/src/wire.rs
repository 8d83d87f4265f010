//! The bytes on the wire: the TLS presentation language and the structures written in it.

pub(crate) mod tls;
