//! What can go wrong between a test and the homeserver.

use std::collections::BTreeMap;

use matrix_sdk_crypto::{CryptoStoreError, OlmError, SignatureError};
use matrix_sdk_crypto_mls::{MlsError, store::StoreError};
use matrix_sdk_mls_sqlite::OpenStoreError as OpenMlsStoreError;
use matrix_sdk_sqlite::OpenStoreError as OpenCryptoStoreError;
use reqwest::StatusCode;
use ruma::{
    OwnedDeviceId, OwnedRoomId, OwnedUserId,
    api::{
        client::{keys::upload_signatures::v3::Failure, uiaa::UiaaInfo},
        error::{DeserializationError, ErrorCode, IntoHttpError},
    },
};

/// A request that did not get the answer it wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The request could not be made from its type: an unknown endpoint version, a missing access
    /// token.
    #[error("the request could not be built: {0}")]
    Request(#[from] IntoHttpError),
    /// No answer: connection refused or lost, or the timeout is over. The server may have handled
    /// the request.
    #[error("no answer from the server: {0}")]
    Transport(#[from] reqwest::Error),
    /// The server refused, with a Matrix error.
    #[error("[{} / {errcode}] {message}", status.as_u16())]
    Matrix {
        /// HTTP status.
        status: StatusCode,
        /// Matrix error code, for instance `M_FORBIDDEN`.
        errcode: ErrorCode,
        /// The server's words.
        message: String,
    },
    /// The server wants user-interactive authentication; the session in it belongs into the next
    /// attempt.
    #[error("user-interactive authentication required")]
    InteractiveAuth(Box<UiaaInfo>),
    /// An error status with a body that is no Matrix error: a proxy, or not a homeserver.
    #[error("status {} without a Matrix error in its body", .0.as_u16())]
    NotMatrix(StatusCode),
    /// A success status with a body that its type cannot be read from.
    #[error("the response could not be read: {0}")]
    Response(DeserializationError),
}

impl HttpError {
    /// The HTTP status, when the server answered with an error.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Matrix { status, .. } | Self::NotMatrix(status) => Some(*status),
            Self::InteractiveAuth(_) => Some(StatusCode::UNAUTHORIZED),
            Self::Request(_) | Self::Transport(_) | Self::Response(_) => None,
        }
    }

    /// The Matrix error code, when the server answered with one.
    pub fn errcode(&self) -> Option<&ErrorCode> {
        match self {
            Self::Matrix { errcode, .. } => Some(errcode),
            _ => None,
        }
    }
}

/// What the [`Link`](crate::Link) between two homeservers can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The environment does not say where the two homeservers are: this variable is missing.
    #[error("{0} is not set; `cargo xtask synapse up --federated` prints what to set")]
    NoFederation(&'static str),
    /// The link's control does not answer.
    #[error("the link's control: {0}")]
    Io(#[from] std::io::Error),
    /// The link's control answers something else than it should. Nothing, when it has gone.
    #[error("the link's control says {0:?}")]
    Answer(String),
    /// The servers reach each other although the link is cut.
    #[error("the link is cut, and the servers reach each other nevertheless")]
    NotCut,
    /// The servers do not reach each other although the link is whole.
    #[error("the link is whole again, and the servers do not reach each other")]
    NotHealed,
}

/// What a [`Device`](crate::Device) or an [`Account`](crate::Account) can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The Olm machine refused a response or a sync.
    #[error("the Olm machine failed: {0}")]
    Olm(#[from] OlmError),
    /// The Olm machine's store failed.
    #[error("the crypto store failed: {0}")]
    Store(#[from] CryptoStoreError),
    /// The Olm machine's store could not be opened.
    #[error("the crypto store could not be opened: {0}")]
    OpenCryptoStore(#[from] OpenCryptoStoreError),
    /// The MLS machine's store could not be opened.
    #[error("the MLS store could not be opened: {0}")]
    OpenMlsStore(#[from] OpenMlsStoreError),
    /// There was no randomness for a store's key.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The device keeps everything in memory, so nothing of it would be left.
    #[error("the device {1} of {0} has no stores on disk")]
    NotOnDisk(OwnedUserId, OwnedDeviceId),
    /// The Olm machine could not sign: it has not the private cross-signing keys.
    #[error("signing failed: {0}")]
    Signature(#[from] SignatureError),
    /// JSON that could not be written, or an event without the fields that every event has.
    #[error("bad JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `/keys/signatures/upload` says 200 even when it rejects every signature.
    #[error("the server rejected signatures of {} users", .0.len())]
    SignaturesRejected(BTreeMap<OwnedUserId, BTreeMap<String, Failure>>),
    /// The server's answer to a registration has no session, though one was asked for.
    #[error("the registration came back without an access token")]
    NoSession,
    /// The device is not in the Olm machine's store; track its user first.
    #[error("unknown device {1} of {0}")]
    UnknownDevice(OwnedUserId, OwnedDeviceId),
    /// The user's cross-signing identity is not in the Olm machine's store; track the user first.
    #[error("no cross-signing identity of {0} is known")]
    UnknownIdentity(OwnedUserId),
    /// The machine produced new requests for this many rounds: it does not accept its responses.
    #[error("the machine still has outgoing requests after {0} rounds")]
    PumpDoesNotSettle(usize),
    /// The MLS machine failed, or refuses to send.
    #[error("MLS: {0}")]
    Mls(#[from] MlsError),
    /// The MLS machine wants a kind of request sent that this driver does not know.
    #[error("the MLS machine has a kind of request that the driver does not know")]
    UnknownRequest,
    /// The room wanted more requests and syncs than any room should before it could be sent to.
    #[error("{0} was not ready to be sent to after {1} attempts")]
    NeverReady(OwnedRoomId, usize),
    /// The link between two homeservers failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The members' devices do not come to send in the same epoch.
    #[error("the devices in {0} stay in different epochs")]
    Apart(OwnedRoomId),
    /// The user has no such device.
    #[error("{0} has no device number {1}")]
    NoSuchDevice(OwnedUserId, usize),
    /// What was waited for did not come.
    #[error("{who} ({device}) has waited in vain for {what}")]
    Impatient {
        /// Who waited.
        who: OwnedUserId,
        /// On which device.
        device: OwnedDeviceId,
        /// What for.
        what: String,
    },
}

impl From<StoreError> for DriverError {
    fn from(error: StoreError) -> Self {
        Self::Mls(error.into())
    }
}

impl DriverError {
    /// The HTTP status, when this is an error that the server answered with.
    pub fn status(&self) -> Option<StatusCode> {
        self.http()?.status()
    }

    /// The Matrix error code, when this is an error that the server answered with.
    pub fn errcode(&self) -> Option<&ErrorCode> {
        self.http()?.errcode()
    }

    /// The failed request, when that is what it was.
    pub fn http(&self) -> Option<&HttpError> {
        match self {
            Self::Http(error) => Some(error),
            _ => None,
        }
    }
}
