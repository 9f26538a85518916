//! What a reply's status means, decided once for all of Alert Logic's services, and the pieces that every request shares.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use crate::{Endpoint, aims::Token};

#[cfg(test)]
mod tests;

/// A whole reply of any of the services.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. The sender caps its size.
    pub body: Bytes,
}

/// Why a reply is not the one that was hoped for. The texts hold nothing of the reply's body: an error body may echo
/// what was sent to it, records and secrets included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 401 or 403: the token or the access key is not accepted.
    #[error("not authorized (HTTP {status})")]
    NotAuthorized {
        /// 401 or 403.
        status: StatusCode,
    },
    /// 413: the request is larger than the service takes.
    #[error("the request is larger than the service takes (HTTP 413)")]
    TooLarge,
    /// 400 or 422: the service does not take this body.
    #[error("the service does not accept the request's content (HTTP {status})")]
    ContentRefused {
        /// 400 or 422.
        status: StatusCode,
    },
    /// 429: too many requests.
    #[error("too many requests (HTTP 429)")]
    Throttled {
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// 408 or 5xx: the service or something before it failed.
    #[error("the service failed (HTTP {status})")]
    ServiceFailed {
        /// 408 or 5xx.
        status: StatusCode,
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other status, redirects included: they are never followed, a token must not travel to an unchecked host.
    #[error("unexpected answer (HTTP {status})")]
    Unexpected {
        /// What it was.
        status: StatusCode,
    },
    /// A good status over a body that does not say what it must.
    #[error("the reply cannot be understood: {what}")]
    Malformed {
        /// What is missing or wrong, never its text.
        what: &'static str,
    },
    /// The endpoints service named a host that no token may be sent to.
    #[error("the endpoints service named an address that is not to be trusted: {0}")]
    UntrustedEndpoint(#[from] crate::InvalidEndpoint),
}

/// What to do about an [`Error`]. Loops match on this, never on status numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Authenticate anew and send it once more. When that is refused as well, a person must act.
    Reauthenticate,
    /// Send it again later: after this long if the service said so, else after a wait of the caller's choosing.
    RetryAfter(Option<Duration>),
    /// Send it in two halves. One record that is refused alone is refused for good.
    Split,
    /// Sending it again cannot help; a person must act.
    Stop,
}

impl Error {
    /// The one place where a status becomes a decision.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::NotAuthorized { .. } => NextStep::Reauthenticate,
            Self::TooLarge | Self::ContentRefused { .. } => NextStep::Split,
            Self::Throttled { retry_after } | Self::ServiceFailed { retry_after, .. } => {
                NextStep::RetryAfter(*retry_after)
            }
            // A good status over rubbish is a proxy's error page as a rule, and those go away.
            Self::Malformed { .. } => NextStep::RetryAfter(None),
            Self::Unexpected { .. } | Self::UntrustedEndpoint(_) => NextStep::Stop,
        }
    }
}

impl Reply {
    /// Whether the service said yes.
    ///
    /// # Errors
    /// When the status is not 2xx. `now` turns a `Retry-After` that is a date into a wait.
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        let status = self.status;
        match status.as_u16() {
            200..=299 => Ok(()),
            401 | 403 => Err(Error::NotAuthorized { status }),
            413 => Err(Error::TooLarge),
            400 | 422 => Err(Error::ContentRefused { status }),
            429 => Err(Error::Throttled {
                retry_after: self.retry_after(now),
            }),
            408 | 500..=599 => Err(Error::ServiceFailed {
                status,
                retry_after: self.retry_after(now),
            }),
            _ => Err(Error::Unexpected { status }),
        }
    }

    /// The body of a 2xx reply as JSON.
    ///
    /// # Errors
    /// As [`Reply::check`], and [`Error::Malformed`] with `what` when the body has another shape.
    pub(crate) fn read_json<T: DeserializeOwned>(
        &self,
        now: Timestamp,
        what: &'static str,
    ) -> Result<T, Error> {
        self.check(now)?;
        // serde_json's own message is dropped: it may quote the body, and the body may hold a token.
        serde_json::from_slice(&self.body).map_err(|_| Error::Malformed { what })
    }

    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse::<u64>() {
            Ok(secs) => Duration::from_secs(secs),
            Err(_) => {
                let at = jiff::fmt::rfc2822::DateTimeParser::new()
                    .parse_timestamp(text)
                    .ok()?;
                Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
            }
        };
        Some(wait.min(LONGEST_WAIT))
    }
}

/// A service that asks for more is not believed: a wrong date would stop deliveries for years.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What `encodeURIComponent` leaves alone, which is how the vendor's libraries write a name into a path.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// One segment of a path.
pub(crate) fn segment(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, COMPONENT)
}

/// A request to `/{service}/v1/{account}{tail}` with the token on it, and the headers that all of them have.
pub(crate) fn request(
    endpoint: &Endpoint,
    token: &Token,
    method: Method,
    service: &str,
    tail: &str,
    body: Bytes,
) -> Request<Bytes> {
    let path = format!("/{service}/v1/{}{tail}", segment(token.account_id()));
    let mut request = bare_request(endpoint, method, &path, body);
    request
        .headers_mut()
        .insert("x-aims-auth-token", token.header());
    request
}

/// A request without any credentials on it yet. `path` is made of encoded segments.
pub(crate) fn bare_request(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Bytes,
) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = endpoint.uri(path);
    request
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request
}

/// A request with a JSON body.
pub(crate) fn json_request(
    endpoint: &Endpoint,
    token: &Token,
    method: Method,
    service: &str,
    tail: &str,
    body: &impl serde::Serialize,
) -> Request<Bytes> {
    let body =
        serde_json::to_vec(body).expect("our messages have string keys only and always serialize");
    let mut request = request(endpoint, token, method, service, tail, Bytes::from(body));
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    request
}
