#![doc = include_str!("../README.md")]

mod authenticated_data;
mod credential;
mod crypto;
mod ed25519;
mod epoch_key;
mod error;
mod extension;
mod graph;
mod group;
mod ids;
mod picture;
mod ranking;
mod record;
mod roster;
mod schedule;
mod serde_bytes_vec;
mod storage;
#[cfg(test)]
mod test_utils;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod wire;

pub use crate::{
    authenticated_data::MessageAad,
    credential::{CredentialError, Device, Identity, verify_device_signature},
    crypto::Secret,
    epoch_key::{
        DecryptError, DecryptedMessage, EncryptError, EpochKey, EpochKeyParts, GENERATION_LIMIT,
        MAX_MESSAGE_LENGTH, MAX_SKIPPED_KEYS, MessageHeader, MessageSender, PuncturedTree,
        SecretTree, peek,
    },
    error::MalformedError,
    extension::{ExternalJoins, GroupExtension, HistoryPolicy, TrustRequirement},
    graph::{Candidate, ChoiceStep, Graph, Inserted, NodeStatus, Rule, Summary},
    group::{
        CommitPlan, Confirmation, Departure, GraphEntry, Group, GroupChanges, GroupError,
        LocalMember, MAX_PASSED_ON, MAX_RETAINED_STATES, NewNode, NodeState, Objection,
        OwnKeyPackage, PassedOn, PendingCommit, PublicParts, PublicState, Received, Repair,
        SealedEpochKey, SeenBecause, WelcomeParts, new_key_package, new_request_key,
    },
    ids::{
        ALGORITHM, EXTENSION_TYPE, HASH_LENGTH, InstanceId, InvalidId, KeyPackageRef, NAMESPACE,
        NodeId,
    },
    picture::{EpochCommit, EpochGraph, EpochNode},
    ranking::rank_of,
    record::{Author, CommitRecord, IllFormed, ParentView, check_founding, check_well_formed},
    roster::{Member, Roster},
    schedule::{Pprf, Punctured, Vault},
    storage::{Entries, StorageError},
    wire::{
        aad::{CommitAad, MAX_RESOLVES},
        commit::{CommitMessage, CommitSender, MAX_COMMIT_BYTES, UpdatePath},
        extensions::{Extension, RequiredCapabilities},
        group_context::{GroupContext, MAX_GROUP_CONTEXT_BYTES},
        group_info::{GroupInfo, MAX_GROUP_INFO_BYTES},
        key_package::{KeyPackage, KeyPackageError, MAX_KEY_PACKAGE_BYTES, key_package_ref},
        leaf_node::{LeafError, LeafNode, LeafNodeSource},
        proposal::{CommitProposal, MAX_LEAVES},
        ratchet_tree::ratchet_tree_hash,
        transcript::{confirmed_transcript_hash, interim_transcript_hash},
        welcome::{MAX_WELCOME_BYTES, Welcome},
    },
};
