//! `ratchet_tree` (RFC 9420 §12.4.3.3), as far as we read it ourselves: its size, before OpenMLS
//! makes hundreds of bytes of each that a blank node has on the wire, its leaves, and its hash.

use std::sync::Arc;

use super::{
    leaf_node::LeafNode,
    proposal::MAX_LEAVES,
    tls::{Reader, Writer},
};
use crate::{
    credential::CredentialError, crypto::sha256, error::MalformedError, ids::HASH_LENGTH,
    roster::Roster,
};

/// The largest ratchet tree that we read, in bytes (protocol §12).
const MAX_TREE_BYTES: usize = 32 * 1024 * 1024;

/// `NodeType` (RFC 9420 §7.8).
const LEAF: u8 = 1;
const PARENT: u8 = 2;

/// Checks the form and the size of a ratchet tree. What it says, OpenMLS verifies.
///
/// # Errors
///
/// `TooLarge` for more bytes or nodes than a group can have; else what is wrong with the encoding.
pub(crate) fn check_size(bytes: &[u8]) -> Result<(), MalformedError> {
    read(bytes, |_, _, _| Ok(()))
}

/// The hash of a ratchet tree (RFC 9420 §7.8), as GroupContexts have it.
///
/// # Errors
///
/// `TooLarge` for more than 32 MiB, or for more nodes than a group can have; else what is wrong with
/// the encoding.
pub fn ratchet_tree_hash(bytes: &[u8]) -> Result<[u8; HASH_LENGTH], MalformedError> {
    Ok(RatchetTree::parse(bytes)?.hash())
}

/// A ratchet tree that was read. Whoever knows its hash from elsewhere knows that it is the right one.
pub(crate) struct RatchetTree<'a> {
    /// LeafNodes and ParentNodes as they were read, in the tree's order.
    nodes: Vec<Option<&'a [u8]>>,
    leaves: Vec<(u32, LeafNode)>,
}

impl<'a> RatchetTree<'a> {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// As [`check_size`]; `Unsupported` for a node of a kind that cannot be at its place, and for a
    /// tree whose last node is not a leaf.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MalformedError> {
        let mut nodes = Vec::new();
        let mut leaves = Vec::new();
        read(bytes, |index, node, leaf| {
            nodes.push(node);
            let Some(leaf) = leaf else {
                let is_parent = index % 2 == 1;
                return (node.is_none() || is_parent)
                    .then_some(())
                    .ok_or(MalformedError::Unsupported);
            };
            if index % 2 == 1 {
                return Err(MalformedError::Unsupported);
            }
            let index = u32::try_from(index / 2).map_err(|_| MalformedError::TooLarge)?;
            leaves.push((index, leaf));
            Ok(())
        })?;
        // Blank nodes at the end are left out (RFC 9420 §12.4.3.3).
        if nodes.len() % 2 == 0 || nodes.last().is_none_or(Option::is_none) {
            return Err(MalformedError::Unsupported);
        }
        Ok(Self { nodes, leaves })
    }

    /// The leaves that are not blank, by rising index.
    pub(crate) fn leaves(&self) -> &[(u32, LeafNode)] {
        &self.leaves
    }

    /// Who is in it, as the leaves say: nothing is verified.
    pub(crate) fn roster(&self) -> Roster {
        self.leaves.iter().map(|(index, leaf)| (*index, Arc::new(leaf.member()))).collect()
    }

    /// Who is in it; every credential is verified.
    ///
    /// # Errors
    ///
    /// When a leaf's credential is not valid for its signature key.
    pub(crate) fn verified_roster(&self) -> Result<Roster, CredentialError> {
        for (_, leaf) in &self.leaves {
            leaf.identity.verify(&leaf.signature_key)?;
        }
        Ok(self.roster())
    }

    /// The hash of its root (RFC 9420 §7.8), level by level from the leaves.
    pub(crate) fn hash(&self) -> [u8; HASH_LENGTH] {
        let leaf_count = self.nodes.len().div_ceil(2).next_power_of_two();
        let node = |index: usize| self.nodes.get(index).copied().flatten();
        let mut hashes: Vec<_> = (0..leaf_count)
            .map(|index| {
                let mut input = Writer::new();
                input.u8(LEAF);
                input.u32(u32::try_from(index).unwrap_or(u32::MAX));
                optional(&mut input, node(2 * index));
                sha256(&[&input.into_bytes()])
            })
            .collect();
        let mut level = 1;
        while hashes.len() > 1 {
            let (pairs, _) = hashes.as_chunks::<2>();
            hashes = pairs
                .iter()
                .enumerate()
                .map(|(number, [left, right])| {
                    let mut input = Writer::new();
                    input.u8(PARENT);
                    optional(&mut input, node((number << (level + 1)) + (1 << level) - 1));
                    input.opaque(left);
                    input.opaque(right);
                    sha256(&[&input.into_bytes()])
                })
                .collect();
            level += 1;
        }
        hashes.first().copied().unwrap_or_default()
    }
}

fn optional(out: &mut Writer, node: Option<&[u8]>) {
    out.u8(u8::from(node.is_some()));
    out.raw(node.unwrap_or_default());
}

/// Reads node by node: its index, its bytes without its type if it is not blank, and the leaf if it
/// is one.
fn read<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(usize, Option<&'a [u8]>, Option<LeafNode>) -> Result<(), MalformedError>,
) -> Result<(), MalformedError> {
    if bytes.len() > MAX_TREE_BYTES {
        return Err(MalformedError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    let mut nodes = reader.vector()?;
    reader.finish()?;
    let mut index = 0;
    while !nodes.is_empty() {
        if index + 1 >= 2 * MAX_LEAVES {
            return Err(MalformedError::TooLarge);
        }
        match nodes.u8()? {
            0 => take(index, None, None)?,
            1 => {
                let node_type = nodes.u8()?;
                let start = nodes;
                let leaf = match node_type {
                    LEAF => Some(LeafNode::read(&mut nodes)?),
                    PARENT => {
                        // Encryption key, parent hash, unmerged leaves.
                        nodes.opaque_array::<32>()?;
                        nodes.opaque()?;
                        nodes.opaque()?;
                        None
                    }
                    _ => return Err(MalformedError::Unsupported),
                };
                take(index, Some(nodes.since(start)), leaf)?;
            }
            _ => return Err(MalformedError::Unsupported),
        }
        index += 1;
    }
    Ok(())
}
