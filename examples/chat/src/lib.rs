//! A small chat client on matrix-sdk, one line at a time: what is typed is sent to the room that is
//! open, and `/help` says what else there is.
//!
//! The same source is an application on matrix-sdk alone, and with the feature `mls` one whose rooms
//! may be MLS rooms. What differs is marked with `cfg`.

// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]

mod commands;
mod login;
mod view;

use std::path::PathBuf;

use anyhow::Result;
use futures_util::StreamExt as _;
use matrix_sdk::config::SyncSettings;
#[cfg(not(feature = "mls"))]
use matrix_sdk::{Client, Room};
#[cfg(feature = "mls")]
use matrix_sdk_mls::{Client, Room};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinHandle,
};

use self::view::View;

/// Who chats where.
#[derive(Clone, clap::Parser)]
#[command(version, about)]
pub struct Options {
    /// The homeserver's URL
    #[arg(long)]
    pub homeserver: String,
    /// The user; needed the first time only
    #[arg(long)]
    pub user: Option<String>,
    /// The password; needed the first time only
    #[arg(long, env = "MLS_CHAT_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Where everything is kept
    #[arg(long)]
    pub folder: PathBuf,
    /// What the databases in it are encrypted with
    #[arg(long, env = "MLS_CHAT_PASSPHRASE", hide_env_values = true)]
    pub passphrase: Option<String>,
}

/// The application while it runs.
struct Chat<W> {
    client: Client,
    output: W,
    open: Option<(Room, View)>,
}

/// Ends the sync when the application ends.
struct Sync(JoinHandle<()>);

impl Drop for Sync {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Chats until the input ends, or `/quit`.
///
/// # Errors
///
/// When the client cannot be made or logged in, or the output is gone. What goes wrong later is said
/// in the output.
pub async fn run(
    options: Options,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<()> {
    let client = Box::pin(login::client(&options)).await?;
    client.event_cache().subscribe()?;
    #[cfg(feature = "mls")]
    let mut notices = client.subscribe_to_mls_notices();
    let _sync = Sync(tokio::spawn({
        let client = client.clone();
        async move {
            client.sync(SyncSettings::default()).await.ok();
        }
    }));
    let mut chat = Chat { client, output, open: None };
    chat.say("Type /help for help.").await?;
    let mut lines = input.lines();
    loop {
        #[cfg(feature = "mls")]
        let notice = notices.recv();
        #[cfg(not(feature = "mls"))]
        let notice = std::future::pending::<Option<String>>();
        let changed = async {
            match &mut chat.open {
                Some((_, view)) => view.changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                if line.trim() == "/quit" {
                    return Ok(());
                }
                if let Err(error) = Box::pin(chat.take(line.trim())).await {
                    chat.say(&format!("! {error:#}")).await?;
                }
            }
            Some(_) = changed => chat.show().await?,
            notice = notice => {
                #[cfg(feature = "mls")]
                if let Some(text) = notice.ok().and_then(|notice| view::notice(&notice)) {
                    chat.say(&format!("* {text}")).await?;
                }
                #[cfg(not(feature = "mls"))]
                drop(notice);
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Chat<W> {
    async fn say(&mut self, text: &str) -> Result<()> {
        self.output.write_all(text.as_bytes()).await?;
        self.output.write_all(b"\n").await?;
        Ok(self.output.flush().await?)
    }

    /// Writes what is new in the room that is open.
    async fn show(&mut self) -> Result<()> {
        let Some((_, view)) = &mut self.open else { return Ok(()) };
        for line in view.news().await {
            self.say(&line).await?;
        }
        Ok(())
    }
}
