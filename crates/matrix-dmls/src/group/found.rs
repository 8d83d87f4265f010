//! Founding: the group begins with a commit on its creator's private epoch 0 (protocol §2).

use std::sync::Arc;

use openmls::prelude::{
    GroupId, Lifetime, MlsGroup, MlsGroupCreateConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
};
use tls_codec::Serialize as _;

use super::{
    commit::{self, CommitPlan, Parent},
    error::GroupError,
    hydrated::{self, CIPHERSUITE},
    local::LocalMember,
    node::{NodeState, PendingCommit},
};
use crate::{
    extension::GroupExtension,
    roster::Roster,
    schedule::{Operation, Provider},
};

/// Founds the group of a room, with those whose key packages are given.
pub(super) fn found(
    room_id: &str,
    local: &LocalMember,
    extension: &GroupExtension,
    key_packages: Vec<Vec<u8>>,
) -> Result<PendingCommit, GroupError> {
    let config = MlsGroupCreateConfig::builder()
        .ciphersuite(CIPHERSUITE)
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(0)
        .lifetime(Lifetime::init(0, u64::MAX))
        .capabilities(hydrated::capabilities())
        .with_group_context_extensions(hydrated::context_extensions(extension)?)
        .build();
    let provider = Provider::new(Operation::default());
    let group = MlsGroup::new_with_group_id(
        &provider,
        local,
        &config,
        GroupId::from_slice(room_id.as_bytes()),
        local.credential(),
    )
    .map_err(GroupError::openmls)?;

    let context = group
        .public_group()
        .group_context()
        .tls_serialize_detached()
        .map_err(GroupError::openmls)?;
    let confirmation_tag = hydrated::confirmation_tag(&group)?;
    let outcome =
        provider.finish(group.epoch_authenticator().as_slice()).ok_or(GroupError::StateMissing)?;
    // Epoch 0 is nobody's node: it lives for the length of this function.
    let state = NodeState { entries: outcome.entries, own_leaf: 0, context, confirmation_tag };
    let roster: Roster = [(0, Arc::new(local.member()))].into_iter().collect();
    let parent = Parent { record: None, state: &state, vault: &outcome.vault, roster: &roster };
    let plan = CommitPlan { add: key_packages, update: true, ..CommitPlan::default() };
    let (pending, _) = commit::commit(&parent, room_id, local, plan)?;
    Ok(pending)
}
