//! OpenMLS's storage as a map in memory: the entries of one node, changed on an overlay that becomes
//! the child's entries when the operation has succeeded, and is dropped when it has not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use zeroize::Zeroizing;

/// What OpenMLS stores for one node, by table and key. Values are shared between nodes that have
/// them in common, never changed in place, and zeroised when the last node that has them goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<Key, Value>);

type Key = (Table, Vec<u8>);
type Value = Arc<Zeroizing<Vec<u8>>>;

/// Which of OpenMLS's tables an entry belongs to. The numbers are stored: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
enum Table {
    JoinConfig = 1,
    OwnLeafNodes = 2,
    ProposalRefs = 3,
    Proposal = 4,
    Tree = 5,
    InterimTranscriptHash = 6,
    Context = 7,
    ConfirmationTag = 8,
    GroupState = 9,
    MessageSecrets = 10,
    ResumptionPskStore = 11,
    OwnLeafIndex = 12,
    EpochSecrets = 13,
    SignatureKeyPair = 14,
    EncryptionKeyPair = 15,
    EpochKeyPairs = 16,
    KeyPackage = 17,
    Psk = 18,
}

impl From<Table> for u8 {
    fn from(table: Table) -> Self {
        table as Self
    }
}

impl TryFrom<u8> for Table {
    type Error = StorageError;

    fn try_from(number: u8) -> Result<Self, StorageError> {
        use Table::*;
        [
            JoinConfig,
            OwnLeafNodes,
            ProposalRefs,
            Proposal,
            Tree,
            InterimTranscriptHash,
            Context,
            ConfirmationTag,
            GroupState,
            MessageSecrets,
            ResumptionPskStore,
            OwnLeafIndex,
            EpochSecrets,
            SignatureKeyPair,
            EncryptionKeyPair,
            EpochKeyPairs,
            KeyPackage,
            Psk,
        ]
        .into_iter()
        .find(|table| *table as u8 == number)
        .ok_or(StorageError::Decode)
    }
}

/// An entry cannot be encoded or decoded: the state was made by another version, or is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A value cannot be encoded.
    #[error("a value cannot be encoded")]
    Encode,
    /// A stored value cannot be decoded.
    #[error("a stored value cannot be decoded: made by another version, or damaged")]
    Decode,
}

impl Entries {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all keys and values, for bounding caches.
    pub fn size(&self) -> usize {
        self.0.iter().map(|((_, key), value)| key.len() + value.len() + 2).sum()
    }

    /// Each entry's address, by which shared ones are told, and how many bytes its key and value have.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        let sizes = self.0.iter();
        sizes.map(|((_, key), value)| (Arc::as_ptr(value).addr(), key.len() + value.len() + 64))
    }

    /// Erases private keys of key packages, which have no place in a node.
    pub(crate) fn remove_key_packages(&mut self) {
        self.0.retain(|(table, _), _| *table != Table::KeyPackage);
    }

    /// The stored bytes of the entries, each as (table number, key, value).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u8, &[u8], &[u8])> {
        self.0.iter().map(|((table, key), value)| (*table as u8, key.as_slice(), value.as_slice()))
    }

    /// Puts entries together again from what [`Entries::iter`] gave.
    ///
    /// # Errors
    ///
    /// [`StorageError::Decode`] for a table number that does not exist.
    pub fn from_parts(
        parts: impl IntoIterator<Item = (u8, Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, StorageError> {
        parts
            .into_iter()
            .map(|(table, key, value)| {
                Ok(((Table::try_from(table)?, key), Arc::new(Zeroizing::new(value))))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entries({} entries, {} bytes)", self.len(), self.size())
    }
}

/// One entry as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    table: Table,
    #[serde(with = "crate::serde_bytes_vec")]
    key: Vec<u8>,
    #[serde(with = "crate::serde_bytes_vec")]
    value: Vec<u8>,
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|((table, key), value)| StoredEntry {
            table: *table,
            key: key.clone(),
            value: value.to_vec(),
        }))
    }
}

impl Drop for StoredEntry {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.value);
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Vec::<StoredEntry>::deserialize(deserializer)?;
        Ok(Self(
            stored
                .into_iter()
                .map(|mut entry| {
                    let key = std::mem::take(&mut entry.key);
                    let value = std::mem::take(&mut entry.value);
                    ((entry.table, key), Arc::new(Zeroizing::new(value)))
                })
                .collect(),
        ))
    }
}

/// The storage of one operation.
pub(crate) struct Storage(Mutex<BTreeMap<Key, Value>>);

