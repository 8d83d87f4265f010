//! The stored form of what is not stored as it is.

use std::{collections::HashMap, sync::Arc};

use matrix_dmls::{
    CommitRecord, Entries, EpochKey, EpochKeyParts, GraphEntry, NewNode, NodeId, NodeState,
    NodeStatus, PendingCommit, PuncturedTree, Roster, Secret, SecretTree, Summary, Vault,
};
use matrix_sdk_crypto_mls::store::StoreError;
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    chunks::{Blob, Cutter, Joiner},
    codec::bytes,
    error::corrupt,
};

/// Rosters by their content hash.
pub(crate) type Rosters = HashMap<[u8; 32], Arc<Roster>>;

fn roster(rosters: &Rosters, hash: &[u8; 32]) -> Result<Arc<Roster>, StoreError> {
    rosters.get(hash).cloned().ok_or_else(|| corrupt("a roster is missing"))
}

/// A row of `record`.
#[derive(Serialize, Deserialize)]
pub(crate) struct RecordRow {
    entered: bool,
    roster: Option<[u8; 32]>,
    pub(crate) record: Arc<CommitRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summary: Option<Arc<Summary>>,
}

impl RecordRow {
    pub(crate) fn new(entry: &GraphEntry, roster: Option<[u8; 32]>) -> Self {
        let entered = entry.status == NodeStatus::Entered;
        let summary = entry.summary.clone();
        Self { entered, roster, record: Arc::clone(&entry.record), summary }
    }

    pub(crate) fn into_entry(self, rosters: &Rosters) -> Result<GraphEntry, StoreError> {
        let status = if self.entered { NodeStatus::Entered } else { NodeStatus::Seen };
        let roster = self.roster.map(|hash| roster(rosters, &hash)).transpose()?;
        Ok(GraphEntry { record: self.record, status, roster, summary: self.summary })
    }
}

/// A row of `node_state`.
#[derive(Serialize, Deserialize)]
pub(crate) struct StateRow {
    pub(crate) node: NodeId,
    own_leaf: u32,
    #[serde(with = "bytes")]
    context: Vec<u8>,
    #[serde(with = "bytes")]
    confirmation_tag: Vec<u8>,
    entries: Vec<Entry>,
}

/// The number of OpenMLS's entry that is the ratchet tree: public keys and credentials.
const TREE: u8 = 5;

