//! The MLS machine.
