//! Where the server is and how it is spoken to, read from a url that is a secret: what is wrong with one is told without
//! a word of it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// A PostgreSQL server, the database on it that holds the ledger, and who is let in.
#[derive(Clone)]
pub struct PostgresServer {
    config: Config,
    shown: String,
}

/// The url names no server that a ledger may be on. None of it is quoted: it has a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPostgresUrl(&'static str);

/// Long enough for a server on another continent, short enough to try the next host of several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server whose machine vanished without a word is given up after about a minute, idle or not.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// What may stand behind the question mark, besides `sslmode`.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "password",
    "port",
    "target_session_attrs",
    "user",
];

impl PostgresServer {
    /// Reads a url such as `postgres://user:password@host:5432/database?sslmode=require`, with several hosts, separated by
    /// commas, where several may be the primary one.
    ///
    /// TLS is used, and the server's certificate and name are verified, unless `sslmode=disable` says otherwise or every
    /// host is this machine. `require`, `verify-ca` and `verify-full` all mean the same: a certificate that is not
    /// verified keeps nobody out, and neither does a name.
    ///
    /// # Errors
    /// [`InvalidPostgresUrl`], with what must be there instead.
    pub fn parse(url: &SecretString) -> Result<Self, InvalidPostgresUrl> {
        let (rest, tls) = take_sslmode(url.expose_secret())?;
        let mut config: Config = rest.parse().map_err(|_| {
            InvalidPostgresUrl(
                "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %-escapes for what is not a letter or a digit in \
                 user and password, and valid values behind the question mark",
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(InvalidPostgresUrl(
                "must name a host: postgres://USER:PASSWORD@HOST/DATABASE",
            ));
        }
        // The library would take the name of the system's user, which is another one in each container.
        if config.get_user().is_none_or(str::is_empty) {
            return Err(InvalidPostgresUrl(
                "must name a user: postgres://USER:PASSWORD@HOST/DATABASE",
            ));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(InvalidPostgresUrl(
                "must name a database: postgres://USER:PASSWORD@HOST/DATABASE",
            ));
        }
        let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
        if !addresses.is_empty() && addresses.len() != hosts.len() {
            return Err(InvalidPostgresUrl(
                "must have one hostaddr for each host, or none",
            ));
        }
        if config.get_ports().len() > 1 && config.get_ports().len() != hosts.len() {
            return Err(InvalidPostgresUrl(
                "must have one port for each host, or one for all",
            ));
        }
        let all_local =
            hosts.iter().all(is_this_machine) && addresses.iter().all(IpAddr::is_loopback);
        let no_tls_there = |host: &Host| !matches!(host, Host::Tcp(_));
        let has_tls = tls.unwrap_or(!all_local);
        if has_tls && hosts.iter().any(no_tls_there) {
            return Err(InvalidPostgresUrl(
                "must not ask for TLS where a host is a socket of this machine: PostgreSQL has none there",
            ));
        }
        // One of several may be a standby, which takes no writes.
        if hosts.len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.ssl_mode(if has_tls {
            SslMode::Require
        } else {
            SslMode::Disable
        });
        set_limits(&mut config);
        let shown = show(&config);
        Ok(Self { config, shown })
    }

    /// Whether the connection is encrypted, and the server has to prove who it is.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

/// The url without `sslmode`, and what that says of TLS. Taken out because the library knows three of its values, and
/// two of them in another meaning.
fn take_sslmode(url: &str) -> Result<(String, Option<bool>), InvalidPostgresUrl> {
    let Some((start, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let mut tls = None;
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "sslmode" => {
                tls = Some(match value {
                    "disable" => false,
                    "require" | "verify-ca" | "verify-full" => true,
                    _ => {
                        return Err(InvalidPostgresUrl(
                            "must have disable, require, verify-ca or verify-full as its sslmode; all but the first mean \
                             a verified certificate",
                        ));
                    }
                });
            }
            "sslrootcert" | "sslcert" | "sslkey" => {
                return Err(InvalidPostgresUrl(
                    "must not name files of certificates: the server's is verified with the system's roots and tls.ca_file",
                ));
            }
            _ if PARAMETERS.contains(&key) => kept.push(pair),
            _ => {
                return Err(InvalidPostgresUrl(
                    "must have nothing behind the question mark but sslmode, target_session_attrs, connect_timeout and \
                     other known parameters of a connection",
                ));
            }
        }
    }
    let rest = match kept.is_empty() {
        true => start.to_owned(),
        false => format!("{start}?{}", kept.join("&")),
    };
    Ok((rest, tls))
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        // What is no name is a socket in a folder.
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Nothing waits for ever for a server that does not answer.
fn set_limits(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("o365-collector");
    }
    if config.get_keepalives_idle() > KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    config.keepalives_retries(KEEPALIVE_RETRIES);
    config.tcp_user_timeout(UNACKNOWLEDGED);
}

/// Hosts and database, for people. Neither user nor password.
fn show(config: &Config) -> String {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(folder) => folder.display().to_string(),
    });
    let hosts = names.collect::<Vec<_>>().join(",");
    format!("{} on {hosts}", config.get_dbname().unwrap_or_default())
}

impl fmt::Display for PostgresServer {
    /// The database and where it is: `ledger on db.example.com`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PostgresServer({})", self.shown)
    }
}

impl PartialEq for PostgresServer {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Eq for PostgresServer {}

#[cfg(test)]
mod tests;
