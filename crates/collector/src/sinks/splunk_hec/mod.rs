//! The Splunk HTTP Event Collector sink: records as events, gzip, and the indexers' acknowledgement where the token has it.

mod config;
mod encode;
mod reply;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use ledger::SinkName;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tracing::debug;
use url::Url;
use uuid::Uuid;

pub use config::SplunkHecConfig;

use self::{
    encode::Encoder,
    reply::{Ack, AckId, MAX_REPLY_BYTES, Outcome, read_ack_reply, read_event_reply},
};
use super::{Error, Failure, Receipt, Refused, Sink};
use crate::{clock::Clock, http::Transport, record::Batch};

/// Waiting for an indexer must not hold up the next batch; more than a few only queue up at Splunk's side.
const MAX_IN_FLIGHT: usize = 4;
/// The first pause before asking whether the indexers have a batch, and the longest. Splunk answers "not yet" for a
/// second or so on an idle machine; asking more often than this costs it work and brings nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Which conversation the acknowledgements belong to. Required by a token with indexer acknowledgement, ignored by one
/// without.
const CHANNEL: &str = "x-splunk-request-channel";

/// Posts records to a Splunk HTTP Event Collector.
pub struct SplunkHecSink {
    name: SinkName,
    event_uri: String,
    ack_uri: String,
    authorization: HeaderValue,
    channel: HeaderValue,
    encoder: Arc<Encoder>,
    acknowledge_within: Duration,
    max_batch_bytes: usize,
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

/// A stretch of a batch that Splunk has taken, or that it never will.
struct Taken {
    records: Range<usize>,
    /// What to ask the indexers for; nothing when there is nothing to wait for.
    pending: Option<AckId>,
    refused: Option<String>,
}

impl SplunkHecSink {
    /// A sink with a channel of its own, as Splunk asks of each client process.
    ///
    /// # Errors
    /// [`Error::Refused`] when `url` is no http(s) address or the token cannot stand in a header.
    pub fn build(
        config: SplunkHecConfig,
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
            event_uri: format!("{base}/services/collector/event"),
            ack_uri: format!("{base}/services/collector/ack?channel={channel}"),
            authorization: authorization(&config.token)
                .ok_or_else(|| refused("`token` has characters that no token has"))?,
            channel: HeaderValue::try_from(channel).expect("a UUID is printable ASCII"),
            encoder: Arc::new(Encoder::new(&config)),
            acknowledge_within: config.acknowledge_within,
            max_batch_bytes: config.max_batch_bytes.max(1),
            name: config.name,
            http,
            clock,
        })
    }

    /// Posts the batch in requests of `max_batch_bytes`, one after the other so that the order is kept. A request that
    /// Splunk cannot read is cut in two until the record is found that is to blame. What was taken before an error is in
    /// `taken`.
    async fn post_all(&self, batch: &Batch, taken: &mut Vec<Taken>) -> Result<(), Error> {
        let mut todo: VecDeque<_> = encode::plan_requests(batch, self.max_batch_bytes).into();
        while let Some(records) = todo.pop_front() {
            match self.post(batch, records.clone()).await? {
                Outcome::Taken { ack_id } => taken.push(Taken {
                    records,
                    pending: ack_id,
                    refused: None,
                }),
                Outcome::Unreadable { reason, .. } if records.len() == 1 => {
                    taken.push(Taken {
                        records,
                        pending: None,
                        refused: Some(reason),
                    });
                }
                Outcome::Unreadable { invalid_event, .. } => {
                    debug!(sink = %self.name, records = records.len(), "splunk cannot read a request, it is cut up");
                    for part in split(&records, invalid_event).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
            }
        }
        Ok(())
    }

    async fn post(&self, batch: &Batch, records: Range<usize>) -> Result<Outcome, Error> {
        let text_bytes = batch.text_bytes().min(self.max_batch_bytes);
        let longest = batch.records().skip(records.start).take(records.len());
        let longest = longest.map(|record| record.text().len()).max();
        let mut room = batch.reserve(text_bytes.max(longest.unwrap_or(0))).await;
        let (batch, encoder) = (batch.clone(), Arc::clone(&self.encoder));
        // Compression of half a mebibyte takes milliseconds, too long for a thread that others share.
        let body = tokio::task::spawn_blocking(move || encoder.encode(&batch, records));
        let body = match body.await {
            Ok(body) => body,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => std::future::pending().await,
            },
        };
        if let Some(room) = &mut room {
            room.shrink(body.len());
        }
        let mut request = self.request(&self.event_uri, body);
        request
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let (head, body) = self.send(request).await?;
        read_event_reply(&self.name, &head, &body, self.clock.now())
    }

    /// Asks until the indexers have all of `taken` or the time is up; what they have loses its `pending`.
    ///
    /// # Errors
    /// When the time is up, or Splunk refuses to answer at all.
    async fn confirm(&self, taken: &mut [Taken]) -> Result<(), Error> {
        let deadline = Instant::now() + self.acknowledge_within;
        let mut pause = FIRST_PAUSE;
        loop {
            let ids: Vec<_> = taken
                .iter()
                .filter_map(|taken| taken.pending.clone())
                .collect();
            if ids.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                let waited = self.acknowledge_within.as_secs();
                let what = format!(
                    "splunk has not acknowledged a batch within {waited} s; it is sent again"
                );
                return Err(Error::Unavailable {
                    what: self.say(&what),
                    retry_after: None,
                });
            }
            tokio::time::sleep(pause.min(deadline - now)).await;
            pause = (pause * 3 / 2).min(MAX_PAUSE);
            match self.ask(&ids).await {
                Ok(Ack::Indexed(indexed)) => {
                    for taken in taken.iter_mut() {
                        taken.pending = taken.pending.take().filter(|id| !indexed.contains(id));
                    }
                }
                // The token lost its acknowledgement meanwhile: that Splunk took the events is all there is to know.
                Ok(Ack::Disabled) => taken.iter_mut().for_each(|taken| taken.pending = None),
                // Splunk restarts, or a proxy lost it: the events may be safe all the same, so asking goes on.
                Err(Error::Unavailable { what, .. }) => {
                    debug!(sink = %self.name, what, "cannot ask splunk yet")
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask(&self, ids: &[AckId]) -> Result<Ack, Error> {
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

    fn say(&self, what: &str) -> String {
        format!("sink {}: {what}", self.name)
    }
}

#[async_trait]
impl Sink for SplunkHecSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn answers_within(&self) -> Duration {
        self.acknowledge_within + Duration::from_secs(30 * 60)
    }

    /// Splunk keeps no place for us, so there is nothing to take up.
    async fn resume(&self, _position: Option<&str>) -> Result<(), Error> {
        Ok(())
    }

    /// Posts the batch and waits until the indexers have it, where the token has indexer acknowledgement; without, that
    /// Splunk took it is all that it ever says.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Splunk is down, busy or does not acknowledge in time, [`Error::Refused`] when it does
    /// not accept the token, the index or the address.
    ///
    /// # If interrupted
    /// Splunk may have the batch, or the head of it, and gets it again.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let mut taken = Vec::new();
        let posted = self.post_all(batch, &mut taken).await;
        let confirmed = self.confirm(&mut taken).await;
        // The first error is the one that matters; the other is most often its consequence.
        let result = posted.and(confirmed);
        let safe = taken.iter().take_while(|taken| taken.pending.is_none());
        let (mut delivered_count, mut refused) = (0, Vec::new());
        for taken in safe {
            delivered_count = taken.records.end;
            if let Some(reason) = &taken.refused {
                refused.push(Refused {
                    index_in_batch: taken.records.start,
                    reason: reason.clone(),
                });
            }
        }
        match result {
            Ok(()) => Ok(Receipt {
                position: None,
                refused,
            }),
            Err(error) => Err(Failure {
                delivered_count,
                refused,
                error,
            }),
        }
    }
}

/// Cuts out the record that Splunk named, or halves. The named one is sent alone before it is given up on: the number is a
/// hint, and it counts for nothing when Splunk takes the record after all.
fn split(records: &Range<usize>, invalid_event: Option<usize>) -> Vec<Range<usize>> {
    let named = invalid_event
        .and_then(|index| records.start.checked_add(index))
        .filter(|index| records.contains(index));
    let parts = match named {
        Some(index) => vec![
            records.start..index,
            index..index + 1,
            index + 1..records.end,
        ],
        None => {
            let middle = records.start + records.len() / 2;
            vec![records.start..middle, middle..records.end]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
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
