//! Logging in, the first time and every other time.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use matrix_sdk::{
    authentication::matrix::MatrixSession,
    ruma::api::client::uiaa::{AuthData, Password, UserIdentifier},
};
use serde::{Deserialize, Serialize};

use crate::{Client, Options, terminal};

/// What is kept of a login.
#[derive(Serialize, Deserialize)]
struct Saved {
    homeserver: String,
    session: MatrixSession,
}

/// The client, logged in.
pub(crate) async fn client(options: &Options) -> Result<Client> {
    let file = options.folder.join("session.json");
    let saved: Option<Saved> = match fs::read(&file) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).context("session.json")?),
        Err(_) => None,
    };
    let homeserver = match (&saved, &options.homeserver) {
        (Some(saved), _) => saved.homeserver.clone(),
        (None, Some(homeserver)) => homeserver.clone(),
        (None, None) => terminal::ask("Homeserver: ")?,
    };
    let builder = Client::builder()
        .homeserver_url(&homeserver)
        .sqlite_store(&options.folder, options.passphrase.as_deref());
    #[cfg(feature = "mls")]
    let builder = builder.new_rooms(matrix_sdk_mls::NewRooms::Mls);
    let client = builder.build().await?;
    if let Some(saved) = saved {
        client.restore_session(saved.session).await?;
        return Ok(client);
    }
    let user = match &options.user {
        Some(user) => user.clone(),
        None => terminal::ask("User: ")?,
    };
    let password = match &options.password {
        Some(password) => password.clone(),
        None => terminal::ask_secretly("Password: ")?,
    };
    let login = client.matrix_auth().login_username(&user, &password);
    login.initial_device_display_name("matrix-mls-chat").send().await?;
    let user = UserIdentifier::from(client.user_id().context("there is no user")?.to_owned());
    let confirmation = AuthData::Password(Password::new(user, password));
    let encryption = client.encryption();
    encryption.bootstrap_cross_signing_if_needed(Some(confirmation)).await?;
    let session = client.matrix_auth().session().context("there is no session")?;
    write(&file, &serde_json::to_vec(&Saved { homeserver, session })?)?;
    Ok(client)
}

/// Writes a file that nobody else may read.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(file)?.write_all(bytes)?)
}
