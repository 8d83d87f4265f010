//! Joining by external commit (protocol §6, RFC 9420 §12.4.3.2).

use std::sync::Arc;

use openmls::prelude::{LeafNodeParameters, MlsGroup, ProposalStore, PublicGroup, RatchetTreeIn};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{
    commit::to_bytes, entrance::verifiable as group_info, error::GroupError, hydrated,
    local::LocalMember, node::PendingCommit, signatures::while_verified,
};
use crate::{
    error::MalformedError,
    record::{CommitRecord, ParentView, check_well_formed},
    roster::Roster,
    schedule::{Operation, Provider, Verified},
    wire::{
        aad::CommitAad, commit::CommitMessage, group_info::GroupInfo, ratchet_tree::RatchetTree,
    },
};

/// What an external commit starts from: an epoch's public state.
#[derive(Clone, Copy, Debug)]
pub struct PublicState<'a> {
    /// The epoch's record.
    pub record: &'a CommitRecord,
    /// Its GroupInfo with the external_pub extension, as MLSMessage, without tree.
    pub group_info: &'a [u8],
    /// Its ratchet tree.
    pub tree: &'a [u8],
}

/// Makes an external commit that adds ourselves (and removes our old leaf if it has the same
/// signature key). Also gives the roster of the parent.
pub(super) fn external_commit(
    room_id: &str,
    local: &LocalMember,
    parent: PublicState<'_>,
) -> Result<(PendingCommit, Roster), GroupError> {
    let info = GroupInfo::parse(parent.group_info)?;
    if info.context.group_id != room_id.as_bytes() {
        return Err(GroupError::WrongRoom);
    }
    if info.context.confirmed_transcript_hash != Some(parent.record.confirmed_transcript_hash) {
        return Err(GroupError::WelcomeMismatch);
    }
    // The tree travels beside it; one inside could be of any size.
    if info.ratchet_tree().is_some() {
        return Err(MalformedError::Unsupported.into());
    }
    let public_tree = RatchetTree::parse(parent.tree)?;
    let parent_context = info.context.as_bytes().to_vec();
    let aad = CommitAad {
        parent: Some(parent.record.node),
        parent_context_hash: info.context.hash(),
        parent_tag: info.confirmation_tag,
        resolves: Vec::new(),
    };

    // OpenMLS verifies the tree's leaves twice.
    let verified = Arc::<Verified>::default();
    let operation = || Operation { verified: Arc::clone(&verified), ..Operation::default() };
    let provider = Provider::new(operation());
    let (group, roster, commit, new_info, tree) = hydrated::guarded(|| {
        let tree =
            || RatchetTreeIn::tls_deserialize_exact_bytes(parent.tree).map_err(GroupError::openmls);
        // OpenMLS does not show the tree to an external joiner, so it is read on the side.
        let scratch = Provider::new(operation());
        let ((public, _), roster) =
            while_verified(&public_tree, room_id.as_bytes(), &verified, || {
                PublicGroup::from_external(
                    scratch.crypto(),
                    scratch.storage(),
                    tree()?,
                    group_info(parent.group_info)?,
                    ProposalStore::new(),
                )
                .map_err(GroupError::openmls)
            })?;
        let roster = hydrated::roster(public.members(), &roster)?;
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree()?)
            .with_config(hydrated::join_config())
            .with_aad(aad.to_bytes())
            .skip_lifetime_validation()
            .build_group(&provider, group_info(parent.group_info)?, local.credential())
            .map_err(GroupError::openmls)?
            .leaf_node_parameters(
                LeafNodeParameters::builder().with_capabilities(hydrated::capabilities()).build(),
            )
            .load_psks(provider.storage())
            .map_err(GroupError::openmls)?
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(provider.rand(), provider.crypto(), local, |_| true)
            .map_err(GroupError::openmls)?
            .finalize(&provider)
            .map_err(GroupError::openmls)?;
        let (commit, _, info) = bundle.into_messages();
        let tree =
            group.export_ratchet_tree().tls_serialize_detached().map_err(GroupError::openmls)?;
        let info = to_bytes(&info.ok_or(GroupError::StateMissing)?)?;
        Ok((group, roster, to_bytes(&commit)?, info, tree))
    })?;

    let message = CommitMessage::parse(&commit)?;
    let view = ParentView::new(room_id.as_bytes(), parent.record, &roster);
    let record = check_well_formed(&message, &parent_context, view)?;
    let new_roster = Arc::new(record.roster_after(&roster));
    let (node, _) = hydrated::dehydrate(provider, &group, record, new_roster)?;
    let group_info = new_info;
    Ok((PendingCommit { node, commit, parent_context, welcome: None, group_info, tree }, roster))
}
