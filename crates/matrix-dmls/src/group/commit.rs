//! Making a commit.

use std::{collections::HashSet, sync::Arc};

use openmls::prelude::{BasicCredential, LeafNodeIndex, Member, MlsGroup, MlsMessageOut};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize as _;

use super::{
    error::GroupError,
    hydrated,
    local::LocalMember,
    node::{NodeState, PendingCommit},
};
use crate::{
    credential::{Device, Identity},
    crypto::sha256,
    extension::GroupExtension,
    ids::NodeId,
    record::{CommitRecord, IllFormed, ParentView, check_founding, check_well_formed},
    roster::Roster,
    schedule::Vault,
    wire::{
        aad::CommitAad,
        commit::CommitMessage,
        key_package::{KeyPackage, key_package_ref},
        tls::Reader,
    },
};

/// What a commit is to change. Removals come before additions, all in one commit; without any of
/// them it only updates our own keys.
#[derive(Clone, Debug, Default)]
pub struct CommitPlan {
    /// Leaves to remove.
    pub remove: Vec<u32>,
    /// Key packages (RFC 9420 §10, without MLSMessage around them) of those to add.
    pub add: Vec<Vec<u8>>,
    /// The extension to set. Only its history policy may differ from the current one (protocol §7).
    pub extension: Option<GroupExtension>,
    /// Whether to renew our own keys when the commit only adds. Without it, such a commit has no
    /// update path, which saves O(members) in a freshly filled tree.
    pub update: bool,
    /// Losing tips that we know, at most 32 (protocol §8).
    pub resolves: Vec<NodeId>,
    /// Half of the members, by their keys, cannot process the commit: what a malicious author does.
    #[cfg(feature = "testing")]
    pub spoils_paths: bool,
}

/// The epoch to commit on.
pub(super) struct Parent<'a> {
    /// Its record; none of a founder's epoch 0, which is no node.
    pub(super) record: Option<&'a CommitRecord>,
    pub(super) state: &'a NodeState,
    pub(super) vault: &'a Vault,
    pub(super) roster: &'a Roster,
}

/// Makes a commit and its child. Also gives the parent's vault, punctured where the child was
/// derived.
pub(super) fn commit(
    parent: &Parent<'_>,
    room_id: &str,
    local: &LocalMember,
    plan: CommitPlan,
) -> Result<(PendingCommit, Vault), GroupError> {
    if plan.remove.contains(&parent.state.own_leaf) {
        return Err(GroupError::RemovesItself);
    }
    if let Some(blank) = plan.remove.iter().find(|leaf| parent.roster.get(**leaf).is_none()) {
        return Err(GroupError::BlankLeaf(*blank));
    }
    let distinct: HashSet<_> = plan.remove.iter().collect();
    if distinct.len() < plan.remove.len() {
        return Err(IllFormed::RemoveTwice.into());
    }
    let only_adds = plan.remove.is_empty() && plan.extension.is_none() && !plan.add.is_empty();
    let path = plan.update || !only_adds;
    let alone = parent.roster.len() - plan.remove.len() + plan.add.len() == 1;
    let aad = CommitAad {
        parent: parent.record.map(|record| record.node),
        parent_context_hash: sha256(&[&parent.state.context]),
        parent_tag: parent.state.confirmation_tag,
        resolves: plan.resolves,
    };

    let (provider, mut group) =
        hydrated::hydrate(parent.state, parent.vault, room_id.as_bytes(), alone)?;
    #[cfg(feature = "testing")]
    let provider = provider.spoiling(plan.spoils_paths);
    let (commit, welcome, group_info, tree) = hydrated::guarded(|| {
        check_keys(&group, &plan.remove, &plan.add)?;
        let refused = |bytes: &Vec<u8>| GroupError::KeyPackage(key_package_ref(bytes));
        let key_packages = plan
            .add
            .iter()
            .map(|bytes| hydrated::key_package(&provider, bytes).map_err(|_| refused(bytes)))
            .collect::<Result<Vec<_>, _>>()?;
        group.set_aad(aad.to_bytes());
        let mut builder = group
            .commit_builder()
            .consume_proposal_store(false)
            .force_self_update(path)
            .propose_removals(plan.remove.iter().copied().map(LeafNodeIndex::new))
            .propose_adds(key_packages);
        if let Some(extension) = &plan.extension {
            builder = builder
                .propose_group_context_extensions(hydrated::context_extensions(extension)?)
                .map_err(GroupError::openmls)?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(GroupError::openmls)?
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(provider.rand(), provider.crypto(), local, |_| true)
            .map_err(GroupError::openmls)?
            .stage_commit(&provider)
            .map_err(GroupError::openmls)?;
        let (commit, welcome, group_info) = bundle.into_messages();
        group.merge_pending_commit(&provider).map_err(GroupError::openmls)?;
        Ok((
            to_bytes(&commit)?,
            welcome.as_ref().map(to_bytes).transpose()?,
            to_bytes(&group_info.ok_or(GroupError::StateMissing)?)?,
            group.export_ratchet_tree().tls_serialize_detached().map_err(GroupError::openmls)?,
        ))
    })?;

    // Our own commit goes through the same gate as everybody's, before it leaves.
    let message = CommitMessage::parse(&commit)?;
    let group_id = room_id.as_bytes();
    let record = match parent.record {
        None => check_founding(&message, &parent.state.context, group_id)?.0,
        Some(record) => {
            let view = ParentView::new(group_id, record, parent.roster);
            check_well_formed(&message, &parent.state.context, view)?
        }
    };
    let roster = Arc::new(record.roster_after(parent.roster));
    let (node, vault) = hydrated::dehydrate(provider, &group, record, roster)?;
    let pending = PendingCommit {
        node,
        commit,
        parent_context: parent.state.context.clone(),
        welcome,
        group_info,
        tree,
    };
    Ok((pending, vault.ok_or(GroupError::StateMissing)?))
}

/// Every key is in the tree once (RFC 9420 §7.3, §12.1.1). Anybody can put another device's public keys
/// into its key package; that must not keep others from committing, so it is named.
fn check_keys(group: &MlsGroup, remove: &[u32], add: &[Vec<u8>]) -> Result<(), GroupError> {
    let gone: HashSet<_> = remove.iter().copied().collect();
    let stay = |member: &Member| !gone.contains(&member.index.u32());
    let mut keys = HashSet::new();
    let mut devices = HashSet::new();
    for member in group.members().filter(stay) {
        keys.insert(member.encryption_key);
        keys.insert(member.signature_key);
        if let Ok(credential) = BasicCredential::try_from(member.credential) {
            let Device { user_id, device_id, .. } =
                Identity::from_bytes(credential.identity())?.device;
            devices.insert((user_id, device_id));
        }
    }
    for bytes in add {
        let refused = || GroupError::KeyPackage(key_package_ref(bytes));
        let key_package = KeyPackage::read(&mut Reader::new(bytes)).map_err(|_| refused())?;
        let KeyPackage { init_key, leaf, .. } = &key_package;
        let Device { user_id, device_id, .. } = leaf.identity.device.clone();
        let distinct = [init_key, &leaf.encryption_key, &leaf.signature_key]
            .into_iter()
            .all(|key| keys.insert(key.to_vec()));
        if !distinct || !devices.insert((user_id, device_id)) {
            return Err(refused());
        }
    }
    Ok(())
}

pub(super) fn to_bytes(message: &MlsMessageOut) -> Result<Vec<u8>, GroupError> {
    message.tls_serialize_detached().map_err(GroupError::openmls)
}
