//! `MLSMessage`: the version and wire format in front of every message (RFC 9420 §6).

use super::tls::{Reader, Writer};
use crate::error::MalformedError;

/// `ProtocolVersion` mls10.
pub(crate) const MLS_10: u16 = 1;

/// The cipher suite MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 (RFC 9420 §17.1).
pub(crate) const CIPHER_SUITE: u16 = 1;

/// `WireFormat` (RFC 9420 §17.2), those that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum WireFormat {
    PublicMessage = 1,
    Welcome = 3,
    GroupInfo = 4,
}

/// Reads the head of an `MLSMessage`; the returned reader stands at its body.
///
/// # Errors
///
/// `TooLarge` above `limit` bytes, before anything is read; `Unsupported` for another version or
/// wire format.
pub(crate) fn open(
    bytes: &[u8],
    limit: usize,
    wire_format: WireFormat,
) -> Result<Reader<'_>, MalformedError> {
    if bytes.len() > limit {
        return Err(MalformedError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    expect(reader.u16()?, MLS_10)?;
    expect(reader.u16()?, wire_format as u16)?;
    Ok(reader)
}

/// A writer behind the head of an `MLSMessage`.
pub(crate) fn begin(wire_format: WireFormat) -> Writer {
    let mut out = Writer::new();
    out.u16(MLS_10);
    out.u16(wire_format as u16);
    out
}

/// Requires a version or type to be the one that this protocol has.
pub(crate) fn expect<T: PartialEq>(found: T, expected: T) -> Result<(), MalformedError> {
    if found == expected { Ok(()) } else { Err(MalformedError::Unsupported) }
}
