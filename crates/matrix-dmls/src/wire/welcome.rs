//! `Welcome` (RFC 9420 §12.4.3.1), cut down to what one recipient needs (protocol §6).

use std::collections::HashSet;

use super::{
    message::{CIPHER_SUITE, WireFormat, begin, expect, open},
    proposal::MAX_LEAVES,
    tls::{Reader, Writer},
};
use crate::{error::MalformedError, ids::KeyPackageRef};

/// The largest Welcome that we read, in bytes (protocol §12).
pub const MAX_WELCOME_BYTES: usize = 32 * 1024 * 1024;

/// A Welcome: secrets for each new member, and the GroupInfo, encrypted, which is the same for all.
///
/// What goes to one recipient is the *secrets-only* form: a Welcome with that recipient's secrets
/// and an empty `encrypted_group_info`. [`Welcome::join`] puts the shared part back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    secrets: Vec<Secrets>,
    encrypted_group_info: Vec<u8>,
}

/// `EncryptedGroupSecrets`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Secrets {
    new_member: KeyPackageRef,
    /// The struct's bytes.
    bytes: Vec<u8>,
}

impl Welcome {
    /// Reads an `MLSMessage(Welcome)`, whole or secrets-only.
    ///
    /// # Errors
    ///
    /// `TooLarge` above [`MAX_WELCOME_BYTES`] or for more recipients than a group can have members;
    /// `Unsupported` for another cipher suite; `Duplicate` when a recipient is there twice; else
    /// what is wrong with the encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = open(bytes, MAX_WELCOME_BYTES, WireFormat::Welcome)?;
        expect(reader.u16()?, CIPHER_SUITE)?;
        let mut list = reader.vector()?;
        let encrypted_group_info = reader.opaque()?.to_vec();
        reader.finish()?;

        let mut secrets = Vec::new();
        let mut seen = HashSet::new();
        while !list.is_empty() {
            if secrets.len() == MAX_LEAVES {
                return Err(MalformedError::TooLarge);
            }
            let one = Secrets::read(&mut list)?;
            if !seen.insert(one.new_member) {
                return Err(MalformedError::Duplicate);
            }
            secrets.push(one);
        }
        Ok(Self { secrets, encrypted_group_info })
    }

    /// Whom it is for, in its order.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = KeyPackageRef> {
        self.secrets.iter().map(|secrets| secrets.new_member)
    }

    /// The GroupInfo, encrypted: what is the same for all recipients. Empty in the secrets-only
    /// form.
    pub fn encrypted_group_info(&self) -> &[u8] {
        &self.encrypted_group_info
    }

    /// An `MLSMessage(Welcome)` with only this recipient's secrets, and with the shared part; none
    /// if the Welcome is not for it.
    pub fn for_recipient(&self, recipient: &KeyPackageRef) -> Option<Vec<u8>> {
        self.cut(recipient, &self.encrypted_group_info)
    }

    /// The secrets-only form for this recipient, some 200 bytes however large the group is; none if
    /// the Welcome is not for it. [`Welcome::encrypted_group_info`] is the other part.
    pub fn secrets_for_recipient(&self, recipient: &KeyPackageRef) -> Option<Vec<u8>> {
        self.cut(recipient, &[])
    }

    /// Puts the shared part back into a secrets-only form; gives an `MLSMessage(Welcome)`.
    ///
    /// # Errors
    ///
    /// When `secrets_only` cannot be read, `Duplicate` when it has a shared part already, and
    /// `TooLarge` when the whole passes [`MAX_WELCOME_BYTES`].
    pub fn join(
        secrets_only: &[u8],
        encrypted_group_info: &[u8],
    ) -> Result<Vec<u8>, MalformedError> {
        let welcome = Self::parse(secrets_only)?;
        if !welcome.encrypted_group_info.is_empty() {
            return Err(MalformedError::Duplicate);
        }
        // Room for the length in front of the shared part.
        if secrets_only.len() + encrypted_group_info.len() + 4 > MAX_WELCOME_BYTES {
            return Err(MalformedError::TooLarge);
        }
        Ok(encode(&welcome.secrets, encrypted_group_info))
    }

    fn cut(&self, recipient: &KeyPackageRef, encrypted_group_info: &[u8]) -> Option<Vec<u8>> {
        let secrets = self.secrets.iter().find(|secrets| secrets.new_member == *recipient)?;
        Some(encode(std::slice::from_ref(secrets), encrypted_group_info))
    }
}

impl Secrets {
    fn read(reader: &mut Reader<'_>) -> Result<Self, MalformedError> {
        let start = *reader;
        let new_member = KeyPackageRef::from_bytes(reader.opaque_array()?);
        // HPKECiphertext: kem_output, ciphertext.
        reader.opaque_array::<32>()?;
        reader.opaque()?;
        Ok(Self { new_member, bytes: reader.since(start).to_vec() })
    }
}

fn encode(secrets: &[Secrets], encrypted_group_info: &[u8]) -> Vec<u8> {
    let mut list = Writer::new();
    for one in secrets {
        list.raw(&one.bytes);
    }
    let mut out = begin(WireFormat::Welcome);
    out.u16(CIPHER_SUITE);
    out.opaque(&list.into_bytes());
    out.opaque(encrypted_group_info);
    out.into_bytes()
}
