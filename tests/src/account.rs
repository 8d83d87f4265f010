//! Users, and how they log in.

use std::fmt;

use ruma::{
    OwnedDeviceId, OwnedUserId, TransactionId,
    api::client::{
        account::register,
        session::login,
        uiaa::{AuthData, Dummy, Password, UserIdentifier},
    },
};

use crate::{error::DriverError, http::HttpClient};

/// One logged-in device of a user.
#[derive(Clone)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device, whose name the server chose.
    pub device_id: OwnedDeviceId,
    /// What the server knows the device by.
    pub access_token: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user_id", &self.user_id)
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

/// A user with a password, able to log in again and to confirm what the server wants confirmed.
#[derive(Clone)]
pub struct Account {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's password.
    pub password: String,
    http: HttpClient,
}

impl Account {
    /// Registers a new user and logs the first device in. The localpart ends in `name` and begins
    /// with something random, so that many tests can share a server.
    pub async fn register(http: &HttpClient, name: &str) -> Result<(Self, Session), DriverError> {
        let random: String = TransactionId::new().as_str().chars().take(12).collect();
        let localpart = format!("t{}-{name}", random.to_ascii_lowercase());
        let password = TransactionId::new().to_string();
        Self::register_as(http, &localpart, &password).await
    }

    /// Registers a new user under a chosen name.
    pub async fn register_as(
        http: &HttpClient,
        localpart: &str,
        password: &str,
    ) -> Result<(Self, Session), DriverError> {
        let response = http
            .send_with_auth(
                |auth| {
                    let mut request = register::v3::Request::new();
                    request.username = Some(localpart.to_owned());
                    request.password = Some(password.to_owned());
                    request.auth = auth;
                    request
                },
                |session| {
                    let mut dummy = Dummy::new();
                    dummy.session = session;
                    AuthData::Dummy(dummy)
                },
            )
            .await?;

        let (Some(device_id), Some(access_token)) = (response.device_id, response.access_token)
        else {
            return Err(DriverError::NoSession);
        };
        let account = Self {
            user_id: response.user_id.clone(),
            password: password.to_owned(),
            http: http.clone(),
        };
        Ok((account, Session { user_id: response.user_id, device_id, access_token }))
    }

    /// Logs another device in.
    pub async fn login(&self) -> Result<Session, DriverError> {
        let password = login::v3::Password::new(self.identifier(), self.password.clone());
        let request = login::v3::Request::new(login::v3::LoginInfo::Password(password));
        let response = self.http.send(request).await?;
        Ok(Session {
            user_id: response.user_id,
            device_id: response.device_id,
            access_token: response.access_token,
        })
    }

    /// The password stage of user-interactive authentication.
    pub fn confirm(&self, session: Option<String>) -> AuthData {
        let mut password = Password::new(self.identifier(), self.password.clone());
        password.session = session;
        AuthData::Password(password)
    }

    fn identifier(&self) -> UserIdentifier {
        UserIdentifier::from(&self.user_id)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}
