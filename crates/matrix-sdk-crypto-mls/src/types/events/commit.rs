use matrix_dmls::NodeId;
use ruma::{OwnedEventId, OwnedMxcUri, events::macros::EventContent};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::base64::Bytes;

/// A commit (protocol §2): a room event of its own type, so that it is neither pushed nor counted
/// as unread, and no client shows it as a message that it cannot decrypt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, EventContent)]
#[ruma_event(type = "io.github.matrix-mls.dmls.v1.commit", kind = MessageLike)]
#[non_exhaustive]
pub struct CommitEventContent {
    /// [`matrix_dmls::ALGORITHM`].
    pub algorithm: String,

    /// MLSMessage(PublicMessage(Commit)), if it is not in [`Self::commit_file`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Bytes>,

    /// Where the MLSMessage is, when the event would be larger than 60 KiB with it. In the store both
    /// are there; what is sent has one of them ([`Self::to_be_sent`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_file: Option<MediaFile>,

    /// The epoch that the commit was made on; a hint, the signed value counts. Absent in a founding
    /// commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<NodeId>,

    /// The event of the parent's commit; a hint for those who have to fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_event: Option<OwnedEventId>,

    /// The parent's GroupContext, of which the commit signs the hash.
    pub parent_context: Bytes,

    /// The GroupInfo of the epoch that the commit makes, without tree, for external commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_info: Option<Bytes>,

    /// The same GroupInfo as the Welcomes of this commit have it, encrypted: for those whom it adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_group_info: Option<Bytes>,

    /// The ratchet tree of that epoch, when it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Bytes>,

    /// Where that tree is, when it does not. A commit that adds nobody may have neither, if one at
    /// most 32 commits above has one (protocol §6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_file: Option<MediaFile>,

    /// Somebody else than the author has posted this copy (protocol §2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
}

impl CommitEventContent {
    /// A commit with what every one of them has.
    pub fn new(commit: Vec<u8>, parent: Option<NodeId>, parent_context: Vec<u8>) -> Self {
        Self {
            algorithm: matrix_dmls::ALGORITHM.to_owned(),
            commit: Some(commit.into()),
            commit_file: None,
            parent,
            parent_event: None,
            parent_context: parent_context.into(),
            group_info: None,
            encrypted_group_info: None,
            tree: None,
            tree_file: None,
            relay: false,
        }
    }

    /// The content as it is sent: without what is in a file.
    pub fn to_be_sent(&self) -> Self {
        let mut content = self.clone();
        if content.commit_file.is_some() {
            content.commit = None;
        }
        if content.tree_file.is_some() {
            content.tree = None;
        }
        content
    }

    /// Forgets what the event says of files beside what it has itself: only one of them is looked at.
    pub(crate) fn tidy(&mut self) {
        let is_it = |file: &MediaFile, bytes: &Bytes| file.is(&bytes.0);
        if let Some(commit) = &self.commit {
            self.commit_file = self.commit_file.take().filter(|file| is_it(file, commit));
        }
        if let Some(tree) = &self.tree {
            self.tree_file = self.tree_file.take().filter(|file| is_it(file, tree));
        }
    }

    /// Takes what was in a file, if it is what the content says: whether it is.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> bool {
        let is_commit = self.commit_file.as_ref().is_some_and(|file| file.is(bytes));
        let is_tree = self.tree_file.as_ref().is_some_and(|file| file.is(bytes));
        if is_commit {
            self.commit = Some(bytes.to_vec().into());
        }
        if is_tree {
            self.tree = Some(bytes.to_vec().into());
        }
        is_commit || is_tree
    }
}

/// A file in the media repository that a signed or hashed value vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct MediaFile {
    /// Where it is.
    pub url: OwnedMxcUri,
    /// SHA-256 of the file, 32 bytes.
    pub sha256: Bytes,
    /// Its size in bytes.
    pub size: u64,
}

impl MediaFile {
    /// The largest file that is fetched, in bytes: 32 MiB, as the largest commit (protocol §12).
    pub const MAX_SIZE: u64 = 32 * 1024 * 1024;

    /// A file with this content, that was uploaded to `url`.
    pub fn new(url: OwnedMxcUri, bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).to_vec().into();
        Self { url, sha256, size: bytes.len().try_into().unwrap_or(u64::MAX) }
    }

    /// The hash, if it is one.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        (*self.sha256.0).try_into().ok()
    }

    /// Whether it is within the limits, and has an address and a hash (protocol §12).
    pub(crate) fn may_be_fetched(&self) -> bool {
        self.size <= Self::MAX_SIZE && self.hash().is_some() && self.url.parts().is_ok()
    }

    /// Whether this is the file's content.
    pub fn is(&self, bytes: &[u8]) -> bool {
        u64::try_from(bytes.len()) == Ok(self.size) && *self.sha256.0 == *Sha256::digest(bytes)
    }
}
