//! The secret tree (RFC 9420 §9): from the epoch's `encryption_secret` to the key of one message.

use super::aead::KeyAndNonce;
use crate::crypto::{Secret, expand_with_label, expand_with_label_array};

/// The generations of a leaf in one epoch are below this (protocol §7): it bounds what one message
/// can make its reader compute.
pub const GENERATION_LIMIT: u32 = 1 << 14;

/// The secret of a leaf in a tree that is `width` leaves wide, a power of two above `leaf`.
pub(super) fn leaf_secret(encryption_secret: &Secret, width: u32, leaf: u32) -> Secret {
    let mut secret = encryption_secret.clone();
    // From the root downward, each bit of the index from the highest on says where to go.
    let mut half = width / 2;
    while half > 0 {
        secret = child_secret(&secret, leaf & half != 0);
        half /= 2;
    }
    secret
}

/// The secret of a node's left or right child.
pub(super) fn child_secret(secret: &Secret, right: bool) -> Secret {
    expand_with_label(secret, "tree", if right { b"right" } else { b"left" })
}

/// The first secret of a leaf's ratchet for application messages.
pub(super) fn application_ratchet(leaf_secret: &Secret) -> Secret {
    expand_with_label(leaf_secret, "application", &[])
}

/// The ratchet's secret at `generation + 1`, from that at `generation`.
pub(super) fn next_secret(secret: &Secret, generation: u32) -> Secret {
    Secret::from_bytes(derive_tree_secret(secret, "secret", generation))
}

/// What a ratchet's secret at `generation` encrypts that message with.
pub(super) fn message_key(secret: &Secret, generation: u32) -> KeyAndNonce {
    KeyAndNonce {
        key: derive_tree_secret(secret, "key", generation),
        nonce: derive_tree_secret(secret, "nonce", generation),
    }
}

/// `DeriveTreeSecret(secret, label, generation, N)`.
pub(super) fn derive_tree_secret<const N: usize>(
    secret: &Secret,
    label: &str,
    generation: u32,
) -> [u8; N] {
    expand_with_label_array(secret, label, &generation.to_be_bytes())
}

/// The secrets of a message: see [`crate::testing::secrets_of_message`].
#[cfg(any(test, feature = "testing"))]
pub(crate) fn secrets_above(
    encryption_secret: &Secret,
    width: u32,
    leaf: u32,
    generation: u32,
) -> Vec<Vec<u8>> {
    let mut secret = encryption_secret.clone();
    let mut secrets = vec![secret.as_bytes().to_vec()];
    let mut half = width / 2;
    while half > 0 {
        secret = child_secret(&secret, leaf & half != 0);
        secrets.push(secret.as_bytes().to_vec());
        half /= 2;
    }
    secret = application_ratchet(&secret);
    secrets.push(secret.as_bytes().to_vec());
    for at in 0..generation {
        secret = next_secret(&secret, at);
        secrets.push(secret.as_bytes().to_vec());
    }
    let key = message_key(&secret, generation);
    secrets.extend([key.key.to_vec(), key.nonce.to_vec()]);
    secrets
}
