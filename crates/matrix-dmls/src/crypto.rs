//! The few primitives of cipher suite 0x0001 that we use outside OpenMLS: RFC 9420 §5.1.2 (signing),
//! §8 (`ExpandWithLabel`, `DeriveSecret`).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{ed25519::verify_strict, ids::HASH_LENGTH, wire::tls::Writer};

/// A 32-byte secret that is erased when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; HASH_LENGTH]);

impl Secret {
    /// Wraps 32 bytes.
    pub const fn from_bytes(bytes: [u8; HASH_LENGTH]) -> Self {
        Self(bytes)
    }

    /// Copies a slice of exactly 32 bytes, or gives `None`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; HASH_LENGTH] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Zeroizing::new(crate::serde_bytes_vec::deserialize(deserializer)?);
        Self::from_slice(&bytes)
            .ok_or_else(|| serde::de::Error::invalid_length(bytes.len(), &"32 bytes"))
    }
}

/// SHA-256 of the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; HASH_LENGTH] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The `KDFLabel` struct of RFC 9420 §8.
fn kdf_label(label: &str, context: &[u8], length: u16) -> Vec<u8> {
    let mut out = Writer::new();
    out.u16(length);
    out.opaque(format!("MLS 1.0 {label}").as_bytes());
    out.opaque(context);
    out.into_bytes()
}

/// `ExpandWithLabel(secret, label, context, N)` (RFC 9420 §8) for `N` up to 32.
///
/// HKDF-Expand (RFC 5869 §2.3) of at most one block is one HMAC; written so, it cannot fail.
pub(crate) fn expand_with_label_array<const N: usize>(
    secret: &Secret,
    label: &str,
    context: &[u8],
) -> [u8; N] {
    const { assert!(N <= HASH_LENGTH) };
    let mut info = kdf_label(label, context, N as u16);
    info.push(1);
    let mut block = hmac(secret.as_bytes(), &info);
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(block) {
        *to = from;
    }
    block.zeroize();
    out
}

/// `ExpandWithLabel(secret, label, context, 32)` (RFC 9420 §8).
pub(crate) fn expand_with_label(secret: &Secret, label: &str, context: &[u8]) -> Secret {
    Secret::from_bytes(expand_with_label_array(secret, label, context))
}

/// `DeriveSecret(secret, label)` (RFC 9420 §8).
pub(crate) fn derive_secret(secret: &Secret, label: &str) -> Secret {
    expand_with_label(secret, label, &[])
}

/// `KDF.Extract(salt, ikm)` (RFC 9420 §5.1, RFC 5869 §2.2).
pub(crate) fn extract(salt: &Secret, ikm: &[u8]) -> Secret {
    Secret::from_bytes(hmac(salt.as_bytes(), ikm))
}

/// HMAC-SHA-256 under a key of 32 bytes.
fn hmac(key: &[u8; HASH_LENGTH], message: &[u8]) -> [u8; HASH_LENGTH] {
    // A key as long as the hash's block needs no length check; HMAC pads with zeros anyway.
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The `SignContent` struct of RFC 9420 §5.1.2, and `EncryptContext` of §5.1.3.
pub(crate) fn labelled(label: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.opaque(format!("MLS 1.0 {label}").as_bytes());
    out.opaque(content);
    out.into_bytes()
}

/// `VerifyWithLabel` (RFC 9420 §5.1.2), strictly.
pub(crate) fn verify_with_label(
    public_key: &[u8; 32],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> bool {
    verify_strict(public_key, &labelled(label, content), signature)
}
