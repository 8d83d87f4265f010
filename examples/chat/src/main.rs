//! `matrix-mls-chat`: see the library.

use clap::Parser as _;
use matrix_mls_chat::Options;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    matrix_mls_chat::run(Options::parse()).await
}
