//! The secrets of one epoch that OpenMLS must not hold.

use serde::{Deserialize, Serialize};

use super::pprf::Pprf;
use crate::crypto::Secret;

/// Where OpenMLS believes a secret is, it has 32 bytes derived one-way from it: good for finding the
/// secret in the vault, and for nothing else.
pub(super) type Handle = [u8; 32];

/// What a node needs, beside OpenMLS's entries, so that commits on it can be processed. Erased with
/// the node's state (protocol §9); all of it is zeroised on drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    pub(super) init_handle: Handle,
    /// `parent_init` as a puncturable function: one use per child.
    pub(super) init: Pprf,
    pub(super) external_handle: Handle,
    /// What external commits are encrypted to (RFC 9420 §8.3); no PPRF protects it, so it goes early.
    pub(super) external: Option<Secret>,
}

impl Vault {
    /// How many children were derived here.
    pub fn punctures(&self) -> usize {
        self.init.punctures()
    }

    /// Whether external commits on this node can still be processed.
    pub const fn takes_external_commits(&self) -> bool {
        self.external.is_some()
    }

    /// Erases the external secret: external commits on this node are only seen from then on.
    pub fn erase_external_secret(&mut self) {
        self.external = None;
    }
}
