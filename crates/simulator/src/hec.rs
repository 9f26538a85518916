//! A Splunk HTTP event collector: events, indexer acknowledgement, health.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::RequestKind;
use crate::faults::FaultAction;
use crate::faults::requests::Harm;
use crate::faults::storm::SinkKind;
use crate::http::{Call, Reply, empty, json, status};
use crate::microsoft::records::Identity;
use crate::random::parse_guid;
use crate::world::World;

/// The acknowledgements of each channel.
#[derive(Debug, Default)]
pub(crate) struct Hec {
    channels: Mutex<HashMap<String, Channel>>,
}

#[derive(Debug, Default)]
struct Channel {
    next: u64,
    pending: HashMap<u64, Pending>,
}

/// A request that was taken and not yet said to be indexed.
#[derive(Debug)]
struct Pending {
    /// How often it was asked for.
    polls: u32,
    records: u64,
    /// Which of them the plan knows.
    exact: Vec<u32>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    #[serde(default)]
    sourcetype: Option<String>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

/// What a request on the HEC port asks for.
pub(crate) fn kind_of(call: &Call) -> RequestKind {
    match (call.path.trim_end_matches('/'), &call.method) {
        (
            "/services/collector/event" | "/services/collector" | "/services/collector/event/1.0",
            &Method::POST,
        ) => RequestKind::HecEvent,
        ("/services/collector/ack", &Method::POST) => RequestKind::HecAck,
        ("/services/collector/health" | "/services/collector/health/1.0", &Method::GET) => {
            RequestKind::HecHealth
        }
        _ => RequestKind::Unknown,
    }
}

/// Answers a request on the HEC port.
pub(crate) fn answer(world: &World, kind: RequestKind, call: &Call, harm: Option<&Harm>) -> Reply {
    match kind {
        RequestKind::HecHealth => return code(StatusCode::OK, 17, "HEC is healthy"),
        RequestKind::Unknown => {
            return json(
                StatusCode::NOT_FOUND,
                &json!({"text": "The requested URL was not found on this server.", "code": 404}),
            );
        }
        _ => {}
    }
    match call
        .header("authorization")
        .map(|value| value.split_once(' '))
    {
        None => return code(StatusCode::UNAUTHORIZED, 2, "Token is required"),
        Some(Some(("Splunk", token))) if token == world.options.hec.token => {}
        Some(Some(("Splunk", _))) => return code(StatusCode::FORBIDDEN, 4, "Invalid token"),
        Some(_) => return code(StatusCode::UNAUTHORIZED, 3, "Invalid authorization"),
    }
    if kind == RequestKind::HecAck {
        acks(world, call, harm)
    } else {
        events(world, call, harm)
    }
}

/// The answer to a request that meets a fault.
pub(crate) fn fault(action: &FaultAction) -> Reply {
    match action {
        FaultAction::Status { status: 503 } => {
            code(StatusCode::SERVICE_UNAVAILABLE, 9, "Server is busy")
        }
        FaultAction::Status { status: 500 } => code(
            StatusCode::INTERNAL_SERVER_ERROR,
            8,
            "Internal server error",
        ),
        FaultAction::Status { status: number } | FaultAction::Throttled { status: number } => {
            empty(status(*number))
        }
        FaultAction::Hangup => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn events(world: &World, call: &Call, harm: Option<&Harm>) -> Reply {
    let channel = match channel_of(call) {
        Ok(channel) => channel,
        Err(reply) if world.options.hec.acks => return reply,
        Err(_) => None,
    };
    if world.options.hec.acks && channel.is_none() {
        return code(StatusCode::BAD_REQUEST, 10, "Data channel is missing");
    }
    if !world.options.check_sinks {
        return accept(world, channel, 0, Vec::new());
    }
    let text = match body_of(world, call) {
        Ok(text) => text,
        Err(reply) => return reply,
    };
    let mut taken: Vec<(Identity, Vec<u8>)> = Vec::new();
    let mut exact: Vec<u32> = Vec::new();
    let mut faults = Vec::new();
    let mut scratch = Vec::new();
    for (number, event) in serde_json::Deserializer::from_slice(&text)
        .into_iter::<Event<'_>>()
        .enumerate()
    {
        let Ok(event) = event else {
            return invalid(6, "Invalid data format", number);
        };
        let Some(raw) = event.event else {
            return invalid(12, "Event field is required", number);
        };
        // An event may be the record as an object, or its text.
        let unquoted = raw
            .get()
            .starts_with('"')
            .then(|| serde_json::from_str::<String>(raw.get()).unwrap_or_default());
        let message = unquoted.as_deref().unwrap_or(raw.get()).as_bytes();
        if message.is_empty() {
            return invalid(13, "Event field cannot be blank", number);
        }
        let identity = world.records.identify(&world.plan, message, &mut scratch);
        if let Identity::Exact(record) = identity {
            if world.records.is_refused(SinkKind::Hec, record) {
                return invalid(6, "Invalid data format", number);
            }
            exact.push(record);
            faults.extend(wrong_field(world, record, &event));
        } else {
            taken.push((identity, message.to_vec()));
        }
    }
    if exact.is_empty() && taken.is_empty() {
        return code(StatusCode::BAD_REQUEST, 5, "No data");
    }
    let count = exact.len() + taken.len();
    match harm {
        Some(Harm::Refusal(FaultAction::Status { status: 413 }, _)) if count > 1 => {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Some(Harm::Refusal(FaultAction::Status { .. }, _)) if count > 1 => {
            return code(StatusCode::BAD_REQUEST, 6, "Invalid data format");
        }
        Some(harm) if harm.loses_answer() => world.at_hec.note_unanswered(count as u64),
        _ => {}
    }
    for &record in &exact {
        world
            .at_hec
            .note(&world.records, Identity::Exact(record), &[]);
    }
    for (identity, message) in taken {
        world.at_hec.note(&world.records, identity, &message);
    }
    for fault in faults {
        world.at_hec.note_fault(fault);
    }
    accept(world, channel, count as u64, exact)
}

/// The answer to events that were taken.
fn accept(world: &World, channel: Option<String>, records: u64, exact: Vec<u32>) -> Reply {
    match channel.filter(|_| world.options.hec.acks) {
        None => {
            world.note_taken("splunk_hec", &exact);
            code(StatusCode::OK, 0, "Success")
        }
        Some(channel) => {
            let mut channels = world
                .hec
                .channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let channel = channels.entry(channel).or_default();
            let id = channel.next;
            channel.next += 1;
            let pending = Pending {
                polls: 0,
                records,
                exact,
            };
            channel.pending.insert(id, pending);
            json(
                StatusCode::OK,
                &json!({"text": "Success", "code": 0, "ackId": id}),
            )
        }
    }
}

fn wrong_field(world: &World, record: u32, event: &Event<'_>) -> Option<String> {
    let blob = world.plan.blob_of(record)?;
    let created = world.records.facts(blob, record).created;
    let is_time_right = created.is_none_or(|(secs, micros)| {
        let due = secs as f64 + f64::from(micros.unwrap_or(0)) / 1e6;
        let sent = event
            .time
            .and_then(|time| time.get().trim_matches('"').parse::<f64>().ok());
        // Splunk keeps milliseconds.
        sent.is_some_and(|sent| (sent - due).abs() < 0.0011)
    });
    let field = match (is_time_right, event.sourcetype.is_some()) {
        (false, _) => "time",
        (true, false) => "sourcetype",
        (true, true) => return None,
    };
    Some(format!(
        "{field} of {} is wrong",
        world.records.id_text(record)
    ))
}

fn body_of(world: &World, call: &Call) -> Result<Bytes, Reply> {
    let limit = world.options.hec.max_body_bytes as u64;
    let text = match call.header("content-encoding") {
        None | Some("identity") => call.body.clone(),
        Some("gzip") => {
            let mut text = Vec::with_capacity(call.body.len().saturating_mul(7));
            let read = GzDecoder::new(call.body.as_ref())
                .take(limit + 1)
                .read_to_end(&mut text);
            read.map_err(|_| code(StatusCode::BAD_REQUEST, 6, "Invalid data format"))?;
            text.into()
        }
        Some(_) => return Err(empty(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
    };
    if text.len() as u64 > limit {
        return Err(empty(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(text)
}

/// The channel of a request, in the header or the query.
///
/// # Errors
/// Code 11 when it is no GUID.
fn channel_of(call: &Call) -> Result<Option<String>, Reply> {
    let Some(text) = call
        .header("x-splunk-request-channel")
        .or_else(|| call.parameter("channel"))
    else {
        return Ok(None);
    };
    match parse_guid(text.as_bytes()) {
        Some(_) => Ok(Some(text.to_ascii_lowercase())),
        None => Err(code(StatusCode::BAD_REQUEST, 11, "Invalid data channel")),
    }
}

#[derive(Deserialize)]
struct AckQuestion {
    acks: Vec<u64>,
}

fn acks(world: &World, call: &Call, harm: Option<&Harm>) -> Reply {
    if !world.options.hec.acks {
        return code(StatusCode::BAD_REQUEST, 14, "ACK is disabled");
    }
    let channel = match channel_of(call) {
        Ok(Some(channel)) => channel,
        Ok(None) => return code(StatusCode::BAD_REQUEST, 10, "Data channel is missing"),
        Err(reply) => return reply,
    };
    let Ok(question) = serde_json::from_slice::<AckQuestion>(&call.body) else {
        return code(StatusCode::BAD_REQUEST, 6, "Invalid data format");
    };
    let mut channels = world
        .hec
        .channels
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let channel = channels.entry(channel).or_default();
    let mut answers = serde_json::Map::new();
    for id in question.acks {
        let is_indexed = match channel.pending.get_mut(&id) {
            None => false,
            Some(pending) => {
                pending.polls += 1;
                pending.polls > world.options.hec.ack_after_polls
            }
        };
        if is_indexed {
            // An id is forgotten once it was answered true, as Splunk does.
            if let Some(indexed) = channel.pending.remove(&id) {
                world.note_taken("splunk_hec", &indexed.exact);
                if harm.is_some_and(Harm::loses_answer) {
                    world.at_hec.note_unanswered(indexed.records);
                }
            }
        }
        answers.insert(id.to_string(), is_indexed.into());
    }
    json(StatusCode::OK, &json!({"acks": Value::Object(answers)}))
}

fn code(status: StatusCode, code: u32, text: &str) -> Reply {
    json(status, &json!({"text": text, "code": code}))
}

fn invalid(code: u32, text: &str, number: usize) -> Reply {
    json(
        StatusCode::BAD_REQUEST,
        &json!({"text": text, "code": code, "invalid-event-number": number}),
    )
}
