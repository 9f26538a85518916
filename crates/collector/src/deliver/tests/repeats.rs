//! Each record once by its `Id`, whatever repeats it and whatever fails meanwhile.

use super::*;
use crate::sinks::testing::records;
use crate::testing::Turn;

const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

fn deduping(scene: &Scene, sinks: &[&Arc<FakeSink>]) -> Arc<Deliverer> {
    let mut deliverer = deliverer(scene, sinks);
    Arc::get_mut(&mut deliverer).unwrap().dedupe = Some(KEEP);
    deliverer
}

async fn left_out(scene: &Scene) -> Vec<(String, u64)> {
    scene
        .ledger
        .counters(ledger::DUPLICATES_PREFIX)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_in_two_blobs_days_apart_is_given_to_each_sink_once() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 10)).await;
    let (one, two) = (FakeSink::new("one"), FakeSink::with_position("two"));
    let deliverer = deduping(&scene, &[&one, &two]);
    deliver_all(&scene, &deliverer).await;
    tokio::time::sleep(Duration::from_secs(5 * 24 * 3600)).await;
    scene.add_blob("b", &records(5, 10)).await;
    // All of it is known: neither sink is asked.
    scene.add_blob("c", &records(2, 4)).await;
    deliver_all(&scene, &deliverer).await;
    assert_eq!(one.taken_sorted(), records(0, 15));
    assert_eq!(two.taken_sorted(), records(0, 15));
    let stream = scene.stream().await;
    assert_eq!(
        (stream.delivered_count, stream.delivered_record_count),
        (3, 24),
        "as the blobs hold"
    );
    let nine = |sink: &str| (format!("duplicates/{sink}"), 9);
    assert_eq!(left_out(&scene).await, [nine("one"), nine("two")]);
}

