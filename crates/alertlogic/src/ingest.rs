//! Ingest: where records go. One request carries a `collected_batch_list` with one batch in it, zlib-compressed; a second,
//! which nothing depends on, tells how much that was.

mod body;
mod creation_time;
mod encode;
mod metadata;
mod pack;

pub use creation_time::parse_creation_time;
pub use metadata::HostMetadata;
pub use pack::{Envelope, Packed, Packer, Packing, Payload};

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use jiff::Timestamp;
use serde::Serialize;

use crate::{Endpoint, aims::Token, azcollect::Registered, reply::request};

#[cfg(test)]
mod tests;

/// `priority` of every message, as the original sends it.
pub const PRIORITY: u32 = 11;
/// `prog_name` of every message: the original's function.
pub const PROG_NAME: &str = "o365webhook";
/// `message_type` of every message. The vendor parses records by it.
pub const MESSAGE_TYPE: &str = "json/azure.o365";

/// One record as ingest takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// The record as compact JSON text, UTF-8.
    pub text: Cow<'a, [u8]>,
    /// When it happened, Unix seconds.
    pub ts: i64,
    /// The fraction of that second in microseconds, when the record has one.
    pub ts_us: Option<u32>,
    /// The record type.
    pub type_id: Option<i64>,
}

/// Ships a packed payload.
///
/// There is no idempotency key: whoever sends it twice has it twice.
#[must_use]
pub fn logmsgs_request(ingest: &Endpoint, token: &Token, body: Bytes) -> Request<Bytes> {
    ingest_request(
        ingest,
        token,
        "/data/logmsgs",
        "alertlogic.com/lm3-protobuf",
        body,
    )
}

/// Tells how much a payload held: its records and the bytes of their text. The vendor's libraries ignore its failure.
#[must_use]
pub fn lmcstats_request(
    ingest: &Endpoint,
    token: &Token,
    registered: &Registered,
    event_count: u64,
    byte_count: u64,
    now: Timestamp,
) -> Request<Bytes> {
    #[derive(Serialize)]
    struct Stats<'a> {
        inst_type: &'a str,
        appliance_id: &'a str,
        source_type: &'a str,
        source_id: &'a str,
        host_id: &'a str,
        event_count: u64,
        byte_count: u64,
        application_id: &'a str,
        timestamp: i64,
    }
    let stats = [Stats {
        inst_type: "collector",
        appliance_id: "",
        source_type: crate::azcollect::COLLECTOR_TYPE,
        source_id: &registered.source_id,
        host_id: &registered.host_id,
        event_count,
        byte_count,
        application_id: "",
        timestamp: now.as_second(),
    }];
    let body = serde_json::to_vec(&stats).expect("numbers and texts always serialize");
    // The header says deflate over plain JSON text. So do the vendor's libraries, and the service is made for them.
    ingest_request(
        ingest,
        token,
        "/data/lmcstats",
        "alertlogic.com/json",
        Bytes::from(body),
    )
}

fn ingest_request(
    ingest: &Endpoint,
    token: &Token,
    tail: &str,
    content_type: &'static str,
    body: Bytes,
) -> Request<Bytes> {
    let mut request = request(ingest, token, Method::POST, "ingest", tail, body);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CONTENT_ENCODING,
        HeaderValue::from_static("deflate"),
    );
    headers.insert("x-invoked-by", HeaderValue::from_static("azure_function"));
    request
}
