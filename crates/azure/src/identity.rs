//! Managed identities: where a machine in Azure asks for a token of its own, and how the three kinds of endpoint answer.
//!
//! The endpoint is told by the platform and is always on the machine itself or beside it, in plain HTTP. Whoever sends
//! the request must not send it through a proxy.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use activity_api::{AccessToken, CredentialReason, Error, Origin, Reply};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use jiff::{Timestamp, civil, tz::TimeZone};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Host, Url};

#[cfg(test)]
mod tests;

/// Where every virtual machine in Azure finds its identity, unless the platform names another place.
const VIRTUAL_MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// While the metadata service is upgraded it answers 410, for at most this long by its documentation.
const UPGRADE: Duration = Duration::from_secs(70);

/// A managed identity, and the endpoint that issues its tokens. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct ManagedIdentity {
    endpoint: Endpoint,
    /// Which of several user-assigned identities; nothing for the system-assigned one.
    client_id: Option<String>,
}

#[derive(Clone, Debug)]
enum Endpoint {
    /// `IDENTITY_ENDPOINT`, api-version 2019-08-01.
    AppService { url: Url, header: SecretString },
    /// `MSI_ENDPOINT`, api-version 2017-09-01: all that Linux Consumption plans are documented to have.
    AppServiceOld { url: Url, secret: SecretString },
    /// The instance metadata service, api-version 2018-02-01.
    VirtualMachine { url: Url },
}

/// Why there is no managed identity to be had. Says nothing of a variable's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The address cannot be read.
    #[error("{variable} is no url")]
    Unreadable {
        /// Which variable.
        variable: &'static str,
    },
    /// It is not beside us, and would be sent a secret.
    #[error(
        "{variable} must be http:// on this machine's own or a local address: a managed identity's endpoint is nowhere else"
    )]
    NotLocal {
        /// Which variable.
        variable: &'static str,
    },
    /// The endpoint's secret is missing or fits no header.
    #[error("{variable} is missing, or fits no header, and the endpoint answers nobody without it")]
    Secret {
        /// Which variable.
        variable: &'static str,
    },
}

impl ManagedIdentity {
    /// The identity of the place where the process runs, as the platform's variables tell: those of App Service, new
    /// before old, and without either the instance metadata service of a virtual machine.
    ///
    /// # Errors
    /// When a variable is there and cannot be used.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidEndpoint> {
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        let secret = |variable: &'static str| {
            set(variable)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
                .map(SecretString::from)
                .ok_or(InvalidEndpoint::Secret { variable })
        };
        // Both pairs are set where both protocols are spoken. An Arc machine has the first address and no header.
        let endpoint = if let Some(url) = set("IDENTITY_ENDPOINT") {
            Endpoint::AppService {
                url: parse(&url, "IDENTITY_ENDPOINT")?,
                header: secret("IDENTITY_HEADER")?,
            }
        } else if let Some(url) = set("MSI_ENDPOINT") {
            Endpoint::AppServiceOld {
                url: parse(&url, "MSI_ENDPOINT")?,
                secret: secret("MSI_SECRET")?,
            }
        } else {
            // As in Microsoft's own libraries: for clusters that put a proxy of their own before the service.
            let variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
            let url = match set(variable) {
                Some(host) => {
                    let path = "/metadata/identity/oauth2/token";
                    parse(&format!("{}{path}", host.trim_end_matches('/')), variable)?
                }
                None => parse(VIRTUAL_MACHINE, "")?,
            };
            Endpoint::VirtualMachine { url }
        };
        Ok(Self {
            endpoint,
            client_id: None,
        })
    }

    /// Whether the platform says that there is an identity: an App Service with one has these variables.
    pub fn is_offered(variable: impl Fn(&str) -> Option<String>) -> bool {
        ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"]
            .iter()
            .any(|name| variable(name).is_some_and(|text| !text.is_empty()))
    }

    /// The user-assigned identity of this client id, in place of the system-assigned one.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Asks for a token for `resource`. The request must go through no proxy.
    #[must_use]
    pub fn token_request(&self, resource: &Origin) -> Request<Bytes> {
        let (url, version, client_id, header) = match &self.endpoint {
            Endpoint::AppService { url, header } => (
                url,
                "2019-08-01",
                "client_id",
                ("x-identity-header", header.expose_secret()),
            ),
            Endpoint::AppServiceOld { url, secret } => (
                url,
                "2017-09-01",
                "clientid",
                ("secret", secret.expose_secret()),
            ),
            Endpoint::VirtualMachine { url } => {
                (url, "2018-02-01", "client_id", ("metadata", "true"))
            }
        };
        let mut url = url.clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("api-version", version)
                .append_pair("resource", resource.as_str());
            if let Some(id) = &self.client_id {
                query.append_pair(client_id, id);
            }
        }
        let mut value = HeaderValue::from_str(header.1).expect("tried when it was read");
        value.set_sensitive(true);
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .expect("tried when it was read; the query is percent-encoded");
        request
            .headers_mut()
            .insert(HeaderName::from_static(header.0), value);
        request
    }

    /// Reads the answer to [`token_request`](Self::token_request). `now` is when it was sent.
    ///
    /// # Errors
    /// [`Error::CredentialRefused`] where a person must act; [`Error::Throttled`] and [`Error::ServiceFailed`] where
    /// waiting helps; [`Error::Malformed`] where a success has no usable token.
    pub fn read_token(&self, reply: &Reply, now: Timestamp) -> Result<AccessToken, Error> {
        if !reply.status.is_success() {
            return Err(self.read_refusal(reply));
        }
        let malformed = || Error::Malformed {
            what: "a managed identity's token with its lifetime",
        };
        let TokenReply {
            access_token,
            expires_on,
        } = serde_json::from_slice(&reply.body).map_err(|_| malformed())?;
        let text = SecretString::from(access_token);
        let expires_at = match expires_on {
            Moment::Seconds(seconds) => Timestamp::from_second(seconds).ok(),
            Moment::Text(text) => read_moment(text.trim()),
        };
        AccessToken::new(text, expires_at.ok_or_else(malformed)?, now)
    }

    fn read_refusal(&self, reply: &Reply) -> Error {
        let status = reply.status;
        let is_virtual_machine = matches!(self.endpoint, Endpoint::VirtualMachine { .. });
        match status {
            StatusCode::TOO_MANY_REQUESTS => Error::Throttled {
                retry_after: reply.retry_after(),
            },
            // Documented as passing for virtual machines: the service is not there yet, or is being replaced.
            StatusCode::GONE if is_virtual_machine => Error::ServiceFailed {
                status,
                code: None,
                retry_after: Some(UPGRADE),
            },
            StatusCode::NOT_FOUND if is_virtual_machine => Error::ServiceFailed {
                status,
                code: None,
                retry_after: None,
            },
            StatusCode::REQUEST_TIMEOUT => Error::ServiceFailed {
                status,
                code: None,
                retry_after: reply.retry_after(),
            },
            _ if status.is_server_error() => Error::ServiceFailed {
                status,
                code: None,
                retry_after: reply.retry_after(),
            },
            // Each kind words its refusals in another form; a number of the sign-in service's is worth finding in any.
            _ if status.is_client_error() => Error::credential_refused(
                &String::from_utf8_lossy(&reply.body),
                CredentialReason::IdentityUnknown,
            ),
            _ => Error::Unexpected {
                status,
                code: None,
                message: String::new(),
            },
        }
    }
}

