//! Encrypting a message (RFC 9420 §6.3.1).

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};

use super::{
    Inner,
    error::EncryptError,
    framing::{APPLICATION, Content, Header, MAX_MESSAGE_LENGTH, PrivateMessage},
    padding,
    punctured::KeyErased,
    secret_tree::GENERATION_LIMIT,
    sender_data::SenderData,
};
use crate::crypto::labelled;

/// Who sends a message, and what makes it unlike the sender's others.
#[derive(Clone, Copy)]
pub struct MessageSender<'a> {
    /// Our leaf in the epoch.
    pub leaf: u32,
    /// How many messages the leaf has encrypted in the epoch before, below
    /// [`GENERATION_LIMIT`]. Never used twice.
    pub generation: u32,
    /// The key whose public half the roster has at the leaf.
    pub signer: &'a SigningKey,
    /// Random bytes that keep the nonce from being used twice should the generation be, all the
    /// same (RFC 9420 §6.3.1).
    pub reuse_guard: [u8; 4],
}

impl fmt::Debug for MessageSender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSender")
            .field("leaf", &self.leaf)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Encrypts with any authenticated data.
pub(super) fn seal(
    key: &Inner,
    sender: &MessageSender<'_>,
    authenticated_data: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, EncryptError> {
    let MessageSender { leaf, generation, signer, reuse_guard } = *sender;
    // The final length is checked below; this keeps absurd ones from being worked on.
    if plaintext.len() > MAX_MESSAGE_LENGTH {
        return Err(EncryptError::TooLarge);
    }
    if generation >= GENERATION_LIMIT {
        return Err(EncryptError::GenerationTooHigh { generation });
    }
    let member = key.roster.get(leaf).ok_or(EncryptError::UnknownSender { leaf })?;
    if member.signature_key != signer.verifying_key().to_bytes() {
        return Err(EncryptError::WrongSigner { leaf });
    }

    let header = Header {
        group_id: &key.group_id,
        epoch: key.epoch,
        content_type: APPLICATION,
        authenticated_data,
    };
    let to_be_signed = header.framed_content_tbs(leaf, plaintext, &key.group_context);
    let signature = signer.sign(&labelled("FramedContentTBS", &to_be_signed)).to_bytes();
    let content = Content {
        application_data: plaintext,
        signature: &signature,
        padding: &vec![0; padding::zeros(plaintext.len())],
    };

    // AES-GCM fails only on more bytes than can be here.
    let mut ciphertext = content.to_bytes();
    key.message_key(leaf, generation)
        .map_err(|KeyErased| EncryptError::KeyErased { generation })?
        .guarded(reuse_guard)
        .seal(&header.content_aad(), &mut ciphertext)
        .map_err(|_| EncryptError::TooLarge)?;
    let encrypted_sender_data = SenderData { leaf, generation, reuse_guard }
        .seal(&key.sender_data_secret, &ciphertext, &header.sender_data_aad())
        .map_err(|_| EncryptError::TooLarge)?;

    let message = PrivateMessage {
        header,
        encrypted_sender_data: &encrypted_sender_data,
        ciphertext: &ciphertext,
    }
    .to_bytes();
    if message.len() > MAX_MESSAGE_LENGTH {
        return Err(EncryptError::TooLarge);
    }
    Ok(message)
}
