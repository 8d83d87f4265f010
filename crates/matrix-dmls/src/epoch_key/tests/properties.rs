//! What holds for all inputs.

use proptest::prelude::*;

use super::fixtures::{NODE, epoch, message};
use crate::{
    authenticated_data::MessageAad,
    epoch_key::{
        GENERATION_LIMIT, MessageSender,
        framing::{Content, Header, PrivateMessage},
        group_context::GroupContext,
        peek,
        sender_data::SenderData,
    },
    ids::NodeId,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let (key, _) = epoch(3);
        prop_assert!(key.decrypt(&bytes).is_err());
        let _ = peek(&bytes);
        let _ = Content::from_bytes(&bytes);
        let _ = SenderData::from_bytes(&bytes);
        let _ = GroupContext::from_bytes(&bytes);
    }

    /// Random bytes seldom get past the first check, so these begin right.
    #[test]
    fn arbitrary_fields_never_panic(
        group_id: bool,
        epoch_number in 16_u64..19,
        content_type in 0_u8..5,
        node: bool,
        sender_data in prop::collection::vec(any::<u8>(), 28),
        ciphertext in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (key, _) = epoch(3);
        let node = if node { NODE } else { NodeId::from_bytes([1; 32]) };
        let header = Header {
            group_id: if group_id { key.group_id() } else { b"other" },
            epoch: epoch_number,
            content_type,
            authenticated_data: &MessageAad::new(node, vec![]).unwrap().to_bytes(),
        };
        let bytes = PrivateMessage {
            header,
            encrypted_sender_data: &sender_data,
            ciphertext: &ciphertext,
        }
        .to_bytes();
        prop_assert!(key.decrypt(&bytes).is_err());
        let _ = peek(&bytes);
    }

    #[test]
    fn damage_is_an_error(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let (key, members) = epoch(3);
        let good = message(&key, &members, 1, 2, b"text");
        let mut bytes = good.clone();
        bytes[at.index(good.len())] = byte;
        prop_assert_eq!(key.decrypt(&bytes).is_ok(), bytes == good);
        bytes.truncate(cut.index(good.len()));
        prop_assert!(key.decrypt(&bytes).is_err());
    }

    #[test]
    fn what_was_encrypted_is_read(
        leaf in 0_u32..6,
        generation in prop_oneof![30 => 0_u32..300, 1 => 0..GENERATION_LIMIT],
        reuse_guard: [u8; 4],
        tips in prop::collection::vec(any::<[u8; 32]>(), 0..=8),
        plaintext in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let (key, members) = epoch(6);
        let aad = MessageAad::new(NODE, tips.into_iter().map(NodeId::from_bytes).collect()).unwrap();
        let signer = &members[leaf as usize];
        let sender = MessageSender { leaf, generation, signer, reuse_guard };
        let bytes = key.encrypt(&sender, &aad, &plaintext).unwrap();
        // The documented overhead: fixed parts, tips, and 12 % of padding.
        let most = plaintext.len() + plaintext.len() * 12 / 100 + 200 + 33 * aad.tips().len();
        prop_assert!(bytes.len() <= most);
        let (other, _) = epoch(6);
        for reader in [&key, &other, &key] {
            let read = reader.decrypt(&bytes).unwrap();
            prop_assert_eq!((read.leaf, read.generation), (leaf, generation));
            prop_assert_eq!(&read.plaintext, &plaintext);
            prop_assert_eq!(&read.aad, &aad);
        }
    }
}
