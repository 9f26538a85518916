//! Which account, where its services are, and by what right it is used: the connection string, read.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// One of the services of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Entities by partition and row.
    Tables,
    /// Messages.
    Queues,
    /// Bytes by name.
    Blobs,
}

/// A storage account: its name, its addresses, and the right to use it.
#[derive(Clone)]
pub struct Account {
    pub(super) name: String,
    pub(super) credential: Credential,
    tables: String,
    queues: String,
    blobs: String,
}

/// By what right requests are made.
#[derive(Clone)]
pub(super) enum Credential {
    /// The account's key.
    SharedKey(SecretSlice<u8>),
    /// A shared access signature: query parameters that are signed already.
    Signature(SecretString),
    /// A token of Microsoft Entra, given with each request.
    Token,
}

/// Why a text names no storage account. Says which part is wrong, never what it says: a connection string is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    /// A piece between two semicolons is not `Name=value`.
    #[error("part {position} of the connection string is not Name=value")]
    NotAPair {
        /// Counted from 1.
        position: usize,
    },
    /// A part is given twice, so that two tools could read two different accounts from it.
    #[error("the connection string has {part} twice")]
    Twice {
        /// Its name.
        part: &'static str,
    },
    /// A part that is needed is not there.
    #[error("the connection string has no {part}")]
    Missing {
        /// Its name.
        part: &'static str,
    },
    /// A part has a value that it cannot have.
    #[error("{part} of the connection string must be {must}")]
    Wrong {
        /// Its name.
        part: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// Where Azure's commercial cloud has storage accounts.
const DEFAULT_SUFFIX: &str = "core.windows.net";

/// The emulator's account and key, which Microsoft publishes: they protect nothing.
const DEVELOPMENT: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;\
    QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;\
    TableEndpoint=http://127.0.0.1:10002/devstoreaccount1";

/// The parts that are read. Others, such as the file service's address, are passed over.
const PARTS: [&str; 9] = [
    "AccountName",
    "AccountKey",
    "DefaultEndpointsProtocol",
    "EndpointSuffix",
    "TableEndpoint",
    "QueueEndpoint",
    "BlobEndpoint",
    "SharedAccessSignature",
    "UseDevelopmentStorage",
];

impl Account {
    /// Reads a connection string.
    ///
    /// # Errors
    /// [`InvalidAccount`], which repeats nothing of it.
    pub fn parse(connection_string: &SecretString) -> Result<Self, InvalidAccount> {
        let parts = Parts::read(connection_string.expose_secret())?;
        match parts.get("UseDevelopmentStorage") {
            Some(text) if text.eq_ignore_ascii_case("true") => {
                return Self::parse(&SecretString::from(DEVELOPMENT));
            }
            Some(_) => {
                return Err(InvalidAccount::Wrong {
                    part: "UseDevelopmentStorage",
                    must: "true, or not there",
                });
            }
            None => {}
        }
        let credential = match (parts.get("AccountKey"), parts.get("SharedAccessSignature")) {
            (Some(key), None) => Credential::SharedKey(read_key(key)?),
            (None, Some(signature)) => Credential::Signature(read_signature(signature)?),
            (None, None) => return Err(InvalidAccount::Missing { part: "AccountKey" }),
            (Some(_), Some(_)) => {
                return Err(InvalidAccount::Wrong {
                    part: "SharedAccessSignature",
                    must: "given without AccountKey",
                });
            }
        };
        parts.into_account(credential)
    }

    /// An account that is used with tokens. The text is its name, or a connection string without a key, such as
    /// `AccountName=name;EndpointSuffix=core.usgovcloudapi.net`.
    ///
    /// # Errors
    /// [`InvalidAccount`].
    pub fn with_tokens(text: &str) -> Result<Self, InvalidAccount> {
        if !text.contains('=') {
            return Parts(vec![("AccountName", text)]).into_account(Credential::Token);
        }
        let parts = Parts::read(text)?;
        for part in ["AccountKey", "SharedAccessSignature"] {
            if parts.get(part).is_some() {
                return Err(InvalidAccount::Wrong {
                    part,
                    must: "left out where a managed identity is used",
                });
            }
        }
        parts.into_account(Credential::Token)
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether requests need a token for [`RESOURCE`](Self::RESOURCE).
    #[must_use]
    pub fn needs_token(&self) -> bool {
        matches!(self.credential, Credential::Token)
    }

    /// What a token for storage is asked for, in every cloud.
    pub const RESOURCE: &str = "https://storage.azure.com/";

    /// Where a service is, without a slash at the end.
    pub(super) fn endpoint(&self, service: Service) -> &str {
        match service {
            Service::Tables => &self.tables,
            Service::Queues => &self.queues,
            Service::Blobs => &self.blobs,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Account")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The known parts of a connection string.
struct Parts<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Result<Self, InvalidAccount> {
        let mut parts: Vec<(&'static str, &'a str)> = Vec::new();
        for (index, piece) in text.split(';').enumerate() {
            if piece.trim().is_empty() {
                continue;
            }
            // At the first one: keys and signatures have it within.
            let (name, value) = piece.split_once('=').ok_or(InvalidAccount::NotAPair {
                position: index + 1,
            })?;
            let known = PARTS
                .into_iter()
                .find(|part| part.eq_ignore_ascii_case(name.trim()));
            let Some(part) = known else { continue };
            if parts.iter().any(|(earlier, _)| *earlier == part) {
                return Err(InvalidAccount::Twice { part });
            }
            parts.push((part, value.trim()));
        }
        Ok(Self(parts))
    }

    fn get(&self, part: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(name, _)| *name == part)
            .map(|(_, value)| *value)
    }

    fn into_account(self, credential: Credential) -> Result<Account, InvalidAccount> {
        let name = match self.get("AccountName") {
            Some(name) => read_name(name)?,
            // A signature signs for itself; where all addresses are given, nobody needs the name.
            None if matches!(credential, Credential::Signature(_)) => String::new(),
            None => {
                return Err(InvalidAccount::Missing {
                    part: "AccountName",
                });
            }
        };
        let protocol = self.get("DefaultEndpointsProtocol").unwrap_or("https");
        let suffix = self.get("EndpointSuffix").unwrap_or(DEFAULT_SUFFIX);
        let endpoint = |part: &'static str, service: &str| {
            if let Some(endpoint) = self.get(part) {
                return read_endpoint(endpoint, part);
            }
            if name.is_empty() {
                return Err(InvalidAccount::Missing { part });
            }
            if !is_host(suffix) {
                return Err(InvalidAccount::Wrong {
                    part: "EndpointSuffix",
                    must: "a domain, such as core.windows.net",
                });
            }
            read_endpoint(
                &format!("{protocol}://{name}.{service}.{suffix}"),
                "DefaultEndpointsProtocol",
            )
        };
        Ok(Account {
            tables: endpoint("TableEndpoint", "table")?,
            queues: endpoint("QueueEndpoint", "queue")?,
            blobs: endpoint("BlobEndpoint", "blob")?,
            name,
            credential,
        })
    }
}

fn read_name(name: &str) -> Result<String, InvalidAccount> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (3..=24).contains(&name.len()) && name.bytes().all(is_allowed) {
        Ok(name.to_owned())
    } else {
        Err(InvalidAccount::Wrong {
            part: "AccountName",
            must: "3 to 24 small letters and digits",
        })
    }
}

fn read_key(key: &str) -> Result<SecretSlice<u8>, InvalidAccount> {
    match STANDARD.decode(key) {
        Ok(key) if !key.is_empty() => Ok(SecretSlice::from(key)),
        _ => Err(InvalidAccount::Wrong {
            part: "AccountKey",
            must: "base64, as the portal shows it",
        }),
    }
}

fn read_signature(signature: &str) -> Result<SecretString, InvalidAccount> {
    let signature = signature.strip_prefix('?').unwrap_or(signature);
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if signature.contains("sig=") && signature.bytes().all(is_allowed) {
        Ok(SecretString::from(signature))
    } else {
        Err(InvalidAccount::Wrong {
            part: "SharedAccessSignature",
            must: "the query string that the portal shows, with a sig in it",
        })
    }
}

/// An address without anything that could send a signature elsewhere.
fn read_endpoint(text: &str, part: &'static str) -> Result<String, InvalidAccount> {
    let wrong = |must| InvalidAccount::Wrong { part, must };
    let address = "an https address with a host and no query, user or fragment";
    let uri: http::Uri = text.parse().map_err(|_| wrong(address))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong(address));
    };
    let host = authority.host().trim_matches(['[', ']']);
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return Err(wrong(address));
    }
    let is_loopback = host
        .parse::<IpAddr>()
        .map_or(host == "localhost", |ip| ip.is_loopback());
    match scheme {
        "https" => {}
        "http" if is_loopback => {}
        // The signature would protect the request, but nothing would protect what is in it.
        "http" => return Err(wrong("https, save for an emulator on this machine")),
        _ => return Err(wrong(address)),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn is_host(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.bytes().all(is_allowed)
}
