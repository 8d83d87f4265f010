//! Whether a commit is well-formed (protocol §2): decided by its bytes, its parent's GroupContext and
//! its parent's roster, so that everybody who can tell agrees. OpenMLS is not asked.

use std::{collections::HashSet, sync::Arc};

use super::{Author, CommitRecord};
use crate::{
    error::MalformedError,
    extension::{ExternalJoins, GroupExtension},
    ids::{EXTENSION_TYPE, HASH_LENGTH, NodeId},
    roster::{Member, Roster},
    wire::{
        commit::{CommitMessage, CommitSender, UpdatePath},
        extensions::Extension,
        group_context::{GroupContext, protocol_extensions},
        key_package::{KeyPackage, KeyPackageError},
        leaf_node::LeafError,
        proposal::{CommitProposal, MAX_LEAVES},
        transcript::{confirmed_transcript_hash, interim_transcript_hash},
    },
};

/// Why a commit is not well-formed. It is dropped, and is no node.
///
/// [`Context`](Self::Context) and [`ContextHash`](Self::ContextHash) speak of the context that came
/// beside the commit in this copy; another copy of the same commit may bring the right one. All
/// others are of the commit itself, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IllFormed {
    /// The parent's GroupContext cannot be read.
    #[error("the parent's context cannot be read: {0}")]
    Context(#[source] MalformedError),
    /// The parent's GroupContext does not have the hash that the author signed.
    #[error("the parent's context is not the one that the author signed")]
    ContextHash,
    /// The commit, or the context, is of another room.
    #[error("of another room's group")]
    GroupId,
    /// The epoch numbers of commit, context and parent do not fit, or there is none after it.
    #[error("the epoch numbers do not fit")]
    Epoch,
    /// The context's confirmed transcript hash is not the parent's.
    #[error("the context's transcript hash is not the parent's")]
    TranscriptHash,
    /// The context's group extension is not the parent's.
    #[error("the context's group extension is not the parent's")]
    ParentExtension,
    /// The commit names another parent, or one although it should found the group, or none although
    /// it should not.
    #[error("the commit has another parent")]
    Parent,
    /// A founding commit is not from leaf 0.
    #[error("the founding commit is not from the first leaf")]
    Founder,
    /// The sender's leaf is blank in the parent's tree.
    #[error("the sender is not in the parent's tree")]
    Author,
    /// The commit's signature does not verify, strictly, under the author's key.
    #[error("the commit's signature does not verify")]
    Signature,
    /// The commit needs an update path: it does not only add.
    #[error("the update path is missing")]
    PathMissing,
    /// The path's leaf is not valid.
    #[error("the path's leaf is not valid: {0}")]
    PathLeaf(#[source] LeafError),
    /// A member's path gives its leaf to another user, device or device key.
    #[error("the path gives the leaf to another device")]
    DeviceChanged,
    /// A member's path gives its leaf a credential with a lower `seq`.
    #[error("the path's credential is older than the leaf's")]
    SeqDecreased,
    /// The key package of an Add is not valid.
    #[error("an added key package is not valid: {0}")]
    Add(#[source] KeyPackageError),
    /// A Remove names a leaf that is blank.
    #[error("a blank leaf is removed")]
    RemoveBlank,
    /// A member removes itself.
    #[error("the author removes itself")]
    RemoveSelf,
    /// A leaf is removed twice.
    #[error("a leaf is removed twice")]
    RemoveTwice,
    /// A GroupContextExtensions proposal changes more than the history policy.
    #[error("the group extensions change in more than the history policy")]
    GroupContextExtensions,
    /// A member's commit has an ExternalInit, or one of a joiner has none.
    #[error("an ExternalInit is missing or misplaced")]
    ExternalInit,
    /// An external commit has Adds or GroupContextExtensions.
    #[error("an external commit adds others or changes the group")]
    ExternalProposal,
    /// An external commit does not remove exactly the leaf that its user and device have.
    #[error("an external commit does not remove exactly the joiner's own old leaf")]
    ExternalRemove,
    /// The group does not let strangers join by external commit.
    #[error("the group does not let strangers in by external commit")]
    ExternalForbidden,
    /// The group would have more than 16,384 members.
    #[error("the group would grow too large")]
    TooManyLeaves,
    /// A device (user and device ID) would be in the tree twice.
    #[error("a device would be in the tree twice")]
    DuplicateDevice,
    /// A signature key would be in the tree twice.
    #[error("a signature key would be in the tree twice")]
    DuplicateSignatureKey,
}

/// What is known of the node that a commit was made on.
#[derive(Clone, Copy, Debug)]
pub struct ParentView<'a> {
    /// The room ID in UTF-8.
    pub group_id: &'a [u8],
    /// The node.
    pub node: NodeId,
    /// Its epoch number.
    pub epoch: u64,
    /// Its confirmed transcript hash.
    pub confirmed_transcript_hash: [u8; HASH_LENGTH],
    /// Its group extension.
    pub extension: &'a GroupExtension,
    /// Its members.
    pub roster: &'a Roster,
}

impl<'a> ParentView<'a> {
    /// The view of a node by its record and its roster.
    pub fn new(group_id: &'a [u8], record: &'a CommitRecord, roster: &'a Roster) -> Self {
        Self {
            group_id,
            node: record.node,
            epoch: record.epoch,
            confirmed_transcript_hash: record.confirmed_transcript_hash,
            extension: &record.extension,
            roster,
        }
    }
}

/// Checks a commit that was made on a known node. `parent_context` are the bytes of the parent's
/// GroupContext as they came beside the commit.
///
/// # Errors
///
/// What is wrong with the commit, or with the context beside it: see [`IllFormed`].
pub fn check_well_formed(
    commit: &CommitMessage,
    parent_context: &[u8],
    parent: ParentView<'_>,
) -> Result<CommitRecord, IllFormed> {
    let context = check_context(commit, parent_context, parent.group_id)?;
    require(commit.aad().parent == Some(parent.node), IllFormed::Parent)?;
    require(context.epoch == parent.epoch, IllFormed::Epoch)?;
    require(
        context.confirmed_transcript_hash == Some(parent.confirmed_transcript_hash),
        IllFormed::TranscriptHash,
    )?;
    require(context.extension == *parent.extension, IllFormed::ParentExtension)?;
    check_content(commit, &context, parent.roster)
}

/// Checks a founding commit, which has no node as its parent. Also gives the roster of the founder's
/// private epoch 0, which [`CommitRecord::roster_after`] takes: leaf 0 with the credential and key of
/// the commit's path.
///
/// # Errors
///
/// What is wrong with the commit, or with the context beside it: see [`IllFormed`].
pub fn check_founding(
    commit: &CommitMessage,
    parent_context: &[u8],
    group_id: &[u8],
) -> Result<(CommitRecord, Roster), IllFormed> {
    let context = check_context(commit, parent_context, group_id)?;
    require(commit.aad().parent.is_none(), IllFormed::Parent)?;
    require(context.epoch == 0, IllFormed::Epoch)?;
    require(context.confirmed_transcript_hash.is_none(), IllFormed::TranscriptHash)?;
    require(commit.sender() == CommitSender::Member(0), IllFormed::Founder)?;
    let founder = &commit.path().ok_or(IllFormed::PathMissing)?.leaf;
    let roster = [(0, Arc::new(founder.member()))].into_iter().collect();
    let record = check_content(commit, &context, &roster)?;
    Ok((record, roster))
}

/// Checks a commit as far as one can who does not know its parent: without the parent's roster, with
/// that of the epoch that it makes. The record lacks the changes, and its author is as the new tree
/// has it.
///
/// An author that changes its signature key by the commit's path does not pass: nobody but those who
/// know the parent can tell under which key it was signed. Whether the parent's roster allowed an
/// external commit stays open.
///
/// # Errors
///
/// What is wrong with the commit, or with the context beside it: see [`IllFormed`].
pub(crate) fn check_entrance(
    commit: &CommitMessage,
    parent_context: &[u8],
    group_id: &[u8],
    roster: &Roster,
) -> Result<CommitRecord, IllFormed> {
    let context = check_context(commit, parent_context, group_id)?;
    let author = find_author(commit, roster)?;
    require(
        commit.is_signed_by(&author.member.signature_key, context.as_bytes()),
        IllFormed::Signature,
    )?;
    let changes = Changes::of(commit);
    let joined: Vec<_> = match author.leaf {
        Some(leaf) => {
            check_member_shape(commit, &changes, leaf)?;
            Vec::new()
        }
        None => {
            require(changes.has_external_init, IllFormed::ExternalInit)?;
            let adds_nothing = changes.adds.is_empty() && changes.extensions.is_none();
            require(adds_nothing, IllFormed::ExternalProposal)?;
            require(changes.removes.len() <= 1, IllFormed::ExternalRemove)?;
            let is_joiner = |(_, member): &(u32, &Arc<Member>)| **member == author.member;
            let (leaf, member) = roster.iter().find(is_joiner).ok_or(IllFormed::Author)?;
            vec![(leaf, Arc::clone(member))]
        }
    };
    check_path(commit.path(), &context, &author, &joined)?;
    check_unique(roster)?;
    let extension = new_extension(&changes, &context)?;
    record(commit, &context, extension, author)
}

/// What can be said of the context without the parent.
fn check_context(
    commit: &CommitMessage,
    parent_context: &[u8],
    group_id: &[u8],
) -> Result<GroupContext, IllFormed> {
    let context = GroupContext::parse(parent_context).map_err(IllFormed::Context)?;
    require(context.hash() == commit.aad().parent_context_hash, IllFormed::ContextHash)?;
    require(context.group_id == group_id && commit.group_id() == group_id, IllFormed::GroupId)?;
    require(context.epoch == commit.epoch(), IllFormed::Epoch)?;
    Ok(context)
}

/// The proposals of a commit, by kind.
#[derive(Default)]
struct Changes<'a> {
    adds: Vec<&'a KeyPackage>,
    removes: Vec<u32>,
    extensions: Option<&'a [Extension]>,
    has_external_init: bool,
}