impl fmt::Display for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.endpoint {
            Endpoint::AppService { .. } => "the managed identity of App Service",
            Endpoint::AppServiceOld { .. } => "the managed identity of App Service (2017)",
            Endpoint::VirtualMachine { .. } => "the managed identity of the virtual machine",
        })
    }
}

/// `expires_in` is left out: not all three kinds have it, and the machine's clock is set by the same platform.
#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_on: Moment,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(i64),
    Text(String),
}

/// Unix seconds, or the old protocol's date: `09/14/2017 00:00:00 PM +00:00`, or `9/14/2017 1:02:03 PM +00:00`.
fn read_moment(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).ok();
    }
    let mut words = text.split_ascii_whitespace();
    let (date, time, half) = (words.next()?, words.next()?, words.next()?);
    let zone = match half {
        "AM" | "PM" => words.next()?,
        zone => zone,
    };
    if words.next().is_some() || !matches!(zone, "+00:00" | "Z") {
        return None;
    }
    let [month, day, year] = numbers::<i16>(date, '/')?;
    let [hour, minute, second] = numbers::<i8>(time, ':')?;
    // The documented example counts from 0 to 23 and has a half of the day besides, which then says nothing.
    let hour = match half {
        "PM" if (1..12).contains(&hour) => hour + 12,
        "AM" if hour == 12 => 0,
        _ => hour,
    };
    let date = civil::Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let time = civil::Time::new(hour, minute, second, 0).ok()?;
    Some(
        date.to_datetime(time)
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp(),
    )
}

fn numbers<T: std::str::FromStr>(text: &str, between: char) -> Option<[T; 3]> {
    let mut parts = text.split(between).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

fn parse(text: &str, variable: &'static str) -> Result<Url, InvalidEndpoint> {
    let unreadable = InvalidEndpoint::Unreadable { variable };
    // The url parser forgives what a request's line does not.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable);
    }
    let mut url = Url::parse(text).map_err(|_| unreadable)?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => is_local_v4(address),
        Some(Host::Ipv6(address)) => is_local_v6(address),
        None => false,
    };
    let is_plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
    if !is_local || !is_plain {
        return Err(InvalidEndpoint::NotLocal { variable });
    }
    url.set_fragment(None);
    url.as_str().parse::<Uri>().map_err(|_| unreadable)?;
    Ok(url)
}

/// Linux plans were seen to have the endpoint at 169.254.129.2 and, in earlier years, 172.16.1.3.
fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_link_local() || address.is_private()
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local()
}
