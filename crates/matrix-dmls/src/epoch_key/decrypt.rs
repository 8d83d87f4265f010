//! Decrypting and verifying a message (RFC 9420 §6.3).

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Inner,
    error::DecryptError,
    framing::{APPLICATION, Content, HANDSHAKE, Header, MAX_MESSAGE_LENGTH, PrivateMessage},
    punctured::KeyErased,
    secret_tree::GENERATION_LIMIT,
    sender_data::{SenderData, sender_data_key},
};
use crate::{
    authenticated_data::MessageAad, crypto::verify_with_label, error::MalformedError,
    roster::Member,
};

/// A message that was decrypted and whose signature is the sender's.
#[derive(Clone, PartialEq, Eq)]
pub struct DecryptedMessage {
    /// The leaf that sent it.
    pub leaf: u32,
    /// Which of the leaf's messages in this epoch it is, from 0.
    pub generation: u32,
    /// Who that leaf is. Whether it may speak for the event's Matrix sender is still to be checked
    /// (protocol §4).
    pub sender: Arc<Member>,
    /// What it says in the clear, verified.
    pub aad: MessageAad,
    /// What it says, without padding.
    pub plaintext: Vec<u8>,
}

impl fmt::Debug for DecryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptedMessage")
            .field("leaf", &self.leaf)
            .field("generation", &self.generation)
            .field("sender", &self.sender.identity)
            .field("aad", &self.aad)
            .finish_non_exhaustive()
    }
}

/// What decryption gives, whatever the authenticated data.
pub(super) struct Opened {
    pub(super) leaf: u32,
    pub(super) generation: u32,
    pub(super) sender: Arc<Member>,
    pub(super) plaintext: Vec<u8>,
}

/// Decrypts a whole MLSMessage whose authenticated data is a [`MessageAad`].
pub(super) fn open_message(key: &Inner, bytes: &[u8]) -> Result<DecryptedMessage, DecryptError> {
    let message = parse(key, bytes)?;
    let aad = MessageAad::from_bytes(message.header.authenticated_data)?;
    if aad.epoch() != key.node {
        return Err(DecryptError::WrongNode);
    }
    let Opened { leaf, generation, sender, plaintext } = open(key, &message)?;
    Ok(DecryptedMessage { leaf, generation, sender, aad, plaintext })
}

/// Takes an application message of the key's group and epoch number apart.
pub(super) fn parse<'a>(key: &Inner, bytes: &'a [u8]) -> Result<PrivateMessage<'a>, DecryptError> {
    if bytes.len() > MAX_MESSAGE_LENGTH {
        return Err(DecryptError::TooLarge);
    }
    let message = PrivateMessage::from_bytes(bytes)?;
    let Header { group_id, epoch, content_type, .. } = message.header;
    if HANDSHAKE.contains(&content_type) {
        return Err(DecryptError::NotApplication);
    }
    if content_type != APPLICATION {
        return Err(MalformedError::Unsupported.into());
    }
    if group_id != key.group_id {
        return Err(DecryptError::WrongGroup);
    }
    if epoch != key.epoch {
        return Err(DecryptError::WrongEpoch);
    }
    Ok(message)
}

/// Decrypts and verifies, with any authenticated data.
pub(super) fn open(key: &Inner, message: &PrivateMessage<'_>) -> Result<Opened, DecryptError> {
    let PrivateMessage { header, encrypted_sender_data, ciphertext } = message;

    let mut sender_data = Zeroizing::new(encrypted_sender_data.to_vec());
    sender_data_key(&key.sender_data_secret, ciphertext)
        .open(&header.sender_data_aad(), &mut sender_data)
        .map_err(|_| DecryptError::Aead)?;
    let SenderData { leaf, generation, reuse_guard } = SenderData::from_bytes(&sender_data)?;
    let sender = key.roster.get(leaf).ok_or(DecryptError::UnknownSender { leaf })?;
    if generation >= GENERATION_LIMIT {
        return Err(DecryptError::GenerationTooHigh { generation });
    }

    let mut content = Zeroizing::new(ciphertext.to_vec());
    key.message_key(leaf, generation)
        .map_err(|KeyErased| DecryptError::KeyErased { leaf, generation })?
        .guarded(reuse_guard)
        .open(&header.content_aad(), &mut content)
        .map_err(|_| DecryptError::Aead)?;
    let Content { application_data, signature, padding } = Content::from_bytes(&content)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecryptError::Padding);
    }

    let to_be_signed =
        Zeroizing::new(header.framed_content_tbs(leaf, application_data, &key.group_context));
    if !verify_with_label(&sender.signature_key, "FramedContentTBS", &to_be_signed, signature) {
        return Err(DecryptError::Signature { leaf });
    }
    let plaintext = application_data.to_vec();
    Ok(Opened { leaf, generation, sender: Arc::clone(sender), plaintext })
}
