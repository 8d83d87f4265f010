//! What the event of a commit says to those who are not in the group: the epoch's record and its
//! members, from the GroupInfo and the tree beside the commit (protocol §6).

use std::collections::HashSet;

use openmls::prelude::{
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, ProposalStore, PublicGroup,
    RatchetTreeIn, group_info::VerifiableGroupInfo,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{error::GroupError, hydrated};
use crate::{
    error::MalformedError,
    record::{CommitRecord, check_entrance},
    roster::Roster,
    schedule::{Operation, Provider},
    wire::{
        commit::{CommitMessage, CommitSender},
        group_info::GroupInfo,
        proposal::CommitProposal,
        ratchet_tree,
    },
};

/// What the event of a commit carries.
#[derive(Clone, Copy, Debug)]
pub struct PublicParts<'a> {
    /// The commit, MLSMessage(PublicMessage).
    pub commit: &'a [u8],
    /// The GroupContext of the commit's parent.
    pub parent_context: &'a [u8],
    /// The GroupInfo of the epoch that the commit makes, with the external_pub extension, as
    /// MLSMessage, without tree.
    pub group_info: &'a [u8],
    /// The ratchet tree of that epoch.
    pub tree: &'a [u8],
}

/// The record and the roster of the epoch that a commit makes. The record lacks the changes.
///
/// The GroupInfo has to be signed by the commit's author, so that nobody else can pair the commit
/// with another tree.
pub(super) fn look_in(
    room_id: &str,
    message: &CommitMessage,
    parts: PublicParts<'_>,
) -> Result<(CommitRecord, Roster), GroupError> {
    let info = GroupInfo::parse(parts.group_info)?;
    if info.ratchet_tree().is_some() {
        return Err(MalformedError::Unsupported.into());
    }
    ratchet_tree::check_size(parts.tree)?;
    let roster = roster_of(&info, parts)?;
    let record = check_entrance(message, parts.parent_context, room_id.as_bytes(), &roster)?;
    check_info(room_id, message, &record, &roster, &info)?;
    let members: HashSet<_> = roster.iter().map(|(_, member)| &**member).collect();
    let adds_are_there = message.proposals().iter().all(|proposal| match proposal {
        CommitProposal::Add(key_package) => members.contains(&key_package.member()),
        _ => true,
    });
    if adds_are_there { Ok((record, roster)) } else { Err(GroupError::WrongTree) }
}

/// Whether a GroupInfo is that of the epoch which a commit makes, and signed by the commit's author.
pub(super) fn check_info(
    room_id: &str,
    message: &CommitMessage,
    record: &CommitRecord,
    roster: &Roster,
    info: &GroupInfo,
) -> Result<(), GroupError> {
    if info.context.group_id != room_id.as_bytes() {
        return Err(GroupError::WrongRoom);
    }
    let author = match message.sender() {
        CommitSender::Member(leaf) => Some(leaf),
        CommitSender::NewMember => roster.leaf_of(record.author.member.device()),
    };
    let fits = info.context.epoch == record.epoch
        && info.context.confirmed_transcript_hash == Some(record.confirmed_transcript_hash)
        && info.context.extension == record.extension
        && info.confirmation_tag == *message.confirmation_tag()
        && author == Some(info.signer);
    if fits { Ok(()) } else { Err(GroupError::WelcomeMismatch) }
}

/// The ratchet tree of the last of some commits, from what the event of the first one shows and the
/// public part of the others, each of which is made on the one before it.
pub(super) fn replay(parts: PublicParts<'_>, commits: &[Vec<u8>]) -> Result<Vec<u8>, GroupError> {
    ratchet_tree::check_size(parts.tree)?;
    hydrated::guarded(|| {
        let provider = Provider::new(Operation::default());
        let mut public = public_group(&provider, parts)?;
        for commit in commits {
            let message =
                MlsMessageIn::tls_deserialize_exact_bytes(commit).map_err(GroupError::openmls)?;
            let message = message.try_into_protocol_message().map_err(GroupError::openmls)?;
            let processed =
                public.process_message(provider.crypto(), message).map_err(GroupError::openmls)?;
            let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content()
            else {
                return Err(MalformedError::Unsupported.into());
            };
            public.merge_commit(provider.storage(), *staged).map_err(GroupError::openmls)?;
        }
        public.export_ratchet_tree().tls_serialize_detached().map_err(GroupError::openmls)
    })
}

/// An epoch's public state, which OpenMLS has verified.
fn public_group(provider: &Provider, parts: PublicParts<'_>) -> Result<PublicGroup, GroupError> {
    let tree =
        RatchetTreeIn::tls_deserialize_exact_bytes(parts.tree).map_err(GroupError::openmls)?;
    let (public, _) = PublicGroup::from_external(
        provider.crypto(),
        provider.storage(),
        tree,
        verifiable(parts.group_info)?,
        ProposalStore::new(),
    )
    .map_err(GroupError::openmls)?;
    Ok(public)
}

/// The members of a tree, after OpenMLS has verified it and the GroupInfo with it.
fn roster_of(info: &GroupInfo, parts: PublicParts<'_>) -> Result<Roster, GroupError> {
    let roster = hydrated::guarded(|| {
        let provider = Provider::new(Operation::default());
        hydrated::roster(public_group(&provider, parts)?.members(), &Roster::new())
    })?;
    let signer = roster.get(info.signer).ok_or(GroupError::WelcomeMismatch)?;
    if info.is_signed_by(&signer.signature_key) {
        Ok(roster)
    } else {
        Err(GroupError::WelcomeMismatch)
    }
}

/// A GroupInfo as OpenMLS wants it.
pub(super) fn verifiable(bytes: &[u8]) -> Result<VerifiableGroupInfo, GroupError> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).map_err(GroupError::openmls)?;
    match message.extract() {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(GroupError::Mls("not a GroupInfo".to_owned())),
    }
}
