//! What ruma's endpoint types need to become HTTP requests, and a short name for each endpoint.

use std::borrow::Cow;

use reqwest::Method;
use ruma::api::{
    SupportedVersions,
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceToken, AppserviceTokenOptional, AuthScheme,
        NoAccessToken, NoAuthentication, SendAccessToken,
    },
    path_builder::{PathBuilder, SinglePath, VersionHistory},
};

/// An authentication scheme that an access token (or none) is enough for.
pub trait Authentication: AuthScheme {
    /// What the scheme takes from the token.
    fn input(token: SendAccessToken<'_>) -> Self::Input<'_>;
}

macro_rules! authenticate_with_a_token {
    ($($scheme:ty),*) => {$(
        impl Authentication for $scheme {
            fn input(token: SendAccessToken<'_>) -> Self::Input<'_> {
                token
            }
        }
    )*};
}

authenticate_with_a_token!(
    AccessToken,
    AccessTokenOptional,
    AppserviceToken,
    AppserviceTokenOptional,
    NoAccessToken
);

impl Authentication for NoAuthentication {
    fn input(_: SendAccessToken<'_>) -> Self::Input<'_> {}
}

/// A way to find an endpoint's path for which the server's versions are enough.
pub trait EndpointPath: PathBuilder {
    /// What the path builder takes from the versions.
    fn input(versions: &SupportedVersions) -> Self::Input<'_>;
}

impl EndpointPath for VersionHistory {
    fn input(versions: &SupportedVersions) -> Self::Input<'_> {
        Cow::Borrowed(versions)
    }
}

impl EndpointPath for SinglePath {
    fn input(_: &SupportedVersions) -> Self::Input<'_> {}
}

/// The endpoint's name in a [`WireLog`](crate::WireLog): method and path without version, room and
/// other identifiers, but with the event type, because that is what tells traffic apart. For
/// instance `PUT /send/m.room.encrypted`.
pub(crate) fn kind(method: &Method, template: &str, path: &str) -> String {
    // A homeserver may live below a prefix, so the two are aligned at their ends.
    let expected: Vec<_> = template.split('/').collect();
    let actual: Vec<_> = path.split('/').collect();
    let actual = actual.iter().skip(actual.len().saturating_sub(expected.len()));

    let mut kind = format!("{method} ");
    for (expected, actual) in expected.iter().zip(actual) {
        match *expected {
            "{event_type}" => kind.extend(["/", actual]),
            "" | "_matrix" | "client" | "unstable" | "rooms" => {}
            variable if variable.starts_with('{') => {}
            version if is_version(version) => {}
            name => kind.extend(["/", name]),
        }
    }
    kind
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix(['v', 'r']).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_the_event_type_and_drops_identifiers() {
        for (method, template, path, expected) in [
            (
                Method::PUT,
                "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}",
                "/_matrix/client/v3/rooms/!r:x/send/m.room.encrypted/42",
                "PUT /send/m.room.encrypted",
            ),
            (
                Method::PUT,
                "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
                "/below/_matrix/client/v3/rooms/!r:x/state/m.room.name/",
                "PUT /state/m.room.name",
            ),
            (
                Method::PUT,
                "/_matrix/client/r0/sendToDevice/{event_type}/{txn_id}",
                "/_matrix/client/r0/sendToDevice/m.room.encrypted/1",
                "PUT /sendToDevice/m.room.encrypted",
            ),
            (
                Method::POST,
                "/_matrix/client/v3/rooms/{room_id}/invite",
                "/_matrix/client/v3/rooms/!r:x/invite",
                "POST /invite",
            ),
            (
                Method::DELETE,
                "/_matrix/client/v3/devices/{device_id}",
                "/_matrix/client/v3/devices/ABC",
                "DELETE /devices",
            ),
            (Method::GET, "/_matrix/client/versions", "/_matrix/client/versions", "GET /versions"),
        ] {
            assert_eq!(kind(&method, template, path), expected);
        }
    }
}
