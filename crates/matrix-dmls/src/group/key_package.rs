//! Our own key packages (protocol §6, RFC 9420 §10).

use openmls::prelude::{KeyPackage, Lifetime};
use serde::{Deserialize, Serialize};
use tls_codec::Serialize as _;

use super::{
    error::GroupError,
    hydrated::{self, CIPHERSUITE},
    local::LocalMember,
};
use crate::{
    ids::KeyPackageRef,
    schedule::{Operation, Provider},
    storage::Entries,
    wire::key_package::key_package_ref,
};

/// A key package of ours with its private keys, which are erased in the transaction of the join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeyPackage {
    /// The KeyPackage, TLS-encoded, without MLSMessage around it: for publishing.
    #[serde(with = "crate::serde_bytes_vec")]
    pub key_package: Vec<u8>,
    /// Its name.
    pub reference: KeyPackageRef,
    /// Whether it may be used more than once, when no one-time package is left.
    pub last_resort: bool,
    /// OpenMLS's entries: the private keys.
    pub(super) private: Entries,
}

/// Whether OpenMLS takes somebody's key package.
pub(crate) fn accepts_key_package(bytes: &[u8]) -> bool {
    let provider = Provider::new(Operation::default());
    hydrated::guarded(|| hydrated::key_package(&provider, bytes)).is_ok()
}

/// Makes a key package. Its lifetime is unbounded on purpose: OpenMLS checks it against the local
/// clock while a commit is processed, so a bounded one would fork the room by clock.
///
/// # Errors
///
/// When the machine has no randomness.
pub fn new_key_package(
    local: &LocalMember,
    last_resort: bool,
) -> Result<OwnKeyPackage, GroupError> {
    let provider = Provider::new(Operation::default());
    let mut builder = KeyPackage::builder()
        .key_package_lifetime(Lifetime::init(0, u64::MAX))
        .leaf_node_capabilities(hydrated::capabilities());
    if last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder
        .build(CIPHERSUITE, &provider, local, local.credential())
        .map_err(GroupError::openmls)?;
    let key_package = bundle.key_package().tls_serialize_detached().map_err(GroupError::openmls)?;
    Ok(OwnKeyPackage {
        reference: key_package_ref(&key_package),
        key_package,
        last_resort,
        private: provider.into_entries(),
    })
}
