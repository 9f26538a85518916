//! What the original collector was seen to lose, double or leak, done to this one: nothing is lost, doubled or leaked.

use simulator::{Fault, FaultAction, Options, RequestKind};

use super::App;

/// An app with something to collect, registered and subscribed.
async fn collecting(records: u64) -> App {
    let app = App::deploy(Options {
        records,
        records_per_blob: 20,
        ..Options::default()
    })
    .await;
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    app
}

fn fault(kind: RequestKind, count: u32, action: FaultAction) -> Fault {
    Fault {
        kind,
        count,
        action,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn an_ingest_that_refuses_resets_and_fails_nine_times_loses_nothing() {
    let app = collecting(600).await;
    // The original: "the payload lost" for each of these.
    for (count, action) in [
        (1, FaultAction::Status { status: 400 }),
        (2, FaultAction::Hangup),
        (9, FaultAction::Status { status: 503 }),
        (1, FaultAction::Status { status: 403 }),
    ] {
        app.simulator
            .inject(fault(RequestKind::Logmsgs, count, action));
    }
    app.collect_all().await;
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn a_payload_that_is_too_large_is_split_and_arrives() {
    let app = App::deploy(Options {
        records: 400,
        records_per_blob: 100,
        alertlogic: simulator::AlertLogicOptions {
            // A tenth of what a blob's records come to.
            max_body_bytes: 3_000,
            ..Default::default()
        },
        ..Options::default()
    })
    .await;
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    app.collect_all().await;
    let refused = app
        .simulator
        .requests()
        .with_status(RequestKind::Logmsgs, 413);
    assert!(refused > 0, "nothing was too large");
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn a_bad_blob_holds_up_no_other() {
    let app = collecting(600).await;
    for action in [
        FaultAction::Status { status: 500 },
        FaultAction::Hangup,
        FaultAction::Status { status: 401 },
    ] {
        app.simulator.inject(fault(RequestKind::Blob, 1, action));
    }
    app.collect_all().await;
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn an_aims_token_that_is_refused_before_its_end_is_replaced() {
    let app = collecting(400).await;
    let before = app.count(RequestKind::Authenticate);
    app.simulator.inject(fault(
        RequestKind::Logmsgs,
        1,
        FaultAction::Status { status: 401 },
    ));
    app.collect_all().await;
    assert!(app.count(RequestKind::Authenticate) > before);
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn a_blob_that_is_notified_twice_and_listed_is_delivered_once() {
    let app = collecting(200).await;
    let body = serde_json::to_string(&app.simulator.notifications()).unwrap();
    for _ in 0..2 {
        assert_eq!(app.notify(&body, true).await, 200);
    }
    app.collect_all().await;
    assert_eq!(app.notify(&body, true).await, 200);
    app.poll().await;
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn a_blob_that_is_never_notified_is_collected() {
    let app = App::deploy(Options {
        records: 200,
        records_per_blob: 20,
        webhook_push: false,
        ..Options::default()
    })
    .await;
    app.fire("Master").await;
    app.host.ready().await.unwrap();
    app.collect_all().await;
    app.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Azurite"]
async fn a_forged_notification_gets_no_token_and_no_entry() {
    let app = collecting(200).await;
    let mut forged = app.simulator.notifications().remove(0);
    forged["contentUri"] = format!("{}/steal", app.simulator.stranger_origin()).into();
    let body = serde_json::to_string(&[forged]).unwrap();
    // A stranger does not get past the door, and whoever knows the auth id cannot lead a token away.
    assert_eq!(app.notify(&body, false).await, 401);
    assert_eq!(app.notify(&body, true).await, 400);
    app.collect_all().await;
    assert_eq!(app.count(RequestKind::Stranger), 0);
    app.assert_clean();
}
