//! What comes in one batch, and what becomes of its records one by one.

use super::*;
use crate::sinks::testing::{record, records};
use crate::testing::{Answer, Turn, blob_text, large_records, seen};

#[tokio::test(start_paused = true)]
async fn records_that_a_sink_can_never_take_are_quarantined_with_their_bytes_and_the_blobs_are_delivered()
 {
    let scene = Scene::new();
    scene.add_blob("a", &records(0, 3)).await;
    scene.add_blob("b", &records(3, 3)).await;
    let (picky, other) = (FakeSink::new("picky"), FakeSink::new("other"));
    // Both blobs may come in one batch or in two.
    picky.always(Turn::Refuse(vec![1, 4]));
    let counts = pass(&deliverer(&scene, &[&picky, &other])).await;
    assert_eq!((counts.delivered_blobs, counts.delivered_records), (2, 6));
    assert_eq!(other.taken_sorted(), records(0, 6));
    let items = scene.ledger.quarantined(0, 10).await.unwrap();
    assert_eq!(items.len() + picky.taken().len(), 6);
    let mut found = Vec::new();
    for item in &items {
        found.push(String::from_utf8(bytes_of(&scene, item).await).unwrap());
    }
    found.extend(picky.taken());
    found.sort();
    assert_eq!(found, records(0, 6));
    for item in items {
        assert_eq!(item.sink.as_ref().unwrap().as_str(), "picky");
        let first = if item.content_id.as_str() == "a" {
            0
        } else {
            3
        };
        let index = usize::try_from(item.record_index.unwrap()).unwrap();
        assert_eq!(
            bytes_of(&scene, &item).await,
            record(first + index).as_bytes(),
            "the index is the record's own"
        );
    }
    let stream = scene.stream().await;
    assert_eq!(
        (stream.delivered_count, stream.quarantined_record_count),
        (2, counts.quarantined)
    );
}

#[tokio::test(start_paused = true)]
async fn refused_records_of_later_parts_are_found_by_their_place_in_the_blob() {
    let scene = Scene::new();
    let all = large_records(0, 300);
    scene.add_blob("a", &all).await;
    let sink = FakeSink::new("file");
    sink.always(Turn::Refuse(vec![0]));
    pass(&deliverer(&scene, &[&sink])).await;
    let items = scene.ledger.quarantined(0, 10).await.unwrap();
    assert_eq!(items.len(), sink.batches().len());
    for item in items {
        let index = usize::try_from(item.record_index.unwrap()).unwrap();
        assert_eq!(bytes_of(&scene, &item).await, all[index].as_bytes());
    }
    assert_eq!(scene.stream().await.delivered_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_records_of_several_tenants_unless_the_sink_keeps_them_apart() {
    let scene = Scene::new();
    let mut expected = Vec::new();
    for number in 0..40 {
        let tenant = if number % 2 == 0 {
            tenant()
        } else {
            other_tenant()
        };
        let name = format!("blob-{number}");
        let text = records(number * 3, 3)
            .iter()
            .map(|text| text.replace("Update", &tenant.to_string()))
            .collect::<Vec<_>>();
        scene
            .microsoft
            .on(&format!("blob/{name}"), [Answer::ok(blob_text(&text))]);
        scene
            .ledger
            .note_seen(vec![seen(tenant, &name)], scene.now())
            .await
            .unwrap();
        expected.extend(text);
    }
    let together = FakeSink::new("together");
    let apart = FakeSink::keeping_tenants_apart("apart");
    for sink in [&together, &apart] {
        sink.always(Turn::TakeIn(Duration::from_secs(1)));
    }
    pass(&deliverer(&scene, &[&together, &apart])).await;
    expected.sort();
    // Of each batch, how many records it has, and how many of them are the first tenant's.
    let counts = |sink: &FakeSink| -> Vec<_> {
        assert_eq!(sink.taken_sorted(), expected);
        let of_first = |text: &&String| text.contains(&tenant().to_string());
        let batches = sink.batches().into_iter();
        batches
            .map(|batch| (batch.len(), batch.iter().filter(of_first).count()))
            .collect()
    };
    let counts = (counts(&together), counts(&apart));
    let is_of_one = |&(all, of_first): &(usize, usize)| of_first == 0 || of_first == all;
    let shares = |&(all, _): &(usize, usize)| all > 3;
    assert!(!counts.0.iter().all(is_of_one), "{counts:?}");
    assert!(counts.1.iter().all(is_of_one), "{counts:?}");
    assert!(counts.1.iter().any(shares), "{counts:?}");
    assert!(counts.0.len() < counts.1.len(), "{counts:?}");
}

/// A sink that is busy with a blob of its own while the parts of the blob `a` gather, so that they come in one batch.
async fn busy_sink(scene: &Scene, then: impl IntoIterator<Item = Turn>) -> Arc<FakeSink> {
    scene.add_blob("before", &records(0, 1)).await;
    let sink = FakeSink::new("busy");
    sink.script(
        [Turn::TakeIn(Duration::from_secs(10))]
            .into_iter()
            .chain(then),
    );
    sink
}

#[tokio::test(start_paused = true)]
async fn refused_records_anywhere_in_a_batch_are_found_in_their_blob() {
    let scene = Scene::new();
    let sink = busy_sink(&scene, [Turn::Refuse(vec![1, 3, 5])]).await;
    for (name, first) in [("a", 1), ("b", 3)] {
        scene.note(name).await;
        let answer = Answer::ok(blob_text(&records(first, 2 * first)))
            .after(Duration::from_secs(first as u64));
        scene.microsoft.on(&format!("blob/{name}"), [answer]);
    }
    assert_eq!(pass(&deliverer(&scene, &[&sink])).await.delivered_blobs, 3);
    assert_eq!(sink.batches()[1].len(), 8, "both blobs came in one batch");
    let items = scene.ledger.quarantined(0, 10).await.unwrap();
    let mut found = Vec::new();
    for item in &items {
        found.push((
            item.content_id.as_str(),
            item.record_index,
            bytes_of(&scene, item).await,
        ));
    }
    let expected = [
        ("a", 1, record(2)),
        ("b", 1, record(4)),
        ("b", 3, record(6)),
    ];
    assert_eq!(
        found,
        expected.map(|(name, index, text)| (name, Some(index), text.into_bytes()))
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_was_partly_taken_the_whole_parts_are_not_repeated() {
    let scene = Scene::new();
    let sink = busy_sink(&scene, [Turn::TakeSome(200), Turn::FailForGood]).await;
    let all = large_records(0, 500);
    scene.note("a").await;
    scene.microsoft.on(
        "blob/a",
        [Answer::ok(blob_text(&all)).after(Duration::from_secs(1))],
    );
    let deliverer = deliverer(&scene, &[&sink]);
    pass(&deliverer).await;
    assert_eq!(sink.batches()[1].len(), 500, "all parts came in one batch");
    deliver_all(&scene, &deliverer).await;
    let taken = sink.taken();
    let first_part = taken[201..]
        .iter()
        .position(|text| *text == all[200])
        .unwrap();
    assert!(
        (1..200).contains(&first_part),
        "the part that was half taken is repeated, those before it are not"
    );
    assert_eq!(taken.len(), 501 + first_part);
    let mut taken = sink.taken_sorted();
    taken.dedup();
    assert_eq!(taken[1..].to_vec(), all[..]);
}
