//! What can go wrong, one enum per operation, a variant per cause that a caller can act on.

/// Bytes that are not what they claim to be. Dropped by everybody alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedError {
    /// The bytes end in the middle of a value.
    #[error("the bytes end in the middle of a value")]
    Truncated,
    /// A length is not in its shortest form, or not the one that the field must have.
    #[error("a length is wrong or not in its shortest form")]
    Length,
    /// There are bytes after the end of the structure.
    #[error("there are bytes after the end")]
    TrailingBytes,
    /// More bytes than the protocol allows (§12); refused before parsing.
    #[error("larger than the protocol allows")]
    TooLarge,
    /// A version, type or enum value that this protocol does not have.
    #[error("a version or type that this protocol does not have")]
    Unsupported,
    /// Something stands twice where it may stand once.
    #[error("something is there twice")]
    Duplicate,
    /// A required extension is not there.
    #[error("a required extension is missing")]
    Missing,
    /// A string is not UTF-8, or longer than the Matrix specification allows.
    #[error("a string is not valid")]
    String,
}
