//! The sections of which there is one each: `[tls]`, `[listen]`, `[webhook]`, `[ledger]`, `[poll]`, `[fetch]` and `[quarantine]`.

use std::path::Path;
use std::time::Duration;

use azure::identity::ManagedIdentity;
use azure::storage::Account;
use ledger::PostgresServer;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::field::REDACTED;
use super::files::read_bytes;
use super::keys::Kind;
use super::reader::Section;
use super::{
    AzureStorageConfig, FetchConfig, LedgerConfig, ListenConfig, PollConfig, QuarantineConfig,
    TlsConfig, WebhookConfig,
};

use crate::env::Lookup;

/// All the public roots there are take a quarter of this.
const MAX_CA_FILE_BYTES: u64 = 1024 * 1024;

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn read_tls(root: &mut Section<'_, '_>) -> Option<TlsConfig> {
    root.table("tls", "Trust in the hosts that we connect to.", |section| {
        let given = section
            .path(
                "ca_file",
                "A file of certificates in PEM form, trusted besides the system's roots.",
            )
            .try_map(Kind::Path, |path| {
                let pem = read_certificates(&path)?;
                Ok((path, pem))
            })
            .optional("only the system's roots are trusted");
        let (ca_file, ca_pem) = given.unzip();
        Some(TlsConfig { ca_file, ca_pem })
    })
}

fn read_certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = read_bytes(path, MAX_CA_FILE_BYTES).map_err(|reason| {
        format!("the file {reason}; a relative path begins at the configuration's folder")
    })?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|_| "the file is not in PEM form".to_owned())?;
        count += 1;
    }
    match count {
        0 => Err(
            "the file has no certificate in it: there must be at least one BEGIN CERTIFICATE block"
                .to_owned(),
        ),
        _ => Ok(pem),
    }
}

pub(super) fn read_listen(root: &mut Section<'_, '_>) -> Option<ListenConfig> {
    root.table("listen", "Our own HTTP door.", |section| {
        let address = section
            .text(
                "address",
                "Where the status page, /metrics, /healthz, /readyz and /api/o365/webhook are served: an IP address \
                 and a port; port 0 takes any that is free.",
            )
            .try_map(Kind::Text, |text| {
                let must = "must be an IP address and a port, such as 127.0.0.1:8365 or [::1]:8365";
                text.parse().map_err(|_| must.to_owned())
            })
            .default("127.0.0.1:8365");
        Some(ListenConfig { address: address? })
    })
}

pub(super) fn read_webhook(root: &mut Section<'_, '_>) -> Option<WebhookConfig> {
    root.optional_table("webhook", "How Microsoft reaches us. Without it there is polling only.", |section| {
        let public_url = section
            .text(
                "public_url",
                "The address that Microsoft posts notifications to. It must lead to /api/o365/webhook of our own door.",
            )
            .try_map(Kind::Url, |text| check_url(&text).map(|()| text))
            .required();
        let auth_id = section
            .secret("auth_id", "What Microsoft must send back in Webhook-AuthID, so that nobody else can notify us.")
            .in_headers()
            .required();
        Some(WebhookConfig { public_url: public_url?, auth_id: auth_id? })
    })
}

/// Whether it is an address that a credential may be sent to.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    // The parser takes blanks and backslashes for something else; no address has them.
    if !text.chars().all(|c| c.is_ascii_graphic() && c != '\\') {
        return Err("must be a url of plain ASCII characters, without blanks".to_owned());
    }
    let must = "must be a full url that begins with https://";
    let url = Url::parse(text).map_err(|_| must.to_owned())?;
    let is_this_machine = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_this_machine) {
        return Err(format!(
            "{must}; http:// is only for an address of this machine itself"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the path, without ? and #".to_owned());
    }
    Ok(())
}

pub(super) fn read_ledger(root: &mut Section<'_, '_>) -> Option<LedgerConfig> {
    root.table(
        "ledger",
        "The durable memory of what was seen and delivered.",
        |section| {
            let base_dir = section.reader.base_dir;
            let env = section.reader.env;
            let doc = "sqlite:PATH, a database file on this machine's own disk; or azure-storage:CONNECTION_STRING, the \
                       tables of a storage account, which is a secret and may be given as one; or \
                       azure-storage:managed-identity:ACCOUNT, such an account used by the machine's own identity; or \
                       postgres://USER:PASSWORD@HOST:PORT/DATABASE, a schema in a PostgreSQL database, which is a secret too.";
            section
                .partly_secret("url", doc, show_ledger_url)
                .try_map(Kind::Secret, move |url| {
                    read_ledger_url(url.expose_secret(), base_dir, env)
                })
                .default("sqlite:o365-collector.db")
        },
    )
}

/// What a connection string says is a secret.
fn show_ledger_url(url: &str) -> String {
    if url.starts_with("sqlite:") || url.starts_with(WITH_IDENTITY) {
        return url.to_owned();
    }
    match url.split_once(':') {
        Some((scheme @ (AZURE_STORAGE | "postgres" | "postgresql"), _)) => {
            format!("{scheme}:{REDACTED}")
        }
        _ => REDACTED.to_owned(),
    }
}

const AZURE_STORAGE: &str = "azure-storage";
const WITH_IDENTITY: &str = "azure-storage:managed-identity:";

fn read_ledger_url(text: &str, base_dir: &Path, env: &dyn Lookup) -> Result<LedgerConfig, String> {
    let must = "must be sqlite:PATH, azure-storage:CONNECTION_STRING, azure-storage:managed-identity:ACCOUNT or \
                postgres://USER:PASSWORD@HOST:PORT/DATABASE";
    let (scheme, rest) = text.split_once(':').ok_or(must)?;
    match scheme {
        "sqlite" => {}
        "postgres" | "postgresql" => {
            let server = PostgresServer::parse(&SecretString::from(text));
            let server = server.map_err(|error| error.to_string())?;
            return Ok(LedgerConfig::Postgres(Box::new(server)));
        }
        AZURE_STORAGE => {
            let storage = read_azure_storage(rest, env)?;
            return Ok(LedgerConfig::AzureStorage(Box::new(storage)));
        }
        _ => return Err(must.to_owned()),
    }
    let must = "must be sqlite:PATH";
    // `sqlite:///srv/ledger.db` is how others spell an absolute path; with two slashes it would be a host.
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(format!(
                "{must} for a relative path, or sqlite:///PATH for an absolute one"
            ));
        }
        None => rest,
    };
    // SQLite takes no name, `:memory:` and `file:…?mode=memory` for a database that dies with the process.
    if path.is_empty() || path.starts_with(':') || path.starts_with("file:") {
        return Err(format!(
            "{must}, and PATH a file on disk: the ledger must outlive the program"
        ));
    }
    Ok(LedgerConfig::Sqlite {
        path: base_dir.join(path),
    })
}

