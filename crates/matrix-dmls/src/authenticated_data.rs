//! What a message says in the clear, but authenticated: the PrivateMessage's `authenticated_data`
//! (protocol §2).

use crate::{
    error::MalformedError,
    ids::{HASH_LENGTH, NodeId},
    wire::tls::{Reader, Writer},
};

/// The only version there is.
const VERSION: u16 = 1;

/// The authenticated data of a message:
///
/// ```text
/// struct { uint16 version = 1; opaque epoch<V>; NodeId tips<V>; }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageAad {
    epoch: NodeId,
    tips: Vec<NodeId>,
}

impl MessageAad {
    /// The most tips that a message may name.
    pub const MAX_TIPS: usize = 8;

    /// Puts it together: the node whose epoch key encrypts the message, and other tips that the
    /// sender knows, at most [`MessageAad::MAX_TIPS`].
    ///
    /// # Errors
    ///
    /// [`MalformedError::TooLarge`] with more tips.
    pub fn new(epoch: NodeId, tips: Vec<NodeId>) -> Result<Self, MalformedError> {
        if tips.len() > Self::MAX_TIPS {
            return Err(MalformedError::TooLarge);
        }
        Ok(Self { epoch, tips })
    }

    /// The node whose epoch the message belongs to.
    pub const fn epoch(&self) -> NodeId {
        self.epoch
    }

    /// The other tips that the sender knew, in the sender's order.
    pub fn tips(&self) -> &[NodeId] {
        &self.tips
    }

    /// The TLS encoding, 36 to 293 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tips = Writer::new();
        for tip in &self.tips {
            tips.raw(tip.as_bytes());
        }
        let mut out = Writer::new();
        out.u16(VERSION);
        out.opaque(self.epoch.as_bytes());
        out.opaque(&tips.into_bytes());
        out.into_bytes()
    }

    /// Reads the TLS encoding.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one such struct: [`MalformedError::Unsupported`] for another
    /// version, [`MalformedError::Length`] for an ID that is not 32 bytes,
    /// [`MalformedError::TooLarge`] for too many tips.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        if reader.u16()? != VERSION {
            return Err(MalformedError::Unsupported);
        }
        let epoch = NodeId::from_bytes(reader.opaque_array()?);
        let tips = reader.opaque()?;
        reader.finish()?;
        let (tips, rest) = tips.as_chunks::<HASH_LENGTH>();
        if !rest.is_empty() {
            return Err(MalformedError::Length);
        }
        if tips.len() > Self::MAX_TIPS {
            return Err(MalformedError::TooLarge);
        }
        Ok(Self { epoch, tips: tips.iter().copied().map(NodeId::from_bytes).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    #[test]
    fn has_the_documented_encoding() {
        let aad = MessageAad::new(node(7), vec![node(1), node(2)]).unwrap();
        let expected = [&[0, 1, 32][..], &[7; 32], &[0x40, 64], &[1; 32], &[2; 32]].concat();
        assert_eq!(aad.to_bytes(), expected);
        assert_eq!(MessageAad::new(node(7), vec![]).unwrap().to_bytes().len(), 36);
        assert_eq!(MessageAad::new(node(7), vec![node(1); 8]).unwrap().to_bytes().len(), 293);
    }

    #[test]
    fn refuses_what_is_not_exactly_one() {
        let good = MessageAad::new(node(7), vec![node(1)]).unwrap().to_bytes();
        for end in 0..good.len() {
            assert!(MessageAad::from_bytes(&good[..end]).is_err());
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(MessageAad::from_bytes(&long), Err(MalformedError::TrailingBytes));
        let version_2 = [&[0, 2], &good[2..]].concat();
        assert_eq!(MessageAad::from_bytes(&version_2), Err(MalformedError::Unsupported));
        let founding = [0, 1, 0, 0];
        assert_eq!(MessageAad::from_bytes(&founding), Err(MalformedError::Length));
        let uneven = [&[0, 1, 32][..], &[7; 32], &[33], &[1; 33]].concat();
        assert_eq!(MessageAad::from_bytes(&uneven), Err(MalformedError::Length));
    }

    #[test]
    fn has_at_most_eight_tips() {
        let nine = vec![node(1); 9];
        assert_eq!(MessageAad::new(node(7), nine), Err(MalformedError::TooLarge));
        let nine = [&[0, 1, 32][..], &[7; 32], &[0x41, 0x20], &[1; 288]].concat();
        assert_eq!(MessageAad::from_bytes(&nine), Err(MalformedError::TooLarge));
    }

    proptest! {
        #[test]
        fn survives_the_wire(epoch: [u8; 32], tips in prop::collection::vec(any::<[u8; 32]>(), 0..=8)) {
            let tips = tips.into_iter().map(NodeId::from_bytes).collect();
            let aad = MessageAad::new(NodeId::from_bytes(epoch), tips).unwrap();
            prop_assert_eq!(MessageAad::from_bytes(&aad.to_bytes()), Ok(aad));
        }

        #[test]
        fn has_one_encoding_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(aad) = MessageAad::from_bytes(&bytes) {
                prop_assert_eq!(aad.to_bytes(), bytes);
            }
        }
    }
}
