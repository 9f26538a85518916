//! The pipeline as a whole, with a scripted Microsoft, scripted sinks and a real ledger.

mod compacting;
mod wanted;

use tokio::time::Instant;

use super::*;
use crate::sinks::testing::records;
use crate::testing::{
    Answer, CONTENT_TYPE, FakeSink, Scene, TestLedger, Turn, blob_text, blob_uri, other_tenant,
    start, tenant, tenant_config,
};

fn config(content_types: &[ContentType]) -> Config {
    let tenants = [tenant(), other_tenant()].map(|id| tenant_config(id, content_types));
    crate::testing::config(tenants.into())
}

fn pipeline(scene: &Scene, sinks: &[&Arc<FakeSink>]) -> Pipeline {
    let sinks = sinks
        .iter()
        .map(|sink| Arc::<FakeSink>::clone(sink) as Arc<dyn Sink>)
        .collect();
    let ledger = Arc::<TestLedger>::clone(&scene.ledger);
    Pipeline::new(
        &config(&[CONTENT_TYPE]),
        sinks,
        &scene.transport(),
        ledger,
        scene.clock(),
        Live::new(start()),
    )
}

/// Microsoft has these blobs for a tenant, three records each, and lists them.
fn offer(scene: &Scene, tenant: TenantId, names: &[&str], first_record: usize) {
    let (created, expires) = (
        start() - Duration::from_secs(60),
        start() + Duration::from_secs(6 * 24 * 3600),
    );
    let entries: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            scene.microsoft.on(&format!("blob/{name}"), [Answer::ok(blob_text(&records(first_record + 3 * index, 3)))]);
            let uri = blob_uri(tenant, name);
            format!(r#"{{"contentType":"{CONTENT_TYPE}","contentId":"{name}","contentUri":"{uri}","contentCreated":"{created}","contentExpiration":"{expires}"}}"#)
        })
        .collect();
    scene.microsoft.on(
        &format!("content/{tenant}/{CONTENT_TYPE}"),
        [Answer::ok(format!("[{}]", entries.join(",")))],
    );
}

