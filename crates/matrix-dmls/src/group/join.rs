//! Joining by Welcome (protocol §6, RFC 9420 §12.4.3.1).

use std::{collections::HashSet, sync::Arc};

use openmls::prelude::{
    MlsMessageBodyIn, MlsMessageIn, ProcessedWelcome, RatchetTreeIn, StagedWelcome,
};
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{
    error::GroupError, hydrated, key_package::OwnKeyPackage, local::LocalMember, node::NewNode,
    signatures::while_verified,
};
use crate::{
    error::MalformedError,
    ids::KeyPackageRef,
    record::check_entrance,
    roster::Roster,
    schedule::{Operation, Provider, Verified},
    wire::{
        commit::CommitMessage,
        group_context::{GroupContext, MAX_GROUP_CONTEXT_BYTES},
        proposal::CommitProposal,
        ratchet_tree::RatchetTree,
        transcript::{confirmed_transcript_hash, interim_transcript_hash},
        welcome::Welcome,
    },
};

/// A GroupInfo without tree is a GroupContext and some hundred bytes.
const MAX_ENCRYPTED_GROUP_INFO: usize = 2 * MAX_GROUP_CONTEXT_BYTES;

/// A Welcome with all that it needs.
#[derive(Clone, Copy, Debug)]
pub struct WelcomeParts<'a> {
    /// MLSMessage(Welcome), at least with our own secrets in it.
    pub welcome: &'a [u8],
    /// The ratchet tree of the epoch.
    pub tree: &'a [u8],
    /// The commit that made the epoch, MLSMessage(PublicMessage), from the room.
    pub commit: &'a [u8],
    /// The GroupContext of that commit's parent, from the same event.
    pub parent_context: &'a [u8],
    /// Our key package, which the Welcome was made for.
    pub key_package: &'a OwnKeyPackage,
}

/// Joins. The key package is used up by this exactly when the result is stored.
pub(super) fn join(
    room_id: &str,
    local: &LocalMember,
    commit: &CommitMessage,
    parts: WelcomeParts<'_>,
) -> Result<NewNode, GroupError> {
    let aad = commit.aad();
    let epoch = commit.epoch().saturating_add(1);
    // The parent's GroupContext is only what the author signed the hash of.
    let parent_context = GroupContext::parse(parts.parent_context)?;
    if parent_context.hash() != aad.parent_context_hash {
        return Err(GroupError::WelcomeMismatch);
    }
    let parent_hash = parent_context.confirmed_transcript_hash;
    let parent_hash = parent_hash.as_ref().map_or(&[][..], <[u8; 32]>::as_slice);
    let confirmed = confirmed_transcript_hash(
        &interim_transcript_hash(parent_hash, &aad.parent_tag),
        commit.confirmed_transcript_hash_input(),
    );
    // Before OpenMLS makes much of little.
    if Welcome::parse(parts.welcome)?.encrypted_group_info().len() > MAX_ENCRYPTED_GROUP_INFO {
        return Err(MalformedError::TooLarge.into());
    }
    let public_tree = RatchetTree::parse(parts.tree)?;

    let verified = Arc::<Verified>::default();
    let provider = Provider::new(Operation {
        entries: parts.key_package.private.clone(),
        verified: Arc::clone(&verified),
        ..Operation::default()
    });
    let (group, roster) = hydrated::guarded(|| {
        let message = MlsMessageIn::tls_deserialize_exact_bytes(parts.welcome)
            .map_err(GroupError::openmls)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(GroupError::WelcomeMismatch);
        };
        let tree =
            RatchetTreeIn::tls_deserialize_exact_bytes(parts.tree).map_err(GroupError::openmls)?;
        let processed =
            ProcessedWelcome::new_from_welcome(&provider, &hydrated::join_config(), welcome)
                .map_err(|error| match error {
                    openmls::prelude::WelcomeError::NoMatchingKeyPackage => {
                        GroupError::NoMatchingKeyPackage
                    }
                    other => GroupError::openmls(other),
                })?;
        // So that a server cannot pair a Welcome with another epoch.
        let info = processed.unverified_group_info();
        let context = info.group_context();
        if context.group_id().as_slice() != room_id.as_bytes()
            || context.confirmed_transcript_hash() != confirmed
            || context.epoch().as_u64() != epoch
        {
            return Err(GroupError::WelcomeMismatch);
        }
        while_verified(&public_tree, room_id.as_bytes(), &verified, || {
            let staged: StagedWelcome = openmls::prelude::JoinBuilder::new(&provider, processed)
                .with_ratchet_tree(tree)
                .skip_lifetime_validation()
                .build()
                .map_err(GroupError::openmls)?;
            staged.into_group(&provider).map_err(GroupError::openmls)
        })
    })?;
    if hydrated::confirmation_tag(&group)? != *commit.confirmation_tag() {
        return Err(GroupError::WelcomeMismatch);
    }

    let roster = Arc::new(hydrated::roster(group.members(), &roster)?);
    let own_leaf = group.own_leaf_index().u32();
    if roster.get(own_leaf).is_none_or(|member| **member != local.member()) {
        return Err(GroupError::WelcomeMismatch);
    }
    let context = group
        .public_group()
        .group_context()
        .tls_serialize_detached()
        .map_err(GroupError::openmls)?;
    let record = check_entrance(commit, parts.parent_context, room_id.as_bytes(), &roster)?;
    if record.extension != GroupContext::parse(&context)?.extension
        || !adds_as_in(commit, &roster, &parts.key_package.reference)
    {
        return Err(GroupError::WelcomeMismatch);
    }
    let (mut node, _) = hydrated::dehydrate(provider, &group, record, roster)?;
    // With these keys and the recorded Welcome, punctured epochs could be derived again.
    let state = Arc::make_mut(&mut node.state);
    state.entries.remove_key_packages();
    Ok(node)
}

/// Whether those whom the commit adds are in the roster, and our key package is among them.
fn adds_as_in(commit: &CommitMessage, roster: &Roster, own: &KeyPackageRef) -> bool {
    let members: HashSet<_> = roster.iter().map(|(_, member)| &**member).collect();
    let mut found = false;
    commit.proposals().iter().all(|proposal| match proposal {
        CommitProposal::Add(key_package) => {
            found |= key_package.reference() == *own;
            members.contains(&key_package.member())
        }
        _ => true,
    }) && found
}
