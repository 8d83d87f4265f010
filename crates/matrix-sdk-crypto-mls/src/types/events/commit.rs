use matrix_dmls::NodeId;
use ruma::{OwnedEventId, OwnedMxcUri, events::macros::EventContent};
use serde::{Deserialize, Serialize};

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

    /// Where the MLSMessage is, when the event would be larger than 60 KiB with it.
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

    /// The ratchet tree of that epoch, when it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Bytes>,

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
            tree: None,
            relay: false,
        }
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
