//! Tests of the view: what it says to a person, and that troubles come and go.

mod reading;

use activity_api::{ContentType, TenantId};
use expect_test::expect;
use jiff::{SignedDuration, Timestamp};
use ledger::{SinkName, StreamSummary, Summary};

use super::text::{bytes, count, duration, relative};
use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-07-15T21:00:00Z")
}

fn tenant() -> TenantId {
    "bf8d32d3-1c13-4487-af02-80dba2236485".parse().unwrap()
}

fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

fn stream(content_type: ContentType) -> StreamSummary {
    StreamSummary {
        tenant: tenant(),
        content_type,
        pending_count: 0,
        leased_count: 0,
        delivered_count: 1_234,
        quarantined_count: 0,
        expired_count: 0,
        delivered_record_count: 1_234_567,
        delivered_byte_count: 1_604_937_100,
        quarantined_record_count: 0,
        quarantined_byte_count: 0,
        dropped_count: 0,
        dropped_record_count: 0,
        listed_until: Some(at("2026-07-15T20:59:30Z")),
        oldest_pending_created_at: None,
        nearest_pending_expires_at: None,
    }
}

fn live() -> Live {
    let live = Live::new(at("2026-07-15T18:55:00Z"));
    live.add_tenant(
        tenant(),
        &[ContentType::Exchange, ContentType::AzureActiveDirectory],
    );
    live.add_sink(&sink("file"));
    live.running();
    live
}

