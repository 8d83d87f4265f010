//! `GroupContext` (RFC 9420 §8.1): what all members of an epoch agree on.

use super::{
    extensions::{Extension, REQUIRED_CAPABILITIES, RequiredCapabilities, read_extensions},
    message::{CIPHER_SUITE, MLS_10, expect},
    tls::Reader,
};
use crate::{
    crypto::sha256,
    error::MalformedError,
    extension::GroupExtension,
    ids::{EXTENSION_TYPE, HASH_LENGTH},
};

/// The largest GroupContext that we read, in bytes: it travels inside an event (protocol §12).
pub const MAX_GROUP_CONTEXT_BYTES: usize = 64 * 1024;

/// A GroupContext that has the extensions of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupContext {
    /// The group ID: the room ID in UTF-8.
    pub group_id: Vec<u8>,
    /// The epoch's number. Branches share numbers, so it names nothing.
    pub epoch: u64,
    /// The hash of the ratchet tree's root.
    pub tree_hash: [u8; HASH_LENGTH],
    /// The hash over all commits so far; none (on the wire: empty) in epoch 0.
    pub confirmed_transcript_hash: Option<[u8; HASH_LENGTH]>,
    /// Our extension.
    pub extension: GroupExtension,
    /// What every leaf must support, our extension included.
    pub required_capabilities: RequiredCapabilities,
    /// All extensions, in their order.
    pub extensions: Vec<Extension>,
    bytes: Vec<u8>,
}

impl GroupContext {
    /// Reads a GroupContext.
    ///
    /// # Errors
    ///
    /// `TooLarge` above [`MAX_GROUP_CONTEXT_BYTES`]; `Unsupported` for another MLS version, cipher
    /// suite or version of our extension; `Missing` without our extension, or when
    /// RequiredCapabilities does not require it; else what is wrong with the encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedError> {
        if bytes.len() > MAX_GROUP_CONTEXT_BYTES {
            return Err(MalformedError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        let context = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(context)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedError> {
        let start = *reader;
        expect(reader.u16()?, MLS_10)?;
        expect(reader.u16()?, CIPHER_SUITE)?;
        let group_id = reader.opaque()?.to_vec();
        let epoch = reader.u64()?;
        let tree_hash = reader.opaque_array()?;
        let confirmed_transcript_hash = match reader.opaque()? {
            [] => None,
            hash => Some(hash.try_into().map_err(|_| MalformedError::Length)?),
        };
        let extensions = read_extensions(reader)?;
        let (extension, required_capabilities) = protocol_extensions(&extensions)?;
        Ok(Self {
            group_id,
            epoch,
            tree_hash,
            confirmed_transcript_hash,
            extension,
            required_capabilities,
            extensions,
            bytes: reader.since(start).to_vec(),
        })
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes, as children carry it in their
    /// [`CommitAad::parent_context_hash`](crate::CommitAad::parent_context_hash).
    pub fn hash(&self) -> [u8; HASH_LENGTH] {
        sha256(&[&self.bytes])
    }
}

/// Our extension and RequiredCapabilities, of which the latter requires the former.
pub(crate) fn protocol_extensions(
    extensions: &[Extension],
) -> Result<(GroupExtension, RequiredCapabilities), MalformedError> {
    let data = |extension_type| {
        extensions
            .iter()
            .find(|extension| extension.extension_type == extension_type)
            .map(|extension| extension.data.as_slice())
            .ok_or(MalformedError::Missing)
    };
    let extension = GroupExtension::from_bytes(data(EXTENSION_TYPE)?)?;
    let required = RequiredCapabilities::from_bytes(data(REQUIRED_CAPABILITIES)?)?;
    if !required.extensions.contains(&EXTENSION_TYPE) {
        return Err(MalformedError::Missing);
    }
    Ok((extension, required))
}
