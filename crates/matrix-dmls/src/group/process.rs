//! Processing a commit of somebody else.

use std::sync::Arc;

use openmls::prelude::{MlsMessageIn, ProcessedMessageContent};
use tls_codec::DeserializeBytes as _;

use super::{
    error::GroupError,
    hydrated,
    node::{NewNode, NodeState},
};
use crate::{record::CommitRecord, roster::Roster, schedule::Vault, wire::commit::CommitMessage};

/// Enters the child that a well-formed commit makes. Also gives the parent's vault, punctured where
/// the child was derived.
///
/// # Errors
///
/// Every error means that the commit is not admissible for us (protocol §2): the node is seen, not
/// entered.
pub(super) fn process(
    state: &NodeState,
    vault: &Vault,
    parent_roster: &Roster,
    room_id: &str,
    message: &CommitMessage,
    record: CommitRecord,
) -> Result<(NewNode, Vault), GroupError> {
    let (provider, mut group) = hydrated::hydrate(state, vault, room_id.as_bytes(), false)?;
    hydrated::guarded(|| {
        let message = MlsMessageIn::tls_deserialize_exact_bytes(message.as_bytes())
            .map_err(GroupError::openmls)?
            .try_into_protocol_message()
            .map_err(GroupError::openmls)?;
        let processed = group.process_message(&provider, message).map_err(|error| {
            if provider.is_punctured() { GroupError::Punctured } else { GroupError::openmls(error) }
        })?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(GroupError::Mls("not a commit".to_owned()));
        };
        group.merge_staged_commit(&provider, *staged).map_err(GroupError::openmls)
    })?;

    // Our record of the commit and OpenMLS's tree must never disagree about who is in.
    let roster = Arc::new(record.roster_after(parent_roster));
    if !hydrated::has_roster(group.members(), &roster) {
        return Err(GroupError::Mls("the tree has other leaves than the commit says".to_owned()));
    }
    let (node, vault) = hydrated::dehydrate(provider, &group, record, roster)?;
    Ok((node, vault.ok_or(GroupError::StateMissing)?))
}