impl<'a> Changes<'a> {
    fn of(commit: &'a CommitMessage) -> Self {
        let mut changes = Self::default();
        // The parser lets no second ExternalInit and no second GroupContextExtensions through.
        for proposal in commit.proposals() {
            match proposal {
                CommitProposal::Add(key_package) => changes.adds.push(key_package),
                CommitProposal::Remove(leaf) => changes.removes.push(*leaf),
                CommitProposal::GroupContextExtensions(list) => changes.extensions = Some(list),
                CommitProposal::ExternalInit { .. } => changes.has_external_init = true,
            }
        }
        changes
    }

    fn only_adds(&self) -> bool {
        !self.adds.is_empty() && self.removes.is_empty() && self.extensions.is_none()
    }
}

/// Everything but the commit's place in the graph.
fn check_content(
    commit: &CommitMessage,
    context: &GroupContext,
    parent: &Roster,
) -> Result<CommitRecord, IllFormed> {
    let changes = Changes::of(commit);
    let author = find_author(commit, parent)?;
    // First of all that costs something: from here on only a member (or somebody with the trouble of
    // making keys) can make us work.
    require(
        commit.is_signed_by(&author.member.signature_key, context.as_bytes()),
        IllFormed::Signature,
    )?;
    let removed = find_removed(&changes, parent)?;
    match author.leaf {
        Some(leaf) => check_member_shape(commit, &changes, leaf)?,
        None => check_external_shape(&changes, context, parent, &author.member)?,
    }
    let extension = new_extension(&changes, context)?;

    let mut roster = parent.clone();
    for (leaf, _) in &removed {
        roster.remove(*leaf);
    }
    let joiner = author.leaf.is_none().then(|| Arc::clone(&author.member));
    let added = place_added(&changes, context, joiner, &mut roster)?;
    let updated = check_path(commit.path(), context, &author, &added)?;
    if let Some((leaf, member)) = &updated {
        roster.insert(*leaf, Arc::clone(member));
    }
    check_unique(&roster)?;
    Ok(CommitRecord { removed, added, updated, ..record(commit, context, extension, author)? })
}

