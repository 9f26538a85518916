//! Every metric name that the program publishes, what each means, and the small functions that count them. Callers
//! of this module hold no metric names and no label texts.

mod deliveries;
mod fetches;
mod labels;
mod recorder;

#[cfg(test)]
mod tests;

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use ledger::{SeenVia, SinkName, Summary};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::discover::lateness;
use crate::expiry::Forecast;

pub use deliveries::Deliveries;
pub use fetches::Fetches;
pub use labels::{LedgerOperation, RequestKind, RequestOutcome, WebhookOutcome};
use recorder::Metrics;

/// Blobs that discovery came across for the first time.
pub const BLOBS_SEEN_TOTAL: &str = "o365_collector_blobs_seen_total";
/// Blobs that every required sink has.
pub const BLOBS_DELIVERED_TOTAL: &str = "o365_collector_blobs_delivered_total";
/// Blobs that were gone before they could be fetched.
pub const BLOBS_EXPIRED_TOTAL: &str = "o365_collector_blobs_expired_total";
/// Blobs set aside whole.
pub const BLOBS_QUARANTINED_TOTAL: &str = "o365_collector_blobs_quarantined_total";
/// Records in delivered blobs.
pub const RECORDS_DELIVERED_TOTAL: &str = "o365_collector_records_delivered_total";
/// Bytes of the text of those records.
pub const RECORD_BYTES_TOTAL: &str = "o365_collector_record_bytes_total";
/// Single records set aside.
pub const RECORDS_QUARANTINED_TOTAL: &str = "o365_collector_records_quarantined_total";
/// Requests sent to Microsoft.
pub const REQUESTS_TOTAL: &str = "o365_collector_requests_total";
/// Requests that Microsoft refused because there were too many.
pub const THROTTLED_TOTAL: &str = "o365_collector_throttled_total";
/// Requests a minute that the tenant's budget allows at present.
pub const BUDGET_PER_MINUTE: &str = "o365_collector_budget_per_minute";
/// Time for which Microsoft wanted to hear nothing of a tenant.
pub const BUDGET_PAUSED_SECONDS_TOTAL: &str = "o365_collector_budget_paused_seconds_total";
/// Time from a blob's request to its last byte.
pub const FETCH_SECONDS: &str = "o365_collector_fetch_seconds";
/// Time from Microsoft making a blob available to its delivery.
pub const DELIVERY_LATENCY_SECONDS: &str = "o365_collector_delivery_latency_seconds";
/// Time from Microsoft making a blob available to the first listing that had it.
pub const LATENESS_SECONDS: &str = "o365_collector_lateness_seconds";
/// Batches handed to a sink.
pub const SINK_BATCHES_TOTAL: &str = "o365_collector_sink_batches_total";
/// Records that a sink said yes to.
pub const SINK_RECORDS_TOTAL: &str = "o365_collector_sink_records_total";
/// Records that a sink was not given because it has them.
pub const RECORDS_LEFT_OUT_TOTAL: &str = "o365_collector_records_left_out_total";
/// Whether a sink fails at present.
pub const SINK_FAILING: &str = "o365_collector_sink_failing";
/// Time a sink took over one batch, failed ones included.
pub const SINK_DELIVERY_SECONDS: &str = "o365_collector_sink_delivery_seconds";
/// Blobs that wait for a worker.
pub const LEDGER_PENDING: &str = "o365_collector_ledger_pending";
/// Blobs that a worker holds.
pub const LEDGER_LEASED: &str = "o365_collector_ledger_leased";
/// When the first of the blobs that are not settled expires.
pub const LEDGER_NEAREST_EXPIRY_TIMESTAMP_SECONDS: &str =
    "o365_collector_ledger_nearest_expiry_timestamp_seconds";
/// When nothing of what waits will wait any more.
pub const BACKLOG_CAUGHT_UP_TIMESTAMP_SECONDS: &str =
    "o365_collector_backlog_caught_up_timestamp_seconds";
/// When a tenant's credential ends.
pub const CREDENTIAL_ENDS_TIMESTAMP_SECONDS: &str =
    "o365_collector_credential_ends_timestamp_seconds";
