//! A chat client for the terminal, on matrix-sdk.
//!
//! The same source is an application on matrix-sdk alone, and with the feature `mls` one whose rooms
//! may be MLS rooms. What differs is marked with `cfg`; the guide shows it as a diff.
//!
//! What is on the screen is plain data (`state.rs`). Keys and what the client tells change it
//! (`update.rs`), `view.rs` draws it, and `backend.rs` does what is to be done on the network.

// matrix-sdk's futures are nested deeply.
#![recursion_limit = "256"]
// The screen has places for what is said of MLS rooms.
#![cfg_attr(not(feature = "mls"), allow(dead_code))]

mod backend;
mod files;
mod input;
mod login;
#[cfg(feature = "mls")]
mod mls;
mod open;
mod panels;
mod state;
mod terminal;
mod update;
mod verification;
mod view;

use std::path::PathBuf;

use anyhow::Result;
#[cfg(not(feature = "mls"))]
use matrix_sdk::{Client, Room};
#[cfg(feature = "mls")]
use matrix_sdk_mls::{Client, Room};
use tokio::sync::mpsc;

use self::{backend::Backend, state::State, terminal::Terminal};

/// Who chats where. What is missing is asked for.
#[derive(Clone, Debug, clap::Parser)]
#[command(version, about)]
pub struct Options {
    /// The homeserver's URL; needed the first time only
    #[arg(long)]
    pub homeserver: Option<String>,
    /// The user; needed the first time only
    #[arg(long)]
    pub user: Option<String>,
    /// The password; needed the first time only. Better not given here: it is asked for
    #[arg(long, env = "MLS_CHAT_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Where everything is kept
    #[arg(long)]
    pub folder: PathBuf,
    /// What the databases in it are encrypted with
    #[arg(long, env = "MLS_CHAT_PASSPHRASE", hide_env_values = true)]
    pub passphrase: Option<String>,
}

/// Chats until the user has enough.
///
/// # Errors
///
/// When there is no terminal, or the client cannot be made or logged in. What goes wrong later is
/// said on the screen.
pub async fn run(options: Options) -> Result<()> {
    let client = Box::pin(login::client(&options)).await?;
    client.event_cache().subscribe()?;
    let (updates, mut news) = mpsc::unbounded_channel();
    let mut state = State::of(&client);
    let mut terminal = Terminal::open()?;
    let backend = Backend::start(client, updates);
    while !state.quits {
        terminal.draw(|frame| view::draw(&mut state, frame))?;
        tokio::select! {
            event = terminal.event() => {
                for command in state.event(&event?) {
                    backend.run(command);
                }
            }
            update = news.recv() => {
                let Some(update) = update else { break };
                for command in state.take(update) {
                    backend.run(command);
                }
            }
        }
    }
    Ok(())
}
