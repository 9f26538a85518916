//! Blobs that were delivered together, counted together: to find a metric by its labels costs more than to count.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use metrics::{counter, histogram};

use super::{
    BLOBS_DELIVERED_TOTAL, DELIVERY_LATENCY_SECONDS, RECORD_BYTES_TOTAL, RECORDS_DELIVERED_TOTAL,
};

/// Delivered blobs that are yet to be counted.
#[derive(Debug, Default)]
pub struct Deliveries(BTreeMap<(TenantId, ContentType), Stream>);

#[derive(Debug, Default)]
struct Stream {
    blob_count: u64,
    record_count: u64,
    byte_count: u64,
    latency_seconds: Vec<f64>,
}

impl Deliveries {
    /// One more, with its records and their bytes, and how long after `created_at` that was.
    pub fn add(
        &mut self,
        tenant: TenantId,
        content_type: ContentType,
        record_count: u64,
        byte_count: u64,
        created_at: Timestamp,
        now: Timestamp,
    ) {
        let stream = self.0.entry((tenant, content_type)).or_default();
        stream.blob_count += 1;
        stream.record_count += record_count;
        stream.byte_count += byte_count;
        stream
            .latency_seconds
            .push(now.duration_since(created_at).as_secs_f64().max(0.0));
    }

    /// Counts them.
    pub fn count(self) {
        for ((tenant, content_type), stream) in self.0 {
            let labels = [
                ("tenant", tenant.to_string()),
                ("content_type", content_type.to_string()),
            ];
            counter!(BLOBS_DELIVERED_TOTAL, &labels).increment(stream.blob_count);
            counter!(RECORDS_DELIVERED_TOTAL, &labels).increment(stream.record_count);
            counter!(RECORD_BYTES_TOTAL, &labels).increment(stream.byte_count);
            let latency = histogram!(DELIVERY_LATENCY_SECONDS, &labels);
            for seconds in stream.latency_seconds {
                latency.record(seconds);
            }
        }
    }
}
