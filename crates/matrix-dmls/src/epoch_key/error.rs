//! Why a message could not be encrypted or decrypted.

use crate::error::MalformedError;

/// Why a message was not encrypted. A mistake of the caller's, or too much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The message would be longer than an event can carry
    /// ([`MAX_MESSAGE_LENGTH`](super::MAX_MESSAGE_LENGTH)).
    #[error("the message is too long")]
    TooLarge,
    /// The authenticated data names another node than the epoch key's.
    #[error("the authenticated data names another epoch")]
    WrongNode,
    /// The roster has nobody at the sender's leaf.
    #[error("nobody is at leaf {leaf} in this epoch")]
    UnknownSender {
        /// The leaf index.
        leaf: u32,
    },
    /// The roster has another signature key at the sender's leaf: nobody could verify the message.
    #[error("the signing key is not that of leaf {leaf}")]
    WrongSigner {
        /// The leaf index.
        leaf: u32,
    },
    /// The leaf has used up its generations
    /// ([`GENERATION_LIMIT`](super::GENERATION_LIMIT)): it must commit an update before it sends.
    #[error("generation {generation} is beyond the limit of an epoch")]
    GenerationTooHigh {
        /// The generation.
        generation: u32,
    },
    /// The epoch's keys are erased as they are used, and that of this generation is gone: somebody
    /// with our signature key has used it. Take the next one.
    #[error("the key of generation {generation} is erased")]
    KeyErased {
        /// The generation.
        generation: u32,
    },
}

/// Why a message was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Longer than an event can carry ([`MAX_MESSAGE_LENGTH`](super::MAX_MESSAGE_LENGTH)); refused
    /// before it was parsed.
    #[error("the message is too long")]
    TooLarge,
    /// Not an MLSMessage with a PrivateMessage, or something inside it is not what it should be.
    #[error("the message cannot be read: {0}")]
    Malformed(#[from] MalformedError),
    /// A proposal or a commit: they are never encrypted in this protocol.
    #[error("not an application message")]
    NotApplication,
    /// Of another group.
    #[error("a message of another group")]
    WrongGroup,
    /// Of an epoch with another number.
    #[error("a message of another epoch number")]
    WrongEpoch,
    /// Of another node, though the number fits: another branch.
    #[error("a message of another epoch")]
    WrongNode,
    /// The roster has nobody at the leaf that the message comes from.
    #[error("nobody is at leaf {leaf} in this epoch")]
    UnknownSender {
        /// The leaf index.
        leaf: u32,
    },
    /// A generation that nobody may use ([`GENERATION_LIMIT`](super::GENERATION_LIMIT)); refused
    /// before anything was derived.
    #[error("generation {generation} is beyond the limit of an epoch")]
    GenerationTooHigh {
        /// The generation.
        generation: u32,
    },
    /// The epoch's keys are erased as they are used, and this one is gone: the message was read before,
    /// or another one under the same key, or too many before it were missing
    /// ([`MAX_SKIPPED_KEYS`](super::MAX_SKIPPED_KEYS)). Leaf and generation are the message's claim.
    #[error("the key of generation {generation} of leaf {leaf} is erased")]
    KeyErased {
        /// The leaf index.
        leaf: u32,
        /// The generation.
        generation: u32,
    },
    /// An authentication tag does not fit: damaged, or encrypted with other secrets.
    #[error("the message was not encrypted with this epoch key")]
    Aead,
    /// There is something other than zeros in the padding.
    #[error("the padding is not all zeros")]
    Padding,
    /// The signature is not the sender's.
    #[error("the signature is not that of leaf {leaf}")]
    Signature {
        /// The leaf index that the message claims to come from.
        leaf: u32,
    },
}
