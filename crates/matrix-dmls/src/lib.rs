//! Decentralised MLS.

mod credential;
mod crypto;
mod error;
mod extension;
mod ids;
mod record;
mod roster;
mod serde_bytes_vec;
#[cfg(test)]
mod test_utils;
mod wire;

pub use crate::{
    credential::{CredentialError, Device, Identity},
    crypto::Secret,
    error::MalformedError,
    extension::{ExternalJoins, GroupExtension, HistoryPolicy, TrustRequirement},
    ids::{
        ALGORITHM, EXTENSION_TYPE, HASH_LENGTH, InstanceId, InvalidId, KeyPackageRef, NAMESPACE,
        NodeId,
    },
    record::{Author, CommitRecord, IllFormed, ParentView, check_founding, check_well_formed},
    roster::{Member, Roster},
    wire::{
        aad::{CommitAad, MAX_RESOLVES},
        commit::{CommitMessage, CommitSender, MAX_COMMIT_BYTES, UpdatePath},
        extensions::{Extension, RequiredCapabilities},
        group_context::{GroupContext, MAX_GROUP_CONTEXT_BYTES},
        group_info::{GroupInfo, MAX_GROUP_INFO_BYTES},
        key_package::{KeyPackage, KeyPackageError, MAX_KEY_PACKAGE_BYTES, key_package_ref},
        leaf_node::{LeafError, LeafNode, LeafNodeSource},
        proposal::{CommitProposal, MAX_LEAVES},
        transcript::{confirmed_transcript_hash, interim_transcript_hash},
        welcome::{MAX_WELCOME_BYTES, Welcome},
    },
};
