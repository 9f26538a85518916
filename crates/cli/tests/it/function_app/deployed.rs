//! The way of an app from its deployment on: it registers, subscribes, collects on as many instances as there are, and
//! reports what it did.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use simulator::{Options, RequestKind};

use super::App;
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn the_packaged_app_registers_collects_and_reports() {
    let app = App::deploy(Options {
        records: 3_000,
        records_per_blob: 20,
        ..Options::default()
    })
    .await;

    app.fire("Master").await;
    let check_in = app.check_in();
    assert_eq!(check_in["status"], "ok", "{check_in:#}");
    // What was notified as soon as the subscriptions stood may be delivered and counted already.
    let [first_events, first_bytes] = counted(&check_in);
    assert_eq!(app.count(RequestKind::Register), 1);
    assert_eq!(app.count(RequestKind::Start), 5);
    let settings = app.simulator.site().settings();
    for name in [
        "COLLECTOR_SOURCE_ID",
        "COLLECTOR_HOST_ID",
        "APP_INGEST_ENDPOINT",
        "APP_AZCOLLECT_ENDPOINT",
        "O365_COLLECTOR_WEBHOOK__AUTH_ID",
    ] {
        assert!(settings.contains_key(name), "{name} is not remembered");
    }
    // Others' settings are still there, and all of ours came in one change: each is a restart of the app.
    assert_eq!(settings["UPDATER_SCHEDULE"], "0 0 */12 * * *");
    let restarts = app.simulator.site().restarts();
    app.host.ready().await.unwrap();

    app.collect_all().await;
    app.assert_clean();
    assert!(!app.deliveries().is_empty());

    app.fire("Master").await;
    let check_in = app.check_in();
    assert_eq!(check_in["status"], "ok", "{check_in:#}");
    let [events, bytes] = counted(&check_in);
    assert_eq!(first_events + events, 3_000, "{check_in:#}");
    assert_eq!(
        first_bytes + bytes,
        app.simulator.record_bytes_total(),
        "{check_in:#}"
    );
    let statistics = check_in["statistics"].as_array().unwrap();
    let of = |function: &str| {
        let counts = statistics.iter().find_map(|row| row.get(function));
        counts.unwrap_or_else(|| panic!("{function} is not in {check_in:#}"))
    };
    assert!(of("Master")["invocations"].as_u64().unwrap() >= 1);
    assert_eq!(of("Master")["errors"], 0);
    assert!(of("Deliver")["invocations"].as_u64().unwrap() >= 1);
    // A second run finds everything as it should be.
    assert_eq!(app.count(RequestKind::Register), 1);
    assert_eq!(app.count(RequestKind::Start), 5);
    assert_eq!(app.simulator.site().restarts(), restarts);
}

/// The records and the bytes that a check-in tells of, counted since the one before.
fn counted(check_in: &Value) -> [u64; 2] {
    ["events", "bytes"].map(|count| {
        let told = &check_in["collection_stats"]["log"][count];
        told.as_u64().unwrap_or_else(|| panic!("{check_in:#}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn notifications_are_noted_and_delivered() {
    let app = App::deploy(Options {
        records: 600,
        records_per_blob: 20,
        backlog_records: Some(100),
        live_records_per_sec: Some(200.0),
        ..Options::default()
    })
    .await;
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    // Nothing is listed: what arrives was notified.
    let notified = |app: &App| app.simulator.progress().records_acknowledged > 0;
    assert!(
        app.host.wait_until(PATIENCE, |_| notified(&app)).await,
        "no notification led to a delivery\n{}",
        app.logs()
    );
    assert_eq!(app.count(RequestKind::Content), 0);
    app.collect_all().await;
    app.assert_clean();
    let requests = app.simulator.requests();
    assert!(requests.with_status(RequestKind::WebhookNotification, 200) > 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn two_instances_deliver_each_blob_once_and_forget_none_when_one_dies() {
    let app = App::deploy(Options {
        records: 8_000,
        records_per_blob: 20,
        ..Options::default()
    })
    .await;
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    app.host.scale_to(2).await.unwrap();
    // So slow that both have blobs in their hands at any moment.
    app.simulator.set_latency(Some(Duration::from_millis(20)));
    let half = app.simulator.progress().records_total / 2;
    app.collect(|progress| progress.records_acknowledged >= half)
        .await;
    let before = app.simulator.progress().records_acknowledged;
    assert!(before < 8_000, "nothing was left to be killed at");
    app.host.kill(1);
    app.collect_all().await;
    let instances: BTreeSet<usize> = app
        .deliveries()
        .iter()
        .filter(|delivery| delivery.succeeded())
        .map(|delivery| delivery.instance)
        .collect();
    assert!(instances.len() >= 2, "only {instances:?} delivered");
    let verdict = app.simulator.verdict();
    let sink = verdict.sink("alertlogic").unwrap();
    assert!(sink.is_clean_so_far(), "{verdict}");
    assert!(sink.missing.is_empty(), "{verdict}");
    // What the dead one had sent and could not note any more; nothing that anyone noted.
    let at_most = 16 * 30;
    assert!(sink.repeated.len() <= at_most, "{verdict}");
}