/// Blobs that will expire before their turn.
pub const BLOBS_TOO_LATE: &str = "o365_collector_blobs_too_late";
/// Whether that is soon.
pub const EXPIRY_ALARM: &str = "o365_collector_expiry_alarm";
/// The end of what was listed without a gap.
pub const LEDGER_LISTED_UNTIL_TIMESTAMP_SECONDS: &str =
    "o365_collector_ledger_listed_until_timestamp_seconds";
/// Time the ledger took until a write was durable.
pub const LEDGER_COMMIT_SECONDS: &str = "o365_collector_ledger_commit_seconds";
/// Ledger writes that failed.
pub const LEDGER_FAILURES_TOTAL: &str = "o365_collector_ledger_failures_total";
/// Requests to the webhook address.
pub const WEBHOOK_NOTIFICATIONS_TOTAL: &str = "o365_collector_webhook_notifications_total";
/// Bytes of blobs and records held in memory.
pub const MEMORY_IN_FLIGHT_BYTES: &str = "o365_collector_memory_in_flight_bytes";
/// Bytes in quarantine.
pub const QUARANTINE_BYTES: &str = "o365_collector_quarantine_bytes";
/// Bytes that may be in quarantine.
pub const QUARANTINE_MAX_BYTES: &str = "o365_collector_quarantine_max_bytes";
/// When a content type was last listed successfully.
pub const LAST_POLL_TIMESTAMP_SECONDS: &str = "o365_collector_last_poll_timestamp_seconds";
/// Check-ins with Alert Logic, by outcome.
pub const CHECKINS_TOTAL: &str = "o365_collector_checkins_total";
/// When Alert Logic last took a check-in.
pub const LAST_CHECKIN_TIMESTAMP_SECONDS: &str = "o365_collector_last_checkin_timestamp_seconds";
/// Health errors at the last check-in.
pub const HEALTH_ERRORS: &str = "o365_collector_health_errors";
/// Always 1; the label tells the version.
pub const BUILD_INFO: &str = "o365_collector_build_info";

/// What a counter says, for `/metrics` and the documentation. Name and description.
const COUNTERS: [(&str, &str); 16] = [
    (
        BLOBS_SEEN_TOTAL,
        "Content blobs that became known, by the way they became known.",
    ),
    (
        BLOBS_DELIVERED_TOTAL,
        "Content blobs that every required sink has acknowledged.",
    ),
    (
        BLOBS_EXPIRED_TOTAL,
        "Content blobs that were gone before they could be fetched. Anything but 0 is lost data.",
    ),
    (
        BLOBS_QUARANTINED_TOTAL,
        "Content blobs set aside whole for a person to look at.",
    ),
    (
        RECORDS_DELIVERED_TOTAL,
        "Records in the content blobs that were delivered.",
    ),
    (
        RECORD_BYTES_TOTAL,
        "Bytes of the records that were delivered.",
    ),
    (
        RECORDS_QUARANTINED_TOTAL,
        "Single records set aside for a person to look at.",
    ),
    (
        REQUESTS_TOTAL,
        "Requests sent to Microsoft, by kind and outcome.",
    ),
    (
        THROTTLED_TOTAL,
        "Requests that Microsoft refused with AF429.",
    ),
    (
        BUDGET_PAUSED_SECONDS_TOTAL,
        "Seconds for which a tenant's requests were held back because Microsoft refused one with AF429.",
    ),
    (CHECKINS_TOTAL, "Check-ins with Alert Logic, by outcome."),
    (SINK_BATCHES_TOTAL, "Batches handed to a sink, by outcome."),
    (SINK_RECORDS_TOTAL, "Records that a sink has acknowledged."),
    (
        RECORDS_LEFT_OUT_TOTAL,
        "Records that a sink was not given because it has them, where [dedupe] is on.",
    ),
    (
        LEDGER_FAILURES_TOTAL,
        "Ledger operations that failed, by operation.",
    ),
    (
        WEBHOOK_NOTIFICATIONS_TOTAL,
        "Requests to the webhook address, by outcome.",
    ),
];

