//! Who a leaf is: the credential that ties an MLS signature key to a Matrix device (protocol §4).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ed25519::verify_strict,
    error::MalformedError,
    ids::NAMESPACE,
    wire::tls::{Reader, Writer},
};

/// The longest user ID that Matrix allows, in bytes.
const MAX_USER_ID: usize = 255;

/// The longest device ID that we accept, in bytes; the specification sets no limit.
const MAX_DEVICE_ID: usize = 255;

/// Canonical JSON ends at 2^53 - 1.
const MAX_SEQ: u64 = (1 << 53) - 1;

/// A Matrix device, named by its user, its ID and its Ed25519 key. A device that is deleted and made
/// again under the same ID is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// The user ID, `@localpart:server`, at most 255 bytes.
    pub user_id: String,
    /// The device ID, at most 255 bytes.
    pub device_id: String,
    /// The device's Ed25519 key, as in its Matrix device keys.
    pub device_key: [u8; 32],
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user_id, self.device_id)
    }
}

/// The identity inside a BasicCredential (RFC 9420 §5.3):
///
/// ```text
/// struct { opaque user_id<V>; opaque device_id<V>; opaque device_ed25519<V>;
///          uint64 seq; opaque device_signature<V>; }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The device that the leaf belongs to.
    pub device: Device,
    /// Grows whenever the device replaces its MLS key: milliseconds since 1970, below 2^53.
    pub seq: u64,
    /// The device key's signature over [`Identity::signed_json`].
    #[serde(with = "crate::serde_bytes_vec")]
    device_signature: Vec<u8>,
}

/// Why a credential is not valid. It then never becomes valid, for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The identity's bytes cannot be read.
    #[error("the credential's identity cannot be read: {0}")]
    Malformed(#[from] MalformedError),
    /// The device key's signature over the MLS key does not verify.
    #[error("the device did not sign this MLS key")]
    Signature,
}

impl Identity {
    /// Puts an identity together from its parts. The signature is not checked here, see
    /// [`Identity::verify`].
    pub fn new(device: Device, seq: u64, device_signature: [u8; 64]) -> Self {
        Self { device, seq, device_signature: device_signature.to_vec() }
    }

    /// The canonical JSON that the device key signs to own `signature_key`, 32 bytes, as its MLS key.
    pub fn signed_json(device: &Device, seq: u64, signature_key: &[u8; 32]) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};

        // Canonical JSON: keys in order, no spaces, shortest escapes, which is how serde_json writes
        // a struct whose fields are declared in order.
        #[derive(Serialize)]
        struct Signed<'a> {
            algorithm: &'a str,
            device_ed25519: &'a str,
            device_id: &'a str,
            mls_ed25519: &'a str,
            seq: u64,
            user_id: &'a str,
        }

        serde_json::to_string(&Signed {
            algorithm: &format!("{NAMESPACE}.credential"),
            device_ed25519: &BASE64.encode(device.device_key),
            device_id: &device.device_id,
            mls_ed25519: &BASE64.encode(signature_key),
            seq,
            user_id: &device.user_id,
        })
        // Strings and integers always serialise.
        .unwrap_or_default()
    }

    /// Whether the device key inside signed `signature_key`. Everybody agrees on the answer for ever,
    /// whether they know the device or not.
    ///
    /// # Errors
    ///
    /// [`CredentialError::Signature`] when it did not.
    pub fn verify(&self, signature_key: &[u8; 32]) -> Result<(), CredentialError> {
        let json = Self::signed_json(&self.device, self.seq, signature_key);
        if verify_strict(&self.device.device_key, json.as_bytes(), &self.device_signature) {
            Ok(())
        } else {
            Err(CredentialError::Signature)
        }
    }

    /// The TLS encoding, as it stands in the BasicCredential.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.opaque(self.device.user_id.as_bytes());
        out.opaque(self.device.device_id.as_bytes());
        out.opaque(&self.device.device_key);
        out.u64(self.seq);
        out.opaque(&self.device_signature);
        out.into_bytes()
    }

    /// Reads the TLS encoding.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one identity, an ID is empty, longer than 255 bytes or not
    /// UTF-8, or `seq` does not fit into canonical JSON.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        let user_id = string(reader.opaque()?, MAX_USER_ID)?;
        let device_id = string(reader.opaque()?, MAX_DEVICE_ID)?;
        let device_key = reader.opaque_array()?;
        let seq = reader.u64()?;
        let device_signature = reader.opaque_array::<64>()?.to_vec();
        reader.finish()?;
        if seq > MAX_SEQ {
            return Err(MalformedError::Unsupported);
        }
        Ok(Self { device: Device { user_id, device_id, device_key }, seq, device_signature })
    }
}

