//! Listing, against a scripted Microsoft and a real ledger.

use activity_api::NextStep;
use jiff::ToSpan as _;

use super::*;
use crate::testing::{Answer, CONTENT_TYPE, Scene, TENANT, blob_uri, start, tenant};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// A listing's entry of one blob.
fn entry(name: &str) -> String {
    let (uri, created, expires) = (blob_uri(tenant(), name), start() - HOUR, start() + 6 * DAY);
    format!(
        r#"{{"contentType":"Audit.Exchange","contentId":"{name}","contentUri":"{uri}","contentCreated":"{created}","contentExpiration":"{expires}"}}"#
    )
}

fn page(names: &[&str]) -> Answer {
    Answer::ok(format!(
        "[{}]",
        names
            .iter()
            .map(|name| entry(name))
            .collect::<Vec<_>>()
            .join(",")
    ))
}

fn page_before(names: &[&str], next: &str) -> Answer {
    page(names).header("NextPageUri", page_uri(next))
}

fn page_uri(next: &str) -> String {
    format!(
        "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/subscriptions/content?contentType=Audit.Exchange&nextPage={next}"
    )
}

async fn poll(scene: &Scene, first_lookback: Duration) -> Result<u64, Error> {
    poll_content(
        &scene.door(tenant()),
        CONTENT_TYPE,
        first_lookback,
        &*scene.ledger,
        now(scene),
    )
    .await
}

/// The scene's time in whole seconds: the budget takes up to a millisecond a request.
fn now(scene: &Scene) -> Timestamp {
    Timestamp::from_second(scene.now().as_second()).unwrap()
}

async fn listed(scene: &Scene) -> Vec<(Timestamp, Timestamp)> {
    let stretches = scene
        .ledger
        .listed_stretches(tenant(), CONTENT_TYPE)
        .await
        .unwrap();
    stretches
        .into_iter()
        .map(|stretch| (stretch.start, stretch.end))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed_to_the_end_and_an_empty_one_is_no_end() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("content", [page_before(&["a", "b"], "2")]);
    scene.microsoft.on("page/2", [page_before(&[], "3")]);
    scene
        .microsoft
        .on("page/3", [page_before(&["b", "c"], "4")]);
    scene.microsoft.on("page/4", [page(&["d"])]);
    assert_eq!(
        poll(&scene, HOUR).await.unwrap(),
        4,
        "a blob that is on two pages is one blob"
    );
    assert_eq!(scene.stream().await.pending_count, 4);
    assert_eq!(listed(&scene).await, [(start() - HOUR, start())]);
}