/// The record of a commit without its changes.
fn record(
    commit: &CommitMessage,
    context: &GroupContext,
    extension: GroupExtension,
    author: Author,
) -> Result<CommitRecord, IllFormed> {
    let interim = interim_transcript_hash(
        context.confirmed_transcript_hash.as_ref().map_or(&[], |hash| hash.as_slice()),
        &commit.aad().parent_tag,
    );
    Ok(CommitRecord {
        node: commit.node_id(),
        parent: commit.aad().parent,
        epoch: context.epoch.checked_add(1).ok_or(IllFormed::Epoch)?,
        author,
        removed: Vec::new(),
        added: Vec::new(),
        updated: None,
        confirmed_transcript_hash: confirmed_transcript_hash(
            &interim,
            commit.confirmed_transcript_hash_input(),
        ),
        extension,
        resolves: commit.aad().resolves.clone(),
    })
}

fn find_author(commit: &CommitMessage, parent: &Roster) -> Result<Author, IllFormed> {
    match commit.sender() {
        CommitSender::Member(leaf) => {
            let member = parent.get(leaf).ok_or(IllFormed::Author)?;
            Ok(Author { leaf: Some(leaf), member: Arc::clone(member) })
        }
        CommitSender::NewMember => {
            let path = commit.path().ok_or(IllFormed::PathMissing)?;
            Ok(Author { leaf: None, member: Arc::new(path.leaf.member()) })
        }
    }
}