/// As [`COUNTERS`], for values that go up and down.
const GAUGES: [(&str, &str); 17] = [
    (
        BUDGET_PER_MINUTE,
        "Requests a minute that the learned budget of a tenant allows.",
    ),
    (SINK_FAILING, "1 while a sink fails, else 0."),
    (LEDGER_PENDING, "Content blobs that wait for a worker."),
    (LEDGER_LEASED, "Content blobs that a worker holds."),
    (
        LEDGER_NEAREST_EXPIRY_TIMESTAMP_SECONDS,
        "Unix time at which the first unsettled content blob expires; 0 when there is none.",
    ),
    (
        BACKLOG_CAUGHT_UP_TIMESTAMP_SECONDS,
        "Unix time at which all that waits is fetched at the present rate; 0 when nothing waits, +Inf when never.",
    ),
    (
        CREDENTIAL_ENDS_TIMESTAMP_SECONDS,
        "Unix time from which on Microsoft does not take a tenant's certificate any more; not there for a secret, which does not tell.",
    ),
    (
        BLOBS_TOO_LATE,
        "Content blobs that will expire before their turn comes at the present rate.",
    ),
    (
        EXPIRY_ALARM,
        "1 while the first of those is lost within a day, else 0.",
    ),
    (
        LEDGER_LISTED_UNTIL_TIMESTAMP_SECONDS,
        "Unix time up to which content was listed without a gap; 0 when none was.",
    ),
    (
        MEMORY_IN_FLIGHT_BYTES,
        "Bytes of blobs and records held in memory.",
    ),
    (
        QUARANTINE_BYTES,
        "Bytes of blobs and records in quarantine.",
    ),
    (
        QUARANTINE_MAX_BYTES,
        "Bytes that may be in quarantine: when they are used up, what should go there waits.",
    ),
    (
        LAST_POLL_TIMESTAMP_SECONDS,
        "Unix time of the last successful listing.",
    ),
    (
        LAST_CHECKIN_TIMESTAMP_SECONDS,
        "Unix time of the last check-in that Alert Logic took.",
    ),
    (
        HEALTH_ERRORS,
        "What was wrong with the collector at its last check-in.",
    ),
    (BUILD_INFO, "Always 1; the version is a label."),
];

/// As [`COUNTERS`], for distributions.
const HISTOGRAMS: [(&str, &str); 5] = [
    (
        FETCH_SECONDS,
        "Seconds from the request for a content blob to its last byte.",
    ),
    (
        DELIVERY_LATENCY_SECONDS,
        "Seconds from Microsoft making a content blob available to its delivery.",
    ),
    (
        LATENESS_SECONDS,
        "Seconds from Microsoft making a content blob available to the first listing that had it.",
    ),
    (
        SINK_DELIVERY_SECONDS,
        "Seconds that a sink took over one batch.",
    ),
    (
        LEDGER_COMMIT_SECONDS,
        "Seconds until a ledger write was durable, by operation.",
    ),
];

/// From a synced commit on a good disk to the longest wait that any request of ours allows.
const SHORT_SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// From a notification answered at once to the seven days after which Microsoft drops a blob.
const LATENCY_SECONDS: [f64; 12] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
];

/// What the one recorder of this process writes to.
static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// The process's metrics. A copy is a handle to the same ones.
#[derive(Clone)]
pub struct Telemetry {
    metrics: Metrics,
}

impl Telemetry {
    /// Makes everything that is counted from here on show up in [`render`](Self::render). The metrics belong to the
    /// process: every call returns the same ones.
    ///
    /// # Panics
    /// When something other than this function has installed a recorder in the process.
    #[must_use]
    pub fn install() -> Self {
        let metrics = INSTALLED.get_or_init(|| {
            let metrics = Metrics::new(bounds_of);
            metrics::set_global_recorder(metrics.clone())
                .expect("nothing else in this program installs a recorder");
            describe();
            gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            metrics
        });
        Self {
            metrics: metrics.clone(),
        }
    }

    /// All metrics in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry(..)")
    }
}

/// The upper bounds of a histogram's buckets.
fn bounds_of(name: &str) -> &'static [f64] {
    static LATENESS: LazyLock<[f64; lateness::BOUNDS.len()]> =
        LazyLock::new(|| lateness::BOUNDS.map(|bound| bound.as_secs_f64()));
    match name {
        DELIVERY_LATENCY_SECONDS => &LATENCY_SECONDS,
        LATENESS_SECONDS => &*LATENESS,
        _ => &SHORT_SECONDS,
    }
}

/// Tells the current recorder what each metric means.
pub fn describe() {
    for (name, description) in COUNTERS {
        describe_counter!(name, description);
    }
    for (name, description) in GAUGES {
        describe_gauge!(name, description);
    }
    for (name, description) in HISTOGRAMS {
        describe_histogram!(name, description);
    }
}

