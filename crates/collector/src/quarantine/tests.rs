//! The bound and its alarms, and how an item is shown.

use std::sync::Arc;

use activity_api::{ContentId, ContentType};
use expect_test::expect;
use jiff::{SignedDuration, Timestamp};
use ledger::{QuarantinedItem, StreamSummary, Summary};

use super::*;
use crate::status::{Live, view};
use crate::testing::{CONTENT_TYPE, Scene, start, tenant};

/// A ledger's numbers with so many bytes in quarantine.
fn holding(bytes: u64) -> Summary {
    Summary {
        streams: vec![StreamSummary {
            quarantined_byte_count: bytes,
            ..StreamSummary::empty(tenant(), CONTENT_TYPE)
        }],
    }
}

fn trouble(live: &Live, bytes: u64) -> Option<String> {
    let troubles = view(&holding(bytes), Some(live), start()).troubles;
    troubles
        .into_iter()
        .find(|trouble| trouble.contains("the quarantine"))
}

#[tokio::test(start_paused = true)]
async fn the_alarm_comes_at_four_fifths_and_again_when_something_finds_no_room() {
    let scene = Scene::new();
    let live = Live::new(start());
    let bound = Bound::new(1_000, live.clone());
    bound.measured(bound.look(), &holding(799), start());
    assert_eq!(trouble(&live, 799), None);
    bound.measured(bound.look(), &holding(800), start());
    assert_eq!(
        trouble(&live, 800).unwrap(),
        "the quarantine is filling up: 800 B of 1000 B"
    );
    // The scene's ledger has nothing in quarantine, which is asked for only once the last look is old.
    let refused = bound.take(300, &*scene.ledger, start()).await;
    let full = Full {
        held: 800,
        max_bytes: 1_000,
    };
    assert!(matches!(refused, Err(NoRoom::Full(found)) if found == full));
    assert_eq!(
        trouble(&live, 800).unwrap(),
        "the quarantine is full, what should go there waits: 800 B of 1000 B"
    );
    // Somebody makes room.
    let later = start() + SignedDuration::from_secs(5);
    bound.take(300, &*scene.ledger, later).await.unwrap();
    assert_eq!(trouble(&live, 300), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_counted_before_it_is_set_aside() {
    let scene = Scene::new();
    let bound = Arc::new(Bound::new(1_000, Live::new(start())));
    let takes = (0..10).map(|_| bound.take(300, &*scene.ledger, start()));
    let taken = futures::future::join_all(takes).await;
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 3);
}

#[test]
fn an_item_is_two_lines_for_a_person_and_one_object_for_a_program() {
    let at: Timestamp = "2026-07-16T09:00:03Z".parse().unwrap();
    let item = ItemView::new(&QuarantinedItem {
        id: 7,
        tenant: tenant(),
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical("20260716$a"),
        record_index: Some(3),
        sink: Some("alertlogic".parse().unwrap()),
        reason: "the service answers 400 to it\nand more".to_owned(),
        byte_count: 1_234,
        quarantined_at: at,
        is_retried: true,
    });
    expect![[r#"
        item
           7  record 3 of blob 20260716$a, 1.2 KiB, since 2026-07-16 09:00:03Z, being retried
              tenant bf8d32d3-1c13-4487-af02-80dba2236485  Audit.Exchange, refused by sink alertlogic: the service answers 400 to it and more
    "#]]
    .assert_eq(&format!("item\n{}", to_text(&item)));
    expect![[r#"{"id":7,"tenant":"bf8d32d3-1c13-4487-af02-80dba2236485","content_type":"Audit.Exchange","content_id":"20260716$a","record_index":3,"sink":"alertlogic","reason":"the service answers 400 to it\nand more","byte_count":1234,"quarantined_at":"2026-07-16T09:00:03Z","is_retried":true}"#]]
    .assert_eq(&serde_json::to_string(&item).unwrap());
}