fn read_azure_storage(text: &str, env: &dyn Lookup) -> Result<AzureStorageConfig, String> {
    let Some(account) = text.strip_prefix("managed-identity:") else {
        let account =
            Account::parse(&SecretString::from(text)).map_err(|error| error.to_string())?;
        return Ok(AzureStorageConfig {
            account,
            identity: None,
        });
    };
    let mut identity =
        ManagedIdentity::from_variables(|name| env.get(name)).map_err(|error| error.to_string())?;
    // Beside what names the account, for a machine that has more identities than one.
    let client_id = account
        .split(';')
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("ClientId"));
    if let Some((_, client_id)) = client_id {
        identity = identity.with_client_id(client_id.trim());
    }
    Ok(AzureStorageConfig {
        account: Account::with_tokens(account).map_err(|error| error.to_string())?,
        identity: Some(identity),
    })
}

pub(super) fn read_poll(root: &mut Section<'_, '_>) -> Option<PollConfig> {
    root.table("poll", "When content is listed.", |section| {
        let interval = section
            .integer("interval_secs", "The pause between two listings of a feed, in seconds.", 10..=3600)
            .map(|secs| Duration::from_secs(secs.unsigned_abs()))
            .default(60);
        let first_lookback = section
            .integer(
                "lookback_hours",
                "How far back the first listing of a feed begins, in hours. Microsoft lists no more than seven days.",
                1..=167,
            )
            .map(|hours| Duration::from_secs(hours.unsigned_abs() * 3600))
            .default(24);
        Some(PollConfig { interval: interval?, first_lookback: first_lookback? })
    })
}

pub(super) fn read_fetch(root: &mut Section<'_, '_>) -> Option<FetchConfig> {
    root.table("fetch", "How much is fetched at once.", |section| {
        let max_concurrent = section
            .integer(
                "max_concurrent",
                "Blobs fetched at once at most, over all tenants. How many are depends on how long Microsoft's answers take.",
                1..=256,
            )
            .try_map(Kind::Integer { min: 1, max: 256 }, to_usize)
            .default(64);
        let max_memory_bytes = section
            .integer(
                "max_memory_mib",
                "What is in flight may take so much memory, over all tenants and sinks, in MiB: text, what sinks make of it, \
                 connections. The whole program stays below it where it is 64 or more, but for records of many megabytes.",
                8..=16384,
            )
            .try_map(Kind::Integer { min: 8, max: 16384 }, |mib| {
                to_usize(mib.saturating_mul(MIB.cast_signed()))
            })
            .default(64);
        let requests_per_minute = section
            .integer(
                "requests_per_minute",
                "Requests a minute that one tenant's budget begins with and never exceeds. \
                 Microsoft's baseline is 2000; large tenants are granted more.",
                30..=1_000_000,
            )
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
            .default(2000);
        let lease = section
            .integer(
                "lease_secs",
                "How long a blob belongs to a worker that says nothing more, in seconds: after that another may take \
                 it. A worker that works renews its leases in time.",
                30..=3600,
            )
            .map(|secs| Duration::from_secs(secs.unsigned_abs()))
            .default(600);
        Some(FetchConfig {
            max_concurrent: max_concurrent?,
            max_memory_bytes: max_memory_bytes?,
            requests_per_minute: requests_per_minute?,
            lease: lease?,
        })
    })
}

pub(super) fn read_quarantine(root: &mut Section<'_, '_>) -> Option<QuarantineConfig> {
    root.table(
        "quarantine",
        "What is set aside for a person, in the ledger.",
        |section| {
            // The smallest has room for the largest record there is, so that none ever waits before an empty quarantine.
            let max_bytes = section
                .integer(
                    "max_mib",
                    "How much may be in quarantine, in MiB. When it is full nothing of it is dropped: what should go there \
                     waits and is tried again, until `quarantine retry` or `quarantine drop` has made room.",
                    64..=1_048_576,
                )
                .map(|mib| mib.unsigned_abs().saturating_mul(MIB))
                .default(1024);
            Some(QuarantineConfig {
                max_bytes: max_bytes?,
            })
        },
    )
}

/// A count that fits this machine's memory.
pub(super) fn to_usize(number: i64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_| "is too large for this machine".to_owned())
}
