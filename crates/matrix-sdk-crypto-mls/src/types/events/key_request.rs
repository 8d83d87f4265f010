use std::collections::BTreeMap;

use matrix_dmls::{NodeId, SealedEpochKey};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, events::macros::EventContent};
use serde::{Deserialize, Serialize};

use super::{Bytes, ToDeviceCommitRequestEventContent};

/// Asks another device for epoch keys (protocol §6): of epochs in which the asking device has a leaf, and
/// which it cannot enter. Signed by its Matrix key, and tagged by the epoch that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.key_request", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceKeyRequestEventContent {
    /// The room.
    pub room_id: OwnedRoomId,

    /// A random name for the request, which the answer has.
    pub request_id: String,

    /// The epochs whose keys are wanted, at most [`Self::MAX_NODES`].
    pub nodes: Vec<NodeId>,

    /// An epoch that the asking device is in.
    pub tip: NodeId,

    /// The HPKE public key that the answer is to be encrypted to, 32 bytes; of this request alone.
    pub hpke_key: Bytes,

    /// `MLS-Exporter` of the epoch `tip` over [`Self::tagged_json`], 32 bytes.
    pub tag: Bytes,

    /// The device's signature over [`Self::signed_json`]: user, `ed25519:` and the device ID, unpadded
    /// base64.
    #[serde(default)]
    pub signatures: BTreeMap<OwnedUserId, BTreeMap<String, String>>,
}

impl ToDeviceKeyRequestEventContent {
    /// The most epochs that one request asks for.
    pub const MAX_NODES: usize = 10;

    /// The longest name of a request, in bytes.
    pub const MAX_REQUEST_ID: usize = ToDeviceCommitRequestEventContent::MAX_REQUEST_ID;

    /// A request that is neither tagged nor signed yet.
    pub fn new(
        room_id: OwnedRoomId,
        request_id: String,
        nodes: Vec<NodeId>,
        tip: NodeId,
        hpke_key: [u8; 32],
    ) -> Self {
        Self {
            room_id,
            request_id,
            nodes,
            tip,
            hpke_key: hpke_key.to_vec().into(),
            tag: Bytes::default(),
            signatures: BTreeMap::new(),
        }
    }

    /// Whether it asks for no more than one request may.
    pub const fn is_within_limits(&self) -> bool {
        self.nodes.len() <= Self::MAX_NODES && self.request_id.len() <= Self::MAX_REQUEST_ID
    }

    /// What the tag is made over: the canonical JSON of the content without the tag and the signatures.
    ///
    /// # Errors
    ///
    /// None with what the fields can have; the type of the conversion.
    pub fn tagged_json(&self) -> Result<String, serde_json::Error> {
        self.canonical_json(None)
    }

    /// What the device signs: the canonical JSON of the content without its signatures.
    ///
    /// # Errors
    ///
    /// None with what the fields can have; the type of the conversion.
    pub fn signed_json(&self) -> Result<String, serde_json::Error> {
        self.canonical_json(Some(&self.tag))
    }

    fn canonical_json(&self, tag: Option<&Bytes>) -> Result<String, serde_json::Error> {
        let Self { room_id, request_id, nodes, tip, hpke_key, .. } = self;
        serde_json::to_string(&Canonical { hpke_key, nodes, request_id, room_id, tag, tip })
    }
}

/// In the order of canonical JSON; there is nothing in it but strings.
#[derive(Serialize)]
struct Canonical<'a> {
    hpke_key: &'a Bytes,
    nodes: &'a [NodeId],
    request_id: &'a str,
    room_id: &'a RoomId,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a Bytes>,
    tip: &'a NodeId,
}

/// Epoch keys for one who asked for them (protocol §6) by [`ToDeviceKeyRequestEventContent`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.key_answer", kind = ToDevice)]
#[non_exhaustive]
pub struct ToDeviceKeyAnswerEventContent {
    /// The room.
    pub room_id: OwnedRoomId,

    /// The ID of the request that this answers.
    pub request_id: String,

    /// The keys, as many of those that were asked for as there are.
    pub keys: Vec<EncryptedEpochKey>,
}

impl ToDeviceKeyAnswerEventContent {
    /// An answer.
    pub const fn new(
        room_id: OwnedRoomId,
        request_id: String,
        keys: Vec<EncryptedEpochKey>,
    ) -> Self {
        Self { room_id, request_id, keys }
    }
}

/// One key of a [`ToDeviceKeyAnswerEventContent`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EncryptedEpochKey {
    /// The epoch.
    pub epoch: NodeId,

    /// The HPKE encapsulated key, 32 bytes.
    pub kem_output: Bytes,

    /// GroupContext, `encryption_secret` and `sender_data_secret`, encrypted to the request's key.
    pub ciphertext: Bytes,
}

impl EncryptedEpochKey {
    /// A sealed key as the event carries it.
    pub fn new(epoch: NodeId, SealedEpochKey { kem_output, ciphertext }: SealedEpochKey) -> Self {
        Self { epoch, kem_output: kem_output.into(), ciphertext: ciphertext.into() }
    }

    /// The sealed key.
    pub fn sealed(&self) -> SealedEpochKey {
        SealedEpochKey {
            kem_output: self.kem_output.0.clone(),
            ciphertext: self.ciphertext.0.clone(),
        }
    }
}
