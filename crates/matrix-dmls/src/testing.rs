//! For tests, here and of those who use this crate: what an insider with a client of its own can do,
//! and this crate does not.

use std::{fmt, sync::Arc};

type IsHit = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Which of the ciphertexts in a commit's update path are spoiled, by the public key (HPKE, 32 bytes)
/// that they are for. Who needs one of them cannot process the commit; everybody else can.
#[derive(Clone)]
pub struct Spoils(Arc<IsHit>);

impl Spoils {
    /// Spoils what is encrypted to the public keys for which `is_hit` says so. It is asked for every
    /// ciphertext, in any order, those of a Welcome included.
    pub fn new(is_hit: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_hit))
    }

    pub(crate) fn hit(&self, public_key: &[u8]) -> bool {
        (self.0)(public_key)
    }
}

impl fmt::Debug for Spoils {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spoils")
    }
}