/// One of OpenMLS's entries.
#[derive(Serialize, Deserialize)]
struct Entry(u8, #[serde(with = "bytes")] Vec<u8>, Blob);

impl Drop for Entry {
    fn drop(&mut self) {
        if let Blob::Inline(value) = &mut self.2 {
            value.zeroize();
        }
    }
}

impl StateRow {
    pub(crate) fn new<'a>(node: NodeId, state: &'a NodeState, cutter: &mut Cutter<'a>) -> Self {
        Self {
            node,
            own_leaf: state.own_leaf,
            context: state.context.clone(),
            confirmation_tag: state.confirmation_tag.to_vec(),
            entries: state
                .entries
                .iter()
                .map(|(table, key, value)| {
                    let blob =
                        if table == TREE { cutter.cut_tree(value) } else { cutter.cut(value) };
                    Entry(table, key.to_owned(), blob)
                })
                .collect(),
        }
    }

    pub(crate) fn into_state(self, joiner: &mut Joiner<'_>) -> Result<NodeState, StoreError> {
        let parts = self
            .entries
            .into_iter()
            .map(|mut entry| {
                let blob = std::mem::replace(&mut entry.2, Blob::Chunks(0));
                Ok((entry.0, std::mem::take(&mut entry.1), joiner.join(blob)?))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(NodeState {
            entries: Entries::from_parts(parts).map_err(|error| corrupt(error.to_string()))?,
            own_leaf: self.own_leaf,
            context: self.context,
            confirmation_tag: self
                .confirmation_tag
                .try_into()
                .map_err(|_| corrupt("a confirmation tag has another length"))?,
        })
    }
}

/// A row of `vault`.
#[derive(Serialize, Deserialize)]
pub(crate) struct VaultRow {
    pub(crate) node: NodeId,
    pub(crate) vault: Vault,
}

/// A row of `epoch_key`.
#[derive(Serialize, Deserialize)]
pub(crate) struct EpochKeyRow {
    pub(crate) node: NodeId,
    #[serde(with = "bytes")]
    group_context: Vec<u8>,
    /// Unless the tree is punctured.
    encryption_secret: Option<Secret>,
    sender_data_secret: Secret,
    roster: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    punctured: Option<Arc<PuncturedTree>>,
}

impl EpochKeyRow {
    pub(crate) fn new(key: &EpochKey, roster: [u8; 32]) -> Self {
        Self {
            node: key.node(),
            group_context: key.group_context().to_owned(),
            encryption_secret: key.encryption_secret().cloned(),
            sender_data_secret: key.sender_data_secret().clone(),
            roster,
            punctured: match key.tree() {
                SecretTree::Whole(_) => None,
                SecretTree::Punctured(tree) => Some(Arc::clone(tree)),
            },
        }
    }

    pub(crate) fn into_key(self, rosters: &Rosters) -> Result<EpochKey, StoreError> {
        let tree = match (self.encryption_secret, self.punctured) {
            (Some(secret), None) => SecretTree::Whole(secret),
            (None, Some(tree)) => SecretTree::Punctured(tree),
            _ => return Err(corrupt("an epoch key without one secret tree")),
        };
        EpochKey::from_parts(EpochKeyParts {
            node: self.node,
            group_context: self.group_context,
            tree,
            sender_data_secret: self.sender_data_secret,
            roster: roster(rosters, &self.roster)?,
        })
        .map_err(|error| corrupt(format!("an epoch key: {error}")))
    }
}

/// A row of `pending`.
#[derive(Serialize, Deserialize)]
pub(crate) struct PendingRow {
    pub(crate) record: Arc<CommitRecord>,
    state: StateRow,
    vault: Vault,
    epoch_key: EpochKeyRow,
    roster: [u8; 32],
    commit: Blob,
    #[serde(with = "bytes")]
    parent_context: Vec<u8>,
    welcome: Option<Blob>,
    group_info: Blob,
    tree: Blob,
}

impl PendingRow {
    /// `roster` is the node's, `key_roster` the epoch key's; they are the same.
    pub(crate) fn new<'a>(
        pending: &'a PendingCommit,
        roster: [u8; 32],
        key_roster: [u8; 32],
        cutter: &mut Cutter<'a>,
    ) -> Self {
        let node = &pending.node;
        Self {
            record: Arc::clone(&node.record),
            state: StateRow::new(node.record.node, &node.state, cutter),
            vault: node.vault.clone(),
            epoch_key: EpochKeyRow::new(&node.epoch_key, key_roster),
            roster,
            commit: cutter.cut_public(&pending.commit),
            parent_context: pending.parent_context.clone(),
            welcome: pending.welcome.as_ref().map(|welcome| cutter.cut(welcome)),
            group_info: cutter.cut_public(&pending.group_info),
            tree: cutter.cut_public(&pending.tree),
        }
    }

    pub(crate) fn into_pending(
        self,
        joiner: &mut Joiner<'_>,
        rosters: &Rosters,
    ) -> Result<PendingCommit, StoreError> {
        // In the order in which they were cut.
        let state = Arc::new(self.state.into_state(joiner)?);
        let commit = joiner.join(self.commit)?;
        let welcome = self.welcome.map(|welcome| joiner.join(welcome)).transpose()?;
        Ok(PendingCommit {
            node: NewNode {
                record: self.record,
                state,
                vault: self.vault,
                epoch_key: Arc::new(self.epoch_key.into_key(rosters)?),
                roster: roster(rosters, &self.roster)?,
            },
            commit,
            parent_context: self.parent_context,
            welcome,
            group_info: joiner.join(self.group_info)?,
            tree: joiner.join(self.tree)?,
        })
    }
}

/// A row of `roster`.
#[derive(Serialize, Deserialize)]
pub(crate) struct RosterRow(pub(crate) Blob);

/// A row of `generation`.
#[derive(Serialize, Deserialize)]
pub(crate) struct GenerationRow {
    pub(crate) node: NodeId,
    pub(crate) next: u32,
}

/// What of a commit's event is read with the room.
#[derive(Serialize, Deserialize)]
pub(crate) struct CommitEventRow {
    pub(crate) node: NodeId,
    pub(crate) event_id: OwnedEventId,
    /// Stores of version 1 do not have it: such a commit is taken to be old.
    #[serde(default)]
    pub(crate) received_at: u64,
}
