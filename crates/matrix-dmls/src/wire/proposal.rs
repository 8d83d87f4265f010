//! Proposals (RFC 9420 §12.1), those that a commit of this protocol can hold.

use super::{
    extensions::{Extension, read_extensions},
    key_package::KeyPackage,
    message::expect,
    tls::Reader,
};
use crate::error::MalformedError;

/// The most members that a group can have (protocol §12), and so the most Adds and the most Removes
/// that a commit can have.
pub const MAX_LEAVES: usize = 16_384;

/// `ProposalOrRefType` proposal: by value.
const BY_VALUE: u8 = 1;

/// A proposal inside a commit. There are no others: Update, PreSharedKey, ReInit, proposals by
/// reference and unknown types are `Unsupported` when a commit is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitProposal {
    /// Adds the key package's device.
    Add(Box<KeyPackage>),
    /// Removes the member at the leaf index.
    Remove(u32),
    /// Replaces the GroupContext's extensions.
    GroupContextExtensions(Vec<Extension>),
    /// The joiner's key exchange, in an external commit.
    ExternalInit {
        /// The X25519 KEM output.
        kem_output: [u8; 32],
    },
}

/// `ProposalOrRef proposals<V>`.
///
/// # Errors
///
/// `TooLarge` for more than [`MAX_LEAVES`] Adds or as many Removes; `Duplicate` for a second
/// ExternalInit or GroupContextExtensions; `Unsupported` for what this protocol does not have.
pub(crate) fn read_proposals(
    reader: &mut Reader<'_>,
) -> Result<Vec<CommitProposal>, MalformedError> {
    let mut list = reader.vector()?;
    let mut proposals = Vec::new();
    let [mut adds, mut removes, mut inits, mut extensions] = [0_usize; 4];
    while !list.is_empty() {
        expect(list.u8()?, BY_VALUE)?;
        let proposal = match list.u16()? {
            1 => {
                adds += 1;
                CommitProposal::Add(Box::new(KeyPackage::read(&mut list)?))
            }
            3 => {
                removes += 1;
                CommitProposal::Remove(list.u32()?)
            }
            6 => {
                inits += 1;
                CommitProposal::ExternalInit { kem_output: list.opaque_array()? }
            }
            7 => {
                extensions += 1;
                CommitProposal::GroupContextExtensions(read_extensions(&mut list)?)
            }
            _ => return Err(MalformedError::Unsupported),
        };
        if adds > MAX_LEAVES || removes > MAX_LEAVES {
            return Err(MalformedError::TooLarge);
        }
        if inits > 1 || extensions > 1 {
            return Err(MalformedError::Duplicate);
        }
        proposals.push(proposal);
    }
    Ok(proposals)
}