#[tokio::test(start_paused = true)]
async fn a_record_twice_in_one_blob_is_given_once_and_one_without_an_id_always() {
    let scene = Scene::new();
    let mut text = records(0, 3);
    text.push(r#"{"Operation":"no id"}"#.to_owned());
    text.push(text[1].clone());
    text.push(r#"{"Id":"","Operation":"empty id"}"#.to_owned());
    text.push(text[3].clone());
    scene.add_blob("a", &text).await;
    scene.add_blob("b", &text).await;
    let sink = FakeSink::new("file");
    deliver_all(&scene, &deduping(&scene, &[&sink])).await;
    let mut expected: Vec<_> = [0, 1, 2, 3, 3, 3, 3, 5, 5]
        .map(|index: usize| text[index].clone())
        .into();
    expected.sort();
    assert_eq!(sink.taken_sorted(), expected);
    assert_eq!(left_out(&scene).await, [("duplicates/file".to_owned(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn of_two_blobs_with_one_record_that_are_under_way_at_once_it_is_given_from_one() {
    for first_fails in [false, true] {
        let scene = Scene::new();
        scene.add_blob("a", &records(0, 4)).await;
        scene.add_blob("b", &records(3, 4)).await;
        scene.add_blob("c", &records(10, 4)).await;
        let sink = FakeSink::by_parts("file", 4);
        let first = match first_fails {
            true => Turn::Fail,
            false => Turn::TakeIn(Duration::from_secs(10)),
        };
        sink.script([first, Turn::TakeIn(Duration::from_secs(10))]);
        deliver_all(&scene, &deduping(&scene, &[&sink])).await;
        let mut expected = records(0, 7);
        expected.extend(records(10, 4));
        expected.sort();
        assert_eq!(sink.taken_sorted(), expected);
        assert_eq!(left_out(&scene).await, [("duplicates/file".to_owned(), 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_sink_has_is_given_to_another_that_is_behind() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 10)).await;
    let (quick, behind) = (FakeSink::new("quick"), FakeSink::new("behind"));
    behind.always(Turn::FailForGood);
    let deliverer = deduping(&scene, &[&quick, &behind]);
    pass(&deliverer).await;
    scene.add_blob("b", &records(5, 10)).await;
    pass(&deliverer).await;
    assert_eq!(quick.taken_sorted(), records(0, 15));
    behind.script([Turn::TakeSome(3)]);
    deliver_all(&scene, &deliverer).await;
    assert_eq!(
        behind.taken_sorted(),
        records(0, 15),
        "also those that it took before it failed: once"
    );
    assert_eq!(quick.taken_sorted(), records(0, 15));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_acknowledged_is_not_remembered() {
    for has_position in [false, true] {
        let scene = Scene::new();
        scene.add_blob("a", &records(0, 4)).await;
        let sink = match has_position {
            true => FakeSink::with_position("file"),
            false => FakeSink::new("file"),
        };
        let deliverer = deduping(&scene, &[&sink]);
        // It is out, and the ledger takes no acknowledgement for a while.
        scene.ledger.fail_next("acknowledge", 5);
        pass(&deliverer).await;
        assert_eq!(sink.taken(), records(0, 4));
        deliver_all(&scene, &deliverer).await;
        scene.add_blob("b", &records(0, 6)).await;
        deliver_all(&scene, &deliverer).await;
        match has_position {
            true => assert_eq!(sink.taken(), records(0, 6), "once"),
            // Twice and not never: nobody can know that it was out.
            false => assert_eq!(sink.taken(), [records(0, 4), records(0, 6)].concat()),
        }
        assert_eq!(left_out(&scene).await, [("duplicates/file".to_owned(), 4)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_say_what_a_sink_has_is_waited_for() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    scene.add_blob("b", &records(2, 4)).await;
    let sink = FakeSink::new("file");
    let deliverer = deduping(&scene, &[&sink]);
    scene.ledger.fail_next("known_records", 2);
    pass(&deliverer).await;
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken_sorted(), records(0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_is_not_remembered_and_no_copy_of_it_vanishes() {
    let scene = Scene::new();
    let mut text = records(0, 3);
    text.push(text[1].clone());
    scene.add_blob("a", &text).await;
    let sink = FakeSink::new("picky");
    sink.script([Turn::Refuse(vec![1])]);
    let deliverer = deduping(&scene, &[&sink]);
    deliver_all(&scene, &deliverer).await;
    let indexes = |items: Vec<ledger::QuarantinedItem>| -> Vec<_> {
        items.into_iter().map(|item| item.record_index).collect()
    };
    let quarantined = scene.ledger.quarantined(0, 10).await.unwrap();
    assert_eq!(indexes(quarantined), [Some(1), Some(3)]);
    assert_eq!(sink.taken(), [text[0].clone(), text[2].clone()]);
    // By now it takes it.
    scene.add_blob("b", &text).await;
    deliver_all(&scene, &deliverer).await;
    assert_eq!(sink.taken_sorted(), records(0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_outlives_the_process_and_ends_with_its_time() {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 4)).await;
    let sink = FakeSink::new("file");
    let first = deduping(&scene, &[&sink]);
    deliver_all(&scene, &first).await;
    drop(first);
    let scene = scene.restarted().await;
    let second = deduping(&scene, &[&sink]);
    scene.add_blob("b", &records(0, 4)).await;
    deliver_all(&scene, &second).await;
    assert_eq!(sink.taken(), records(0, 4));
    tokio::time::sleep(KEEP + KEEP / 7).await;
    scene.add_blob("c", &records(0, 4)).await;
    deliver_all(&scene, &second).await;
    assert_eq!(sink.taken(), [records(0, 4), records(0, 4)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_delivered_once_however_often_it_is_seen_and_under_which_of_its_ids() {
    let scene = Scene::new();
    let listed = "20260716080012345$20260716081530044$audit_exchange$Audit_Exchange$emea0039";
    let notified = [
        format!("{listed}$IsFromNotification"),
        format!("{listed}$emea0039"),
        format!("{listed}$emea0039$IsFromNotification"),
    ];
    let answer = crate::testing::Answer::ok(crate::testing::blob_text(&records(0, 5)));
    // Wherever it is said to be, there is the same; a second look would find it.
    for name in notified.iter().map(String::as_str).chain([listed]) {
        scene
            .microsoft
            .on(&format!("blob/{name}"), [answer.clone()]);
    }
    let see = async |name: &str, seen_via| {
        let seen = ledger::SeenBlob {
            seen_via,
            ..crate::testing::seen(tenant(), name)
        };
        scene
            .ledger
            .note_seen(vec![seen], scene.now())
            .await
            .unwrap()
    };
    let sink = FakeSink::new("file");
    let deliverer = deliverer(&scene, &[&sink]);
    assert_eq!(see(&notified[0], ledger::SeenVia::Notification).await, 1);
    // Listed before it is fetched, and listed twice.
    assert_eq!(see(listed, ledger::SeenVia::Listing).await, 0);
    assert_eq!(see(listed, ledger::SeenVia::Listing).await, 0);
    deliver_all(&scene, &deliverer).await;
    // Notified once more, in each way, and listed again hours and days later.
    for name in &notified {
        assert_eq!(see(name, ledger::SeenVia::Notification).await, 0);
    }
    for hours in [6, 18, 48] {
        tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
        assert_eq!(see(listed, ledger::SeenVia::Listing).await, 0);
        pass(&deliverer).await;
    }
    assert_eq!(sink.taken(), records(0, 5));
    assert_eq!(scene.microsoft.blob_count(), 1);
    assert_eq!(scene.stream().await.delivered_count, 1);
}
