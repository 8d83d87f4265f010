//! A commit as it travels: `MLSMessage(PublicMessage(Commit))` (RFC 9420 §6.2, §12.4).

use super::{
    aad::CommitAad,
    leaf_node::LeafNode,
    message::{WireFormat, open},
    proposal::{CommitProposal, MAX_LEAVES, read_proposals},
    tls::Reader,
};
use crate::{
    crypto::{sha256, verify_with_label},
    error::MalformedError,
    ids::{HASH_LENGTH, NodeId},
};

/// The largest commit that we read, in bytes (protocol §12).
pub const MAX_COMMIT_BYTES: usize = 32 * 1024 * 1024;

/// `ContentType` commit.
const COMMIT: u8 = 3;

/// The longest path from a leaf to the root of a tree of [`MAX_LEAVES`].
const MAX_PATH_NODES: usize = MAX_LEAVES.ilog2() as usize;

/// Bytes of an encrypted path secret: `KDF.Nh`, and the AEAD's tag.
const ENCRYPTED_PATH_SECRET: usize = HASH_LENGTH + 16;

/// Who a commit says that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitSender {
    /// The member at a leaf index of the parent's tree.
    Member(u32),
    /// Somebody who joins by this commit.
    NewMember,
}

/// `UpdatePath` (RFC 9420 §7.6). Whether its nodes fit the tree only those can tell who have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePath {
    /// The author's new leaf.
    pub leaf: LeafNode,
    /// How many parent nodes get new keys.
    pub nodes: usize,
}

/// A commit that was read but not checked: see [`check_well_formed`](crate::check_well_formed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMessage {
    bytes: Vec<u8>,
    /// Where the FramedContent ends.
    content_end: usize,
    /// Where the signature ends.
    signature_end: usize,
    node_id: NodeId,
    group_id: Vec<u8>,
    epoch: u64,
    sender: CommitSender,
    aad: CommitAad,
    proposals: Vec<CommitProposal>,
    path: Option<UpdatePath>,
    signature: [u8; 64],
    confirmation_tag: [u8; HASH_LENGTH],
    membership_tag: Option<[u8; HASH_LENGTH]>,
}

impl CommitMessage {
    /// Reads a commit.
    ///
    /// # Errors
    ///
    /// `TooLarge` above [`MAX_COMMIT_BYTES`], before anything is read; `Unsupported` when it is
    /// another kind of message or has something that this protocol does not have (a PrivateMessage,
    /// a proposal by reference or of another type, another sender or credential type, another
    /// version of the authenticated data); else what is wrong with the encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = open(bytes, MAX_COMMIT_BYTES, WireFormat::PublicMessage)?;
        let start = Reader::new(bytes);

        let group_id = reader.opaque()?.to_vec();
        let epoch = reader.u64()?;
        let sender = match reader.u8()? {
            1 => CommitSender::Member(reader.u32()?),
            4 => CommitSender::NewMember,
            _ => return Err(MalformedError::Unsupported),
        };
        let aad = reader.opaque()?;
        if reader.u8()? != COMMIT {
            return Err(MalformedError::Unsupported);
        }
        let aad = CommitAad::from_bytes(aad)?;
        let proposals = read_proposals(&mut reader)?;
        let path = match reader.u8()? {
            0 => None,
            1 => Some(UpdatePath::read(&mut reader)?),
            _ => return Err(MalformedError::Unsupported),
        };
        let content_end = reader.since(start).len();

        let signature = reader.opaque_array()?;
        let signature_end = reader.since(start).len();
        let confirmation_tag = reader.opaque_array()?;
        let membership_tag = match sender {
            CommitSender::Member(_) => Some(reader.opaque_array()?),
            CommitSender::NewMember => None,
        };
        reader.finish()?;

        let mut commit = Self {
            bytes: bytes.to_vec(),
            content_end,
            signature_end,
            node_id: NodeId::from_bytes([0; 32]),
            group_id,
            epoch,
            sender,
            aad,
            proposals,
            path,
            signature,
            confirmation_tag,
            membership_tag,
        };
        commit.node_id = NodeId::from_bytes(sha256(&[
            b"dmls commit v1",
            commit.confirmed_transcript_hash_input(),
        ]));
        Ok(commit)
    }

    /// The name of the epoch that this commit makes (protocol §2). The same for every copy of the
    /// commit, whatever its tags are.
    pub const fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The group ID: the room ID in UTF-8.
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    /// The number of the epoch that the commit was made in, the parent's.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who it says that it is from.
    pub const fn sender(&self) -> CommitSender {
        self.sender
    }

    /// Its place in the graph.
    pub const fn aad(&self) -> &CommitAad {
        &self.aad
    }

    /// The proposals, in their order.
    pub fn proposals(&self) -> &[CommitProposal] {
        &self.proposals
    }

    /// The update path, if it has one.
    pub const fn path(&self) -> Option<&UpdatePath> {
        self.path.as_ref()
    }

    /// The confirmation tag of the epoch that the commit makes. Not signed: copies can differ.
    pub const fn confirmation_tag(&self) -> &[u8; HASH_LENGTH] {
        &self.confirmation_tag
    }

    /// The membership tag, which members' commits have. Not signed: copies can differ.
    pub const fn membership_tag(&self) -> Option<&[u8; HASH_LENGTH]> {
        self.membership_tag.as_ref()
    }

    /// `ConfirmedTranscriptHashInput` (RFC 9420 §8.2): the bytes from the wire format through the
    /// signature.
    pub fn confirmed_transcript_hash_input(&self) -> &[u8] {
        // Behind the version, 2 bytes.
        self.bytes.get(2..self.signature_end).unwrap_or_default()
    }

    /// Whether `key` signed this commit in the epoch of `parent_context` (RFC 9420 §6.1).
    pub(crate) fn is_signed_by(&self, key: &[u8; 32], parent_context: &[u8]) -> bool {
        // FramedContentTBS: version, wire format and FramedContent stand in the message as they are
        // signed; the GroupContext follows.
        let content = self.bytes.get(..self.content_end).unwrap_or_default();
        let signed = [content, parent_context].concat();
        verify_with_label(key, "FramedContentTBS", &signed, &self.signature)
    }
}

impl UpdatePath {
    fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedError> {
        let leaf = LeafNode::read(reader)?;
        let mut list = reader.vector()?;
        // OpenMLS needs many times the memory of what is short here, so nothing may be.
        let (mut nodes, mut recipients) = (0, 0);
        while !list.is_empty() {
            nodes += 1;
            list.opaque_array::<32>()?;
            let mut secrets = list.vector()?;
            while !secrets.is_empty() {
                recipients += 1;
                // HPKECiphertext: kem_output, ciphertext.
                secrets.opaque_array::<32>()?;
                secrets.opaque_array::<ENCRYPTED_PATH_SECRET>()?;
            }
            if nodes > MAX_PATH_NODES || recipients > MAX_LEAVES {
                return Err(MalformedError::TooLarge);
            }
        }
        Ok(Self { leaf, nodes })
    }
}
