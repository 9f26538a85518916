//! What Splunk's replies mean: pure. The one place that knows its codes.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header, response::Parts};
use jiff::Timestamp;
use ledger::SinkName;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sinks::Error;

/// A reply is a line of JSON; the acknowledgements of all that can be asked for at once fit many times over.
pub(super) const MAX_REPLY_BYTES: usize = 256 * 1024;
/// An `ackId` is a number of at most 64 bits; what is much longer is none.
const MAX_ACK_ID_BYTES: usize = 40;
/// How much of Splunk's own words goes into ours.
const MAX_TEXT_CHARS: usize = 200;

/// What Splunk said to a request with events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has them.
    Taken {
        /// What to ask the indexers for; nothing when the token has no indexer acknowledgement.
        ack_id: Option<AckId>,
    },
    /// At least one event is such that it takes none of them. (It may have taken those before the bad one all the same:
    /// the documentation does not say.)
    Unreadable {
        reason: String,
        /// `invalid-event-number`: which one of the request, from 0.
        invalid_event: Option<usize>,
    },
}

/// What it said to a question about acknowledgements.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// These are indexed; the others not yet.
    Indexed(Vec<AckId>),
    /// The token has no indexer acknowledgement.
    Disabled,
}

/// The number of a request, opaque: kept as the text that Splunk sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckId(String);

impl AckId {
    /// As it stood in the reply.
    pub(super) fn as_json(&self) -> &str {
        &self.0
    }

    fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let is_scalar =
            text.len() <= MAX_ACK_ID_BYTES && !text.starts_with(['{', '[', 'n', 't', 'f']);
        is_scalar.then(|| Self(text.to_owned()))
    }

    /// As it is a key in the answer.
    fn as_key(&self) -> &str {
        self.0.trim_matches('"')
    }
}

#[derive(Deserialize)]
struct ReplyText<'a> {
    code: i64,
    #[serde(default)]
    text: String,
    #[serde(borrow, default, rename = "ackId")]
    ack_id: Option<&'a RawValue>,
    #[serde(default, rename = "invalid-event-number")]
    invalid_event: Option<usize>,
}

#[derive(Deserialize)]
struct AckText {
    acks: HashMap<String, bool>,
}

/// HEC's code for an error within Splunk.
const INNER_ERROR: i64 = 8;

/// What a code means, by Splunk's list of HEC's reply codes.
enum Meaning {
    Success,
    /// The token is disabled, missing or unknown.
    Token,
    /// An event is no good.
    Event,
    Index,
    Channel,
    Busy,
    AckDisabled,
    Unknown,
}

impl Meaning {
    fn of(code: i64) -> Self {
        match code {
            0 => Self::Success,
            1..=4 => Self::Token,
            5 | 6 | 12 | 13 | 15 => Self::Event,
            7 => Self::Index,
            INNER_ERROR | 9 | 18 => Self::Busy,
            10 | 11 => Self::Channel,
            14 => Self::AckDisabled,
            _ => Self::Unknown,
        }
    }
}

/// Reads the reply to events.
///
/// # Errors
/// When Splunk took none of them for a reason that lies in no event.
pub(super) fn read_event_reply(
    sink: &SinkName,
    head: &Parts,
    body: &Bytes,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let reply: Option<ReplyText<'_>> = serde_json::from_slice(body).ok();
    let meaning = reply.as_ref().map(|reply| Meaning::of(reply.code));
    match (&reply, meaning) {
        (Some(reply), Some(Meaning::Success)) if head.status.is_success() => {
            let ack_id = match reply.ack_id.filter(|raw| raw.get() != "null") {
                None => None,
                Some(raw) => Some(AckId::read(raw).ok_or_else(|| stranger(sink, head.status))?),
            };
            Ok(Outcome::Taken { ack_id })
        }
        (Some(reply), Some(Meaning::Event)) => Ok(Outcome::Unreadable {
            reason: format!("splunk refuses it: {}", describe(reply)),
            invalid_event: reply.invalid_event,
        }),
        _ if head.status == StatusCode::PAYLOAD_TOO_LARGE => Ok(Outcome::Unreadable {
            reason: "splunk, or a proxy before it, refuses it: too large (413)".to_owned(),
            invalid_event: None,
        }),
        _ => Err(read_failure(sink, head, reply.as_ref(), now)),
    }
}