/// Counts blobs that [`note_seen`](ledger::Ledger::note_seen) had not known.
pub fn blobs_seen(tenant: TenantId, content_type: ContentType, via: SeenVia, new_count: u64) {
    let via = match via {
        SeenVia::Listing => "listing",
        SeenVia::Notification => "notification",
    };
    counter!(BLOBS_SEEN_TOTAL, "tenant" => tenant.to_string(), "content_type" => content_type.as_str(), "via" => via)
        .increment(new_count);
}

/// Notes how late a listing was the first to have a blob.
pub fn blob_found(tenant: TenantId, content_type: ContentType, late: Duration) {
    let labels = [
        ("tenant", tenant.to_string()),
        ("content_type", content_type.to_string()),
    ];
    histogram!(LATENESS_SECONDS, &labels).record(late.as_secs_f64());
}

/// Counts one blob that Microsoft no longer has.
pub fn blob_expired(tenant: TenantId, content_type: ContentType) {
    stream_counter(BLOBS_EXPIRED_TOTAL, tenant, content_type, 1);
}

/// Counts one blob set aside whole.
pub fn blob_quarantined(tenant: TenantId, content_type: ContentType) {
    stream_counter(BLOBS_QUARANTINED_TOTAL, tenant, content_type, 1);
}

/// Counts single records set aside.
pub fn records_quarantined(tenant: TenantId, content_type: ContentType, count: u64) {
    stream_counter(RECORDS_QUARANTINED_TOTAL, tenant, content_type, count);
}

/// Counts one request to Microsoft. A throttled one is counted under its own name as well, which is what an alert
/// wants to look at.
pub fn request(tenant: TenantId, kind: RequestKind, outcome: RequestOutcome) {
    let tenant = tenant.to_string();
    if outcome == RequestOutcome::Throttled {
        counter!(THROTTLED_TOTAL, "tenant" => tenant.clone()).increment(1);
    }
    counter!(REQUESTS_TOTAL, "tenant" => tenant, "kind" => kind.as_str(), "outcome" => outcome.as_str()).increment(1);
}

/// Shows how many requests a minute the tenant's budget allows.
pub fn budget_per_minute(tenant: TenantId, requests: f64) {
    gauge!(BUDGET_PER_MINUTE, "tenant" => tenant.to_string()).set(requests);
}

/// Counts time for which no request of the tenant may be sent.
pub fn budget_paused(tenant: TenantId, pause: Duration) {
    // In whole seconds, as counters are whole; what Microsoft asks for is in whole seconds.
    counter!(BUDGET_PAUSED_SECONDS_TOTAL, "tenant" => tenant.to_string())
        .increment(pause.as_secs());
}

/// Counts a batch that the sink took, whole or (when `is_ok` is false) only its first `record_count` records.
pub fn sink_batch(sink: &SinkName, is_ok: bool, record_count: u64, took: Duration) {
    let outcome = if is_ok { "ok" } else { "failed" };
    counter!(SINK_BATCHES_TOTAL, "sink" => sink.to_string(), "outcome" => outcome).increment(1);
    counter!(SINK_RECORDS_TOTAL, "sink" => sink.to_string()).increment(record_count);
    histogram!(SINK_DELIVERY_SECONDS, "sink" => sink.to_string()).record(took.as_secs_f64());
}

/// Counts records that the sink was not given because it has them.
pub fn records_left_out(sink: &SinkName, record_count: u64) {
    counter!(RECORDS_LEFT_OUT_TOTAL, "sink" => sink.to_string()).increment(record_count);
}

/// Shows whether the sink fails.
pub fn sink_failing(sink: &SinkName, is_failing: bool) {
    gauge!(SINK_FAILING, "sink" => sink.to_string()).set(if is_failing { 1.0 } else { 0.0 });
}

/// Notes how long a ledger write took until it was durable.
pub fn ledger_committed(operation: LedgerOperation, took: Duration) {
    histogram!(LEDGER_COMMIT_SECONDS, "operation" => operation.as_str()).record(took.as_secs_f64());
}

/// Counts a ledger operation that failed.
pub fn ledger_failed(operation: LedgerOperation) {
    counter!(LEDGER_FAILURES_TOTAL, "operation" => operation.as_str()).increment(1);
}

