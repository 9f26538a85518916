//! Records to ingest's messages. The packing into payloads is `alertlogic::ingest`'s.

use std::borrow::Cow;

use alertlogic::ingest::{Message, parse_creation_time};
use jiff::Timestamp;

use crate::record::{Batch, Record};

/// The first `count` records of the batch as messages. One without a readable `CreationTime` has happened `now`, as with
/// the original.
pub(super) fn messages(
    batch: &Batch,
    count: usize,
    now: Timestamp,
) -> impl Iterator<Item = Message<'_>> + Clone {
    batch
        .records()
        .take(count)
        .map(move |record| message(record, now))
}

fn message(record: Record<'_>, now: Timestamp) -> Message<'_> {
    let (ts, ts_us) = record
        .creation_time()
        .and_then(parse_creation_time)
        .unwrap_or((now.as_second(), None));
    let text = if record.is_compact() {
        Cow::Borrowed(record.text())
    } else {
        Cow::Owned(compact(record.text()))
    };
    Message {
        text,
        ts,
        ts_us,
        type_id: record.record_type(),
    }
}

/// The same JSON without white space between its tokens. Everything within strings, numbers too, stays as written.
pub(super) fn compact(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut is_in_string = false;
    let mut is_escaped = false;
    for &byte in text {
        if is_in_string {
            is_in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            is_in_string = byte == b'"';
        }
        out.push(byte);
    }
    out
}
