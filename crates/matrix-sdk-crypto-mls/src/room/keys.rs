use std::collections::BTreeMap;

use matrix_dmls::{NodeId, Secret};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::types::events::Bytes;

/// Epoch keys that this device asks others for (protocol §6). All times are in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRequests {
    /// The epochs in which messages wait, in which this device has a leaf, and which it cannot enter.
    pub wanted: BTreeMap<NodeId, WantedKey>,
    /// Our requests to other devices, the youngest last.
    pub open: Vec<KeyRequest>,
    /// Epochs whose keys somebody has given us, and by whom, in which no message of another user than
    /// that one was read yet.
    pub unsure: BTreeMap<NodeId, OwnedUserId>,
}

/// An epoch whose key is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedKey {
    /// Since when.
    pub since: u64,
    /// How often others were asked for it.
    pub tries: u8,
    /// When that was, or would have been, the last time; 0 if never.
    pub tried_at: u64,
    /// Not asked for again before this time, unless we are in another epoch by then.
    pub next: u64,
    /// The epoch by which we showed who we are the last time.
    pub asked_on: Option<NodeId>,
    /// Who has given one of which nothing shows that it is the epoch's, and the hash of that key. Not
    /// asked again.
    pub given: BTreeMap<OwnedUserId, Bytes>,
}

/// A request for epoch keys that may be answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// Its name.
    pub id: String,
    /// Who was asked.
    pub asked: OwnedUserId,
    /// When.
    pub at: u64,
    /// The epochs.
    pub nodes: Vec<NodeId>,
    /// The private half of the HPKE key that the answer is encrypted to.
    pub secret: Secret,
}

impl KeyRequests {
    /// Whether there is nothing to do or to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl WantedKey {
    /// How often others are asked for a key.
    pub(crate) const MAX_TRIES: u8 = 12;
}
