//! Logging in, the first time and every other time.

use std::path::Path;

use anyhow::{Context as _, Result};
use matrix_sdk::authentication::matrix::MatrixSession;
use matrix_sdk::ruma::api::client::uiaa::{AuthData, Password, UserIdentifier};

use crate::{Client, Options};

/// The client, logged in.
pub(crate) async fn client(options: &Options) -> Result<Client> {
    let builder = Client::builder()
        .homeserver_url(&options.homeserver)
        .sqlite_store(&options.folder, options.passphrase.as_deref());
    #[cfg(feature = "mls")]
    let builder = builder.new_rooms(matrix_sdk_mls::NewRooms::Mls);
    let client = builder.build().await?;
    let file = options.folder.join("session.json");
    if file.exists() {
        let session: MatrixSession = serde_json::from_slice(&std::fs::read(&file)?)?;
        client.restore_session(session).await?;
        return Ok(client);
    }
    let user = options.user.as_deref().context("the first time --user is needed")?;
    let password = options.password.as_deref().context("the first time --password is needed")?;
    let login = client.matrix_auth().login_username(user, password);
    login.initial_device_display_name("matrix-mls-chat").send().await?;
    let user = UserIdentifier::from(client.user_id().context("there is no user")?.to_owned());
    let confirmation = AuthData::Password(Password::new(user, password.to_owned()));
    let encryption = client.encryption();
    encryption.bootstrap_cross_signing_if_needed(Some(confirmation)).await?;
    let session = client.matrix_auth().session().context("there is no session")?;
    write(&file, &serde_json::to_vec(&session)?)?;
    Ok(client)
}

/// Writes a file that nobody else may read.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(file)?.write_all(bytes)?)
}
