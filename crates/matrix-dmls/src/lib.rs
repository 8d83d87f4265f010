//! Decentralised MLS.

mod credential;
mod crypto;
mod error;
mod ids;
mod roster;
mod serde_bytes_vec;
mod wire;

pub use crate::{
    credential::{CredentialError, Device, Identity},
    crypto::Secret,
    error::MalformedError,
    ids::{ALGORITHM, EXTENSION_TYPE, HASH_LENGTH, InstanceId, InvalidId, NAMESPACE, NodeId},
    roster::{Member, Roster},
};
mod schedule;
mod storage;
mod group { pub(crate) const CIPHERSUITE: openmls::prelude::Ciphersuite = openmls::prelude::Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519; }
