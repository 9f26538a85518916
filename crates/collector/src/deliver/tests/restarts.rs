//! What a restart finds, and what it does not repeat.

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Turn, large_records};

#[tokio::test(start_paused = true)]
async fn what_a_sink_acknowledged_survives_a_restart() {
    let scene = Scene::new();
    for number in 0..10 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 5, 5))
            .await;
    }
    let (good, bad) = (FakeSink::new("good"), FakeSink::new("bad"));
    bad.always(Turn::FailForGood);
    pass(&deliverer(&scene, &[&good, &bad])).await;
    assert_eq!(good.taken_sorted(), records(0, 50));

    let scene = scene.restarted().await;
    bad.script([]);
    deliver_all(&scene, &deliverer(&scene, &[&good, &bad])).await;
    assert_eq!(good.taken_sorted(), records(0, 50));
    assert_eq!(bad.taken_sorted(), records(0, 50));
}

#[tokio::test(start_paused = true)]
async fn a_blob_of_many_parts_goes_on_for_each_sink_where_that_sink_was() {
    let all = large_records(0, 800);
    // After how many parts each of the two sinks fails, in each of the lives of the process.
    for lives in [
        [(1, 3), (0, 2)],
        [(0, 6), (4, 0)],
        [(2, 2), (3, 1)],
        [(6, 0), (0, 6)],
    ] {
        let mut scene = Scene::new();
        scene.add_blob("a", &all).await;
        let (one, two) = (FakeSink::by_parts("one", 1), FakeSink::by_parts("two", 1));
        for (parts_of_one, parts_of_two) in lives {
            let script = |parts| {
                vec![Turn::Take; parts]
                    .into_iter()
                    .chain([Turn::FailForGood])
            };
            one.script(script(parts_of_one));
            two.script(script(parts_of_two));
            pass(&deliverer(&scene, &[&one, &two])).await;
            scene = scene.restarted().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        one.script([]);
        two.script([]);
        deliver_all(&scene, &deliverer(&scene, &[&one, &two])).await;
        assert!(one.taken() == all && two.taken() == all, "{lives:?}");
        let stream = scene.stream().await;
        assert_eq!(
            (stream.delivered_count, stream.delivered_record_count),
            (1, 800)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_half_taken_is_repeated_and_no_other() {
    let all = large_records(0, 500);
    let scene = Scene::new();
    scene.add_blob("a", &all).await;
    let sink = FakeSink::by_parts("http", 1);
    sink.script([Turn::Take, Turn::TakeSome(7), Turn::FailForGood]);
    pass(&deliverer(&scene, &[&sink])).await;
    let scene = scene.restarted().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    let mut taken = sink.taken_sorted();
    assert_eq!(taken.len(), 507);
    taken.dedup();
    assert_eq!(taken, all);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_dropped_loses_nothing_and_holds_nothing() {
    let scene = Scene::new();
    let sink = FakeSink::with_position("file");
    sink.script([Turn::Take, Turn::TakeIn(Duration::from_secs(50))]);
    let deliverer = deliverer_with(&scene, &[&sink], 1, 64 * MIB);
    scene.add_blob("blob-0", &records(0, 4)).await;
    pass(&deliverer).await;
    for number in 1..5 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 4, 4))
            .await;
    }
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let dropped = tokio::time::timeout(
        Duration::from_secs(20),
        deliverer.deliver_due(&stop, &hurry),
    )
    .await;
    assert!(dropped.is_err());
    let committed = sink.taken().len();
    // What nobody works on any more is renewed no more, so it comes again when its lease has run out.
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(scene.ledger.call_count("renew"), 0);
    assert_eq!(deliverer.memory.held_bytes(), 0);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken_sorted(), records(0, 20));
    assert_eq!(
        sink.resumed(),
        [Some(committed.to_string())],
        "it was interrupted while it wrote"
    );
}