#[tokio::test(start_paused = true)]
async fn one_pass_brings_everything_from_microsoft_to_every_sink() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a", "b"], 0);
    offer(&scene, other_tenant(), &["c"], 6);
    let (file, splunk) = (FakeSink::with_position("file"), FakeSink::new("splunk"));
    let pipeline = pipeline(&scene, &[&file, &splunk]);
    pipeline.start().await.unwrap();
    let step = pipeline.run_once(&CancellationToken::new()).await.unwrap();
    assert!(step.is_clean());
    assert_eq!(
        (
            step.new_blobs,
            step.delivery.delivered_blobs,
            step.delivery.delivered_records
        ),
        (3, 3, 9)
    );
    assert_eq!(
        (file.taken_sorted(), splunk.taken_sorted()),
        (records(0, 9), records(0, 9))
    );
    assert_eq!((file.tick_count(), file.resumed()), (1, vec![None]));
    assert_eq!(scene.microsoft.count(&format!("start/{CONTENT_TYPE}")), 2);

    // The second pass lists the same and brings nothing.
    let step = pipeline.run_once(&CancellationToken::new()).await.unwrap();
    assert_eq!(step, Step::default());
    assert_eq!(file.batches().iter().flatten().count(), 9);
    assert_eq!(scene.microsoft.count(&format!("start/{CONTENT_TYPE}")), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_puts_the_sinks_back_and_repeats_nothing() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a", "b"], 0);
    let file = FakeSink::with_position("file");
    let first = pipeline(&scene, &[&file]);
    first.start().await.unwrap();
    first.run_once(&CancellationToken::new()).await.unwrap();
    drop(first);
    let scene = scene.restarted().await;
    let second = pipeline(&scene, &[&file]);
    second.start().await.unwrap();
    assert!(
        second
            .run_once(&CancellationToken::new())
            .await
            .unwrap()
            .is_clean()
    );
    assert_eq!(file.resumed(), [None, Some("6".to_owned())]);
    assert_eq!(file.taken_sorted(), records(0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_begin_keeps_the_pipeline_from_beginning() {
    let scene = Scene::new();
    let sink = FakeSink::new("file");
    sink.script_resume([Turn::Fail]);
    let pipeline = pipeline(&scene, &[&sink]);
    let error = pipeline.start().await.unwrap_err();
    assert_eq!(error.to_string(), "sink file cannot start");
    assert!(!pipeline.live.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_failing_tenant_does_not_keep_the_others_from_being_listed() {
    for answer in [
        Answer::refused(401, "AF10001"),
        Answer::status(503, ""),
        Answer::no_connection(),
    ] {
        let scene = Scene::new();
        offer(&scene, other_tenant(), &["c"], 0);
        scene
            .microsoft
            .on(&format!("content/{}/{CONTENT_TYPE}", tenant()), [answer]);
        let sink = FakeSink::new("file");
        let pipeline = pipeline(&scene, &[&sink]);
        let (new_blobs, failed) = pipeline.discover_once().await;
        assert_eq!(new_blobs, 1);
        assert_eq!(failed, 1);
        let step = pipeline.run_once(&CancellationToken::new()).await.unwrap();
        assert!(!step.is_clean());
        assert_eq!(sink.taken(), records(0, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_listing_hangs_does_not_keep_the_others_waiting() {
    let scene = Scene::new();
    offer(&scene, other_tenant(), &["c"], 0);
    let hanging = Answer::ok("[]").after(Duration::from_secs(1_000_000));
    scene
        .microsoft
        .on(&format!("content/{}/{CONTENT_TYPE}", tenant()), [hanging]);
    let sink = FakeSink::new("file");
    let pipeline = pipeline(&scene, &[&sink]);
    let stop = CancellationToken::new();
    let looking = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.cancel();
        scene
            .microsoft
            .count(&format!("content/{}/{CONTENT_TYPE}", other_tenant()))
    };
    let ((), listed) = tokio::join!(pipeline.run_until(&stop), looking);
    assert!(listed >= 9, "listed {listed} times in ten minutes");
    assert_eq!(sink.taken(), records(0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_credential_is_refused_is_left_alone_for_a_while() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a"], 0);
    let refusal = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret.","error_codes":[7000215]}"#;
    scene.microsoft.on(
        &format!("token/{}", tenant()),
        [Answer::status(401, refusal)],
    );
    let pipeline = pipeline(&scene, &[&FakeSink::new("file")]);
    let token = format!("token/{}", tenant());
    assert_eq!(pipeline.discover_once().await, (0, 1));
    assert_eq!(
        scene.microsoft.count(&token),
        1,
        "one refusal is enough for all its content types"
    );
    assert_eq!(pipeline.discover_once().await, (0, 1));
    assert_eq!(scene.microsoft.count(&token), 1);
    // Mended, and its pause over.
    scene.microsoft.on(&token, []);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(pipeline.discover_once().await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_somebody_ended_is_started_again() {
    let scene = Scene::new();
    let pipeline = pipeline(&scene, &[&FakeSink::new("file")]);
    pipeline.discover_once().await;
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    scene
        .microsoft
        .on("content", [Answer::refused(400, "AF20022")]);
    assert_eq!(pipeline.discover_once().await, (0, 2));
    // Microsoft asks for fifteen minutes between two starts.
    tokio::time::advance(Duration::from_secs(10 * 60)).await;
    scene.microsoft.on("content", [Answer::ok("[]")]);
    assert_eq!(pipeline.discover_once().await, (0, 0));
    assert_eq!(scene.microsoft.count(&format!("start/{CONTENT_TYPE}")), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_undone_is_not_called_clean() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a"], 0);
    scene
        .microsoft
        .on("blob/a", [Answer::refused(401, "AF10001")]);
    let step = pipeline(&scene, &[&FakeSink::new("file")])
        .run_once(&CancellationToken::new())
        .await
        .unwrap();
    assert!(!step.is_clean(), "{step:?}");

    let scene = Scene::new();
    offer(&scene, tenant(), &["a"], 0);
    let sink = FakeSink::new("file");
    sink.always(Turn::FailForGood);
    let step = pipeline(&scene, &[&sink])
        .run_once(&CancellationToken::new())
        .await
        .unwrap();
    assert!(!step.is_clean(), "{step:?}");
}

#[tokio::test(start_paused = true)]
async fn a_running_pipeline_collects_what_appears_and_what_it_is_told_of() {
    let scene = Scene::new();
    let sink = FakeSink::new("file");
    let pipeline = Arc::new(pipeline(&scene, &[&sink]));
    let stop = CancellationToken::new();
    pipeline.start().await.unwrap();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run_until(&stop).await }
    });
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(pipeline.live.is_running());
    offer(&scene, tenant(), &["a"], 0);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(
        sink.taken(),
        records(0, 3),
        "listed at the next minute and delivered at once"
    );

    // A notification: noted by somebody else, who then gives news.
    scene.add_blob("told", &records(3, 3)).await;
    pipeline.news().notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(sink.taken(), records(0, 6));
    stop.cancel();
    running.await.unwrap();
    assert!(!pipeline.live.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_running_pipeline_takes_up_a_sink_that_recovers() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a"], 0);
    let sink = FakeSink::new("file");
    sink.always(Turn::Fail);
    let pipeline = Arc::new(pipeline(&scene, &[&sink]));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run_until(&stop).await }
    });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tried = sink.batches().len();
    assert!(
        (60..200).contains(&tried),
        "tried about once a minute: {tried}"
    );
    sink.script([]);
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!(sink.taken(), records(0, 3));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_ends_within_the_grace_whatever_hangs() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a", "stuck"], 0);
    scene
        .microsoft
        .on("blob/stuck", [Answer::ok("[").then_silence()]);
    scene.microsoft.on(
        &format!("content/{}/{CONTENT_TYPE}", other_tenant()),
        [Answer::ok("[").then_silence()],
    );
    let sink = FakeSink::new("hung");
    sink.always(Turn::Hang);
    let pipeline = Arc::new(pipeline(&scene, &[&sink]));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run_until(&stop).await }
    });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(sink.batches().len(), 1);
    let told_at = Instant::now();
    stop.cancel();
    running.await.unwrap();
    assert!(
        told_at.elapsed() <= GRACE + Duration::from_secs(1),
        "{:?}",
        told_at.elapsed()
    );
    let stream = scene.stream().await;
    assert_eq!((stream.pending_count, stream.leased_count), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_with_nothing_under_way_it_ends_at_once() {
    let scene = Scene::new();
    let pipeline = pipeline(&scene, &[&FakeSink::new("file")]);
    let stop = CancellationToken::new();
    let told_at = Instant::now();
    tokio::join!(pipeline.run_until(&stop), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        stop.cancel();
    });
    assert_eq!(told_at.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_for_a_while_only_delays() {
    let scene = Scene::new();
    offer(&scene, tenant(), &["a"], 0);
    for method in ["note_seen", "lease", "summary", "recall"] {
        scene.ledger.fail_next(method, 3);
    }
    let sink = FakeSink::new("file");
    let pipeline = Arc::new(pipeline(&scene, &[&sink]));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (Arc::clone(&pipeline), stop.clone());
        async move { pipeline.run_until(&stop).await }
    });
    tokio::time::sleep(Duration::from_secs(10 * 60)).await;
    assert_eq!(sink.taken(), records(0, 3));
    stop.cancel();
    running.await.unwrap();
}
