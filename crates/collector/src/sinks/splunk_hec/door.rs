//! Requests to the collector: the address, the token and the channel that all of them carry.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use ledger::SinkName;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use uuid::Uuid;

use super::reply::{
    Ack, AckId, MAX_REPLY_BYTES, Outcome, is_definite, read_ack_reply, read_event_reply,
};
use super::{SplunkHecConfig, encode};
use crate::clock::Clock;
use crate::http::Transport;
use crate::sinks::Error;

/// Which conversation the acknowledgements belong to. Required by a token with indexer acknowledgement, ignored by one
/// without.
const CHANNEL: &str = "x-splunk-request-channel";

/// What came of a request with events.
pub(super) struct Posted {
    /// An error when Splunk took none of them for a reason that lies in no event, or when that is not known.
    pub(super) outcome: Result<Outcome, Error>,
    /// Whether it is known what Splunk made of them. If not, it may have taken them, under an id that nobody was told.
    pub(super) is_answered: bool,
}

/// The way to one collector.
pub(super) struct Door {
    pub(super) name: SinkName,
    event_uri: String,
    ack_uri: String,
    authorization: HeaderValue,
    channel: HeaderValue,
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

impl Door {
    /// With a channel of its own, as Splunk asks of each client process.
    ///
    /// # Errors
    /// [`Error::Refused`] when `url` is no http(s) address or the token cannot stand in a header.
    pub(super) fn build(
        config: &SplunkHecConfig,
        http: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let refused = |what: &str| Error::Refused {
            what: format!("sink {}: {what}", config.name),
        };
        let base = base_of(&config.url).ok_or_else(|| {
            refused(
                "`url` must be scheme, host and port only, such as https://splunk.example.net:8088",
            )
        })?;
        let channel = Uuid::new_v4().to_string();
        Ok(Self {
            name: config.name.clone(),
            event_uri: format!("{base}/services/collector/event"),
            ack_uri: format!("{base}/services/collector/ack?channel={channel}"),
            authorization: authorization(&config.token)
                .ok_or_else(|| refused("`token` has characters that no token has"))?,
            channel: HeaderValue::try_from(channel).expect("a UUID is printable ASCII"),
            http,
            clock,
        })
    }

    /// Posts events, gzipped.
    ///
    /// # If interrupted
    /// Splunk may have them.
    pub(super) async fn post(&self, body: Vec<u8>) -> Posted {
        let mut request = self.request(&self.event_uri, body);
        request
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        match self.send(request).await {
            Ok((head, body)) => Posted {
                outcome: read_event_reply(&self.name, &head, &body, self.clock.now()),
                is_answered: is_definite(&head, &body),
            },
            Err(error) => Posted {
                outcome: Err(error),
                is_answered: false,
            },
        }
    }

    /// Posts nothing, which Splunk refuses for the lack of events, if for nothing else (code 5, "No data").
    ///
    /// # Errors
    /// When that is not what it says.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let (head, body) = self.send(self.request(&self.event_uri, Vec::new())).await?;
        read_event_reply(&self.name, &head, &body, self.clock.now()).map(|_outcome| ())
    }

    /// Asks which of these requests are indexed.
    ///
    /// # Errors
    /// When that is not to be learned.
    ///
    /// # If interrupted
    /// Splunk may have answered, and forgets what it said to be indexed.
    pub(super) async fn ask(&self, ids: &[AckId]) -> Result<Ack, Error> {
        let request = self.request(&self.ack_uri, encode::ack_request(ids));
        let (head, body) = self.send(request).await?;
        read_ack_reply(&self.name, &head, &body, ids, self.clock.now())
    }

    fn request(&self, uri: &str, body: Vec<u8>) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri
            .parse()
            .expect("built from a url that was parsed, and fixed text");
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(CHANNEL, self.channel.clone());
        request
    }

    async fn send(&self, request: Request<Bytes>) -> Result<(http::response::Parts, Bytes), Error> {
        let unavailable = |error: crate::http::Error| Error::Unavailable {
            what: self.say(&format!("splunk cannot be reached: {error}")),
            retry_after: None,
        };
        let (head, body) = self
            .http
            .send(request)
            .await
            .map_err(unavailable)?
            .into_parts();
        let body = body.collect(MAX_REPLY_BYTES).await.map_err(unavailable)?;
        Ok((head, body))
    }

    pub(super) fn say(&self, what: &str) -> String {
        format!("sink {}: {what}", self.name)
    }
}

/// The address without a trailing slash; nothing when it is none that a collector can have.
fn base_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let base = url.as_str().trim_end_matches('/').to_owned();
    // The `http` crate is stricter than the `url` crate here and there.
    (is_plain && base.parse::<http::Uri>().is_ok()).then_some(base)
}

fn authorization(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    let mut value = HeaderValue::try_from(format!("Splunk {token}"))
        .ok()
        .filter(|_| !token.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}