impl Storage {
    pub(crate) fn new(entries: Entries) -> Self {
        Self(Mutex::new(entries.0))
    }

    pub(crate) fn into_entries(self) -> Entries {
        Entries(self.0.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<Key, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(
        &self,
        table: Table,
        key: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<(), StorageError> {
        // Arrays, not maps: OpenMLS is pinned to one version, and a tree of 1,000 is half as large.
        let value = rmp_serde::to_vec(value).map_err(|_| StorageError::Encode)?;
        self.map().insert((table, encode(key)?), Arc::new(Zeroizing::new(value)));
        Ok(())
    }

    fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &impl Serialize,
    ) -> Result<Option<T>, StorageError> {
        let value = self.map().get(&(table, encode(key)?)).cloned();
        value
            .map(|value| rmp_serde::from_slice(&value).map_err(|_| StorageError::Decode))
            .transpose()
    }

    fn delete(&self, table: Table, key: &impl Serialize) -> Result<(), StorageError> {
        self.map().remove(&(table, encode(key)?));
        Ok(())
    }

    /// A list is one entry: its items' encodings.
    fn list(&self, table: Table, key: &impl Serialize) -> Result<Vec<Vec<u8>>, StorageError> {
        Ok(self.get(table, key)?.unwrap_or_default())
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    rmp_serde::to_vec(value).map_err(|_| StorageError::Encode)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StorageError> {
    rmp_serde::from_slice(bytes).map_err(|_| StorageError::Decode)
}

/// The three methods that OpenMLS has for an entity that a group has one of.
macro_rules! per_group {
    ($($table:ident, $entity:ident: $write:ident, $read:ident, $delete:ident;)*) => {$(
        fn $write<GroupId: traits::GroupId<V>, $entity: traits::$entity<V>>(
            &self,
            group_id: &GroupId,
            value: &$entity,
        ) -> Result<(), StorageError> {
            self.put(Table::$table, group_id, value)
        }

        fn $read<GroupId: traits::GroupId<V>, $entity: traits::$entity<V>>(
            &self,
            group_id: &GroupId,
        ) -> Result<Option<$entity>, StorageError> {
            self.get(Table::$table, group_id)
        }

        fn $delete<GroupId: traits::GroupId<V>>(
            &self,
            group_id: &GroupId,
        ) -> Result<(), StorageError> {
            self.delete(Table::$table, group_id)
        }
    )*};
}

/// Writing and deleting an entity with a key of its own. (Reading has its type parameters in another
/// order each time.)
macro_rules! per_key {
    ($($table:ident, $key:ident, $entity:ident: $write:ident, $delete:ident;)*) => {$(
        fn $write<Key: traits::$key<V>, Entity: traits::$entity<V>>(
            &self,
            key: &Key,
            value: &Entity,
        ) -> Result<(), StorageError> {
            self.put(Table::$table, key, value)
        }

        fn $delete<Key: traits::$key<V>>(&self, key: &Key) -> Result<(), StorageError> {
            self.delete(Table::$table, key)
        }
    )*};
}

const V: u16 = CURRENT_VERSION;

impl StorageProvider<V> for Storage {
    type Error = StorageError;

    per_group! {
        JoinConfig, MlsGroupJoinConfig: write_mls_join_config, mls_group_join_config, delete_group_config;
        Tree, TreeSync: write_tree, tree, delete_tree;
        InterimTranscriptHash, InterimTranscriptHash: write_interim_transcript_hash, interim_transcript_hash, delete_interim_transcript_hash;
        Context, GroupContext: write_context, group_context, delete_context;
        ConfirmationTag, ConfirmationTag: write_confirmation_tag, confirmation_tag, delete_confirmation_tag;
        MessageSecrets, MessageSecrets: write_message_secrets, message_secrets, delete_message_secrets;
        ResumptionPskStore, ResumptionPskStore: write_resumption_psk_store, resumption_psk_store, delete_all_resumption_psk_secrets;
        OwnLeafIndex, LeafNodeIndex: write_own_leaf_index, own_leaf_index, delete_own_leaf_index;
        EpochSecrets, GroupEpochSecrets: write_group_epoch_secrets, group_epoch_secrets, delete_group_epoch_secrets;
    }

    per_key! {
        SignatureKeyPair, SignaturePublicKey, SignatureKeyPair: write_signature_key_pair, delete_signature_key_pair;
        EncryptionKeyPair, EncryptionKey, HpkeKeyPair: write_encryption_key_pair, delete_encryption_key_pair;
        KeyPackage, HashReference, KeyPackage: write_key_package, delete_key_package;
        Psk, PskId, PskBundle: write_psk, delete_psk;
    }

    fn write_group_state<GroupState: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
        value: &GroupState,
    ) -> Result<(), StorageError> {
        self.put(Table::GroupState, group_id, value)
    }

    fn group_state<GroupState: traits::GroupState<V>, GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Option<GroupState>, StorageError> {
        self.get(Table::GroupState, group_id)
    }

    fn delete_group_state<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        self.delete(Table::GroupState, group_id)
    }

    fn signature_key_pair<
        Key: traits::SignaturePublicKey<V>,
        Entity: traits::SignatureKeyPair<V>,
    >(
        &self,
        key: &Key,
    ) -> Result<Option<Entity>, StorageError> {
        self.get(Table::SignatureKeyPair, key)
    }

    fn encryption_key_pair<Entity: traits::HpkeKeyPair<V>, Key: traits::EncryptionKey<V>>(
        &self,
        key: &Key,
    ) -> Result<Option<Entity>, StorageError> {
        self.get(Table::EncryptionKeyPair, key)
    }

    fn key_package<Key: traits::HashReference<V>, Entity: traits::KeyPackage<V>>(
        &self,
        key: &Key,
    ) -> Result<Option<Entity>, StorageError> {
        self.get(Table::KeyPackage, key)
    }

    fn psk<Entity: traits::PskBundle<V>, Key: traits::PskId<V>>(
        &self,
        key: &Key,
    ) -> Result<Option<Entity>, StorageError> {
        self.get(Table::Psk, key)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
        key_pairs: &[HpkeKeyPair],
    ) -> Result<(), StorageError> {
        self.put(Table::EpochKeyPairs, &(group_id, epoch, leaf_index), &key_pairs)
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
        HpkeKeyPair: traits::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<Vec<HpkeKeyPair>, StorageError> {
        let key_pairs = self.get(Table::EpochKeyPairs, &(group_id, epoch, leaf_index))?;
        Ok(key_pairs.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<V>,
        EpochKey: traits::EpochKey<V>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<(), StorageError> {
        self.delete(Table::EpochKeyPairs, &(group_id, epoch, leaf_index))
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
        leaf_node: &LeafNode,
    ) -> Result<(), StorageError> {
        let mut list = self.list(Table::OwnLeafNodes, group_id)?;
        list.push(encode(leaf_node)?);
        self.put(Table::OwnLeafNodes, group_id, &list)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<V>, LeafNode: traits::LeafNode<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<LeafNode>, StorageError> {
        self.list(Table::OwnLeafNodes, group_id)?.iter().map(|item| decode(item)).collect()
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        self.delete(Table::OwnLeafNodes, group_id)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Result<(), StorageError> {
        let mut list = self.list(Table::ProposalRefs, group_id)?;
        list.push(encode(proposal_ref)?);
        self.put(Table::ProposalRefs, group_id, &list)?;
        self.put(Table::Proposal, &(group_id, proposal_ref), proposal)
    }

    fn queued_proposal_refs<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<ProposalRef>, StorageError> {
        self.list(Table::ProposalRefs, group_id)?.iter().map(|item| decode(item)).collect()
    }

    fn queued_proposals<
        GroupId: traits::GroupId<V>,
        ProposalRef: traits::ProposalRef<V>,
        QueuedProposal: traits::QueuedProposal<V>,
    >(
        &self,
        group_id: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StorageError> {
        let refs: Vec<ProposalRef> = self.queued_proposal_refs(group_id)?;
        refs.into_iter()
            .map(|proposal_ref| {
                let proposal = self.get(Table::Proposal, &(group_id, &proposal_ref))?;
                Ok((proposal_ref, proposal.ok_or(StorageError::Decode)?))
            })
            .collect()
    }

    fn remove_proposal<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
        proposal_ref: &ProposalRef,
    ) -> Result<(), StorageError> {
        let encoded = encode(proposal_ref)?;
        let mut list = self.list(Table::ProposalRefs, group_id)?;
        list.retain(|item| *item != encoded);
        self.put(Table::ProposalRefs, group_id, &list)?;
        self.delete(Table::Proposal, &(group_id, proposal_ref))
    }

    fn clear_proposal_queue<GroupId: traits::GroupId<V>, ProposalRef: traits::ProposalRef<V>>(
        &self,
        group_id: &GroupId,
    ) -> Result<(), StorageError> {
        let refs: Vec<ProposalRef> = self.queued_proposal_refs(group_id)?;
        for proposal_ref in refs {
            self.delete(Table::Proposal, &(group_id, proposal_ref))?;
        }
        self.delete(Table::ProposalRefs, group_id)
    }
}
