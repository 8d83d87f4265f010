//! The homeserver that a command works with: one of our own, or one that is there already.

use std::{path::Path, thread};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::{
    process::Cancel,
    synapse::{self, Federation, Options, Synapse},
};

/// Which homeserver to use. By default, a Synapse is installed from PyPI and started.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Run Synapse in a container (Docker or Podman) instead of a virtual environment
    #[arg(long, conflicts_with = "homeserver")]
    pub container: bool,
    /// Use this homeserver, and start none
    #[arg(long, value_name = "URL")]
    pub homeserver: Option<String>,
    /// The server name of that homeserver, if it is not the host in the URL
    #[arg(long, value_name = "NAME", requires = "homeserver")]
    pub server_name: Option<String>,
    /// Leave Synapse's data where they are when it stops
    #[arg(long, conflicts_with = "homeserver")]
    pub keep: bool,
}

/// A homeserver that answers. One of our own is stopped when this is dropped.
#[derive(Debug)]
pub enum Homeserver {
    /// Somebody else's.
    Existing {
        /// Where clients find it.
        url: String,
        /// The part after the colon in its users' names.
        server_name: String,
    },
    /// Our own.
    Own(Synapse),
}

impl ServerArgs {
    /// Whether it is a Synapse of our own outside a container, and so can have another one beside it.
    pub fn can_federate(&self) -> bool {
        !self.container && self.homeserver.is_none()
    }
}

impl Homeserver {
    /// Where clients find it.
    pub fn url(&self) -> String {
        match self {
            Self::Existing { url, .. } => url.clone(),
            Self::Own(synapse) => synapse.url(),
        }
    }

    /// The part after the colon in its users' names.
    pub fn server_name(&self) -> &str {
        match self {
            Self::Existing { server_name, .. } => server_name,
            Self::Own(_) => synapse::SERVER_NAME,
        }
    }

    fn start(args: &ServerArgs, dir: &Path, cancel: &Cancel) -> Result<Self> {
        let Some(url) = &args.homeserver else {
            let options = Options { container: args.container, keep: args.keep, background: false };
            return Synapse::start(dir, options, cancel).map(Self::Own);
        };
        let host = host(url).with_context(|| format!("{url} is not the URL of a homeserver"))?;
        let server_name = args.server_name.clone().unwrap_or_else(|| host.to_owned());
        Ok(Self::Existing { url: url.trim_end_matches('/').to_owned(), server_name })
    }
}

/// Starts the homeserver while `work` (a build) goes on. When one of them fails, the other one is
/// told to end. `dir` is Synapse's folder.
pub fn start_during<T>(
    args: &ServerArgs,
    dir: &Path,
    work: impl FnOnce(&Cancel) -> Result<T>,
) -> Result<(Homeserver, T)> {
    at_once(|cancel| Homeserver::start(args, dir, cancel).context("no homeserver"), work)
}

/// The same with two homeservers that federate.
pub fn start_federation_during<T>(
    keep: bool,
    dir: &Path,
    work: impl FnOnce(&Cancel) -> Result<T>,
) -> Result<(Federation, T)> {
    let options = Options { container: false, keep, background: false };
    at_once(|cancel| Federation::start(dir, options, cancel).context("no federation"), work)
}

fn at_once<S: Send, T>(
    start: impl FnOnce(&Cancel) -> Result<S> + Send,
    work: impl FnOnce(&Cancel) -> Result<T>,
) -> Result<(S, T)> {
    let cancel = Cancel::default();
    // Whether an error came first: the other one is but its consequence.
    let is_cause = |error| (error, cancel.cancel());
    thread::scope(|scope| {
        let started = scope.spawn(|| start(&cancel).map_err(is_cause));
        let done = work(&cancel).map_err(is_cause);
        let started = started.join().map_err(|_| anyhow!("the start of Synapse panicked"))?;
        match (started, done) {
            (Ok(started), Ok(done)) => Ok((started, done)),
            (Err((error, true)), _) | (_, Err((error, _))) | (Err((error, _)), _) => Err(error),
        }
    })
}

fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let authority = rest.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_in_a_url() {
        assert_eq!(host("https://matrix.example.org/"), Some("matrix.example.org"));
        assert_eq!(host("http://127.0.0.1:8008"), Some("127.0.0.1"));
        assert_eq!(host("http://[::1]:8008/x"), Some("[::1]"));
        assert_eq!(host("http://[::1]"), Some("[::1]"));
        assert_eq!(host("http://:80"), None);
        assert_eq!(host("matrix.example.org"), None);
    }

    #[test]
    fn an_existing_homeserver_is_taken_as_it_is() {
        let args = ServerArgs {
            homeserver: Some("http://127.0.0.1:8008/".to_owned()),
            server_name: Some("localhost".to_owned()),
            ..ServerArgs::default()
        };
        let nowhere = Path::new("/nowhere");
        let (server, built) = start_during(&args, nowhere, |_| Ok("built")).unwrap();
        assert_eq!(server.url(), "http://127.0.0.1:8008");
        assert_eq!(server.server_name(), "localhost");
        assert_eq!(built, "built");
    }

    #[test]
    fn what_fails_first_is_the_error_that_counts() {
        let args =
            |url: &str| ServerArgs { homeserver: Some(url.to_owned()), ..Default::default() };
        let nowhere = Path::new("/nowhere");

        let broken = |_: &Cancel| Err::<(), _>(anyhow!("broken"));
        let error = start_during(&args("http://127.0.0.1"), nowhere, broken).unwrap_err();
        assert_eq!(error.to_string(), "broken");

        let until_cancelled = |cancel: &Cancel| -> Result<()> {
            loop {
                cancel.check()?;
                thread::yield_now();
            }
        };
        let error = start_during(&args("nonsense"), nowhere, until_cancelled).unwrap_err();
        assert_eq!(error.to_string(), "no homeserver");
    }
}
