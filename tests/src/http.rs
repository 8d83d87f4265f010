//! Sends ruma's typed requests.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use reqwest::StatusCode;
use ruma::{
    api::{
        EndpointError, IncomingResponse, OutgoingRequest, SupportedVersions,
        auth_scheme::SendAccessToken,
        client::{
            discovery::get_supported_versions,
            uiaa::{AuthData, UiaaInfo},
        },
        error::{
            Error as MatrixError, ErrorBody, ErrorKind, FromHttpResponseError,
            LimitExceededErrorData, RetryAfter,
        },
        path_builder::PathBuilder as _,
    },
    time::SystemTime,
};
use tracing::{debug, instrument};

use crate::{
    endpoint::{self, Authentication, EndpointPath},
    error::HttpError,
    wire_log::{WireCount, WireLog},
};

/// How long an ordinary request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is sent at most when the server says that it was too fast.
const ATTEMPTS: u32 = 6;
/// The longest pause before the next attempt, whatever the server asks for: a test must end.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A connection to one homeserver, with or without an access token. Clones share connections and
/// the [`WireLog`].
#[derive(Clone)]
pub struct HttpClient {
    /// The homeserver, without a trailing path.
    pub base_url: String,
    /// Goes into every request that needs one.
    pub access_token: Option<String>,
    /// Where the traffic is counted.
    pub wire_log: WireLog,
    /// What the server said on `/versions`; chooses the path of each endpoint.
    pub versions: Arc<SupportedVersions>,
    client: reqwest::Client,
}

impl HttpClient {
    /// Asks the server for the versions that it speaks, with a new [`WireLog`] and without an
    /// access token.
    pub async fn connect(base_url: impl Into<String>) -> Result<Self, HttpError> {
        // The server under test is on this machine; the environment's proxy must not come between.
        let client = reqwest::Client::builder().no_proxy().build()?;
        let versions = SupportedVersions::from_parts(&[], &Default::default());
        let mut this = Self {
            base_url: base_url.into(),
            access_token: None,
            wire_log: WireLog::new(),
            versions: Arc::new(versions),
            client,
        };
        let response = this.send(get_supported_versions::Request::new()).await?;
        this.versions = Arc::new(response.as_supported_versions());
        Ok(this)
    }

    /// The same connection for a logged-in session.
    pub fn with_token(&self, access_token: impl Into<String>) -> Self {
        Self { access_token: Some(access_token.into()), ..self.clone() }
    }

    /// The same connection, counted elsewhere: for a count per device.
    pub fn with_wire_log(&self, wire_log: WireLog) -> Self {
        Self { wire_log, ..self.clone() }
    }

    /// Sends a request and reads its response. Waits and tries again when the server limits the
    /// rate (429), a bounded number of times; nothing else is retried.
    pub async fn send<R>(&self, request: R) -> Result<R::IncomingResponse, HttpError>
    where
        R: OutgoingRequest,
        R::Authentication: Authentication,
        R::PathBuilder: EndpointPath,
    {
        self.send_within(request, TIMEOUT).await
    }

    /// As [`Self::send`], with a timeout for each attempt: a long poll takes longer than other
    /// requests.
    pub async fn send_within<R>(
        &self,
        request: R,
        timeout: Duration,
    ) -> Result<R::IncomingResponse, HttpError>
    where
        R: OutgoingRequest,
        R::Authentication: Authentication,
        R::PathBuilder: EndpointPath,
    {
        let path_input = || <R::PathBuilder as EndpointPath>::input(&self.versions);
        let token =
            self.access_token.as_deref().map_or(SendAccessToken::None, SendAccessToken::IfRequired);
        let template = R::PATH_BUILDER.select_path(path_input())?;
        let request = request
            .try_into_http_request::<BytesMut>(
                &self.base_url,
                <R::Authentication as Authentication>::input(token),
                path_input(),
            )?
            .map(BytesMut::freeze);
        let kind = endpoint::kind(request.method(), template, request.uri().path());

        let response = self.deliver(request, &kind, timeout).await?;
        R::IncomingResponse::try_from_http_response(response).map_err(|error| match error {
            FromHttpResponseError::Deserialization(error) => HttpError::Response(error),
            // Errors of the server do not come this far.
            _ => HttpError::NotMatrix(StatusCode::OK),
        })
    }

    /// Sends a request that the server may want user-interactive authentication for. `make` makes
    /// it with what `auth` says to the server's challenge (given the challenge's session), first
    /// without.
    pub async fn send_with_auth<R>(
        &self,
        make: impl Fn(Option<AuthData>) -> R,
        auth: impl FnOnce(Option<String>) -> AuthData,
    ) -> Result<R::IncomingResponse, HttpError>
    where
        R: OutgoingRequest,
        R::Authentication: Authentication,
        R::PathBuilder: EndpointPath,
    {
        match self.send(make(None)).await {
            Err(HttpError::InteractiveAuth(challenge)) => {
                self.send(make(Some(auth(challenge.session)))).await
            }
            result => result,
        }
    }

    #[instrument(level = "debug", skip(self, request, timeout))]
    async fn deliver(
        &self,
        request: Request<Bytes>,
        kind: &str,
        timeout: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let mut pause = Duration::from_millis(250);
        let mut attempt = 1;
        loop {
            let response = self.deliver_once(request.clone(), kind, timeout).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            let (error, retry_after) = refusal(response);
            if error.status() != Some(StatusCode::TOO_MANY_REQUESTS) || attempt >= ATTEMPTS {
                return Err(error);
            }
            let wait = retry_after.unwrap_or(pause).min(LONGEST_PAUSE);
            debug!(attempt, ?wait, "rate limited");
            tokio::time::sleep(wait).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn deliver_once(
        &self,
        request: Request<Bytes>,
        kind: &str,
        timeout: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let sent = length(request.body());
        self.wire_log.add(kind, WireCount { requests: 1, sent, received: 0 });

        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(timeout);
        let mut answer = self.client.execute(request).await?;

        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        *response.body_mut() = answer.bytes().await?;
        let received = length(response.body());
        self.wire_log.add(kind, WireCount { requests: 0, sent: 0, received });
        Ok(response)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

fn length(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// What an error response says, and the pause that it asks for.
///
/// Done here once and not through `R::EndpointError`, which differs between endpoints.
fn refusal(response: Response<Bytes>) -> (HttpError, Option<Duration>) {
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED
        && let Ok(challenge) = serde_json::from_slice::<UiaaInfo>(response.body())
    {
        return (HttpError::InteractiveAuth(Box::new(challenge)), None);
    }

    let header = response.headers().get(header::RETRY_AFTER).map(RetryAfter::try_from);
    let ErrorBody::Standard(body) = MatrixError::from_http_response(response).body else {
        return (HttpError::NotMatrix(status), header.and_then(Result::ok).map(pause));
    };
    let retry_after = match &body.kind {
        ErrorKind::LimitExceeded(LimitExceededErrorData { retry_after, .. }) => {
            retry_after.map(pause)
        }
        _ => None,
    };
    let error = HttpError::Matrix { status, errcode: body.kind.errcode(), message: body.message };
    (error, retry_after)
}

fn pause(retry_after: RetryAfter) -> Duration {
    match retry_after {
        RetryAfter::Delay(delay) => delay,
        RetryAfter::DateTime(time) => time.duration_since(SystemTime::now()).unwrap_or_default(),
    }
}
