//! The names that the protocol gives to things: constants, node IDs, instances.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The namespace of everything this protocol puts into Matrix: event types, to-device types and
/// the algorithm all begin with it.
pub const NAMESPACE: &str = "io.github.matrix-mls.dmls.v1";

/// The algorithm name of rooms with MLS cipher suite 0x0001
/// (MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, RFC 9420 §17.1).
pub const ALGORITHM: &str = "io.github.matrix-mls.dmls.v1.dhkemx25519-aes128gcm-sha256-ed25519";

/// The type of our GroupContext extension, from the private-use range (RFC 9420 §17.3).
pub const EXTENSION_TYPE: u16 = 0xF2D1;

/// Bytes of a hash with the cipher suite's hash function (`KDF.Nh`, RFC 9420 §5.1).
pub const HASH_LENGTH: usize = 32;

/// A string that should have been unpadded base64 of exactly 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the unpadded base64 of 32 bytes")]
pub struct InvalidId;

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Unpadded standard base64, 43 characters: the form in which events carry it.
            pub fn to_base64(&self) -> String {
                STANDARD_NO_PAD.encode(self.0)
            }

            /// The first six characters of the base64, for logs and transcripts.
            pub fn short(&self) -> String {
                let mut text = self.to_base64();
                text.truncate(6);
                text
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                bytes.try_into().map(Self).map_err(|_| InvalidId)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // 32 bytes are 43 characters; refuse anything else before decoding it.
                if text.len() != 43 {
                    return Err(InvalidId);
                }
                let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| InvalidId)?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_base64())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_base64())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

id32! {
    /// The name of an epoch: the SHA-256 of the commit that made it, without its tags
    /// (protocol §2). Both the author and every reader can compute it from the bytes alone.
    NodeId
}

id32! {
    /// 32 random bytes that tell one founding of a room's group from another (protocol §6).
    InstanceId
}

id32! {
    /// The name of a key package: the RefHash of its bytes (RFC 9420 §5.2), see
    /// [`key_package_ref`](crate::key_package_ref).
    KeyPackageRef
}
