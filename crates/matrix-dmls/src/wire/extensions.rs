//! Extension lists (RFC 9420 §13) and the RequiredCapabilities extension (§11.1).

use std::collections::BTreeSet;

use super::tls::Reader;
use crate::error::MalformedError;

/// The type of the RequiredCapabilities extension.
pub(crate) const REQUIRED_CAPABILITIES: u16 = 3;

/// One extension, as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The type (RFC 9420 §17.3).
    pub extension_type: u16,
    /// The type's own encoding, not looked at here.
    pub data: Vec<u8>,
}

/// Whether every client supports an extension type without saying so (RFC 9420 §7.2).
pub(crate) const fn is_default_extension(extension_type: u16) -> bool {
    matches!(extension_type, 1..=5)
}

/// Whether every client supports a proposal type without saying so (RFC 9420 §7.2).
const fn is_default_proposal(proposal_type: u16) -> bool {
    matches!(proposal_type, 1..=7)
}

/// `Extension extensions<V>`.
///
/// # Errors
///
/// `Duplicate` when a type is there twice (RFC 9420 §13.4), and what the encoding can lack.
pub(crate) fn read_extensions(reader: &mut Reader<'_>) -> Result<Vec<Extension>, MalformedError> {
    let mut list = reader.vector()?;
    let mut seen = BTreeSet::new();
    let mut extensions = Vec::new();
    while !list.is_empty() {
        let extension_type = list.u16()?;
        let data = list.opaque()?.to_vec();
        if !seen.insert(extension_type) {
            return Err(MalformedError::Duplicate);
        }
        extensions.push(Extension { extension_type, data });
    }
    Ok(extensions)
}

/// The types in an `Extension extensions<V>`; what they hold is skipped.
pub(crate) fn read_extension_types(
    reader: &mut Reader<'_>,
) -> Result<BTreeSet<u16>, MalformedError> {
    let mut list = reader.vector()?;
    let mut types = BTreeSet::new();
    while !list.is_empty() {
        let extension_type = list.u16()?;
        list.opaque()?;
        if !types.insert(extension_type) {
            return Err(MalformedError::Duplicate);
        }
    }
    Ok(types)
}

/// `uint16 values<V>`. The same value twice is no error (RFC 9420 does not forbid it).
pub(crate) fn read_u16s(reader: &mut Reader<'_>) -> Result<BTreeSet<u16>, MalformedError> {
    let mut list = reader.vector()?;
    let mut values = BTreeSet::new();
    while !list.is_empty() {
        values.insert(list.u16()?);
    }
    Ok(values)
}

/// `RequiredCapabilities` (RFC 9420 §11.1): what every member's leaf must say that it supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredCapabilities {
    /// Extension types.
    pub extensions: BTreeSet<u16>,
    /// Proposal types.
    pub proposals: BTreeSet<u16>,
    /// Credential types.
    pub credentials: BTreeSet<u16>,
}

impl RequiredCapabilities {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        let required = Self {
            extensions: read_u16s(&mut reader)?,
            proposals: read_u16s(&mut reader)?,
            credentials: read_u16s(&mut reader)?,
        };
        reader.finish()?;
        Ok(required)
    }

    /// Whether a leaf with these capabilities may be in the group.
    pub(crate) fn are_met(
        &self,
        extensions: &BTreeSet<u16>,
        proposals: &BTreeSet<u16>,
        credentials: &BTreeSet<u16>,
    ) -> bool {
        self.extensions.iter().all(|t| is_default_extension(*t) || extensions.contains(t))
            && self.proposals.iter().all(|t| is_default_proposal(*t) || proposals.contains(t))
            && self.credentials.is_subset(credentials)
    }
}
