//! Sinks that are down for hours, hang or are slow: what they cost meanwhile, and that everything arrives afterwards.

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Answer, Turn, blob_text, gzip, large_records, seen};

/// Passes as a host makes them, for this long. A new blob becomes known at every fifth minute.
async fn host(scene: &Scene, deliverer: &Arc<Deliverer>, hours: u64) -> usize {
    let ends = Instant::now() + Duration::from_secs(hours * 3600);
    let (mut known, mut next) = (0, Instant::now());
    while Instant::now() < ends {
        if Instant::now() >= next {
            scene
                .add_blob(&format!("blob-{known}"), &records(known * 5, 5))
                .await;
            known += 1;
            next += Duration::from_secs(300);
        }
        // Asserts that no memory is held behind it.
        pass(deliverer).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    known
}

/// Passes every two seconds until nothing is pending; how long that took.
async fn recover(scene: &Scene, deliverer: &Arc<Deliverer>) -> Duration {
    let started = Instant::now();
    loop {
        pass(deliverer).await;
        if scene.stream().await.pending_count == 0 {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(3600), "never");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_six_hours_costs_one_trial_a_minute_and_has_everything_soon_after()
{
    let scene = Scene::new();
    let (good, down) = (FakeSink::new("good"), FakeSink::new("down"));
    down.always(Turn::Fail);
    let deliverer = deliverer(&scene, &[&good, &down]);
    let count = host(&scene, &deliverer, 6).await;
    assert_eq!(
        good.taken_sorted(),
        records(0, count * 5),
        "the other sink misses nothing"
    );
    // Each blob once for the sink that works; beyond that, one for each trial.
    let in_vain = scene.microsoft.blob_count() - count;
    assert!(
        in_vain <= 6 * 80,
        "{in_vain} blobs were fetched for a sink that was down"
    );

    down.script([]);
    let took = recover(&scene, &deliverer).await;
    assert!(took <= Duration::from_secs(120), "{took:?}");
    assert_eq!(down.taken_sorted(), records(0, count * 5));
    assert_eq!(good.taken_sorted(), records(0, count * 5), "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn while_the_only_sink_is_down_one_blob_a_minute_is_fetched_and_no_other() {
    let scene = Scene::new();
    let sink = FakeSink::new("file");
    sink.always(Turn::FailForGood);
    let deliverer = deliverer(&scene, &[&sink]);
    let count = host(&scene, &deliverer, 6).await;
    let fetched = scene.microsoft.blob_count();
    assert!(fetched <= 6 * 80, "{fetched} blobs were fetched");
    sink.script([]);
    let took = recover(&scene, &deliverer).await;
    assert!(took <= Duration::from_secs(120), "{took:?}");
    assert_eq!(sink.taken_sorted(), records(0, count * 5));
    assert!(scene.microsoft.blob_count() <= fetched + count);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_over_single_parts_keeps_no_more_than_its_share_of_their_texts() {
    let scene = Scene::new();
    let all = large_records(0, 500);
    for number in 0..24 {
        let answer = || Answer::ok(gzip(blob_text(&all).as_bytes()));
        let answer = || answer().header("Content-Encoding", "gzip");
        let name = format!("blob-{number}");
        scene
            .microsoft
            .on(&format!("blob/{name}"), [answer(), answer()]);
        let seen = vec![seen(tenant(), &name)];
        scene.ledger.note_seen(seen, scene.now()).await.unwrap();
    }
    // Each text has four parts, which come to the sink one by one.
    let (good, hung) = (FakeSink::new("good"), FakeSink::by_parts("hung", 16));
    hung.always(Turn::Hang);
    let deliverer = deliverer_with(&scene, &[&good, &hung], 16, 64 * MIB);
    let hurry = CancellationToken::new();
    let running = in_background(&deliverer, &hurry);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(good.taken().len(), 24 * 500, "in two minutes");
    let held = deliverer.memory.held_bytes();
    assert!((1..=7 * MIB).contains(&held), "{held} bytes");
    hurry.cancel();
    running.await.unwrap();
    assert_eq!(deliverer.memory.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_with_its_share_of_the_memory_stops_no_other() {
    let scene = Scene::new();
    for number in 0..12 {
        scene
            .add_blob(&format!("blob-{number}"), &large_records(number * 500, 500))
            .await;
    }
    let (good, hung) = (FakeSink::new("good"), FakeSink::by_parts("hung", 16));
    hung.always(Turn::Hang);
    // A store of 2.7 MiB, of which a sink may have a quarter under way: a part.
    let deliverer = deliverer_with(&scene, &[&good, &hung], 16, 8 * MIB);
    let hurry = CancellationToken::new();
    let running = in_background(&deliverer, &hurry);
    let mut most = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        most = most.max(deliverer.memory.held_bytes());
    }
    assert!(most <= 3 * MIB, "{most}");
    assert_eq!(
        good.taken_sorted(),
        large_records(0, 6_000),
        "in two minutes"
    );
    assert!(hung.taken().is_empty());
    let held = deliverer.memory.held_bytes();
    assert!(
        (1..=MIB).contains(&held),
        "{held} bytes in the hands of the sink that hangs"
    );
    assert_eq!(
        scene.microsoft.blob_count(),
        12,
        "nothing is fetched for it in vain"
    );

    hurry.cancel();
    running.await.unwrap();
    assert_eq!(deliverer.memory.held_bytes(), 0);
    hung.script([]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(hung.taken_sorted(), large_records(0, 6_000));
    assert_eq!(
        good.taken_sorted(),
        large_records(0, 6_000),
        "nothing twice"
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_never_ends_is_given_up_after_half_an_hour_and_made_again() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let sink = FakeSink::with_position("file");
    sink.script([Turn::Hang]);
    let deliverer = deliverer(&scene, &[&sink]);
    let started = Instant::now();
    assert_eq!(pass(&deliverer).await.retried_blobs, 1);
    let took = started.elapsed().as_secs();
    assert!((1_800..1_830).contains(&took), "{took}");
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken(), records(0, 5));
    assert_eq!(
        sink.resumed(),
        [None],
        "what it may have half written is taken back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_is_waited_for_and_nothing_is_fetched_twice_on_its_account() {
    let scene = Scene::new();
    for number in 0..8 {
        scene
            .add_blob(&format!("blob-{number}"), &large_records(number * 500, 500))
            .await;
    }
    let (fast, slow) = (FakeSink::new("fast"), FakeSink::by_parts("slow", 1));
    slow.always(Turn::TakeIn(Duration::from_secs(25)));
    let deliverer = deliverer_with(&scene, &[&fast, &slow], 16, 8 * MIB);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(slow.taken_sorted(), large_records(0, 4_000));
    assert_eq!(fast.taken_sorted(), large_records(0, 4_000));
    assert_eq!(scene.microsoft.blob_count(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_every_try_refuses_is_set_aside_once_and_the_others_arrive() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let (picky, other) = (FakeSink::new("picky"), FakeSink::new("other"));
    picky.script([Turn::Fail, Turn::Refuse(vec![3])]);
    let deliverer = deliverer(&scene, &[&picky, &other]);
    deliver_all(&scene, &deliverer).await;
    let mut without = records(0, 5);
    let refused = without.remove(3);
    assert_eq!(picky.taken(), without);
    assert_eq!(other.taken(), records(0, 5));
    let quarantined = scene.ledger.quarantined(0, 10).await.unwrap();
    assert_eq!(quarantined.len(), 1);
    let bytes = scene.ledger.quarantined_bytes(quarantined[0].id).await;
    assert_eq!(bytes.unwrap().unwrap(), refused.as_bytes());
}
