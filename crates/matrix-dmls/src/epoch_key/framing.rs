//! The structs around a message (RFC 9420 §6, §6.1, §6.3).

use super::{group_context::MLS_10, sender_data::ENCRYPTED_LENGTH};
use crate::{
    authenticated_data::MessageAad,
    error::MalformedError,
    wire::tls::{Reader, Writer},
};

/// The longest message that is read or written, in bytes of the whole MLSMessage. Events have at
/// most 65,536 bytes, so whatever is longer in base64 has not come from one.
pub const MAX_MESSAGE_LENGTH: usize = 65_536 / 4 * 3;

/// `WireFormat mls_private_message`.
const PRIVATE_MESSAGE: u16 = 2;

/// `ContentType application`.
pub(super) const APPLICATION: u8 = 1;

/// `ContentType proposal` and `commit`.
pub(super) const HANDSHAKE: std::ops::RangeInclusive<u8> = 2..=3;

/// `SenderType member`.
const MEMBER: u8 = 1;

/// What a message says of itself in the clear. Nothing of it is authenticated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageHeader {
    /// The MLS group ID: the room ID in UTF-8.
    pub group_id: Vec<u8>,
    /// The MLS epoch number.
    pub epoch: u64,
    /// The authenticated data, which names the node.
    pub aad: MessageAad,
}

/// Reads the header of a message, the bytes of a whole MLSMessage, to find out which epoch key it
/// needs. Decrypts and verifies nothing.
///
/// # Errors
///
/// [`MalformedError::TooLarge`] beyond [`MAX_MESSAGE_LENGTH`], [`MalformedError::Unsupported`] when
/// it is not an application message in a PrivateMessage, and others when the bytes cannot be read.
pub fn peek(message: &[u8]) -> Result<MessageHeader, MalformedError> {
    if message.len() > MAX_MESSAGE_LENGTH {
        return Err(MalformedError::TooLarge);
    }
    let PrivateMessage { header, .. } = PrivateMessage::from_bytes(message)?;
    if header.content_type != APPLICATION {
        return Err(MalformedError::Unsupported);
    }
    Ok(MessageHeader {
        group_id: header.group_id.to_vec(),
        epoch: header.epoch,
        aad: MessageAad::from_bytes(header.authenticated_data)?,
    })
}

/// The fields of a PrivateMessage that are not encrypted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub(super) group_id: &'a [u8],
    pub(super) epoch: u64,
    pub(super) content_type: u8,
    pub(super) authenticated_data: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MalformedError> {
        Ok(Self {
            group_id: reader.opaque()?,
            epoch: reader.u64()?,
            content_type: reader.u8()?,
            authenticated_data: reader.opaque()?,
        })
    }

    fn write(&self, out: &mut Writer) {
        out.raw(&self.sender_data_aad());
        out.opaque(self.authenticated_data);
    }

    /// The `SenderDataAAD` struct (§6.3.2).
    pub(super) fn sender_data_aad(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.opaque(self.group_id);
        out.u64(self.epoch);
        out.u8(self.content_type);
        out.into_bytes()
    }

    /// The `PrivateContentAAD` struct (§6.3.1): the header as it stands in the message.
    pub(super) fn content_aad(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }

    /// The `FramedContentTBS` struct (§6.1) of a member's application message.
    pub(super) fn framed_content_tbs(
        &self,
        leaf: u32,
        application_data: &[u8],
        group_context: &[u8],
    ) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(MLS_10);
        out.u16(PRIVATE_MESSAGE);
        out.opaque(self.group_id);
        out.u64(self.epoch);
        out.u8(MEMBER);
        out.u32(leaf);
        out.opaque(self.authenticated_data);
        out.u8(self.content_type);
        out.opaque(application_data);
        out.raw(group_context);
        out.into_bytes()
    }
}

/// An `MLSMessage` with a `PrivateMessage`.
#[derive(Debug)]
pub(super) struct PrivateMessage<'a> {
    pub(super) header: Header<'a>,
    pub(super) encrypted_sender_data: &'a [u8],
    pub(super) ciphertext: &'a [u8],
}

impl<'a> PrivateMessage<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        if reader.u16()? != MLS_10 || reader.u16()? != PRIVATE_MESSAGE {
            return Err(MalformedError::Unsupported);
        }
        let header = Header::read(&mut reader)?;
        let encrypted_sender_data = reader.opaque()?;
        let ciphertext = reader.opaque()?;
        reader.finish()?;
        if encrypted_sender_data.len() != ENCRYPTED_LENGTH {
            return Err(MalformedError::Length);
        }
        Ok(Self { header, encrypted_sender_data, ciphertext })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(MLS_10);
        out.u16(PRIVATE_MESSAGE);
        self.header.write(&mut out);
        out.opaque(self.encrypted_sender_data);
        out.opaque(self.ciphertext);
        out.into_bytes()
    }
}

/// The `PrivateMessageContent` struct (§6.3.1) of an application message.
#[derive(Debug)]
pub(super) struct Content<'a> {
    pub(super) application_data: &'a [u8],
    pub(super) signature: &'a [u8],
    pub(super) padding: &'a [u8],
}

impl<'a> Content<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        let application_data = reader.opaque()?;
        let signature = reader.opaque()?;
        Ok(Self { application_data, signature, padding: reader.rest() })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.opaque(self.application_data);
        out.opaque(self.signature);
        out.raw(self.padding);
        out.into_bytes()
    }
}