fn find_removed(
    changes: &Changes<'_>,
    parent: &Roster,
) -> Result<Vec<(u32, Arc<Member>)>, IllFormed> {
    let mut seen = HashSet::new();
    changes
        .removes
        .iter()
        .map(|leaf| {
            require(seen.insert(*leaf), IllFormed::RemoveTwice)?;
            let member = parent.get(*leaf).ok_or(IllFormed::RemoveBlank)?;
            Ok((*leaf, Arc::clone(member)))
        })
        .collect()
}

fn check_member_shape(
    commit: &CommitMessage,
    changes: &Changes<'_>,
    author: u32,
) -> Result<(), IllFormed> {
    require(!changes.has_external_init, IllFormed::ExternalInit)?;
    require(!changes.removes.contains(&author), IllFormed::RemoveSelf)?;
    require(commit.path().is_some() || changes.only_adds(), IllFormed::PathMissing)
}

fn check_external_shape(
    changes: &Changes<'_>,
    context: &GroupContext,
    parent: &Roster,
    joiner: &Member,
) -> Result<(), IllFormed> {
    require(changes.has_external_init, IllFormed::ExternalInit)?;
    require(changes.adds.is_empty() && changes.extensions.is_none(), IllFormed::ExternalProposal)?;
    let device = joiner.device();
    let own_leaf = parent
        .iter()
        .find(|(_, member)| {
            let other = member.device();
            other.user_id == device.user_id && other.device_id == device.device_id
        })
        .map(|(leaf, _)| leaf);
    require(changes.removes == own_leaf.as_slice(), IllFormed::ExternalRemove)?;
    require(
        context.extension.external == ExternalJoins::Allowed || parent.has_user(&device.user_id),
        IllFormed::ExternalForbidden,
    )
}

fn new_extension(
    changes: &Changes<'_>,
    context: &GroupContext,
) -> Result<GroupExtension, IllFormed> {
    match changes.extensions {
        Some(list) => check_new_extensions(context, list),
        None => Ok(context.extension.clone()),
    }
}

