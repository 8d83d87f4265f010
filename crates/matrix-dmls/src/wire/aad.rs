//! The authenticated data of commits: where a commit stands in the graph (protocol §2).

use super::{
    message::expect,
    tls::{Reader, Writer},
};
use crate::{error::MalformedError, ids::NodeId};

/// The version that this protocol writes and reads.
const VERSION: u16 = 1;

/// The most losing tips that a commit may list.
pub const MAX_RESOLVES: usize = 32;

/// What a commit's author signs about its place in the graph:
///
/// ```text
/// struct { uint16 version = 1; opaque parent<V>; opaque parent_context_hash<V>;
///          opaque parent_tag<V>; NodeId resolves<V>; }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitAad {
    /// The node that the commit was made on; none for a founding commit.
    pub parent: Option<NodeId>,
    /// SHA-256 of the parent's GroupContext.
    pub parent_context_hash: [u8; 32],
    /// The parent's confirmation tag, the MAC's 32 bytes.
    pub parent_tag: [u8; 32],
    /// Losing tips that the author knew, each once, at most [`MAX_RESOLVES`].
    pub resolves: Vec<NodeId>,
}

impl CommitAad {
    /// The encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(VERSION);
        out.opaque(self.parent.as_ref().map_or(&[], |node| node.as_bytes().as_slice()));
        out.opaque(&self.parent_context_hash);
        out.opaque(&self.parent_tag);
        let mut resolves = Writer::new();
        for node in &self.resolves {
            resolves.raw(node.as_bytes());
        }
        out.opaque(&resolves.into_bytes());
        out.into_bytes()
    }

    /// Reads the encoding.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another version, `Length` for IDs, hashes or tags that are not 32 bytes,
    /// `TooLarge` for more than [`MAX_RESOLVES`] nodes, `Duplicate` for a node that is listed twice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        expect(reader.u16()?, VERSION)?;
        let parent = match reader.opaque()? {
            [] => None,
            id => Some(NodeId::try_from(id).map_err(|_| MalformedError::Length)?),
        };
        let parent_context_hash = reader.opaque_array()?;
        let parent_tag = reader.opaque_array()?;
        let mut list = reader.vector()?;
        let mut resolves = Vec::new();
        while !list.is_empty() {
            if resolves.len() == MAX_RESOLVES {
                return Err(MalformedError::TooLarge);
            }
            let node = NodeId::from_bytes(list.array()?);
            if resolves.contains(&node) {
                return Err(MalformedError::Duplicate);
            }
            resolves.push(node);
        }
        reader.finish()?;
        Ok(Self { parent, parent_context_hash, parent_tag, resolves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aad(parent: Option<NodeId>, resolves: usize) -> CommitAad {
        CommitAad {
            parent,
            parent_context_hash: [1; 32],
            parent_tag: [2; 32],
            resolves: (0..resolves).map(|n| NodeId::from_bytes([n as u8; 32])).collect(),
        }
    }

    #[test]
    fn survives_the_wire() {
        for parent in [None, Some(NodeId::from_bytes([7; 32]))] {
            for resolves in [0, 1, 2, MAX_RESOLVES] {
                let aad = aad(parent, resolves);
                let bytes = aad.to_bytes();
                assert_eq!(CommitAad::from_bytes(&bytes).unwrap(), aad);
                for end in 0..bytes.len() {
                    assert!(CommitAad::from_bytes(&bytes[..end]).is_err());
                }
                let long = [bytes.as_slice(), &[0]].concat();
                assert_eq!(CommitAad::from_bytes(&long), Err(MalformedError::TrailingBytes));
            }
        }
    }

    #[test]
    fn lists_are_limited_and_without_repetition() {
        assert_eq!(
            CommitAad::from_bytes(&aad(None, MAX_RESOLVES + 1).to_bytes()),
            Err(MalformedError::TooLarge)
        );
        let mut twice = aad(None, 2);
        twice.resolves.push(twice.resolves[0]);
        assert_eq!(CommitAad::from_bytes(&twice.to_bytes()), Err(MalformedError::Duplicate));
    }

    #[test]
    fn other_versions_and_lengths_are_refused() {
        let mut bytes = aad(None, 0).to_bytes();
        bytes[1] = 2;
        assert_eq!(CommitAad::from_bytes(&bytes), Err(MalformedError::Unsupported));
        // A parent of one byte.
        let mut out = Writer::new();
        out.u16(1);
        out.opaque(&[1]);
        assert_eq!(CommitAad::from_bytes(&out.into_bytes()), Err(MalformedError::Length));
    }
}
