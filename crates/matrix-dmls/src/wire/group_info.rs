//! `GroupInfo` (RFC 9420 §12.4.3): how an epoch is shown to those who want to join it.

use super::{
    extensions::{Extension, read_extensions},
    group_context::GroupContext,
    message::{WireFormat, open},
};
use crate::{crypto::verify_with_label, error::MalformedError, ids::HASH_LENGTH};

/// The largest GroupInfo that we read, in bytes: with a ratchet tree, that of the tree (protocol
/// §12).
pub const MAX_GROUP_INFO_BYTES: usize = 32 * 1024 * 1024;

/// The GroupInfo extension that holds the ratchet tree.
const RATCHET_TREE: u16 = 2;

/// The GroupInfo extension that holds the key for external commits.
const EXTERNAL_PUB: u16 = 4;

/// A GroupInfo as it stands on the wire. Its signature is only worth something under a key that is
/// known to be the signer's, see [`GroupInfo::is_signed_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The epoch.
    pub context: GroupContext,
    /// The extensions, in their order.
    pub extensions: Vec<Extension>,
    /// The epoch's confirmation tag.
    pub confirmation_tag: [u8; HASH_LENGTH],
    /// The leaf index of the member that signed it.
    pub signer: u32,
    signature: [u8; 64],
    signed: Vec<u8>,
}

impl GroupInfo {
    /// Reads an `MLSMessage(GroupInfo)`.
    ///
    /// # Errors
    ///
    /// `TooLarge` above [`MAX_GROUP_INFO_BYTES`], before anything is read; what
    /// [`GroupContext::parse`] gives; else what is wrong with the encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = open(bytes, MAX_GROUP_INFO_BYTES, WireFormat::GroupInfo)?;
        let start = reader;
        let context = GroupContext::read(&mut reader)?;
        let extensions = read_extensions(&mut reader)?;
        let confirmation_tag = reader.opaque_array()?;
        let signer = reader.u32()?;
        let signed = reader.since(start).to_vec();
        let signature = reader.opaque_array()?;
        reader.finish()?;
        Ok(Self { context, extensions, confirmation_tag, signer, signature, signed })
    }

    /// The data of the ratchet tree extension, if it has one.
    pub fn ratchet_tree(&self) -> Option<&[u8]> {
        self.extension(RATCHET_TREE)
    }

    /// The data of the extension with the key for external commits, if it has one.
    pub fn external_pub(&self) -> Option<&[u8]> {
        self.extension(EXTERNAL_PUB)
    }

    /// Whether `key`, which should be that of the leaf [`GroupInfo::signer`], signed it.
    pub fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        verify_with_label(key, "GroupInfoTBS", &self.signed, &self.signature)
    }

    fn extension(&self, extension_type: u16) -> Option<&[u8]> {
        self.extensions
            .iter()
            .find(|extension| extension.extension_type == extension_type)
            .map(|extension| extension.data.as_slice())
    }
}
