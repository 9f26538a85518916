//! Which hours are listed, and what is noted of them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::SignedDuration;

use super::*;
use crate::testing::{Answer, CONTENT_TYPE, Scene, blob_uri, start, tenant};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(text: &str) -> Timestamp {
    format!("2026-07-{text}Z").parse().unwrap()
}

#[test]
fn the_range_is_of_whole_hours_within_microsofts_reach() {
    let now = at("16T08:20:00");
    let planned = |from: &str, to: &str| {
        plan_range(at(from), at(to), now).map(|range| (range.start(), range.end()))
    };
    assert_eq!(
        planned("16T02:30:00", "16T04:00:01"),
        Some((at("16T02:00:00"), at("16T05:00:00")))
    );
    assert_eq!(
        planned("16T07:30:00", "16T12:00:00"),
        Some((at("16T07:00:00"), now)),
        "the hour that is not over is listed up to now"
    );
    // 167 hours before 08:20 on the 16th it was 09:20 on the 9th.
    assert_eq!(
        planned("01T00:00:00", "09T12:00:00"),
        Some((at("09T10:00:00"), at("09T12:00:00")))
    );
    assert_eq!(planned("01T00:00:00", "09T10:00:00"), None);
}

#[tokio::test(start_paused = true)]
async fn each_hour_is_listed_and_noted_and_one_that_fails_stops_only_its_content_type() {
    let scene = Scene::new();
    let entry = |name: &str| {
        let (uri, created) = (blob_uri(tenant(), name), start() - HOUR * 2);
        format!(
            r#"[{{"contentType":"Audit.Exchange","contentId":"{name}","contentUri":"{uri}","contentCreated":"{created}","contentExpiration":"{}"}}]"#,
            created + HOUR * 168
        )
    };
    scene
        .microsoft
        .on("content", [Answer::ok(entry("a")), Answer::ok(entry("b"))]);
    let doors: Doors = HashMap::from([(tenant(), Arc::new(scene.door(tenant())))]);
    let range = Window::new(start() - HOUR * 2, start()).unwrap();
    let streams = [
        (tenant(), CONTENT_TYPE),
        (crate::testing::other_tenant(), CONTENT_TYPE),
    ];
    let told = std::sync::atomic::AtomicU64::new(0);
    let progress = list_range(
        &doors,
        &streams,
        range,
        &*scene.ledger,
        &*scene.clock,
        &CancellationToken::new(),
        &|_| {
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        },
    )
    .await;
    assert_eq!((progress.listed_hours, progress.all_hours), (2, 4));
    assert_eq!((progress.found_blobs, progress.new_blobs), (2, 2));
    assert_eq!(progress.failures.len(), 1);
    assert!(progress.failures[0].contains("is not configured"));
    assert_eq!(told.into_inner(), 3, "two hours and a failure");
    let coverage = scene.ledger.coverage(tenant(), CONTENT_TYPE, range);
    let coverage = coverage.await.unwrap();
    assert_eq!(coverage.began_at, Some(start() - HOUR * 2));
    assert_eq!(coverage.windows.len(), 2);
    assert_eq!(coverage.pending_count, 2);
}

/// Lists so many hours back of one content type.
async fn list_back(scene: &Scene, hour_count: i32) -> Progress {
    let doors: Doors = HashMap::from([(tenant(), Arc::new(scene.door(tenant())))]);
    let range = Window::new(start() - HOUR * hour_count, start()).unwrap();
    list_range(
        &doors,
        &[(tenant(), CONTENT_TYPE)],
        range,
        &*scene.ledger,
        &*scene.clock,
        &CancellationToken::new(),
        &|_| {},
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn hours_whose_pages_are_bad_are_listed_later_and_hold_up_no_other() {
    let scene = Scene::new();
    // Four hours in a row have a page that leads astray however often it is asked for, then all is well.
    let astray = || Answer::ok("[]").header("NextPageUri", "https://elsewhere.example/page");
    scene
        .microsoft
        .on("content", std::iter::repeat_with(astray).take(4 * 5));
    scene.microsoft.on(
        "content",
        std::iter::repeat_with(|| Answer::ok("[]")).take(10),
    );
    let progress = list_back(&scene, 6).await;
    assert_eq!(progress.failures, Vec::<String>::new());
    assert_eq!((progress.listed_hours, progress.all_hours), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_is_not_asked_for_every_hour() {
    let scene = Scene::new();
    let down = || Answer::status(500, "");
    scene
        .microsoft
        .on("content", std::iter::repeat_with(down).take(1_000));
    let progress = list_back(&scene, 100).await;
    assert_eq!(progress.failures.len(), 1);
    assert_eq!(scene.microsoft.count("content"), 3 * 5);
}
