//! What our Synapse is configured with, on top of what Synapse generates by itself.
//!
//! It goes to a second configuration file: Synapse merges the files by top-level key, later ones
//! winning, so the generated one needs no editing.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::files;

/// The server name of a Synapse that is alone.
pub const SERVER_NAME: &str = "localhost";

/// The generated file, to which the others are relative.
pub const GENERATED: &str = "homeserver.yaml";

/// Our own settings.
pub const OVERRIDES: &str = "overrides.yaml";

/// Where Synapse logs to.
pub const LOG: &str = "homeserver.log";

const LOG_CONFIG: &str = "log.yaml";

/// The limits that Synapse has by default would make the tests wait. All of them are a rate and a
/// burst; dots stand for nesting.
const RATE_LIMITS: [&str; 22] = [
    "rc_3pid_validation",
    "rc_admin_redaction",
    "rc_delayed_event_mgmt",
    "rc_invites.per_issuer",
    "rc_invites.per_room",
    "rc_invites.per_user",
    "rc_joins.local",
    "rc_joins.remote",
    "rc_joins_per_room",
    "rc_key_requests",
    "rc_login.account",
    "rc_login.address",
    "rc_login.failed_attempts",
    "rc_media_create",
    "rc_message",
    "rc_profile",
    "rc_registration",
    "rc_registration_token_validity",
    "rc_reports",
    "rc_room_creation",
    "rc_third_party_invite",
    "rc_user_directory",
];

/// The settings that differ between a Synapse on this machine and one in a container.
#[derive(Debug)]
pub struct Settings {
    /// The data folder, as Synapse sees it.
    pub data: PathBuf,
    /// The address that Synapse listens on.
    pub bind: &'static str,
    /// The port that Synapse listens on.
    pub port: u16,
    /// The port that clients connect to.
    pub public_port: u16,
    /// How it reaches another server; without, nothing leaves this machine and nothing comes in.
    pub federation: Option<Federation>,
}

/// What a Synapse needs to federate with one other, on the same machine.
#[derive(Debug)]
pub struct Federation {
    /// The port that it listens on for the other server.
    pub port: u16,
    /// The other server's name.
    pub peer: String,
    /// The certificate of that port. Nobody verifies it, but federation goes over TLS only.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Settings {
    /// Writes our files to the data folder, as we see it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write(&folder.join(OVERRIDES), &self.overrides())?;
        files::write(&folder.join(LOG_CONFIG), &self.log_config())
    }

    fn overrides(&self) -> String {
        let Self { bind, port, public_port, .. } = self;
        let log_config = quote(&self.data.join(LOG_CONFIG));
        let federation = self.federation.as_ref();
        let listener = federation.map(|federation| federation.listener(bind)).unwrap_or_default();
        let federation = federation.map_or_else(|| NO_FEDERATION.to_owned(), Federation::settings);
        let limits = rate_limits(&RATE_LIMITS);
        format!(
            "\
listeners:
  - port: {port}
    type: http
    tls: false
    bind_addresses: ['{bind}']
    resources:
      - names: [client]
{listener}public_baseurl: 'http://127.0.0.1:{public_port}/'
log_config: {log_config}

# Throw-away accounts, made and logged in quickly.
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4

# Nothing leaves this machine.
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
url_preview_enabled: false
presence:
  enabled: false
{federation}
{limits}"
        )
    }

    fn log_config(&self) -> String {
        let log = quote(&self.data.join(LOG));
        format!(
            "\
version: 1
disable_existing_loggers: false
formatters:
  line:
    format: '%(asctime)s %(levelname)s %(name)s: %(message)s'
handlers:
  file:
    class: logging.FileHandler
    formatter: line
    filename: {log}
root:
  level: WARNING
  handlers: [file]
"
        )
    }
}

const NO_FEDERATION: &str = "federation_domain_whitelist: []\n";

impl Federation {
    fn listener(&self, bind: &str) -> String {
        let port = self.port;
        format!(
            "  - port: {port}
    type: http
    tls: true
    bind_addresses: ['{bind}']
    resources:
      - names: [federation]
"
        )
    }

