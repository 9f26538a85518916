//! The race against expiry: what expires first is fetched first, and what is gone already holds up nothing.

use activity_api::{ContentId, Window};
use ledger::UndeliveredState;

use super::*;
use crate::sinks::testing::records;
use crate::testing::{Answer, CONTENT_TYPE, blob_text, seen, start};

const HOUR: Duration = Duration::from_secs(3600);

/// Notes a blob that Microsoft has, with so much time left.
async fn note(scene: &Scene, name: &str, expires_in: Duration, answer: Answer) {
    scene.microsoft.on(&format!("blob/{name}"), [answer]);
    let mut blob = seen(tenant(), name);
    blob.expires_at = start() + expires_in;
    scene
        .ledger
        .note_seen(vec![blob], scene.now())
        .await
        .unwrap();
}

/// The names of the blobs that were asked for, in order.
fn asked(scene: &Scene) -> Vec<String> {
    scene
        .microsoft
        .sent()
        .iter()
        .filter_map(|request| {
            let (_, name) = request.uri().path().split_once("/audit/")?;
            Some(name.to_owned())
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_fetched_in_the_order_in_which_it_expires() {
    let scene = Scene::new();
    // Noted in another order than they expire in.
    let numbers: Vec<u32> = (0..60).map(|index| (index * 37) % 60).collect();
    for number in &numbers {
        let text = blob_text(&records(*number as usize, 1));
        note(
            &scene,
            &format!("blob-{number:02}"),
            HOUR * (number + 1),
            Answer::ok(text),
        )
        .await;
    }
    let sink = FakeSink::new("file");
    // One at a time, so that the order can be seen.
    let deliverer = deliverer_with(&scene, &[&sink], 1, 64 * MIB);
    assert_eq!(pass(&deliverer).await.delivered_blobs, 60);
    let asked = asked(&scene);
    assert!(asked.is_sorted(), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn blobs_that_are_gone_are_named_with_hour_and_reason_and_hold_up_no_other() {
    let scene = Scene::new();
    for number in 0..40_u32 {
        let answer = match number % 2 {
            0 => Answer::refused(400, "AF20051"),
            _ => Answer::ok(blob_text(&records(number as usize, 1))),
        };
        note(&scene, &format!("blob-{number:02}"), HOUR, answer).await;
    }
    let sink = FakeSink::new("file");
    let began = Instant::now();
    let counts = pass(&deliverer(&scene, &[&sink])).await;
    assert_eq!((counts.expired_blobs, counts.delivered_blobs), (20, 20));
    assert!(began.elapsed() < Duration::from_secs(5));

    let hour = Window::new(start(), start() + HOUR).unwrap();
    let gone = scene
        .ledger
        .undelivered(tenant(), CONTENT_TYPE, hour, None, 100)
        .await
        .unwrap();
    assert_eq!(gone.len(), 20);
    assert_eq!(gone[0].content_id, ContentId::canonical("blob-00"));
    for blob in gone {
        assert_eq!(blob.state, UndeliveredState::Expired);
        assert_eq!(blob.created_at, start());
        let reason = blob.reason.expect("it is said why");
        assert!(reason.contains("expired"), "{reason}");
    }
}
