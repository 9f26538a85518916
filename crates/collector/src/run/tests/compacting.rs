//! The ledger is kept small by whoever runs the pipeline, once a day.

use activity_api::Window;
use jiff::SignedDuration;
use ledger::Listing;

use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn once_a_day_what_is_over_eight_days_old_is_folded_and_what_is_younger_is_kept() {
    let scene = Scene::new();
    // Three hours of one day ten days ago, and three of yesterday.
    for days in [10, 1] {
        for hour in 0..3 {
            let from = start() - HOUR * (24 * days + 3 - hour);
            let listing = Listing {
                tenant: tenant(),
                content_type: CONTENT_TYPE,
                window: Window::new(from, from + HOUR).unwrap(),
                blob_count: 0,
            };
            scene.ledger.note_listed(listing, start()).await.unwrap();
        }
    }
    let windows = async || {
        let range = Window::new(start() - HOUR * 24 * 20, start()).unwrap();
        let coverage = scene.ledger.coverage(tenant(), CONTENT_TYPE, range);
        coverage.await.unwrap().windows.len()
    };
    let pipeline = pipeline(&scene, &[&FakeSink::new("file")]);
    let go_on = CancellationToken::new();
    assert_eq!(windows().await, 6);
    pipeline.compact_if_due(&go_on).await.unwrap();
    assert_eq!(windows().await, 4, "those of ten days ago are one");
    let calls = scene.ledger.call_count("compact");
    tokio::time::sleep(Duration::from_secs(23 * 3600)).await;
    pipeline.compact_if_due(&go_on).await.unwrap();
    assert_eq!(scene.ledger.call_count("compact"), calls, "once a day");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    pipeline.compact_if_due(&go_on).await.unwrap();
    assert!(scene.ledger.call_count("compact") > calls);
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_fails_is_taken_up_again() {
    let scene = Scene::new();
    let pipeline = pipeline(&scene, &[&FakeSink::new("file")]);
    scene.ledger.fail_next("compact", 1);
    let go_on = CancellationToken::new();
    pipeline.compact_if_due(&go_on).await.unwrap_err();
    pipeline.compact_if_due(&go_on).await.unwrap();
    assert_eq!(scene.ledger.call_count("compact"), 2);
}