/// The extension after a GroupContextExtensions proposal, which may change only its history policy:
/// all other extensions are the same, in the same order (protocol §7).
fn check_new_extensions(
    context: &GroupContext,
    list: &[Extension],
) -> Result<GroupExtension, IllFormed> {
    let others_are_same = context.extensions.len() == list.len()
        && context.extensions.iter().zip(list).all(|(old, new)| {
            old.extension_type == new.extension_type
                && (old.extension_type == EXTENSION_TYPE || old.data == new.data)
        });
    require(others_are_same, IllFormed::GroupContextExtensions)?;
    let (extension, _) =
        protocol_extensions(list).map_err(|_| IllFormed::GroupContextExtensions)?;
    require(context.extension.is_same_but_history(&extension), IllFormed::GroupContextExtensions)?;
    Ok(extension)
}

/// Checks what is added and puts it, in order, at the lowest free indices of the roster.
fn place_added(
    changes: &Changes<'_>,
    context: &GroupContext,
    joiner: Option<Arc<Member>>,
    roster: &mut Roster,
) -> Result<Vec<(u32, Arc<Member>)>, IllFormed> {
    let count = changes.adds.len() + usize::from(joiner.is_some());
    require(roster.len() + count <= MAX_LEAVES, IllFormed::TooManyLeaves)?;

    let mut added = Vec::with_capacity(count);
    // Filling the lowest gap leaves only higher ones.
    let mut free = roster.lowest_free();
    let mut place = |member: Arc<Member>| {
        while roster.get(free).is_some() {
            free += 1;
        }
        roster.insert(free, Arc::clone(&member));
        added.push((free, member));
    };
    for key_package in &changes.adds {
        key_package.verify().map_err(IllFormed::Add)?;
        key_package
            .leaf
            .check_required(&context.required_capabilities)
            .map_err(|error| IllFormed::Add(error.into()))?;
        place(Arc::new(key_package.member()));
    }
    if let Some(joiner) = joiner {
        place(joiner);
    }
    Ok(added)
}

/// Checks the path's leaf; gives a member's new leaf.
fn check_path(
    path: Option<&UpdatePath>,
    context: &GroupContext,
    author: &Author,
    added: &[(u32, Arc<Member>)],
) -> Result<Option<(u32, Arc<Member>)>, IllFormed> {
    let Some(UpdatePath { leaf, .. }) = path else { return Ok(None) };
    // A joiner is all that its commit adds.
    let index = author.leaf.or_else(|| added.first().map(|(leaf, _)| *leaf));
    let index = index.ok_or(IllFormed::Author)?;
    leaf.check_for_commit(&context.group_id, index).map_err(IllFormed::PathLeaf)?;
    leaf.check_required(&context.required_capabilities).map_err(IllFormed::PathLeaf)?;
    if author.leaf.is_none() {
        return Ok(None);
    }
    let old = &author.member.identity;
    require(old.device == leaf.identity.device, IllFormed::DeviceChanged)?;
    require(old.seq <= leaf.identity.seq, IllFormed::SeqDecreased)?;
    Ok(Some((index, Arc::new(leaf.member()))))
}

/// Every device and every signature key is in the tree at most once.
fn check_unique(roster: &Roster) -> Result<(), IllFormed> {
    let mut devices = HashSet::with_capacity(roster.len());
    let mut keys = HashSet::with_capacity(roster.len());
    for (_, member) in roster.iter() {
        let device = member.device();
        require(
            devices.insert((device.user_id.as_str(), device.device_id.as_str())),
            IllFormed::DuplicateDevice,
        )?;
        require(keys.insert(&member.signature_key), IllFormed::DuplicateSignatureKey)?;
    }
    Ok(())
}

fn require(condition: bool, otherwise: IllFormed) -> Result<(), IllFormed> {
    if condition { Ok(()) } else { Err(otherwise) }
}
