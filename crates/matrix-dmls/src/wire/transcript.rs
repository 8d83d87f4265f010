//! Transcript hashes (RFC 9420 §8.2): the chain that ties a commit to all that came before it.

use super::tls::Writer;
use crate::{crypto::sha256, ids::HASH_LENGTH};

/// `interim_transcript_hash[n]`: SHA-256 of `confirmed_transcript_hash[n]` and the epoch's
/// `InterimTranscriptHashInput`, its confirmation tag.
///
/// `confirmed` is 32 bytes, or empty in a group's epoch 0 (RFC 9420 §11).
pub fn interim_transcript_hash(confirmed: &[u8], confirmation_tag: &[u8]) -> [u8; HASH_LENGTH] {
    let mut input = Writer::new();
    input.opaque(confirmation_tag);
    sha256(&[confirmed, &input.into_bytes()])
}

/// `confirmed_transcript_hash[n + 1]`: SHA-256 of `interim_transcript_hash[n]` and the
/// `ConfirmedTranscriptHashInput` of the commit that begins epoch n + 1, see
/// [`CommitMessage::confirmed_transcript_hash_input`](crate::CommitMessage::confirmed_transcript_hash_input).
pub fn confirmed_transcript_hash(
    interim_before: &[u8; HASH_LENGTH],
    confirmed_transcript_hash_input: &[u8],
) -> [u8; HASH_LENGTH] {
    sha256(&[interim_before, confirmed_transcript_hash_input])
}
