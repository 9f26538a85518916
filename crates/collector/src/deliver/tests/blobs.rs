//! Blobs of every kind, good and bad.

use super::*;
use crate::sinks::testing::{record, records};
use crate::testing::{Answer, Turn, blob_text, large_records, seen};

#[tokio::test(start_paused = true)]
async fn every_record_of_every_blob_arrives_once_at_every_sink() {
    let scene = Scene::new();
    for number in 0..60 {
        scene
            .add_blob(&format!("blob-{number}"), &records(number * 10, 10))
            .await;
    }
    let (file, splunk) = (FakeSink::new("file"), FakeSink::by_parts("splunk", 4));
    let counts = pass(&deliverer(&scene, &[&file, &splunk])).await;
    assert_eq!(file.taken_sorted(), records(0, 600));
    assert_eq!(splunk.taken_sorted(), records(0, 600));
    assert_eq!(
        (
            counts.delivered_blobs,
            counts.delivered_records,
            counts.retried_blobs
        ),
        (60, 600, 0)
    );
    let stream = scene.stream().await;
    assert_eq!(
        (
            stream.delivered_count,
            stream.delivered_record_count,
            stream.pending_count
        ),
        (60, 600, 0)
    );
    assert_eq!(
        stream.delivered_byte_count,
        records(0, 600).concat().len() as u64
    );
    assert_eq!(scene.microsoft.blob_count(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_delivered_only_when_every_sink_has_said_yes() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 3)).await;
    let (fast, slow) = (FakeSink::new("fast"), FakeSink::new("slow"));
    slow.script([Turn::TakeIn(Duration::from_secs(100))]);
    let deliverer = deliverer(&scene, &[&fast, &slow]);
    let running = tokio::spawn(async move { pass(&deliverer).await });
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(fast.taken(), records(0, 3));
    assert_eq!(
        (
            scene.stream().await.delivered_count,
            scene.stream().await.leased_count
        ),
        (0, 1)
    );
    running.await.unwrap();
    assert_eq!(slow.taken(), records(0, 3));
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_is_delivered_and_no_sink_is_bothered() {
    let scene = Scene::new();
    scene.add_blob("a", &[]).await;
    let (one, two) = (FakeSink::new("one"), FakeSink::new("two"));
    pass(&deliverer(&scene, &[&one, &two])).await;
    let stream = scene.stream().await;
    assert_eq!(
        (stream.delivered_count, stream.delivered_record_count),
        (1, 0)
    );
    assert_eq!((one.batches().len(), two.batches().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_is_delivered_while_a_sink_is_down() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 1)).await;
    let (up, down) = (FakeSink::new("up"), FakeSink::new("down"));
    down.always(Turn::FailForGood);
    let deliverer = deliverer(&scene, &[&up, &down]);
    pass(&deliverer).await;
    scene.add_blob("empty", &[]).await;
    pass(&deliverer).await;
    assert_eq!(
        (
            scene.stream().await.delivered_count,
            scene.stream().await.pending_count
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_blob_is_noted_as_expired() {
    let scene = Scene::new();
    scene.note("gone").await;
    scene
        .microsoft
        .on("blob/gone", [Answer::refused(400, "AF20051")]);
    scene.add_blob("here", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!((counts.expired_blobs, counts.delivered_blobs), (1, 1));
    assert_eq!(
        (
            scene.stream().await.expired_count,
            scene.stream().await.delivered_count
        ),
        (1, 1)
    );
    assert_eq!(sink.taken(), records(0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_missing_blob_that_appears_is_delivered() {
    let scene = Scene::new();
    scene.note("late").await;
    let missing = [
        Answer::refused(404, "AF20050"),
        Answer::status(404, ""),
        Answer::status(410, ""),
    ];
    scene.microsoft.on(
        "blob/late",
        missing
            .into_iter()
            .chain([Answer::ok(blob_text(&records(0, 2)))]),
    );
    let sink = FakeSink::new("file");
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    assert_eq!(sink.taken(), records(0, 2));
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_stays_missing_is_asked_for_each_hour_until_its_time_is_over() {
    let scene = Scene::new();
    scene.note("never").await;
    let expires_at = scene.stream().await.nearest_pending_expires_at.unwrap();
    let sink = FakeSink::new("file");
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    assert_eq!(scene.stream().await.expired_count, 1);
    assert!(scene.now() >= expires_at, "{}", scene.now());
    let count = scene.microsoft.blob_count();
    assert!((100..200).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn a_page_in_the_place_of_every_blob_costs_none_when_it_is_gone() {
    for page in [
        Answer::ok("<html>sign in</html>"),
        Answer::status(404, "<html>not here</html>"),
    ] {
        let scene = Scene::new();
        let wanted = records(0, 3);
        for name in ["a", "b", "c"] {
            scene.note(name).await;
            scene.microsoft.on(&format!("blob/{name}"), [page.clone()]);
        }
        let sink = FakeSink::new("file");
        let deliverer = deliverer(&scene, &[&sink]);
        for _ in 0..600 {
            pass(&deliverer).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        for (name, record) in ["a", "b", "c"].iter().zip(&wanted) {
            let body = blob_text(std::slice::from_ref(record));
            scene
                .microsoft
                .on(&format!("blob/{name}"), [Answer::ok(body)]);
        }
        deliver_all(&scene, &deliverer).await;
        assert_eq!(sink.taken_sorted(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn one_doubtful_answer_after_a_long_outage_of_a_sink_ends_no_blob() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::FailForGood);
    let deliverer = deliverer(&scene, &[&sink]);
    for _ in 0..20 {
        pass(&deliverer).await;
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    assert!(attempts(&scene).await > 10);
    sink.script([]);
    let doubtful = [
        Answer::status(404, ""),
        Answer::ok("[{"),
        Answer::ok(blob_text(&records(0, 2))),
    ];
    scene.microsoft.on("blob/a", doubtful);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken(), records(0, 2));
    let stream = scene.stream().await;
    assert_eq!(
        (
            stream.delivered_count,
            stream.expired_count,
            stream.quarantined_count
        ),
        (1, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_blob_whose_id_is_none_is_quarantined() {
    let scene = Scene::new();
    scene.note("odd").await;
    scene
        .microsoft
        .on("blob/odd", [Answer::refused(400, "AF20052")]);
    let counts = pass(&deliverer(&scene, &[&FakeSink::new("file")])).await;
    assert_eq!(
        (counts.quarantined, scene.stream().await.quarantined_count),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_always_cut_short_is_quarantined_after_six_tries_and_its_whole_records_arrive_once()
 {
    let scene = Scene::new();
    scene.note("cut").await;
    let all = large_records(0, 200);
    let whole = blob_text(&all);
    let cut = &whole[..whole.len() - 100];
    scene.microsoft.on("blob/cut", [Answer::ok(cut.to_owned())]);
    let (one, two) = (FakeSink::new("one"), FakeSink::by_parts("two", 3));
    deliver_all(&scene, &deliverer(&scene, &[&one, &two])).await;
    assert_eq!(scene.microsoft.blob_count(), 6);
    assert_eq!(one.taken(), all[..199]);
    assert_eq!(two.taken_sorted(), all[..199]);
    let [item] = <[_; 1]>::try_from(scene.ledger.quarantined(0, 10).await.unwrap()).unwrap();
    assert_eq!(item.record_index, None);
    let last = &all[199];
    // The comma before it and the bracket behind are no part of a record.
    assert_eq!(
        String::from_utf8(bytes_of(&scene, &item).await).unwrap(),
        last[..last.len() - 99]
    );
    assert_eq!(scene.stream().await.quarantined_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_cut_short_once_is_delivered_without_a_repeated_record() {
    let scene = Scene::new();
    scene.note("cut").await;
    let all = large_records(0, 200);
    let whole = blob_text(&all);
    scene.microsoft.on(
        "blob/cut",
        [
            Answer::ok(whole[..whole.len() / 2].to_owned()),
            Answer::ok(whole),
        ],
    );
    let sink = FakeSink::new("file");
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    assert_eq!(sink.taken(), all);
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_is_quarantined_and_its_blob_delivered() {
    let scene = Scene::new();
    scene.note("a").await;
    let body = format!("[{},{{\"a\":}},{}]", record(1), record(2));
    scene.microsoft.on("blob/a", [Answer::ok(body)]);
    let sink = FakeSink::new("file");
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!(
        (
            counts.delivered_blobs,
            counts.delivered_records,
            counts.quarantined
        ),
        (1, 3, 1)
    );
    assert_eq!(sink.taken(), [record(1), record(2)]);
    let [item] = <[_; 1]>::try_from(scene.ledger.quarantined(0, 10).await.unwrap()).unwrap();
    let bytes = bytes_of(&scene, &item).await;
    assert_eq!(
        (item.record_index, item.sink, bytes),
        (Some(1), None, br#"{"a":}"#.to_vec())
    );
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_fetched_again_when_what_cannot_be_decoded_was_not_kept() {
    let scene = Scene::new();
    scene.note("a").await;
    scene
        .microsoft
        .on("blob/a", [Answer::ok(format!("[{},42]", record(1)))]);
    scene.ledger.fail_next("quarantine_records", 1);
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    assert_eq!(pass(&deliverer).await.delivered_blobs, 0);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken(), [record(1)]);
    assert_eq!(scene.ledger.quarantined(0, 10).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_cannot_be_collected_is_left_alone_and_no_other() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("blob/locked", [Answer::refused(401, "AF10001")]);
    scene.note("locked").await;
    scene
        .ledger
        .note_seen(vec![seen(other_tenant(), "open")], scene.now())
        .await
        .unwrap();
    scene
        .microsoft
        .on("blob/open", [Answer::ok(blob_text(&records(0, 2)))]);
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    let counts = pass(&deliverer).await;
    assert_eq!((counts.delivered_blobs, counts.retried_blobs), (1, 1));
    assert_eq!(scene.stream_of(other_tenant()).await.delivered_count, 1);
    assert_eq!(scene.stream().await.pending_count, 1);
    assert_eq!(attempts(&scene).await, 0);
    assert!(deliverer.pauses.is_paused(tenant(), scene.now()));

    // Not asked again before its pause is over, and then at once.
    pass(&deliverer).await;
    assert_eq!(scene.microsoft.count("blob/locked"), 1);
    scene
        .microsoft
        .on("blob/locked", [Answer::ok(blob_text(&records(2, 2)))]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    pass(&deliverer).await;
    assert_eq!(sink.taken(), records(0, 4));
    assert!(!deliverer.pauses.is_paused(tenant(), scene.now()));
}

#[tokio::test(start_paused = true)]
async fn a_blob_waits_for_as_long_as_microsoft_asks() {
    let scene = Scene::new();
    scene.note("a").await;
    let throttled = Answer::status(503, "").header("Retry-After", "120");
    scene
        .microsoft
        .on("blob/a", [throttled, Answer::ok(blob_text(&records(0, 1)))]);
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    tokio::time::sleep(Duration::from_secs(119)).await;
    pass(&deliverer).await;
    assert_eq!(scene.microsoft.blob_count(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    pass(&deliverer).await;
    assert_eq!(sink.taken(), records(0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_after_attempts_that_were_cut_off_costs_seconds() {
    let scene = Scene::new();
    scene.note("a").await;
    // As a process leaves it behind that is killed twenty times while it fetches.
    for _ in 0..20 {
        let leases = scene.lease_all().await;
        scene
            .ledger
            .retry_later(leases.into_iter().next().unwrap(), scene.now(), "")
            .await
            .unwrap();
    }
    let whole = Answer::ok(blob_text(&records(0, 1)));
    scene
        .microsoft
        .on("blob/a", [Answer::status(500, ""), whole]);
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    assert!(attempts(&scene).await > 20);
    tokio::time::sleep(Duration::from_secs(4)).await;
    pass(&deliverer).await;
    assert_eq!(sink.taken(), records(0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_costs_a_try_and_no_record() {
    let scene = Scene::new();
    scene.note("a").await;
    let all = large_records(0, 400);
    let text = blob_text(&all);
    let answers = [
        Answer::no_connection(),
        Answer::ok(text[..1_200_000].to_owned())
            .in_pieces(30_000)
            .then_breaks(),
        Answer::ok(text),
    ];
    scene.microsoft.on("blob/a", answers);
    let sink = FakeSink::by_parts("file", 1);
    deliver_all(&scene, &deliverer(&scene, &[&sink])).await;
    assert_eq!(
        sink.taken(),
        all,
        "parts that came before the break are not delivered twice"
    );
    assert_eq!(scene.microsoft.blob_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_one_blobs_task_quarantines_that_blob_alone() {
    let scene = Scene::new();
    scene.note("bad").await;
    scene.microsoft.on("blob/bad", [Answer::panic()]);
    scene.add_blob("good", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!((counts.quarantined, counts.delivered_blobs), (1, 1));
    let stream = scene.stream().await;
    assert_eq!(
        (
            stream.quarantined_count,
            stream.delivered_count,
            stream.leased_count
        ),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn blobs_of_a_tenant_that_is_not_configured_hide_no_others() {
    let scene = Scene::new();
    let stranger = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    // They expire first, so they are leased first, and there are more of them than are leased at once.
    let strangers = (0..30).map(|number| {
        let mut blob = seen(stranger, &format!("strange-{number}"));
        blob.expires_at = blob.created_at;
        blob
    });
    scene
        .ledger
        .note_seen(strangers.collect(), scene.now())
        .await
        .unwrap();
    scene.add_blob("ours", &records(0, 2)).await;
    let sink = FakeSink::new("file");
    let counts = pass(&deliverer_with(&scene, &[&sink], 4, 64 * MIB)).await;
    assert_eq!((counts.delivered_blobs, counts.retried_blobs), (1, 30));
    assert_eq!(scene.microsoft.blob_count(), 1);
}
