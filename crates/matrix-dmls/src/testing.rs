//! For tests, here and of those who use this crate: what an insider with a client of its own can do,
//! and this crate does not.

use std::{fmt, sync::Arc};

use crate::{crypto::Secret, epoch_key::secrets_above};

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

/// Everything that a message's key follows from, and that key and its nonce: what a store must not
/// have any more once it has forgotten the message. Of an epoch with this `encryption_secret`, whose
/// tree is `width` leaves wide.
pub fn secrets_of_message(
    encryption_secret: &Secret,
    width: u32,
    leaf: u32,
    generation: u32,
) -> Vec<Vec<u8>> {
    secrets_above(encryption_secret, width, leaf, generation)
}
