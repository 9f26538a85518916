//! Tests of `telemetry`: what monitoring reads, name by name. A change here breaks somebody's dashboard.

use std::collections::BTreeSet;

use expect_test::expect;
use ledger::StreamSummary;

use super::*;

/// What is rendered after `count` has run, without the lines of single buckets.
fn rendered(count: impl FnOnce()) -> String {
    let metrics = Metrics::new(bounds_of);
    metrics::with_local_recorder(&metrics, count);
    let text = metrics.render();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("_bucket{"))
        .collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

fn count_everything() {
    describe();
    let tenant: TenantId = "bf8d32d3-1c13-4487-af02-80dba2236485".parse().unwrap();
    let content_type = ContentType::Exchange;
    let sink: SinkName = "file".parse().unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (created_at, now) = (at("2026-07-15T20:00:00Z"), at("2026-07-15T20:00:30Z"));
    blobs_seen(tenant, content_type, SeenVia::Listing, 3);
    blobs_seen(tenant, content_type, SeenVia::Notification, 1);
    deliveries_of(tenant, content_type, created_at, now).count();
    blob_found(tenant, content_type, Duration::from_secs(90));
    blob_expired(tenant, content_type);
    blob_quarantined(tenant, content_type);
    records_quarantined(tenant, content_type, 2);
    request(tenant, RequestKind::Blob, RequestOutcome::Ok);
    request(tenant, RequestKind::ListContent, RequestOutcome::Throttled);
    budget_per_minute(tenant, 2_000.0);
    let waiting = crate::expiry::Bucket {
        expires_from: now,
        blob_count: 60_000,
    };
    forecast(
        tenant,
        &crate::expiry::predict(&[waiting], 2_000.0, now),
        true,
    );
    budget_paused(tenant, Duration::from_secs(10));
    credential_ends(tenant, at("2026-08-01T00:00:00Z"));
    Fetches::default().fetched(tenant, content_type, Duration::from_millis(250));
    sink_batch(&sink, true, 20, Duration::from_millis(500));
    sink_batch(&sink, false, 5, Duration::from_millis(500));
    records_left_out(&sink, 2);
    sink_failing(&sink, true);
    checked_in(&sink, tenant, true, 2, now);
    ledger_committed(LedgerOperation::NoteSeen, Duration::from_millis(5));
    ledger_failed(LedgerOperation::Lease);
    ledger_state(&Summary {
        streams: vec![StreamSummary {
            tenant,
            content_type,
            pending_count: 7,
            leased_count: 2,
            delivered_count: 1,
            quarantined_count: 0,
            expired_count: 0,
            delivered_record_count: 20,
            delivered_byte_count: 26_000,
            quarantined_record_count: 0,
            quarantined_byte_count: 0,
            dropped_count: 0,
            dropped_record_count: 0,
            listed_until: Some(now),
            oldest_pending_created_at: None,
            nearest_pending_expires_at: None,
        }],
    });
    webhook(WebhookOutcome::Noted);
    memory_in_flight(1_048_576);
    quarantine_bound(1 << 30);
    quarantine_held(2_048);
    polled(tenant, content_type, now);
    gauge!(BUILD_INFO, "version" => "VERSION").set(1.0);
}

