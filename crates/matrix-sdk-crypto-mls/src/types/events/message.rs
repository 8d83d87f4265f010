use matrix_dmls::NodeId;
use ruma::{OwnedEventId, events::macros::EventContent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::base64::Bytes;

/// An encrypted message (protocol §2): `m.room.encrypted` with our algorithm.
#[derive(Clone, Debug, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "m.room.encrypted", kind = MessageLike)]
#[non_exhaustive]
pub struct MlsEncryptedEventContent {
    /// [`matrix_dmls::ALGORITHM`].
    pub algorithm: String,

    /// MLSMessage(PrivateMessage).
    pub ciphertext: Bytes,

    /// The epoch that it is encrypted in; the authenticated data says the same.
    pub epoch: NodeId,

    /// The event of that epoch's commit; a hint for those who have to fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch_event: Option<OwnedEventId>,

    /// The relation to another event, in the clear as Megolm has it, so that servers can aggregate.
    #[serde(rename = "m.relates_to", skip_serializing_if = "Option::is_none")]
    pub relates_to: Option<Box<RawValue>>,
}

impl MlsEncryptedEventContent {
    /// A message in an epoch.
    pub fn new(ciphertext: Vec<u8>, epoch: NodeId) -> Self {
        Self {
            algorithm: matrix_dmls::ALGORITHM.to_owned(),
            ciphertext: ciphertext.into(),
            epoch,
            epoch_event: None,
            relates_to: None,
        }
    }
}
