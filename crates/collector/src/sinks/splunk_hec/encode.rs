//! Records to Splunk's events: pure.

use std::{
    fmt::Write as _,
    io::Write as _,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use deflate::{Deflater, Format};
use jiff::{Timestamp, civil::DateTime, tz::Offset};

use super::{SplunkHecConfig, reply::AckId};
use crate::record::{Batch, BlobTag, Record};

/// What stands around a record in its event, roughly. Only the size of a request depends on it.
const ENVELOPE_BYTES: usize = 256;
/// From this length on a record is not copied before it is compressed.
const LONG_RECORD_BYTES: usize = 64 << 10;

/// Writes events; what is the same for all of them is made once.
pub(super) struct Encoder {
    /// `,"host":…,"source":…,"sourcetype":…,"index":…,"event":`
    metadata: Vec<u8>,
    /// Compressors not in use. As many come to be as there are requests made at one time.
    deflaters: Mutex<Vec<Deflater>>,
}

impl Encoder {
    pub(super) fn new(config: &SplunkHecConfig) -> Self {
        let mut metadata = String::new();
        let settings = [
            ("host", config.host.as_deref()),
            ("source", config.source.as_deref()),
            ("sourcetype", Some(config.sourcetype.as_str())),
            ("index", config.index.as_deref()),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                let value = serde_json::Value::from(value);
                write!(metadata, ",\"{key}\":{value}").expect("a string takes everything");
            }
        }
        metadata.push_str(",\"event\":");
        Self {
            metadata: metadata.into_bytes(),
            deflaters: Mutex::default(),
        }
    }

    /// The gzipped body of a request with these records of the batch. Events stand one after the other, without an array
    /// around them: that is Splunk's format for more than one.
    pub(super) fn encode(&self, batch: &Batch, records: Range<usize>) -> Vec<u8> {
        let kept = self.lock().pop();
        let mut gzip = kept.unwrap_or_default();
        gzip.start(Format::Gzip);
        let mut event = Vec::new();
        for record in batch.records().skip(records.start).take(records.len()) {
            event.clear();
            self.push_head(&mut event, &record);
            // A record of many megabytes is compressed from where it lies: a copy of it would be as large again.
            if record.text().len() >= LONG_RECORD_BYTES {
                gzip.write(&event);
                gzip.write(record.text());
                event.clear();
            } else {
                event.extend_from_slice(record.text());
            }
            push_tail(&mut event, &record);
            gzip.write(&event);
        }
        let mut body = gzip.finish();
        body.shrink_to_fit();
        self.lock().push(gzip);
        body
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Deflater>> {
        // Nothing is left half done in the list by whoever panics.
        self.deflaters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One event. The record stands in it byte for byte.
    #[cfg(test)]
    pub(super) fn push_event(&self, event: &mut Vec<u8>, record: &Record<'_>) {
        self.push_head(event, record);
        event.extend_from_slice(record.text());
        push_tail(event, record);
    }

    fn push_head(&self, event: &mut Vec<u8>, record: &Record<'_>) {
        let millis = time_of(record).as_millisecond().max(0);
        write!(event, "{{\"time\":{}.{:03}", millis / 1000, millis % 1000)
            .expect("memory takes everything");
        event.extend_from_slice(&self.metadata);
    }
}

fn push_tail(event: &mut Vec<u8>, record: &Record<'_>) {
    let BlobTag {
        tenant,
        content_type,
        ..
    } = record.blob();
    // Neither a GUID nor a content type has a character that JSON would escape.
    write!(
        event,
        ",\"fields\":{{\"tenant\":\"{tenant}\",\"content_type\":\"{content_type}\"}}}}"
    )
    .expect("memory takes everything");
}

/// Ranges of the batch's records, each with at most `max_bytes` of text, or one record.
pub(super) fn plan_requests(batch: &Batch, max_bytes: usize) -> Vec<Range<usize>> {
    let mut requests = Vec::new();
    let (mut start, mut bytes) = (0, 0usize);
    let mut end = 0;
    for record in batch.records() {
        let record_bytes = record.text().len() + ENVELOPE_BYTES;
        if end > start && bytes + record_bytes > max_bytes {
            requests.push(start..end);
            (start, bytes) = (end, 0);
        }
        bytes += record_bytes;
        end += 1;
    }
    if end > start {
        requests.push(start..end);
    }
    requests
}

/// The question whether the indexers have these.
pub(super) fn ack_request(ids: &[AckId]) -> Vec<u8> {
    let ids: Vec<_> = ids.iter().map(AckId::as_json).collect();
    format!("{{\"acks\":[{}]}}", ids.join(",")).into_bytes()
}

/// `CreationTime`, which Microsoft writes in UTC without a zone as a rule. A record without a readable one gets the time at
/// which its blob was made available, which is at most days off; Splunk's own choice, the time of arrival, may be wrong by
/// as much as we were down.
fn time_of(record: &Record<'_>) -> Timestamp {
    record
        .creation_time()
        .and_then(|text| {
            // The `Timestamp` first: the zone of a text that has one must not be dropped.
            let zoneless = || {
                text.parse::<DateTime>()
                    .ok()
                    .and_then(|time| Offset::UTC.to_timestamp(time).ok())
            };
            text.parse().ok().or_else(zoneless)
        })
        .unwrap_or(record.blob().created_at)
}