/// Whether a Matrix device key signed this canonical JSON, strictly verified.
pub fn verify_device_signature(device_key: &[u8; 32], json: &str, signature: &[u8]) -> bool {
    verify_strict(device_key, json.as_bytes(), signature)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{}", self.device, self.seq)
    }
}

fn string(bytes: &[u8], max: usize) -> Result<String, MalformedError> {
    if bytes.is_empty() || bytes.len() > max {
        return Err(MalformedError::String);
    }
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| MalformedError::String)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn signed(seq: u64, mls_key: &[u8; 32]) -> Identity {
        let key = SigningKey::from_bytes(&[7; 32]);
        let device = Device {
            user_id: "@alice:example.org".to_owned(),
            device_id: "DEV\"ICE".to_owned(),
            device_key: key.verifying_key().to_bytes(),
        };
        let json = Identity::signed_json(&device, seq, mls_key);
        let signature = key.sign(json.as_bytes()).to_bytes();
        Identity::new(device, seq, signature)
    }

    #[test]
    fn survives_the_wire_and_verifies() {
        let identity = signed(1_700_000_000_000, &[3; 32]);
        let read = Identity::from_bytes(&identity.to_bytes()).unwrap();
        assert_eq!(read, identity);
        read.verify(&[3; 32]).unwrap();
    }

    #[test]
    fn is_bound_to_the_key_and_to_every_field() {
        let identity = signed(5, &[3; 32]);
        assert_eq!(identity.verify(&[4; 32]), Err(CredentialError::Signature));
        let mut other = identity.clone();
        other.seq = 6;
        assert_eq!(other.verify(&[3; 32]), Err(CredentialError::Signature));
        let mut other = identity.clone();
        other.device.user_id = "@mallory:example.org".to_owned();
        assert_eq!(other.verify(&[3; 32]), Err(CredentialError::Signature));
        let mut other = identity;
        other.device.device_id = "OTHER".to_owned();
        assert_eq!(other.verify(&[3; 32]), Err(CredentialError::Signature));
    }

    #[test]
    fn the_signed_json_is_canonical() {
        let device = Device {
            user_id: "@ä:example.org".to_owned(),
            device_id: "A\\B".to_owned(),
            device_key: [1; 32],
        };
        assert_eq!(
            Identity::signed_json(&device, 9, &[2; 32]),
            "{\"algorithm\":\"io.github.matrix-mls.dmls.v1.credential\",\
             \"device_ed25519\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\",\
             \"device_id\":\"A\\\\B\",\
             \"mls_ed25519\":\"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI\",\
             \"seq\":9,\"user_id\":\"@ä:example.org\"}"
        );
    }

    #[test]
    fn bad_bytes_are_refused() {
        let good = signed(5, &[3; 32]).to_bytes();
        for end in 0..good.len() {
            assert!(Identity::from_bytes(&good[..end]).is_err());
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(Identity::from_bytes(&long), Err(MalformedError::TrailingBytes));
        let too_high = signed(MAX_SEQ + 1, &[3; 32]).to_bytes();
        assert_eq!(Identity::from_bytes(&too_high), Err(MalformedError::Unsupported));
    }
}
