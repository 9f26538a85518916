//! Sinks that fail, refuse, panic or hang, while others do not.

use jiff::SignedDuration;

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Answer, Turn, blob_text, large_records};

#[tokio::test(start_paused = true)]
async fn a_failing_sink_stops_no_other_and_nothing_is_repeated_when_it_recovers() {
    let scene = Scene::new();
    for number in 0..10 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 5, 5))
            .await;
    }
    let (good, bad) = (FakeSink::new("good"), FakeSink::new("bad"));
    bad.always(Turn::Fail);
    let deliverer = deliverer(&scene, &[&good, &bad]);
    let counts = pass(&deliverer).await;
    assert_eq!((counts.delivered_blobs, counts.retried_blobs), (0, 10));
    assert_eq!(good.taken_sorted(), records(0, 50));
    assert_eq!(bad.taken().len(), 0);

    bad.script([]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(
        good.taken_sorted(),
        records(0, 50),
        "the good sink has nothing twice"
    );
    assert_eq!(bad.taken_sorted(), records(0, 50));
    assert_eq!(scene.stream().await.delivered_count, 10);
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_waited_out_within_the_pass() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let sink = FakeSink::new("file");
    sink.script([
        Turn::Fail,
        Turn::FailFor(Duration::from_secs(3)),
        Turn::TakeSome(2),
        Turn::Fail,
    ]);
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!((counts.delivered_blobs, counts.retried_blobs), (1, 0));
    assert_eq!(
        sink.taken(),
        records(0, 5),
        "it goes on behind the records that were safe"
    );
    assert_eq!(scene.microsoft.blob_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_all_sinks_are_down_nothing_is_fetched() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let (one, two) = (FakeSink::new("one"), FakeSink::new("two"));
    one.always(Turn::FailForGood);
    two.always(Turn::FailFor(Duration::from_secs(3600)));
    let deliverer = deliverer(&scene, &[&one, &two]);
    pass(&deliverer).await;
    assert_eq!(scene.microsoft.blob_count(), 1);
    let until = deliverer.all_sinks_paused_until(scene.now()).unwrap();
    assert!(
        until <= scene.now() + Duration::from_secs(60),
        "an outage ends for us a minute after it ended"
    );
    for _ in 0..5 {
        scene.add_blob("b", &records(5, 5)).await;
        assert_eq!(pass(&deliverer).await, PassCounts::default());
    }
    assert_eq!(scene.microsoft.blob_count(), 1);
    one.script([]);
    two.script([]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(deliverer.all_sinks_paused_until(scene.now()), None);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(
        (one.taken_sorted(), two.taken_sorted()),
        (records(0, 10), records(0, 10))
    );
}

#[tokio::test(start_paused = true)]
async fn what_only_a_sink_that_is_down_still_lacks_is_not_fetched_again() {
    for max_in_flight in [1, 4] {
        let scene = Scene::new();
        let all = large_records(0, 500);
        scene.add_blob("a", &all).await;
        let (up, down) = (
            FakeSink::by_parts("up", max_in_flight),
            FakeSink::new("down"),
        );
        down.always(Turn::FailForGood);
        let deliverer = deliverer(&scene, &[&up, &down]);
        pass(&deliverer).await;
        assert_eq!(up.taken_sorted(), all);
        let until = deliverer.sinks[1].1.paused_until(scene.now()).unwrap();
        // It is due before the sink's pause ends, because its own wait may be shorter.
        tokio::time::sleep(
            until.duration_since(scene.now()).unsigned_abs() - Duration::from_millis(500),
        )
        .await;
        pass(&deliverer).await;
        assert_eq!(scene.microsoft.blob_count(), 1, "{max_in_flight} at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_was_down_tries_once_before_more_is_spent_on_it() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::Fail);
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    assert_eq!(sink.batches().len(), 5);
    tokio::time::sleep(Duration::from_secs(60)).await;
    pass(&deliverer).await;
    assert_eq!(sink.batches().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_is_put_back_before_its_next_try_and_harms_nobody() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 6)).await;
    let (wild, calm) = (FakeSink::with_position("wild"), FakeSink::new("calm"));
    wild.script([Turn::Panic]);
    let counts = pass(&deliverer(&scene, &[&wild, &calm])).await;
    assert_eq!(counts.delivered_blobs, 1);
    assert_eq!(
        wild.resumed(),
        [None],
        "what it had half written is taken back"
    );
    assert_eq!((wild.taken(), calm.taken()), (records(0, 6), records(0, 6)));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_while_it_is_put_back_counts_as_down() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 6)).await;
    let sink = FakeSink::with_position("wild");
    sink.script([Turn::Panic]);
    sink.script_resume([Turn::Panic, Turn::Fail]);
    let deliverer = deliverer(&scene, &[&sink]);
    assert_eq!(pass(&deliverer).await.retried_blobs, 1);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.resumed().len(), 3);
    assert_eq!(sink.taken(), records(0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_a_position_that_refuses_a_record_is_put_back_and_has_nothing_acknowledged() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 6)).await;
    let sink = FakeSink::with_position("file");
    sink.script([Turn::Refuse(vec![2])]);
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    assert_eq!(sink.resumed(), [None]);
    assert_eq!(sink.taken(), records(0, 6), "all, and once");
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_yes_the_ledger_did_not_take_is_put_back_before_its_next_delivery() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::with_position("file");
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    assert_eq!(
        scene.ledger.position(sink.name()).await.unwrap().as_deref(),
        Some("4")
    );

    scene.add_blob("b", &records(4, 4)).await;
    scene.ledger.fail_next("acknowledge", 5);
    assert_eq!(pass(&deliverer).await.delivered_blobs, 0);
    assert_eq!(
        sink.taken(),
        records(0, 8),
        "the records are out, and the ledger does not know"
    );
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.resumed(), [Some("4".to_owned())]);
    assert_eq!(sink.taken(), records(0, 8));
    assert_eq!(
        scene.ledger.position(sink.name()).await.unwrap().as_deref(),
        Some("8")
    );
    assert_eq!(scene.stream().await.delivered_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_of_the_ledger_repeats_nothing() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::with_position("file");
    scene.ledger.fail_next("acknowledge", 4);
    assert_eq!(pass(&deliverer(&scene, &[&sink])).await.delivered_blobs, 1);
    assert_eq!((sink.batches().len(), sink.resumed().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_could_not_be_marked_delivered_comes_again_and_no_sink_sees_it_twice() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let (one, two) = (FakeSink::new("one"), FakeSink::new("two"));
    scene.ledger.fail_next("mark_delivered", 1);
    let deliverer = deliverer(&scene, &[&one, &two]);
    // In the same pass or in the next: it is free again as soon as the ledger works.
    deliver_all(&scene, &deliverer).await;
    assert_eq!(scene.stream().await.delivered_count, 1);
    assert_eq!(scene.ledger.call_count("mark_delivered"), 2);
    assert_eq!((one.taken(), two.taken()), (records(0, 4), records(0, 4)));
}

#[tokio::test(start_paused = true)]
async fn several_batches_that_fail_together_make_one_pause() {
    let scene = Scene::new();
    let health = Health::new("file".parse().unwrap());
    let until = health.fails(scene.now(), None);
    assert!(until <= scene.now() + Duration::from_secs(4), "{until}");
    for _ in 0..10 {
        assert_eq!(health.fails(scene.now(), None), until);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(health.fails(scene.now(), None) > until + Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_for_as_long_as_a_sink_takes() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("slow");
    sink.script([Turn::TakeIn(5 * LEASE / 2)]);
    let slow = deliverer(&scene, &[&sink]);
    let running = tokio::spawn(async move { pass(&slow).await });
    tokio::time::sleep(2 * LEASE).await;
    // Another worker finds nothing to take.
    let other = FakeSink::new("other");
    assert_eq!(
        pass(&deliverer(&scene, &[&other])).await,
        PassCounts::default()
    );
    assert_eq!(running.await.unwrap().delivered_blobs, 1);
    assert_eq!(scene.ledger.call_count("renew"), 7);
    assert_eq!(scene.microsoft.blob_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_renewals_may_fail() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("slow");
    sink.script([Turn::TakeIn(2 * LEASE)]);
    scene.ledger.fail_next("renew", 2);
    assert_eq!(pass(&deliverer(&scene, &[&sink])).await.delivered_blobs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_takes_no_blob_from_its_own_worker() {
    let scene = Scene::new();
    // The first waits for the sink; the end of the second's fetch makes the pass look for more.
    scene.add_blob("first", &records(0, 2)).await;
    scene.note("second").await;
    let answer = Answer::ok(blob_text(&records(2, 2))).after(Duration::from_secs(15));
    scene.microsoft.on("blob/second", [answer]);
    let sink = FakeSink::new("slow");
    sink.always(Turn::TakeIn(Duration::from_secs(28)));
    let deliverer = deliverer(&scene, &[&sink]);
    let (counts, ()) = tokio::join!(pass(&deliverer), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.clock.jump(SignedDuration::from_hours(3));
    });
    assert_eq!(
        (counts.delivered_blobs, scene.microsoft.blob_count()),
        (2, 2)
    );
    assert_eq!(sink.taken(), records(0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_lengthens_no_pause() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    sink.script([Turn::FailForGood]);
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    deliverer.pauses.pause(other_tenant(), scene.now());
    scene.clock.jump(SignedDuration::from_hours(-3));
    assert_eq!(deliverer.sinks[0].1.paused_until(scene.now()), None);
    assert_eq!(deliverer.pauses.paused(scene.now()), []);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_that_fails_again_lacks_alone_is_left_until_it_works() {
    for max_in_flight in [1, 4] {
        let scene = Scene::new();
        scene.add_blob("a", &large_records(0, 500)).await;
        let (up, down) = (
            FakeSink::by_parts("up", max_in_flight),
            FakeSink::new("down"),
        );
        down.always(Turn::FailForGood);
        let first = deliverer(&scene, &[&up, &down]);
        pass(&first).await;
        let due_at = first.sinks[1].1.paused_until(scene.now()).unwrap();
        // The next process knows of no pause, and makes its own, which ends after the blob is due.
        tokio::time::sleep(
            due_at.duration_since(scene.now()).unsigned_abs() - Duration::from_secs(1),
        )
        .await;
        let second = deliverer(&scene, &[&up, &down]);
        scene.add_blob("b", &records(0, 5)).await;
        pass(&second).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(second.sinks[1].1.paused_until(scene.now()).is_some());
        pass(&second).await;
        assert_eq!(
            (
                scene.microsoft.count("blob/a"),
                scene.microsoft.count("blob/b")
            ),
            (1, 1),
            "{max_in_flight} at once"
        );
    }
}
