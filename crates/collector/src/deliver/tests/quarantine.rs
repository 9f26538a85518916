//! What is retried from quarantine, and what happens when there is no room in it.

use ledger::QuarantinedItem;

use super::*;
use crate::quarantine::Bound;
use crate::sinks::testing::{record, records};
use crate::testing::{Answer, Turn, blob_text};

/// All that is in quarantine.
async fn items(scene: &Scene) -> Vec<QuarantinedItem> {
    scene.ledger.quarantined(0, 100).await.unwrap()
}

async fn retry(scene: &Scene, id: u64) {
    let retried = scene.ledger.retry_quarantined(id, scene.now());
    assert!(retried.await.unwrap(), "item {id} is there");
}

/// A deliverer with room for so many bytes in quarantine.
fn bounded(scene: &Scene, sinks: &[&Arc<FakeSink>], max_bytes: u64) -> Arc<Deliverer> {
    let mut deliverer = deliverer(scene, sinks);
    let bound = Bound::new(max_bytes, deliverer.live.clone());
    Arc::get_mut(&mut deliverer).unwrap().quarantine = Arc::new(bound);
    deliverer
}

/// A scene in which sink `picky` has refused the middle one of three records, and the item that this made.
async fn refused() -> (Scene, Arc<FakeSink>, Arc<FakeSink>, QuarantinedItem) {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 3)).await;
    let (picky, other) = (FakeSink::new("picky"), FakeSink::new("other"));
    picky.script([Turn::Refuse(vec![1])]);
    pass(&deliverer(&scene, &[&picky, &other])).await;
    let [item] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    (scene, picky, other, item)
}

