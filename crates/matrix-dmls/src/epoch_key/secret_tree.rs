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
        let side: &[u8] = if leaf & half == 0 { b"left" } else { b"right" };
        secret = expand_with_label(&secret, "tree", side);
        half /= 2;
    }
    secret
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
