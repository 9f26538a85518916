//! Where the services are: [`Endpoint`], the only type that requests are addressed with, and the endpoints service.
//!
//! # Which hosts a token may go to
//! What an operator configures is taken at its word. What the endpoints service answers is checked: with the vendor's
//! own API configured it must be a host of the vendor's ([`VENDOR_DOMAINS`]), so that a forged or mangled reply cannot
//! send the token and the records elsewhere. With any other API configured (a test, a proxy) that API issued the token
//! itself and may name any host. Plain `http://` is only ever spoken on the loopback interface, and a service that is
//! not itself on loopback cannot point there with it.

use std::{fmt, net::IpAddr, str::FromStr};

use bytes::Bytes;
use http::{Method, Request, Uri};
use jiff::Timestamp;
use url::{Host, Url};

use crate::{
    Error, Reply,
    aims::Token,
    reply::{request, segment},
};

#[cfg(test)]
mod tests;

/// Domains that are the vendor's own.
pub const VENDOR_DOMAINS: [&str; 3] = ["alertlogic.com", "alertlogic.net", "alertlogic.co.uk"];

/// The address of a service: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host[:port]`, without a slash at the end.
    origin: String,
    is_loopback: bool,
    is_vendors: bool,
    is_https: bool,
}

/// Why a text is no [`Endpoint`], or not one that is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// No host can be read from it.
    #[error("not a host name, host:port or https:// url")]
    Unreadable,
    /// Another scheme than `https`, or `http` to a host that is not this machine.
    #[error("only https:// is spoken (http:// with a loopback address)")]
    Insecure,
    /// Something besides scheme, host and port.
    #[error("a scheme, a host and a port are all it may have")]
    NotBare,
    /// The endpoints service named a host outside the vendor's domains.
    #[error("its host is not under the vendor's domains")]
    Foreign,
}

impl Endpoint {
    /// Reads a configured address: `host`, `host:port` or a full `https://` url. A bare name means https.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let text = text.trim();
        // Checked here because the url parser forgives them: it drops tabs and takes a backslash for a slash.
        if text.is_empty()
            || text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(InvalidEndpoint::Unreadable);
        }
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("https://{text}"))
        };
        let url = url.map_err(|_| InvalidEndpoint::Unreadable)?;
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidEndpoint::Insecure),
        };
        let host = url.host().ok_or(InvalidEndpoint::Unreadable)?;
        let is_loopback = is_loopback(&host);
        if !is_https && !is_loopback {
            return Err(InvalidEndpoint::Insecure);
        }
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare {
            return Err(InvalidEndpoint::NotBare);
        }
        let origin = url.origin().ascii_serialization();
        // The url parser lets through a few hosts that no request can be addressed to (`a*b`, `%2a`).
        origin
            .parse::<Uri>()
            .map_err(|_| InvalidEndpoint::Unreadable)?;
        Ok(Self {
            is_vendors: is_vendors(&host),
            origin,
            is_loopback,
            is_https,
        })
    }

    /// Reads an address that the endpoints service of `api` answered, or did at an earlier run.
    ///
    /// # Errors
    /// As [`Endpoint::parse`], and when no token of `api` may be sent there: see the module's text.
    pub fn parse_answer(text: &str, api: &Self) -> Result<Self, InvalidEndpoint> {
        let endpoint = Self::parse(text)?;
        if !endpoint.is_https && !api.is_loopback {
            return Err(InvalidEndpoint::Insecure);
        }
        if api.is_vendors && !endpoint.is_vendors {
            return Err(InvalidEndpoint::Foreign);
        }
        Ok(endpoint)
    }

    /// `https://host[:port]`, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.origin
    }

    pub(crate) fn uri(&self, path: &str) -> Uri {
        format!("{}{path}", self.origin)
            .parse()
            .expect("the origin was tried when it was parsed, and the path is made of percent-encoded segments")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A service that the endpoints service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Registration and check-in.
    Azcollect,
    /// Where records go.
    Ingest,
}

impl Service {
    /// Its name in paths and replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Azcollect => "azcollect",
            Self::Ingest => "ingest",
        }
    }
}

/// Asks where `service` is for the token's account. `residency` is `default` unless the vendor said otherwise.
#[must_use]
pub fn lookup_request(
    api: &Endpoint,
    token: &Token,
    residency: &str,
    service: Service,
) -> Request<Bytes> {
    let tail = format!(
        "/residency/{}/services/{}/endpoint",
        segment(residency),
        service.as_str()
    );
    request(api, token, Method::GET, "endpoints", &tail, Bytes::new())
}

/// Reads the reply to [`lookup_request`]: `{"<service>":"<host>"}`.
///
/// # Errors
/// The service's own, and [`Error::UntrustedEndpoint`] when no token may be sent to what it names.
pub fn read_lookup(
    reply: &Reply,
    api: &Endpoint,
    service: Service,
    now: Timestamp,
) -> Result<Endpoint, Error> {
    let reply: serde_json::Value = reply.read_json(now, "not JSON")?;
    let address = reply
        .get(service.as_str())
        .and_then(serde_json::Value::as_str);
    let address = address.ok_or(Error::Malformed {
        what: "it does not name the service's address",
    })?;
    Ok(Endpoint::parse_answer(address, api)?)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match *host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::V4(address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(address).is_loopback(),
    }
}

fn is_vendors(host: &Host<&str>) -> bool {
    // The url parser has put the name into lower case.
    let Host::Domain(name) = *host else {
        return false;
    };
    VENDOR_DOMAINS.iter().any(|domain| {
        name.strip_suffix(domain)
            .is_some_and(|subdomain| subdomain.is_empty() || subdomain.ends_with('.'))
    })
}