fn shown(view: &StatusView) -> String {
    to_text(view).replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn a_collector_that_is_well_says_so() {
    let live = live();
    live.polled(tenant(), ContentType::Exchange, at("2026-07-15T20:59:48Z"));
    live.sink_ok(&sink("file"), 1_234_567, at("2026-07-15T20:59:55Z"));
    live.delivered(3_000, 3_900_000, at("2026-07-15T20:59:55Z"));
    let summary = Summary {
        streams: vec![stream(ContentType::Exchange)],
    };
    expect![[r#"
        o365-collector VERSION, collecting, started 2026-07-15 18:55:00Z (2 h 5 min ago)

        All is well.

        tenant bf8d32d3-1c13-4487-af02-80dba2236485, collecting
                                       waiting  leased   delivered quarantined expired       records       size  listed until          last poll
          Audit.AzureActiveDirectory         0       0           0           0       0             0        0 B  -                     -
          Audit.Exchange                     0       0       1,234           0       0     1,234,567    1.5 GiB  2026-07-15 20:59:30Z  12 s ago

        sinks
          file                  ok       1,234,567 records, last 5 s ago

        total: 1,234,567 records in 1,234 blobs, 1.5 GiB; 0 blobs waiting
        rate:  10.0 records/s, 12.7 KiB/s
    "#]].assert_eq(&shown(&view(&summary, Some(&live), now())));
}

#[test]
fn a_collector_in_trouble_says_what_is_lost_what_will_be_and_what_fails() {
    let live = live();
    let retry_at = Some(at("2026-07-15T21:01:00Z"));
    live.add_sink(&sink("alertlogic"));
    live.sink_failing(
        &sink("alertlogic"),
        0,
        "connection refused",
        retry_at,
        at("2026-07-15T20:00:00Z"),
    );
    live.sink_failing(
        &sink("alertlogic"),
        0,
        "503\nfrom ingest",
        retry_at,
        at("2026-07-15T20:59:00Z"),
    );
    live.tenant_stopped(
        tenant(),
        "AADSTS7000222: the client secret expired",
        None,
        at("2026-07-15T20:30:00Z"),
    );
    live.blob_failed(
        tenant(),
        ContentType::Exchange,
        "the blob is gone",
        None,
        at("2026-07-15T20:40:00Z"),
    );
    let mut exchange = stream(ContentType::Exchange);
    exchange.pending_count = 12_000;
    exchange.leased_count = 16;
    exchange.expired_count = 1;
    exchange.quarantined_record_count = 3;
    exchange.nearest_pending_expires_at = Some(at("2026-07-16T02:30:00Z"));
    exchange.oldest_pending_created_at = Some(at("2026-07-09T02:30:00Z"));
    let summary = Summary {
        streams: vec![exchange],
    };
    expect![[r#"
        o365-collector VERSION, collecting, started 2026-07-15 18:55:00Z (2 h 5 min ago)

        ! 1 blob of Audit.Exchange of tenant bf8d32d3-1c13-4487-af02-80dba2236485 expired before delivery
        ! a blob of Audit.Exchange of tenant bf8d32d3-1c13-4487-af02-80dba2236485 waits and expires in 5 h 30 min
        ! tenant bf8d32d3-1c13-4487-af02-80dba2236485 is not collected: AADSTS7000222: the client secret expired
        ! sink alertlogic fails: 503 from ingest
        ! Audit.Exchange of tenant bf8d32d3-1c13-4487-af02-80dba2236485, 20 min ago: the blob is gone
        ! in quarantine: 0 blobs and 3 records

        tenant bf8d32d3-1c13-4487-af02-80dba2236485, STOPPED
          since 2026-07-15 20:30:00Z: AADSTS7000222: the client secret expired
                                       waiting  leased   delivered quarantined expired       records       size  listed until          last poll
          Audit.AzureActiveDirectory         0       0           0           0       0             0        0 B  -                     -
          Audit.Exchange                12,000      16       1,234           0       1     1,234,567    1.5 GiB  2026-07-15 20:59:30Z  -
            since 2026-07-15 20:40:00Z: the blob is gone

        sinks
          alertlogic            FAILING  0 records
            since 2026-07-15 20:00:00Z: 503 from ingest; next try in 1 min
          file                  idle     0 records

        total: 1,234,567 records in 1,234 blobs, 1.5 GiB; 12,016 blobs waiting
        rate:  0.0 records/s, 0 B/s
    "#]].assert_eq(&shown(&view(&summary, Some(&live), now())));
}

#[test]
fn beside_a_running_collector_only_the_ledger_is_known() {
    let summary = Summary {
        streams: vec![stream(ContentType::Exchange), stream(ContentType::Dlp)],
    };
    expect![[r#"
        o365-collector VERSION

        Nothing in the ledger wants attention.

        tenant bf8d32d3-1c13-4487-af02-80dba2236485
                                       waiting  leased   delivered quarantined expired       records       size  listed until          last poll
          Audit.Exchange                     0       0       1,234           0       0     1,234,567    1.5 GiB  2026-07-15 20:59:30Z  -
          DLP.All                            0       0       1,234           0       0     1,234,567    1.5 GiB  2026-07-15 20:59:30Z  -

        total: 2,469,134 records in 2,468 blobs, 3.0 GiB; 0 blobs waiting
    "#]].assert_eq(&shown(&view(&summary, None, now())));
}

#[test]
fn the_json_has_instants_as_text_and_names_what_it_counts() {
    let live = live();
    live.poll_failed(
        tenant(),
        ContentType::Exchange,
        "throttled",
        Some(at("2026-07-15T21:00:30Z")),
        now(),
    );
    let summary = Summary {
        streams: vec![stream(ContentType::Exchange)],
    };
    let json = serde_json::to_string_pretty(&view(&summary, Some(&live), now())).unwrap();
    expect![[r#"
        {
          "version": "VERSION",
          "taken_at": "2026-07-15T21:00:00Z",
          "started_at": "2026-07-15T18:55:00Z",
          "uptime_seconds": 7500,
          "is_running": true,
          "troubles": [
            "Audit.Exchange of tenant bf8d32d3-1c13-4487-af02-80dba2236485 cannot be listed: throttled"
          ],
          "tenants": [
            {
              "id": "bf8d32d3-1c13-4487-af02-80dba2236485",
              "state": "collecting",
              "stopped": null,
              "credential_ends_at": null,
              "forecast": null,
              "streams": [
                {
                  "content_type": "Audit.AzureActiveDirectory",
                  "pending_count": 0,
                  "leased_count": 0,
                  "delivered_count": 0,
                  "quarantined_count": 0,
                  "expired_count": 0,
                  "record_count": 0,
                  "record_bytes": 0,
                  "quarantined_record_count": 0,
                  "listed_until": null,
                  "oldest_pending_at": null,
                  "nearest_expiry_at": null,
                  "last_poll_at": null,
                  "catch_up": null,
                  "listing_error": null,
                  "blob_error": null
                },
                {
                  "content_type": "Audit.Exchange",
                  "pending_count": 0,
                  "leased_count": 0,
                  "delivered_count": 1234,
                  "quarantined_count": 0,
                  "expired_count": 0,
                  "record_count": 1234567,
                  "record_bytes": 1604937100,
                  "quarantined_record_count": 0,
                  "listed_until": "2026-07-15T20:59:30Z",
                  "oldest_pending_at": null,
                  "nearest_expiry_at": null,
                  "last_poll_at": null,
                  "catch_up": null,
                  "listing_error": {
                    "what": "throttled",
                    "since": "2026-07-15T21:00:00Z",
                    "at": "2026-07-15T21:00:00Z",
                    "retry_at": "2026-07-15T21:00:30Z"
                  },
                  "blob_error": null
                }
              ]
            }
          ],
          "sinks": [
            {
              "name": "file",
              "state": "idle",
              "record_count": 0,
              "left_out_count": 0,
              "last_delivery_at": null,
              "last_error": null
            }
          ],
          "checkins": [],
          "ledger": {
            "is_answering": true,
            "error": null,
            "failing": null
          },
          "quarantine": {
            "byte_count": 0,
            "max_bytes": null,
            "is_full": false
          },
          "totals": {
            "pending_count": 0,
            "leased_count": 0,
            "delivered_count": 1234,
            "quarantined_count": 0,
            "expired_count": 0,
            "record_count": 1234567,
            "record_bytes": 1604937100,
            "quarantined_record_count": 0
          },
          "rates": {
            "records_per_second": 0.0,
            "bytes_per_second": 0.0
          },
          "lateness": [],
          "update": null
        }"#]].assert_eq(&json.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn a_trouble_keeps_its_beginning_until_it_is_over() {
    let live = live();
    let file = sink("file");
    let error = || {
        view(&Summary::default(), Some(&live), now()).sinks[0]
            .last_error
            .clone()
            .unwrap()
    };
    live.sink_failing(&file, 0, "no room", None, at("2026-07-15T20:00:00Z"));
    live.sink_failing(&file, 0, "no room", None, at("2026-07-15T20:10:00Z"));
    assert_eq!(
        (error().since, error().at),
        (at("2026-07-15T20:00:00Z"), at("2026-07-15T20:10:00Z"))
    );

    live.sink_ok(&file, 1, at("2026-07-15T20:20:00Z"));
    assert_eq!(
        view(&Summary::default(), Some(&live), now()).sinks[0].state,
        SinkStatus::Ok
    );
    live.sink_failing(&file, 0, "no room", None, at("2026-07-15T20:30:00Z"));
    assert_eq!(error().since, at("2026-07-15T20:30:00Z"));
}

#[test]
fn a_pipeline_that_does_not_run_is_trouble() {
    let live = live();
    live.stopping();
    let troubles = view(&Summary::default(), Some(&live), now()).troubles;
    assert_eq!(
        troubles,
        ["nothing is collected: the pipeline is not running"]
    );
}

#[test]
fn a_blob_that_waits_past_its_expiry_is_said_to_have_expired() {
    let mut summary = Summary {
        streams: vec![stream(ContentType::Exchange)],
    };
    for (expires_at, said) in [
        ("2026-07-16T21:00:00Z", None),
        (
            "2026-07-16T20:59:59Z",
            Some("waits and expires in 23 h 59 min"),
        ),
        ("2026-07-15T20:58:00Z", Some("waits and expired 2 min ago")),
    ] {
        summary.streams[0].nearest_pending_expires_at = Some(at(expires_at));
        let troubles = view(&summary, None, now()).troubles;
        assert_eq!(troubles.len(), usize::from(said.is_some()), "{expires_at}");
        assert!(
            troubles
                .iter()
                .all(|trouble| trouble.ends_with(said.unwrap())),
            "{troubles:?}"
        );
    }
}

#[test]
fn a_listing_that_goes_well_ends_the_trouble_of_listing_and_not_that_of_a_blob() {
    let live = live();
    live.blob_failed(
        tenant(),
        ContentType::Exchange,
        "blob",
        None,
        at("2026-07-15T20:00:00Z"),
    );
    live.poll_failed(
        tenant(),
        ContentType::Exchange,
        "poll",
        None,
        at("2026-07-15T20:01:00Z"),
    );
    let exchange = || view(&Summary::default(), Some(&live), now()).tenants[0].streams[1].clone();
    assert_eq!(exchange().listing_error.unwrap().what, "poll");
    live.polled(tenant(), ContentType::Exchange, at("2026-07-15T20:02:00Z"));
    assert_eq!(exchange().listing_error, None);
    assert_eq!(exchange().blob_error.unwrap().what, "blob");
}

#[test]
fn a_blob_that_is_tried_again_is_no_trouble_and_forgotten_when_none_waits() {
    let live = live();
    live.blob_failed(tenant(), ContentType::Exchange, "503", Some(now()), now());
    let mut summary = Summary {
        streams: vec![stream(ContentType::Exchange)],
    };
    summary.streams[0].pending_count = 1;
    let waiting = view(&summary, Some(&live), now());
    assert_eq!(
        waiting.tenants[0].streams[1]
            .blob_error
            .as_ref()
            .unwrap()
            .what,
        "503"
    );
    assert!(waiting.troubles.is_empty());
    summary.streams[0].pending_count = 0;
    assert_eq!(
        view(&summary, Some(&live), now()).tenants[0].streams[1].blob_error,
        None
    );
}

#[test]
fn a_credential_that_ends_soon_is_trouble() {
    let live = live();
    let taken = || view(&Summary::default(), Some(&live), now());
    let ends_at = at("2026-12-31T00:00:00Z");
    live.credential_ends(tenant(), ends_at);
    assert_eq!(taken().tenants[0].credential_ends_at, Some(ends_at));
    let troubles = taken().troubles;
    assert!(troubles.is_empty(), "{troubles:?}");
    live.credential_ends(tenant(), at("2026-07-25T21:00:00Z"));
    let troubles = taken().troubles;
    let told = format!(
        "tenant {}: its certificate ends in 10 d 0 h, at 2026-07-25 21:00:00Z: upload",
        tenant()
    );
    assert!(troubles[0].starts_with(&told), "{troubles:?}");
}

#[test]
fn a_tenant_that_answers_again_is_collected() {
    let live = live();
    let state = || view(&Summary::default(), Some(&live), now()).tenants[0].state;
    live.tenant_stopped(tenant(), "no consent", None, now());
    assert_eq!(state(), TenantStatus::Stopped);
    live.tenant_ok(tenant());
    assert_eq!(state(), TenantStatus::Collecting);
}

#[test]
fn what_a_server_said_is_kept_short_at_a_character_boundary() {
    let live = live();
    live.tenant_stopped(tenant(), &"ü".repeat(10_000), None, now());
    let what = view(&Summary::default(), Some(&live), now()).tenants[0]
        .stopped
        .clone()
        .unwrap()
        .what;
    assert_eq!(what, "ü".repeat(250));
    live.tenant_stopped(tenant(), &format!("x{}", "ü".repeat(10_000)), None, now());
    let what = view(&Summary::default(), Some(&live), now()).tenants[0]
        .stopped
        .clone()
        .unwrap()
        .what;
    assert_eq!(what, format!("x{}", "ü".repeat(249)));
}

#[test]
fn the_rate_is_that_of_the_last_five_minutes() {
    let live = live();
    let records_per_second = |now| {
        view(&Summary::default(), Some(&live), now)
            .rates
            .unwrap()
            .records_per_second
    };
    assert_eq!(records_per_second(now()), 0.0);
    for second in 0..600 {
        live.delivered(
            50,
            65_000,
            at("2026-07-15T20:50:00Z") + SignedDuration::from_secs(second),
        );
    }
    assert_eq!(records_per_second(now()), 50.0);
    assert_eq!(
        records_per_second(now() + SignedDuration::from_secs(150)),
        25.0
    );
    assert_eq!(
        records_per_second(now() + SignedDuration::from_hours(1)),
        0.0
    );

    let young = Live::new(now());
    young.delivered(100, 0, now());
    let rates = view(
        &Summary::default(),
        Some(&young),
        now() + SignedDuration::from_secs(10),
    )
    .rates
    .unwrap();
    assert_eq!(rates.records_per_second, 10.0);
}

#[test]
fn counts_sizes_and_times_are_written_for_people() {
    let counts: Vec<_> = [0, 7, 999, 1_000, 1_234_567, u64::MAX]
        .into_iter()
        .map(count)
        .collect();
    assert_eq!(
        counts,
        [
            "0",
            "7",
            "999",
            "1,000",
            "1,234,567",
            "18,446,744,073,709,551,615"
        ]
    );

    let sizes: Vec<_> = [0, 1_023, 1_024, 1_048_575, 1_572_864, u64::MAX]
        .into_iter()
        .map(bytes)
        .collect();
    assert_eq!(
        sizes,
        [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.0 MiB",
            "1.5 MiB",
            "16384.0 PiB"
        ]
    );

    let seconds = [-5, 0, 59, 60, 3_599, 3_600, 7_500, 86_399, 86_400, 604_799];
    let durations: Vec<_> = seconds
        .into_iter()
        .map(|seconds| duration(SignedDuration::from_secs(seconds)))
        .collect();
    let expected = [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "59 min",
        "1 h 0 min",
        "2 h 5 min",
        "23 h 59 min",
        "1 d 0 h",
        "6 d 23 h",
    ];
    assert_eq!(durations, expected);

    assert_eq!(
        relative(now() + SignedDuration::from_mins(3), now()),
        "in 3 min"
    );
    assert_eq!(
        relative(now() - SignedDuration::from_mins(3), now()),
        "3 min ago"
    );
    assert_eq!(relative(now(), now()), "0 s ago");
}

#[test]
fn what_the_updater_says_is_shown_and_its_trouble_is_a_trouble() {
    let update = UpdateView {
        summary: "0.2.0 was taken back: it was not healthy".to_owned(),
        is_trouble: true,
        newest_version: Some("0.2.0".to_owned()),
        changing_to: None,
        next_try_at: Some(now() + SignedDuration::from_mins(4)),
        refused: vec!["0.2.0: it was not healthy".to_owned()],
        events: vec![UpdateEventView {
            at: at("2026-07-15T20:50:00Z"),
            what: "0.2.0: the previous package is back".to_owned(),
        }],
    };
    let view = view(&Summary::default(), Some(&live()), now());
    let quiet = UpdateView {
        is_trouble: false,
        ..update.clone()
    };
    assert_eq!(
        view.clone().with_update(Some(quiet)).troubles,
        view.troubles
    );
    let view = view.with_update(Some(update));
    assert_eq!(
        view.troubles.last().map(String::as_str),
        Some("update: 0.2.0 was taken back: it was not healthy")
    );
    let text = shown(&view);
    let shown = text.split("\nupdate: ").nth(1).unwrap();
    expect![[r#"
        0.2.0 was taken back: it was not healthy; next try in 4 min
          2026-07-15 20:50:00Z  0.2.0: the previous package is back
    "#]]
    .assert_eq(shown);
    let json = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<StatusView>(&json).unwrap(), view);
}
