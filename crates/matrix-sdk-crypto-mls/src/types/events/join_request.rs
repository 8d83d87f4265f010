use std::collections::BTreeMap;

use matrix_dmls::{ALGORITHM, NodeId};
use ruma::{DeviceId, OwnedRoomId, UserId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

use super::base64::Bytes;

/// A device asks a member to add it (protocol §6): sent to it directly, and signed by the device key
/// over the canonical JSON of all other fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.join_request", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceJoinRequestEventContent {
    /// [`matrix_dmls::ALGORITHM`].
    pub algorithm: String,

    /// The key package to be added by, one that was never uploaded.
    pub key_package: Bytes,

    /// Tells one request from another; the same in all copies of one.
    pub request_id: String,

    /// The room.
    pub room_id: OwnedRoomId,

    /// Rises from request to request of a device: milliseconds since 1970, by its own clock.
    pub sent_at: u64,

    /// The epoch that everybody should be on, as far as the device knows, and that it is not in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tip: Option<NodeId>,

    /// By user and key ID.
    #[serde(default)]
    pub signatures: BTreeMap<String, BTreeMap<String, String>>,
}

impl ToDeviceJoinRequestEventContent {
    /// The longest `request_id` that is accepted, in bytes.
    pub const MAX_REQUEST_ID: usize = 64;

    /// A request without a signature.
    pub const fn new(
        algorithm: String,
        room_id: OwnedRoomId,
        tip: Option<NodeId>,
        request_id: String,
        sent_at: u64,
        key_package: Vec<u8>,
    ) -> Self {
        let key_package = Bytes(key_package);
        let signatures = BTreeMap::new();
        Self { algorithm, key_package, request_id, room_id, sent_at, tip, signatures }
    }

    /// The canonical JSON that the device key signs; `None` for what no device of this protocol sends.
    pub fn signed_json(&self) -> Option<String> {
        #[derive(Serialize)]
        struct Signed<'a> {
            // Canonical JSON has its keys in order, and so has this.
            algorithm: &'a str,
            key_package: &'a Bytes,
            request_id: &'a str,
            room_id: &'a OwnedRoomId,
            sent_at: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            tip: Option<NodeId>,
        }
        // Canonical JSON ends at 2^53 - 1.
        let is_ours = self.algorithm == ALGORITHM
            && !self.request_id.is_empty()
            && self.request_id.len() <= Self::MAX_REQUEST_ID
            && self.sent_at < 1 << 53;
        let signed = Signed {
            algorithm: &self.algorithm,
            key_package: &self.key_package,
            request_id: &self.request_id,
            room_id: &self.room_id,
            sent_at: self.sent_at,
            tip: self.tip,
        };
        is_ours.then(|| serde_json::to_string(&signed).ok()).flatten()
    }

    /// The signature of a device, if there is one.
    pub fn signature_of(&self, user_id: &UserId, device_id: &DeviceId) -> Option<&str> {
        let keys = self.signatures.get(user_id.as_str())?;
        keys.get(&format!("ed25519:{device_id}")).map(String::as_str)
    }

    /// Puts a device's signature in.
    pub fn sign(&mut self, user_id: &UserId, device_id: &DeviceId, signature: String) {
        let keys = self.signatures.entry(user_id.to_string()).or_default();
        keys.insert(format!("ed25519:{device_id}"), signature);
    }
}
