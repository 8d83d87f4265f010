//! What can go wrong.

use matrix_sdk_crypto_mls::{DecryptionError, MlsError};
use matrix_sdk_mls_sqlite::OpenStoreError;
use ruma::OwnedRoomId;

/// An MLS room could not be worked with.
///
/// Methods that have the name of one of the SDK's give a `matrix_sdk::Error`, as the SDK does; this
/// error is then in [`matrix_sdk::Error::UnknownError`], and [`Error::of`] finds it there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody has logged in with this client.
    #[error("not logged in: log in, or restore a session, first")]
    NotLoggedIn,
    /// The machine refuses. For a room in which MLS was turned off this is
    /// [`MlsError::Downgraded`]: nothing is sent in it.
    #[error(transparent)]
    Mls(#[from] MlsError),
    /// The message cannot be read.
    #[error(transparent)]
    Decryption(#[from] DecryptionError),
    /// The room did not become ready in time: nobody has let this device in, or no sync is running.
    #[error(
        "{0} did not become ready to be sent to: keep syncing, and have somebody in the room online"
    )]
    NeverReady(OwnedRoomId),
    /// This user is not in the room.
    #[error("not joined to {0}")]
    NotJoined(OwnedRoomId),
    /// The server, or one of the SDK's stores, has failed.
    #[error(transparent)]
    Sdk(Box<matrix_sdk::Error>),
    /// The session that a message is handed to the SDK with could not be made.
    #[error("the message cannot be handed to the timeline: {0}")]
    Bridge(String),
    /// JSON could not be read or written.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// The error of ours in one of the SDK's, if there is one.
    pub fn of(error: &matrix_sdk::Error) -> Option<&Self> {
        match error {
            matrix_sdk::Error::UnknownError(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl From<matrix_sdk::Error> for Error {
    fn from(error: matrix_sdk::Error) -> Self {
        match error {
            matrix_sdk::Error::UnknownError(error) => match error.downcast() {
                Ok(ours) => *ours,
                Err(error) => Self::Sdk(Box::new(matrix_sdk::Error::UnknownError(error))),
            },
            error => Self::Sdk(Box::new(error)),
        }
    }
}

impl From<matrix_sdk::HttpError> for Error {
    fn from(error: matrix_sdk::HttpError) -> Self {
        Self::Sdk(Box::new(error.into()))
    }
}

impl From<Error> for matrix_sdk::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Sdk(error) => *error,
            error => Self::UnknownError(Box::new(error)),
        }
    }
}

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// One of the SDK's stores could not be opened.
    #[error(transparent)]
    Store(#[from] matrix_sdk_sqlite::OpenStoreError),
    /// The MLS store could not be opened.
    #[error("the MLS store could not be opened: {0}")]
    MlsStore(#[from] OpenStoreError),
    /// The SDK could not make its client.
    #[error(transparent)]
    Sdk(#[from] matrix_sdk::ClientBuildError),
}
