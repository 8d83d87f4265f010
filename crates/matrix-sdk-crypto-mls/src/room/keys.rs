use std::collections::{BTreeMap, BTreeSet};

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
    /// Our requests to other devices that may be answered yet, the youngest last.
    pub open: Vec<KeyRequest>,
    /// Who was asked within the last minute, and when.
    pub asked: Vec<(OwnedUserId, u64)>,
    /// Given keys of epochs, beside the one that the group holds: nobody can tell yet which is the
    /// epoch's, or somebody has given a false one.
    pub spare: BTreeMap<NodeId, Vec<SpareKey>>,
}

/// An epoch whose key is wanted, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedKey {
    /// Whether there are messages that no key reads that we have.
    pub open: bool,
    /// Since when.
    pub since: u64,
    /// How often others were asked for it.
    pub tries: u8,
    /// How often that was before its time, because we were in another epoch.
    pub early: u8,
    /// When others were asked, or would have been, the last time; 0 if never.
    pub tried_at: u64,
    /// Not asked for again before this time, unless we are in another epoch by then.
    pub next: u64,
    /// The epoch by which we showed who we are the last time.
    pub asked_on: Option<NodeId>,
    /// Who has given one; not asked again.
    pub given: BTreeSet<OwnedUserId>,
    /// Who has sent what waits for it, as the server says, and so is likely to have it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub speakers: BTreeSet<OwnedUserId>,
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

/// What an epoch key is made of, beside the roster, as somebody has given it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareKey {
    /// When.
    pub at: u64,
    /// It has read a message.
    pub has_read: bool,
    /// The GroupContext.
    pub group_context: Bytes,
    /// The secret tree's root.
    pub encryption_secret: Secret,
    /// What hides who sent a message.
    pub sender_data_secret: Secret,
}

impl KeyRequests {
    /// Whether there is nothing to do or to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