#[tokio::test(start_paused = true)]
async fn listing_again_finds_nothing_new_and_only_what_is_late() {
    let scene = Scene::new();
    scene.microsoft.on(
        "content",
        [
            page(&["a", "b"]),
            page(&["a", "b"]),
            page(&["a", "late", "b"]),
        ],
    );
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(poll(&scene, HOUR).await.unwrap());
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert_eq!(found, [2, 0, 1]);
    assert_eq!(
        listed(&scene).await,
        [(start() - HOUR, start() + Duration::from_secs(120))]
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_listing_goes_back_as_far_as_configured_without_a_gap() {
    let scene = Scene::new();
    poll(&scene, 3 * DAY).await.unwrap();
    assert_eq!(listed(&scene).await, [(start() - 3 * DAY, start())]);
    assert_eq!(
        scene.microsoft.count("content"),
        4,
        "no window is wider than 23 hours"
    );
    poll(&scene, 3 * DAY).await.unwrap();
    assert_eq!(scene.microsoft.count("content"), 5);
}

#[tokio::test(start_paused = true)]
async fn a_window_counts_as_listed_only_after_its_last_page() {
    let scene = Scene::new();
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    scene
        .microsoft
        .on("page/2", [Answer::status(503, ""), page(&["b"])]);
    let error = poll(&scene, HOUR).await.unwrap_err();
    assert!(matches!(error, Error::Microsoft(_)), "{error:?}");
    assert_eq!(
        scene.stream().await.pending_count,
        1,
        "what was on the first page is known"
    );
    assert_eq!(listed(&scene).await, []);
    assert_eq!(poll(&scene, HOUR).await.unwrap(), 1);
    assert_eq!(listed(&scene).await, [(start() - HOUR, start())]);
}

#[tokio::test(start_paused = true)]
async fn windows_before_the_one_that_fails_are_listed() {
    let scene = Scene::new();
    scene.microsoft.on(
        "content",
        [
            page(&["a"]),
            page(&["b"]),
            Answer::no_connection(),
            page(&["c"]),
        ],
    );
    poll(&scene, 3 * DAY).await.unwrap_err();
    assert_eq!(
        listed(&scene).await,
        [(start() - 3 * DAY, start() - 36.hours())]
    );
    poll(&scene, 3 * DAY).await.unwrap();
    assert_eq!(listed(&scene).await, [(start() - 3 * DAY, start())]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listed_that_the_ledger_did_not_take() {
    for method in ["note_seen", "note_listed"] {
        let scene = Scene::new();
        scene.microsoft.on("content", [page(&["a"])]);
        scene.ledger.fail_next(method, 1);
        assert!(matches!(poll(&scene, HOUR).await, Err(Error::Ledger(_))));
        assert_eq!(listed(&scene).await, []);
        poll(&scene, HOUR).await.unwrap();
        assert_eq!(scene.stream().await.pending_count, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_with_an_entry_that_cannot_be_used_is_not_listed_and_listed_again() {
    let scene = Scene::new();
    let hostile = entry("b").replace("manage.office.com", "evil.example");
    scene.microsoft.on(
        "content",
        [
            Answer::ok(format!("[{},{hostile},{}]", entry("a"), entry("c"))),
            page(&["a", "b", "c"]),
        ],
    );
    let error = poll(&scene, HOUR).await.unwrap_err();
    assert!(
        matches!(error, Error::UnusableEntries { count: 1, .. }),
        "{error:?}"
    );
    assert_eq!(
        scene.stream().await.pending_count,
        2,
        "the others are known"
    );
    assert_eq!(listed(&scene).await, []);
    assert_eq!(poll(&scene, HOUR).await.unwrap(), 1);
    assert_eq!(listed(&scene).await, [(start() - HOUR, start())]);
}

#[tokio::test(start_paused = true)]
async fn an_unusable_entry_of_the_very_first_window_is_asked_for_again() {
    let scene = Scene::new();
    // Two windows: if the second were noted alone, listing would go on behind it and never see the first again.
    scene.microsoft.on(
        "content",
        [
            Answer::ok(r#"[{"contentId":"odd"}]"#),
            page(&["b"]),
            page(&["odd"]),
            page(&["b"]),
        ],
    );
    poll(&scene, DAY).await.unwrap_err();
    assert_eq!(poll(&scene, DAY).await.unwrap(), 1);
    assert_eq!(scene.stream().await.pending_count, 2);
    assert_eq!(listed(&scene).await, [(start() - DAY, start())]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_can_be_listed_no_more_stays_visible_and_listing_goes_on() {
    let scene = Scene::new();
    poll(&scene, HOUR).await.unwrap();
    tokio::time::advance(9 * DAY).await;
    poll(&scene, HOUR).await.unwrap();
    let now = now(&scene);
    assert_eq!(
        listed(&scene).await,
        [(start() - HOUR, start()), (now - 167.hours(), now)]
    );
    // From here on only the last hour is listed again.
    let count = scene.microsoft.count("content");
    poll(&scene, HOUR).await.unwrap();
    assert_eq!(scene.microsoft.count("content"), count + 1);
    assert_eq!(
        scene
            .ledger
            .listed_until(tenant(), CONTENT_TYPE)
            .await
            .unwrap(),
        Some(now)
    );
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_goes_in_circles_ends() {
    let scene = Scene::new();
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    scene.microsoft.on("page/2", [page_before(&[], "2")]);
    let error = poll(&scene, HOUR).await.unwrap_err();
    assert!(matches!(error, Error::TooManyPages), "{error:?}");
    assert_eq!(listed(&scene).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_content_type_without_a_subscription_is_no_listing() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("content", [Answer::refused(400, "AF20022")]);
    let Error::Microsoft(error) = poll(&scene, HOUR).await.unwrap_err() else {
        panic!("it is Microsoft's")
    };
    assert_eq!(error.next_step(), NextStep::StartSubscription);
}
