//! Sinks that let go of a batch's text before it has arrived: what that makes room for, and that nothing is lost by it.

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Turn, large_records};

#[tokio::test(start_paused = true)]
async fn text_that_a_sink_lets_go_of_makes_room_for_more_before_it_has_arrived() {
    let under_way = async |sink: Arc<FakeSink>| {
        let scene = Scene::new();
        for number in 0..12 {
            let records = large_records(number * 500, 500);
            scene.add_blob(&format!("blob-{number}"), &records).await;
        }
        sink.always(Turn::Hang);
        // Room for a part or two under way.
        let deliverer = deliverer_with(&scene, &[&sink], 16, 8 * MIB);
        let hurry = CancellationToken::new();
        let running = in_background(&deliverer, &hurry);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let count = sink.batches().len();
        hurry.cancel();
        running.await.unwrap();
        assert_eq!(deliverer.memory.held_bytes(), 0);
        count
    };
    assert!(under_way(FakeSink::by_parts("far", 10)).await <= 3);
    assert_eq!(under_way(FakeSink::letting_go("far", 10)).await, 10);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_does_not_take_after_letting_go_of_it_is_fetched_again() {
    let scene = Scene::new();
    for number in 0..4 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 5, 5))
            .await;
    }
    let sink = FakeSink::letting_go("far", 1);
    sink.script([Turn::Fail, Turn::Take, Turn::TakeSome(2), Turn::Panic]);
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    let mut taken = sink.taken_sorted();
    taken.dedup();
    assert_eq!(taken, records(0, 20));
    assert_eq!(scene.stream().await.delivered_count, 4);
    assert_eq!(
        scene.microsoft.blob_count(),
        4 + 3,
        "once more for each batch that failed"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_let_go_of_in_vain_is_kept_when_it_comes_again_whatever_else_arrives() {
    let scene = Scene::new();
    let sink = FakeSink::letting_go("far", 1);
    let deliverer = deliverer(&scene, &[&sink]);
    scene.add_blob("a", &records(0, 5)).await;
    scene.add_blob("b", &records(5, 5)).await;
    sink.script([Turn::Fail]);
    pass(&deliverer).await;
    assert_eq!(sink.let_go(), [true, true]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.let_go(), [true, true, false]);
    scene.add_blob("c", &records(10, 5)).await;
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.let_go(), [true, true, false, true]);
    assert_eq!(sink.taken_sorted(), records(0, 15));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_after_letting_go_does_not_count_as_the_sink_being_down() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    scene.add_blob("b", &records(5, 5)).await;
    let sink = FakeSink::letting_go("far", 1);
    sink.script([Turn::Fail]);
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!(
        (counts.delivered_blobs, counts.retried_blobs),
        (1, 1),
        "the other blob is not put back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_what_it_let_go_of_is_not_believed() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 5)).await;
    let sink = FakeSink::letting_go("far", 1);
    sink.script([Turn::Refuse(vec![1])]);
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    let mut taken = sink.taken_sorted();
    taken.dedup();
    assert_eq!(taken, records(0, 5));
    assert!(scene.ledger.quarantined(0, 10).await.unwrap().is_empty());
}
