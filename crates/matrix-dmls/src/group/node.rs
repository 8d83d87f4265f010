//! The state of one epoch, and what an operation makes of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    epoch_key::EpochKey, record::CommitRecord, roster::Roster, schedule::Vault, storage::Entries,
    wire::welcome::Welcome,
};

/// What is kept of an entered epoch so that commits can be made and processed on it: the tree, our
/// private keys, and the vault. It goes when retention says so (protocol §9); the record and the
/// epoch key have lives of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// OpenMLS's entries. Never change once the node is made.
    pub entries: Entries,
    /// Our own leaf index.
    pub own_leaf: u32,
    /// The GroupContext (RFC 9420 §8.1), TLS-encoded.
    #[serde(with = "crate::serde_bytes_vec")]
    pub context: Vec<u8>,
    /// The confirmation tag of the commit that made the epoch.
    pub confirmation_tag: [u8; 32],
}

/// An epoch that an operation made.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// The record for the graph.
    pub record: Arc<CommitRecord>,
    /// The state, to take further commits.
    pub state: Arc<NodeState>,
    /// The secrets that taking further commits uses up.
    pub vault: Vault,
    /// What its messages are encrypted with.
    pub epoch_key: Arc<EpochKey>,
    /// Who is in it.
    pub roster: Arc<Roster>,
}

/// A commit of our own. It counts only when the server has accepted its event; until then it is a
/// pending child of its parent (protocol §5).
#[derive(Clone, Debug)]
pub struct PendingCommit {
    /// The epoch that it makes.
    pub node: NewNode,
    /// The MLSMessage, to be sent.
    pub commit: Vec<u8>,
    /// The parent's GroupContext, to be sent beside it.
    pub parent_context: Vec<u8>,
    /// The Welcome for those whom it adds, as MLSMessage with everybody's secrets in it.
    pub welcome: Option<Vec<u8>>,
    /// The new epoch's GroupInfo without tree, as MLSMessage.
    pub group_info: Vec<u8>,
    /// The new epoch's ratchet tree (RFC 9420 §12.4.3.3).
    pub tree: Vec<u8>,
}

impl PendingCommit {
    /// The GroupInfo as its Welcomes have it, encrypted to all whom the commit adds; `None` if it adds
    /// nobody.
    pub fn encrypted_group_info(&self) -> Option<Vec<u8>> {
        let welcome = Welcome::parse(self.welcome.as_ref()?).ok()?;
        Some(welcome.encrypted_group_info().to_vec())
    }
}