#[test]
fn names_labels_and_values_are_as_monitoring_knows_them() {
    expect![[r##"
        # HELP o365_collector_backlog_caught_up_timestamp_seconds Unix time at which all that waits is fetched at the present rate; 0 when nothing waits, +Inf when never.
        # HELP o365_collector_blobs_delivered_total Content blobs that every required sink has acknowledged.
        # HELP o365_collector_blobs_expired_total Content blobs that were gone before they could be fetched. Anything but 0 is lost data.
        # HELP o365_collector_blobs_quarantined_total Content blobs set aside whole for a person to look at.
        # HELP o365_collector_blobs_seen_total Content blobs that became known, by the way they became known.
        # HELP o365_collector_blobs_too_late Content blobs that will expire before their turn comes at the present rate.
        # HELP o365_collector_budget_paused_seconds_total Seconds for which a tenant's requests were held back because Microsoft refused one with AF429.
        # HELP o365_collector_budget_per_minute Requests a minute that the learned budget of a tenant allows.
        # HELP o365_collector_build_info Always 1; the version is a label.
        # HELP o365_collector_checkins_total Check-ins with Alert Logic, by outcome.
        # HELP o365_collector_credential_ends_timestamp_seconds Unix time from which on Microsoft does not take a tenant's certificate any more; not there for a secret, which does not tell.
        # HELP o365_collector_delivery_latency_seconds Seconds from Microsoft making a content blob available to its delivery.
        # HELP o365_collector_expiry_alarm 1 while the first of those is lost within a day, else 0.
        # HELP o365_collector_fetch_seconds Seconds from the request for a content blob to its last byte.
        # HELP o365_collector_health_errors What was wrong with the collector at its last check-in.
        # HELP o365_collector_last_checkin_timestamp_seconds Unix time of the last check-in that Alert Logic took.
        # HELP o365_collector_last_poll_timestamp_seconds Unix time of the last successful listing.
        # HELP o365_collector_lateness_seconds Seconds from Microsoft making a content blob available to the first listing that had it.
        # HELP o365_collector_ledger_commit_seconds Seconds until a ledger write was durable, by operation.
        # HELP o365_collector_ledger_failures_total Ledger operations that failed, by operation.
        # HELP o365_collector_ledger_leased Content blobs that a worker holds.
        # HELP o365_collector_ledger_listed_until_timestamp_seconds Unix time up to which content was listed without a gap; 0 when none was.
        # HELP o365_collector_ledger_nearest_expiry_timestamp_seconds Unix time at which the first unsettled content blob expires; 0 when there is none.
        # HELP o365_collector_ledger_pending Content blobs that wait for a worker.
        # HELP o365_collector_memory_in_flight_bytes Bytes of blobs and records held in memory.
        # HELP o365_collector_quarantine_bytes Bytes of blobs and records in quarantine.
        # HELP o365_collector_quarantine_max_bytes Bytes that may be in quarantine: when they are used up, what should go there waits.
        # HELP o365_collector_record_bytes_total Bytes of the records that were delivered.
        # HELP o365_collector_records_delivered_total Records in the content blobs that were delivered.
        # HELP o365_collector_records_left_out_total Records that a sink was not given because it has them, where [dedupe] is on.
        # HELP o365_collector_records_quarantined_total Single records set aside for a person to look at.
        # HELP o365_collector_requests_total Requests sent to Microsoft, by kind and outcome.
        # HELP o365_collector_sink_batches_total Batches handed to a sink, by outcome.
        # HELP o365_collector_sink_delivery_seconds Seconds that a sink took over one batch.
        # HELP o365_collector_sink_failing 1 while a sink fails, else 0.
        # HELP o365_collector_sink_records_total Records that a sink has acknowledged.
        # HELP o365_collector_throttled_total Requests that Microsoft refused with AF429.
        # HELP o365_collector_webhook_notifications_total Requests to the webhook address, by outcome.
        # TYPE o365_collector_backlog_caught_up_timestamp_seconds gauge
        # TYPE o365_collector_blobs_delivered_total counter
        # TYPE o365_collector_blobs_expired_total counter
        # TYPE o365_collector_blobs_quarantined_total counter
        # TYPE o365_collector_blobs_seen_total counter
        # TYPE o365_collector_blobs_too_late gauge
        # TYPE o365_collector_budget_paused_seconds_total counter
        # TYPE o365_collector_budget_per_minute gauge
        # TYPE o365_collector_build_info gauge
        # TYPE o365_collector_checkins_total counter
        # TYPE o365_collector_credential_ends_timestamp_seconds gauge
        # TYPE o365_collector_delivery_latency_seconds histogram
        # TYPE o365_collector_expiry_alarm gauge
        # TYPE o365_collector_fetch_seconds histogram
        # TYPE o365_collector_health_errors gauge
        # TYPE o365_collector_last_checkin_timestamp_seconds gauge
        # TYPE o365_collector_last_poll_timestamp_seconds gauge
        # TYPE o365_collector_lateness_seconds histogram
        # TYPE o365_collector_ledger_commit_seconds histogram
        # TYPE o365_collector_ledger_failures_total counter
        # TYPE o365_collector_ledger_leased gauge
        # TYPE o365_collector_ledger_listed_until_timestamp_seconds gauge
        # TYPE o365_collector_ledger_nearest_expiry_timestamp_seconds gauge
        # TYPE o365_collector_ledger_pending gauge
        # TYPE o365_collector_memory_in_flight_bytes gauge
        # TYPE o365_collector_quarantine_bytes gauge
        # TYPE o365_collector_quarantine_max_bytes gauge
        # TYPE o365_collector_record_bytes_total counter
        # TYPE o365_collector_records_delivered_total counter
        # TYPE o365_collector_records_left_out_total counter
        # TYPE o365_collector_records_quarantined_total counter
        # TYPE o365_collector_requests_total counter
        # TYPE o365_collector_sink_batches_total counter
        # TYPE o365_collector_sink_delivery_seconds histogram
        # TYPE o365_collector_sink_failing gauge
        # TYPE o365_collector_sink_records_total counter
        # TYPE o365_collector_throttled_total counter
        # TYPE o365_collector_webhook_notifications_total counter
        o365_collector_backlog_caught_up_timestamp_seconds{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 1784147430
        o365_collector_blobs_delivered_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_blobs_expired_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_blobs_quarantined_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_blobs_seen_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange",via="listing"} 3
        o365_collector_blobs_seen_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange",via="notification"} 1
        o365_collector_blobs_too_late{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 0
        o365_collector_budget_paused_seconds_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 10
        o365_collector_budget_per_minute{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 2000
        o365_collector_build_info{version="VERSION"} 1
        o365_collector_checkins_total{sink="file",tenant="bf8d32d3-1c13-4487-af02-80dba2236485",outcome="ok"} 1
        o365_collector_credential_ends_timestamp_seconds{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 1785542400
        o365_collector_delivery_latency_seconds_count{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_delivery_latency_seconds_sum{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 30
        o365_collector_expiry_alarm{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 1
        o365_collector_fetch_seconds_count{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_fetch_seconds_sum{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 0.25
        o365_collector_health_errors{sink="file",tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 2
        o365_collector_last_checkin_timestamp_seconds{sink="file",tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 1784145630
        o365_collector_last_poll_timestamp_seconds{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1784145630
        o365_collector_lateness_seconds_count{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1
        o365_collector_lateness_seconds_sum{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 90
        o365_collector_ledger_commit_seconds_count{operation="note_seen"} 1
        o365_collector_ledger_commit_seconds_sum{operation="note_seen"} 0.005
        o365_collector_ledger_failures_total{operation="lease"} 1
        o365_collector_ledger_leased{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 2
        o365_collector_ledger_listed_until_timestamp_seconds{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 1784145630
        o365_collector_ledger_nearest_expiry_timestamp_seconds{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 0
        o365_collector_ledger_pending{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 7
        o365_collector_memory_in_flight_bytes 1048576
        o365_collector_quarantine_bytes 2048
        o365_collector_quarantine_max_bytes 1073741824
        o365_collector_record_bytes_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 26000
        o365_collector_records_delivered_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 20
        o365_collector_records_left_out_total{sink="file"} 2
        o365_collector_records_quarantined_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",content_type="Audit.Exchange"} 2
        o365_collector_requests_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",kind="blob",outcome="ok"} 1
        o365_collector_requests_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485",kind="list_content",outcome="throttled"} 1
        o365_collector_sink_batches_total{sink="file",outcome="failed"} 1
        o365_collector_sink_batches_total{sink="file",outcome="ok"} 1
        o365_collector_sink_delivery_seconds_count{sink="file"} 2
        o365_collector_sink_delivery_seconds_sum{sink="file"} 1
        o365_collector_sink_failing{sink="file"} 1
        o365_collector_sink_records_total{sink="file"} 25
        o365_collector_throttled_total{tenant="bf8d32d3-1c13-4487-af02-80dba2236485"} 1
        o365_collector_webhook_notifications_total{outcome="noted"} 1
    "##]].assert_eq(&rendered(count_everything));
}

#[test]
fn every_metric_that_is_counted_is_described_and_every_described_one_is_counted() {
    let text = rendered(count_everything);
    let names = |prefix: &str| -> BTreeSet<_> {
        text.lines()
            .filter_map(|line| line.strip_prefix(prefix)?.split(' ').next())
            .collect()
    };
    let described: BTreeSet<_> = COUNTERS
        .iter()
        .chain(&GAUGES)
        .chain(&HISTOGRAMS)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(names("# TYPE "), described);
    assert_eq!(names("# HELP "), described);
    assert!(
        described
            .iter()
            .all(|name| name.starts_with("o365_collector_"))
    );
}

/// One blob of 20 records.
fn deliveries_of(
    tenant: TenantId,
    content_type: ContentType,
    created_at: Timestamp,
    now: Timestamp,
) -> Deliveries {
    let mut deliveries = Deliveries::default();
    deliveries.add(tenant, content_type, 20, 26_000, created_at, now);
    deliveries
}

#[test]
fn a_clock_that_was_set_back_makes_no_negative_latency() {
    let tenant: TenantId = "bf8d32d3-1c13-4487-af02-80dba2236485".parse().unwrap();
    let now: Timestamp = "2026-07-15T20:00:00Z".parse().unwrap();
    let created_at = now + Duration::from_secs(60);
    let text = rendered(|| deliveries_of(tenant, ContentType::Dlp, created_at, now).count());
    assert!(text.contains("o365_collector_delivery_latency_seconds_sum{"));
    assert!(!text.contains("} -"), "{text}");
}

#[test]
fn installing_twice_gives_the_same_metrics() {
    let (first, second) = (Telemetry::install(), Telemetry::install());
    assert!(first.render().contains(BUILD_INFO));
    assert!(second.render().contains(BUILD_INFO));
}

#[test]
fn a_histogram_counts_what_is_not_above_each_bound() {
    let metrics = Metrics::new(bounds_of);
    metrics::with_local_recorder(&metrics, || {
        for millis in [1, 3, 3, 70_000] {
            ledger_committed(LedgerOperation::Lease, Duration::from_millis(millis));
        }
    });
    let page = metrics.render();
    let bucket = |bound: &str| {
        let line = format!("{LEDGER_COMMIT_SECONDS}_bucket{{operation=\"lease\",le=\"{bound}\"}} ");
        page.lines().find_map(|text| text.strip_prefix(&line))
    };
    let counts = ["0.001", "0.0025", "0.005", "60", "+Inf"].map(bucket);
    assert_eq!(counts, ["1", "1", "3", "3", "4"].map(Some));
    assert!(page.contains(&format!(
        "{LEDGER_COMMIT_SECONDS}_count{{operation=\"lease\"}} 4\n"
    )));
}

#[test]
fn a_label_that_would_end_its_quotes_is_escaped_and_found_again() {
    let metrics = Metrics::new(bounds_of);
    let sink = "a \"sink\"\\\n";
    metrics::with_local_recorder(&metrics, || {
        for _ in 0..2 {
            counter!(RECORDS_LEFT_OUT_TOTAL, "sink" => sink).increment(1);
        }
    });
    let line = format!("{RECORDS_LEFT_OUT_TOTAL}{{sink=\"a \\\"sink\\\"\\\\\\n\"}} 2");
    assert!(metrics.render().lines().any(|text| text == line));
}