/// Whether it is known from a reply to events what became of them: Splunk says that it took them, or refuses, or somebody
/// before it does. Its own code for an inner error says neither, and nor does a proxy that had no answer from it.
pub(super) fn is_definite(head: &Parts, body: &Bytes) -> bool {
    match serde_json::from_slice::<ReplyText<'_>>(body) {
        Ok(reply) => reply.code != INNER_ERROR,
        Err(_) => head.status.is_client_error() && head.status != StatusCode::REQUEST_TIMEOUT,
    }
}

/// Reads the reply to a question about `ids`.
///
/// # Errors
/// When it holds no answer.
pub(super) fn read_ack_reply(
    sink: &SinkName,
    head: &Parts,
    body: &Bytes,
    ids: &[AckId],
    now: Timestamp,
) -> Result<Ack, Error> {
    if head.status.is_success()
        && let Ok(AckText { acks }) = serde_json::from_slice(body)
    {
        let is_indexed = |id: &&AckId| acks.get(id.as_key()).copied().unwrap_or(false);
        return Ok(Ack::Indexed(
            ids.iter().filter(is_indexed).cloned().collect(),
        ));
    }
    let reply: Option<ReplyText<'_>> = serde_json::from_slice(body).ok();
    if reply
        .as_ref()
        .is_some_and(|reply| matches!(Meaning::of(reply.code), Meaning::AckDisabled))
    {
        return Ok(Ack::Disabled);
    }
    Err(read_failure(sink, head, reply.as_ref(), now))
}

fn read_failure(
    sink: &SinkName,
    head: &Parts,
    reply: Option<&ReplyText<'_>>,
    now: Timestamp,
) -> Error {
    let status = head.status;
    let meaning = reply.map_or(Meaning::Unknown, |reply| Meaning::of(reply.code));
    let said = reply.map_or_else(|| status.to_string(), describe);
    let is_busy = matches!(meaning, Meaning::Busy)
        || status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if is_busy {
        let what = format!("sink {sink}: splunk is down or busy: {said}");
        return Error::Unavailable {
            what,
            retry_after: retry_after(head, now),
        };
    }
    let mend = match meaning {
        Meaning::Token => "check `token`, and in Splunk that the token exists and is enabled",
        Meaning::Index => "check `index`, and in Splunk that the token may write to it",
        Meaning::Channel => {
            "something between us and Splunk drops the X-Splunk-Request-Channel header"
        }
        Meaning::Success
        | Meaning::Event
        | Meaning::Busy
        | Meaning::AckDisabled
        | Meaning::Unknown => match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check `token`",
            // A code that we do not know, so not the record's fault as far as we can tell: were it taken for that, a
            // setting at Splunk's side could send every record there is into quarantine.
            StatusCode::BAD_REQUEST if reply.is_some() => {
                "look the code up in Splunk's documentation"
            }
            _ => return stranger(sink, status),
        },
    };
    Error::Refused {
        what: format!("sink {sink}: splunk refuses our requests: {said}; {mend}"),
    }
}

/// An answer that no HTTP Event Collector gives. Success or not, nothing says that records are safe behind it.
fn stranger(sink: &SinkName, status: StatusCode) -> Error {
    Error::Refused {
        what: format!(
            "sink {sink}: what answers at `url` ({status}) is no Splunk HTTP Event Collector; check `url`"
        ),
    }
}

/// Splunk's words, cut short and in one line: they come from the network and end up in a log.
fn describe(reply: &ReplyText<'_>) -> String {
    let text: String = reply
        .text
        .chars()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT_CHARS)
        .collect();
    format!("{text} (code {})", reply.code)
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(head: &Parts, now: Timestamp) -> Option<Duration> {
    let text = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(at.duration_since(now)).ok()
}
