//! The end of a process: soon, or at once.

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Answer, Turn, blob_text, large_records};

/// Begins a pass, and sets `stop` after `stop_after` and `hurry` after `hurry_after`. How long the pass took.
async fn stopped_pass(
    deliverer: &Arc<Deliverer>,
    stop_after: u64,
    hurry_after: u64,
) -> (PassCounts, Duration) {
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let began = Instant::now();
    let (counts, ()) = tokio::join!(deliverer.deliver_due(&stop, &hurry), async {
        tokio::time::sleep(Duration::from_secs(stop_after)).await;
        stop.cancel();
        tokio::time::sleep(Duration::from_secs(hurry_after - stop_after)).await;
        hurry.cancel();
    });
    assert_eq!(deliverer.memory.held_bytes(), 0);
    (counts.unwrap(), began.elapsed())
}

async fn ten_slow_blobs(scene: &Scene) {
    for number in 0..10 {
        let name = format!("blob-{number}");
        let answer = Answer::ok(blob_text(&records(number, 1))).after(Duration::from_secs(10));
        scene.microsoft.on(&format!("blob/{name}"), [answer]);
        scene.note(&name).await;
    }
}

/// The attempts of all blobs that wait, these looks not included.
async fn all_attempts(scene: &Scene) -> Vec<u32> {
    let request = LeaseRequest {
        max_count: 100,
        duration: LEASE,
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    };
    let leases = scene.ledger.lease(&request, scene.now()).await.unwrap();
    let attempts = leases.iter().map(|lease| lease.attempts() - 1).collect();
    scene.ledger.release(leases).await.unwrap();
    attempts
}

#[tokio::test(start_paused = true)]
async fn when_told_to_stop_it_ends_what_it_began_and_releases_the_rest() {
    let scene = Scene::new();
    ten_slow_blobs(&scene).await;
    let sink = FakeSink::new("file");
    // Two of the four places: the other configured tenant may come.
    let deliverer = deliverer_with(&scene, &[&sink], 4, 64 * MIB);
    let (counts, _) = stopped_pass(&deliverer, 15, 1_000).await;
    assert_eq!(
        counts,
        PassCounts {
            delivered_blobs: 4,
            delivered_records: 4,
            ..PassCounts::default()
        }
    );
    let stream = scene.stream().await;
    assert_eq!(
        (
            stream.delivered_count,
            stream.pending_count,
            stream.leased_count
        ),
        (4, 6, 0)
    );
    assert_eq!(scene.microsoft.blob_count(), 4);
    assert_eq!(all_attempts(&scene).await, [0; 6]);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_before_it_began_it_does_nothing() {
    let scene = Scene::new();
    ten_slow_blobs(&scene).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let deliverer = deliverer(&scene, &[&FakeSink::new("file")]);
    let counts = deliverer
        .deliver_due(&stop, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(counts, PassCounts::default());
    assert_eq!(scene.ledger.call_count("lease"), 0);
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_a_fetch_that_stands_still_is_released() {
    let scene = Scene::new();
    let all = large_records(0, 300);
    let text = blob_text(&all);
    scene.note("stuck").await;
    scene.microsoft.on(
        "blob/stuck",
        [Answer::ok(text[..600_000].to_owned()).then_silence()],
    );
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    let (counts, took) = stopped_pass(&deliverer, 5, 15).await;
    assert_eq!(counts, PassCounts::default(), "that is no failure");
    assert!(took < Duration::from_secs(1_000));
    assert_eq!(
        (
            scene.stream().await.pending_count,
            scene.stream().await.leased_count
        ),
        (1, 0)
    );
    assert_eq!(all_attempts(&scene).await, [0]);
    // Its first part is out and stays acknowledged.
    scene.microsoft.on("blob/stuck", [Answer::ok(text)]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken(), all);
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_a_sink_that_hangs_is_given_up_and_what_the_other_has_is_kept() {
    let scene = Scene::new();
    for number in 0..10 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 2, 2))
            .await;
    }
    let (good, hung) = (FakeSink::new("good"), FakeSink::with_position("hung"));
    hung.always(Turn::Hang);
    let deliverer = deliverer(&scene, &[&good, &hung]);
    let (counts, _) = stopped_pass(&deliverer, 5, 15).await;
    assert_eq!(counts, PassCounts::default());
    assert_eq!(
        (
            scene.stream().await.pending_count,
            scene.stream().await.leased_count
        ),
        (10, 0)
    );
    assert_eq!(all_attempts(&scene).await, [0; 10]);
    assert_eq!(
        deliverer.sinks[1].1.paused_until(scene.now()),
        None,
        "want of time is not the sink's failure"
    );

    hung.script([]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(hung.resumed(), [None]);
    assert_eq!(
        (good.taken_sorted(), hung.taken_sorted()),
        (records(0, 20), records(0, 20))
    );
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_a_lane_that_waits_for_its_next_try_waits_no_longer() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::FailFor(Duration::from_secs(50)));
    let deliverer = deliverer(&scene, &[&sink]);
    let (counts, _) = stopped_pass(&deliverer, 1, 11).await;
    assert_eq!(counts, PassCounts::default());
    assert_eq!(sink.batches().len(), 1);
    assert_eq!(
        (
            scene.stream().await.pending_count,
            scene.stream().await.leased_count
        ),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_records_that_are_safe_are_still_written_down() {
    let scene = Scene::new();
    let all = large_records(0, 500);
    scene.add_blob("a", &all).await;
    let sink = FakeSink::by_parts("http", 1);
    sink.script([Turn::Take, Turn::Take, Turn::Hang]);
    let deliverer = deliverer(&scene, &[&sink]);
    stopped_pass(&deliverer, 1, 11).await;
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken(), all);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_cannot_lease_is_an_error_and_what_is_under_way_is_finished() {
    let scene = Scene::new();
    ten_slow_blobs(&scene).await;
    let sink = FakeSink::new("file");
    let deliverer = deliverer_with(&scene, &[&sink], 2, 64 * MIB);
    let never = CancellationToken::new();
    let (result, ()) = tokio::join!(deliverer.deliver_due(&never, &never), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.ledger.fail_next("lease", 1);
    });
    result.unwrap_err();
    let stream = scene.stream().await;
    assert_eq!(stream.leased_count, 0);
    assert_eq!(
        stream.delivered_count as usize,
        scene.microsoft.blob_count(),
        "each that was begun was finished"
    );
    assert!(stream.pending_count > 0);
}
