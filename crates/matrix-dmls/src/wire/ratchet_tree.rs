//! `ratchet_tree` (RFC 9420 §12.4.3.3), as far as it must be looked at before OpenMLS reads it: a
//! blank node is one byte on the wire and hundreds in memory.

use super::{leaf_node::LeafNode, proposal::MAX_LEAVES, tls::Reader};
use crate::error::MalformedError;

/// The largest ratchet tree that we read, in bytes (protocol §12).
const MAX_TREE_BYTES: usize = 32 * 1024 * 1024;

/// Checks the form and the size of a ratchet tree. What it says, OpenMLS verifies.
///
/// # Errors
///
/// `TooLarge` for more bytes or nodes than a group can have; else what is wrong with the encoding.
pub(crate) fn check_size(bytes: &[u8]) -> Result<(), MalformedError> {
    if bytes.len() > MAX_TREE_BYTES {
        return Err(MalformedError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    let mut nodes = reader.vector()?;
    reader.finish()?;
    let mut count = 0;
    while !nodes.is_empty() {
        count += 1;
        if count >= 2 * MAX_LEAVES {
            return Err(MalformedError::TooLarge);
        }
        match nodes.u8()? {
            0 => continue,
            1 => {}
            _ => return Err(MalformedError::Unsupported),
        }
        match nodes.u8()? {
            1 => {
                LeafNode::read(&mut nodes)?;
            }
            2 => {
                // ParentNode: encryption key, parent hash, unmerged leaves.
                nodes.opaque_array::<32>()?;
                nodes.opaque()?;
                nodes.opaque()?;
            }
            _ => return Err(MalformedError::Unsupported),
        }
    }
    Ok(())
}
