//! The DMLS key schedule on unmodified OpenMLS (protocol §3, draft-kohbrok-mls-dmls-03).
//!
//! Everything that OpenMLS derives goes through its crypto provider, so a provider of our own can
//! replace the `init_secret` by a puncturable one. What must not lie in OpenMLS's storage (the init
//! secret, the encryption secret, the external secret) never gets there: OpenMLS is given *handles*,
//! and the real secrets live in a [`Vault`] that can be punctured and erased.

mod interception;
mod label;
mod pprf;
mod provider;
mod vault;
mod verified;

pub use self::{
    pprf::{Pprf, Punctured},
    vault::Vault,
};
pub(crate) use self::{
    provider::{Operation, Provider},
    verified::Verified,
};
