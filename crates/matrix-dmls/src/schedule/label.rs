//! Which of RFC 9420's labels a call of `KDF.Expand` is for.

use crate::wire::tls::Reader;

/// The labels that the DMLS key schedule has to see. All other derivations pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Init,
    Joiner,
    Path,
    Encryption,
    SenderData,
    External,
    Authentication,
}

/// Reads a `KDFLabel` (RFC 9420 §8): its label, if it is one of ours, and its context.
pub(super) fn parse(info: &[u8]) -> Option<(Label, &[u8])> {
    let mut reader = Reader::new(info);
    reader.u16().ok()?;
    let label = reader.opaque().ok()?;
    let context = reader.opaque().ok()?;
    reader.finish().ok()?;
    let label = match label.strip_prefix(b"MLS 1.0 ")? {
        b"init" => Label::Init,
        b"joiner" => Label::Joiner,
        b"path" => Label::Path,
        b"encryption" => Label::Encryption,
        b"sender data" => Label::SenderData,
        b"external" => Label::External,
        b"authentication" => Label::Authentication,
        _ => return None,
    };
    Some((label, context))
}