    fn settings(&self) -> String {
        let Self { peer, certificate, key, .. } = self;
        let (certificate, key) = (quote(certificate), quote(key));
        format!(
            "\
federation_domain_whitelist: ['{peer}']
tls_certificate_path: {certificate}
tls_private_key_path: {key}
federation_verify_certificates: false

# The other server is on this machine.
ip_range_blacklist: []
federation_ip_range_blacklist: []

# A cut is noticed at once, and so is its end.
federation:
  client_timeout: 10s
  max_long_retries: 1
  max_long_retry_delay: 1s
  max_short_retries: 1
  max_short_retry_delay: 1s
  destination_min_retry_interval: 1s
  destination_retry_multiplier: 1
  destination_max_retry_interval: 2s
"
        )
    }
}

fn rate_limits(names: &[&str]) -> String {
    let mut yaml = String::new();
    let mut parent = "";
    for name in names {
        let (outer, inner) = name.split_once('.').unwrap_or(("", name));
        if outer != parent && !outer.is_empty() {
            yaml += &format!("{outer}:\n");
        }
        let indent = if outer.is_empty() { "" } else { "  " };
        yaml += &format!("{indent}{inner}: {{per_second: 10000, burst_count: 100000}}\n");
        parent = outer;
    }
    yaml
}

/// A path as a YAML string.
fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            data: "/it's/here".into(),
            bind: "127.0.0.1",
            port: 4711,
            public_port: 4712,
            federation: None,
        }
    }

    fn federated() -> Settings {
        let federation = Federation {
            port: 4713,
            peer: "localhost:4714".to_owned(),
            certificate: "/it's/here/tls.crt".into(),
            key: "/it's/here/tls.key".into(),
        };
        Settings { federation: Some(federation), ..settings() }
    }

    #[test]
    fn overrides_name_the_ports_the_address_and_the_log() {
        let yaml = settings().overrides();
        assert!(yaml.contains("- port: 4711\n"));
        assert!(yaml.contains("bind_addresses: ['127.0.0.1']\n"));
        assert!(yaml.contains("public_baseurl: 'http://127.0.0.1:4712/'\n"));
        assert!(yaml.contains("log_config: '/it''s/here/log.yaml'\n"));
        assert!(yaml.contains("bcrypt_rounds: 4\n"));
    }

    #[test]
    fn a_server_federates_with_the_one_that_it_is_told_of() {
        assert!(settings().overrides().contains("federation_domain_whitelist: []\n"));
        assert!(!settings().overrides().contains("federation]"));

        let yaml = federated().overrides();
        assert!(yaml.contains("federation_domain_whitelist: ['localhost:4714']\n"));
        assert!(yaml.contains("  - port: 4713\n    type: http\n    tls: true\n"));
        assert!(yaml.contains("tls_certificate_path: '/it''s/here/tls.crt'\n"));
        assert!(yaml.contains("- names: [client]\n  - port: 4713\n"));
        assert!(yaml.contains("- names: [federation]\npublic_baseurl: "));
    }

    #[test]
    fn every_line_ends_and_no_key_comes_twice() {
        let overrides = [settings().overrides(), federated().overrides()];
        for yaml in [&overrides[0], &overrides[1], &settings().log_config()] {
            assert!(yaml.ends_with('\n'));
            let keys = yaml.lines().filter(|line| line.starts_with(|c: char| c.is_alphabetic()));
            let mut keys: Vec<_> = keys.filter_map(|line| line.split(':').next()).collect();
            let all = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), all);
        }
    }

    #[test]
    fn limits_nest_below_their_name() {
        let limit = "{per_second: 10000, burst_count: 100000}";
        assert_eq!(
            rate_limits(&["rc_a", "rc_b.one", "rc_b.two", "rc_c"]),
            format!("rc_a: {limit}\nrc_b:\n  one: {limit}\n  two: {limit}\nrc_c: {limit}\n")
        );
    }
}