/// Shows what waits in the ledger, of each tenant and content type.
pub fn ledger_state(summary: &Summary) {
    for stream in &summary.streams {
        let labels = [
            ("tenant", stream.tenant.to_string()),
            ("content_type", stream.content_type.to_string()),
        ];
        gauge!(LEDGER_PENDING, &labels).set(stream.pending_count as f64);
        gauge!(LEDGER_LEASED, &labels).set(stream.leased_count as f64);
        gauge!(LEDGER_NEAREST_EXPIRY_TIMESTAMP_SECONDS, &labels)
            .set(stream.nearest_pending_expires_at.map_or(0.0, unix_seconds));
        gauge!(LEDGER_LISTED_UNTIL_TIMESTAMP_SECONDS, &labels)
            .set(stream.listed_until.map_or(0.0, unix_seconds));
    }
}

/// Shows what will become of what waits of a tenant.
pub fn forecast(tenant: TenantId, forecast: &Forecast, is_alarm: bool) {
    let caught_up_at = match forecast.caught_up_at {
        _ if forecast.waiting_count == 0 => 0.0,
        Some(at) => unix_seconds(at),
        None => f64::INFINITY,
    };
    let tenant = tenant.to_string();
    gauge!(BACKLOG_CAUGHT_UP_TIMESTAMP_SECONDS, "tenant" => tenant.clone()).set(caught_up_at);
    gauge!(BLOBS_TOO_LATE, "tenant" => tenant.clone()).set(forecast.too_late_count as f64);
    gauge!(EXPIRY_ALARM, "tenant" => tenant).set(if is_alarm { 1.0 } else { 0.0 });
}

/// Shows when the tenant's credential ends.
pub fn credential_ends(tenant: TenantId, at: Timestamp) {
    gauge!(CREDENTIAL_ENDS_TIMESTAMP_SECONDS, "tenant" => tenant.to_string()).set(unix_seconds(at));
}

/// Counts one request to the webhook address.
pub fn webhook(outcome: WebhookOutcome) {
    counter!(WEBHOOK_NOTIFICATIONS_TOTAL, "outcome" => outcome.as_str()).increment(1);
}

/// Shows how many bytes of blobs and records are in memory.
pub fn memory_in_flight(bytes: usize) {
    memory_gauge().set(bytes as f64);
}

/// The gauge of [`memory_in_flight`], for who sets it again and again: to find it costs more than to set it.
pub fn memory_gauge() -> metrics::Gauge {
    gauge!(MEMORY_IN_FLIGHT_BYTES)
}

/// Shows how much may be in quarantine.
pub fn quarantine_bound(max_bytes: u64) {
    gauge!(QUARANTINE_MAX_BYTES).set(max_bytes as f64);
}

/// Shows how much is in quarantine.
pub fn quarantine_held(bytes: u64) {
    gauge!(QUARANTINE_BYTES).set(bytes as f64);
}

/// Shows when the content type was last listed to the end.
pub fn polled(tenant: TenantId, content_type: ContentType, now: Timestamp) {
    let labels = [
        ("tenant", tenant.to_string()),
        ("content_type", content_type.to_string()),
    ];
    gauge!(LAST_POLL_TIMESTAMP_SECONDS, &labels).set(unix_seconds(now));
}

/// Counts a check-in, and shows how many things were wrong with the collector then.
pub fn checked_in(
    sink: &SinkName,
    tenant: TenantId,
    is_taken: bool,
    health_error_count: usize,
    now: Timestamp,
) {
    let labels = [("sink", sink.to_string()), ("tenant", tenant.to_string())];
    gauge!(HEALTH_ERRORS, &labels).set(health_error_count as f64);
    if is_taken {
        gauge!(LAST_CHECKIN_TIMESTAMP_SECONDS, &labels).set(unix_seconds(now));
    }
    let [sink, tenant] = labels.map(|(_, value)| value);
    let outcome = if is_taken { "ok" } else { "failed" };
    counter!(CHECKINS_TOTAL, "sink" => sink, "tenant" => tenant, "outcome" => outcome).increment(1);
}

fn stream_counter(name: &'static str, tenant: TenantId, content_type: ContentType, count: u64) {
    counter!(name, "tenant" => tenant.to_string(), "content_type" => content_type.as_str())
        .increment(count);
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}

/// An error and its causes in one line, for logs and for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