#[tokio::test(start_paused = true)]
async fn a_retried_record_reaches_the_sink_that_refused_it_and_no_other() {
    let (scene, picky, other, item) = refused().await;
    retry(&scene, item.id).await;
    let counts = pass(&deliverer(&scene, &[&picky, &other])).await;
    assert_eq!(counts.delivered_blobs, 1);
    assert_eq!(picky.taken_sorted(), records(0, 3));
    assert_eq!(other.taken_sorted(), records(0, 3));
    assert_eq!(items(&scene).await, []);
    assert_eq!(scene.microsoft.blob_count(), 1, "it came from the ledger");
    let stream = scene.stream().await;
    assert_eq!((stream.pending_count, stream.leased_count), (0, 0));
    assert_eq!(
        stream.delivered_record_count, 3,
        "it was counted with its blob"
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_again_is_a_new_item_with_the_same_bytes() {
    let (scene, picky, other, item) = refused().await;
    retry(&scene, item.id).await;
    picky.script([Turn::Refuse(vec![0])]);
    pass(&deliverer(&scene, &[&picky, &other])).await;
    let [again] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    assert_ne!(again.id, item.id);
    let bytes = scene.ledger.quarantined_bytes(again.id).await.unwrap();
    assert_eq!(bytes.unwrap(), record(1).as_bytes());
    // And that one too.
    retry(&scene, again.id).await;
    pass(&deliverer(&scene, &[&picky, &other])).await;
    assert_eq!(picky.taken_sorted(), records(0, 3));
    assert_eq!(items(&scene).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_set_aside_again_when_it_is_retried() {
    let scene = Scene::new();
    let text = format!("[{},{{\"broken\": nonsense}}]", record(0));
    scene.microsoft.on("blob/a", [Answer::ok(text)]);
    scene.note("a").await;
    let sink = FakeSink::new("file");
    pass(&deliverer(&scene, &[&sink])).await;
    let [item] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    let bytes = scene.ledger.quarantined_bytes(item.id).await.unwrap();
    retry(&scene, item.id).await;
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    let [again] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    assert_ne!(again.id, item.id);
    assert_eq!(
        scene.ledger.quarantined_bytes(again.id).await.unwrap(),
        bytes
    );
    assert_eq!(sink.taken(), records(0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_broken_off_anywhere_is_neither_lost_nor_repeated() {
    // What fails, how often: until the sink's yes is on record the sink has not said it, and after that it is not asked.
    for (method, count) in [
        ("quarantined", 1),
        ("quarantined_bytes", 1),
        ("mark_delivered", 1),
    ] {
        let (scene, picky, other, item) = refused().await;
        retry(&scene, item.id).await;
        scene.ledger.fail_next(method, count);
        pass(&deliverer(&scene, &[&picky, &other])).await;
        assert_eq!(items(&scene).await.len(), 1, "{method}: it is still there");
        let scene = scene.restarted().await;
        deliver_all(&scene, &deliverer(&scene, &[&picky, &other])).await;
        assert_eq!(picky.taken_sorted(), records(0, 3), "{method}");
        assert_eq!(other.taken_sorted(), records(0, 3), "{method}");
        assert_eq!(items(&scene).await, [], "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_pass_is_dropped_comes_again_after_a_restart() {
    let (scene, picky, other, item) = refused().await;
    retry(&scene, item.id).await;
    picky.script([Turn::Hang]);
    let deliverer = deliverer(&scene, &[&picky, &other]);
    let never = CancellationToken::new();
    let dropped = tokio::time::timeout(
        Duration::from_secs(20),
        deliverer.deliver_due(&never, &never),
    );
    assert!(dropped.await.is_err(), "the sink never answers");
    assert_eq!(items(&scene).await.len(), 1);
    drop(deliverer);
    let scene = scene.restarted().await;
    deliver_all(&scene, &super::deliverer(&scene, &[&picky, &other])).await;
    assert_eq!(picky.taken_sorted(), records(0, 3));
    assert_eq!(items(&scene).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_full_quarantine_makes_the_part_wait_and_nothing_else_and_the_sink_is_not_asked_again() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 3)).await;
    let (picky, other) = (FakeSink::new("picky"), FakeSink::new("other"));
    picky.script([Turn::Refuse(vec![1])]);
    let deliverer = bounded(&scene, &[&picky, &other], 10);
    pass(&deliverer).await;
    assert_eq!(items(&scene).await, []);
    scene.add_blob("b", &records(3, 3)).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(90)).await;
        pass(&deliverer).await;
    }
    assert_eq!(scene.stream().await.delivered_count, 1, "the other blob");
    assert_eq!(scene.stream().await.pending_count, 1);
    let taken: Vec<_> = [record(0), record(2)]
        .into_iter()
        .chain(records(3, 3))
        .collect();
    assert_eq!(picky.taken_sorted(), taken, "nothing came twice");
    let range = activity_api::Window::new(scene.now() - Duration::from_secs(86_400), scene.now());
    let waiting = scene
        .ledger
        .undelivered(
            tenant(),
            crate::testing::CONTENT_TYPE,
            range.unwrap(),
            None,
            10,
        )
        .await
        .unwrap();
    let reason = waiting[0].reason.clone().unwrap();
    assert!(reason.contains("the quarantine is full"), "{reason}");

    // With room it ends like any other.
    let deliverer = {
        let mut deliverer = deliverer;
        let bound = Bound::new(1_000_000, deliverer.live.clone());
        Arc::get_mut(&mut deliverer).unwrap().quarantine = Arc::new(bound);
        deliverer
    };
    deliver_all(&scene, &deliverer).await;
    assert_eq!(picky.taken_sorted(), taken);
    let [item] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    assert_eq!(
        scene.ledger.quarantined_bytes(item.id).await.unwrap(),
        Some(record(1).into_bytes())
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_quarantine_makes_a_blob_wait_that_cannot_be_read() {
    let scene = Scene::new();
    let broken = format!("[{},{{\"broken\": nonsense}}]", record(0));
    scene.microsoft.on("blob/a", [Answer::ok(broken)]);
    scene.note("a").await;
    scene.add_blob("b", &records(1, 2)).await;
    let sink = FakeSink::new("file");
    let deliverer = bounded(&scene, &[&sink], 10);
    for _ in 0..5 {
        pass(&deliverer).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    assert_eq!(items(&scene).await, []);
    let stream = scene.stream().await;
    assert_eq!((stream.delivered_count, stream.pending_count), (1, 1));
    let view = crate::status::view(
        &scene.ledger.summary(scene.now()).await.unwrap(),
        Some(&deliverer.live),
        scene.now(),
    );
    assert!(
        view.troubles
            .iter()
            .any(|trouble| trouble.contains("the quarantine is full")),
        "{:?}",
        view.troubles
    );
    let roomy = super::deliverer(&scene, &[&sink]);
    deliver_all(&scene, &roomy).await;
    assert_eq!(items(&scene).await.len(), 1);
    assert_eq!(sink.taken_sorted(), records(0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_large_item_is_retried_within_the_bound_on_memory() {
    let scene = Scene::new();
    let large = format!(r#"{{"Id":"large","Padding":"{}"}}"#, "x".repeat(3 * MIB));
    let text = blob_text(&[record(0), large.clone()]);
    scene.microsoft.on("blob/a", [Answer::ok(text)]);
    scene.note("a").await;
    let sink = FakeSink::by_parts("file", 1);
    sink.script([Turn::Take, Turn::Refuse(vec![0])]);
    pass(&deliverer_with(&scene, &[&sink], 16, 8 * MIB)).await;
    let [item] = <[_; 1]>::try_from(items(&scene).await).unwrap();
    assert_eq!(item.byte_count, large.len() as u64);
    retry(&scene, item.id).await;
    pass(&deliverer_with(&scene, &[&sink], 16, 8 * MIB)).await;
    assert!(sink.taken() == [record(0), large]);
}
