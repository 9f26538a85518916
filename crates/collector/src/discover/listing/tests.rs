//! The listing of one hour, against a scripted Microsoft and a real ledger.

use activity_api::NextStep;

use super::super::testing::{HOUR, entry, page, page_before};
use super::*;
use crate::testing::{Answer, CONTENT_TYPE, Scene, start, tenant};

fn hour() -> Window {
    Window::new(start() - HOUR, start()).unwrap()
}

async fn list(scene: &Scene) -> Result<Listed, Error> {
    let door = scene.door(tenant());
    let mut lateness = Lateness::unwatched();
    list_watched(
        &door,
        CONTENT_TYPE,
        hour(),
        &*scene.ledger,
        &mut lateness,
        start(),
    )
    .await
}

/// How many blobs each listed window has.
async fn listed(scene: &Scene) -> Vec<u64> {
    let windows = scene
        .ledger
        .listed_windows(tenant(), CONTENT_TYPE, hour())
        .await
        .unwrap()
        .windows;
    windows.iter().map(|window| window.blob_count).collect()
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
    let brought = list(&scene).await.unwrap();
    assert_eq!(
        (brought.blob_count, brought.new_count),
        (4, 4),
        "a blob that is on two pages is one blob"
    );
    assert_eq!(scene.stream().await.pending_count, 4);
    assert_eq!(listed(&scene).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn listing_again_finds_only_what_is_late() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("content", [page(&["a", "b"]), page(&["a", "late", "b"])]);
    assert_eq!(list(&scene).await.unwrap().new_count, 2);
    let again = list(&scene).await.unwrap();
    assert_eq!((again.blob_count, again.new_count), (3, 1));
    assert_eq!(listed(&scene).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn an_hour_counts_as_listed_only_after_its_last_page() {
    let scene = Scene::new();
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    scene
        .microsoft
        .on("page/2", [Answer::status(503, ""), page(&["b"])]);
    let error = list(&scene).await.unwrap_err();
    assert!(matches!(error, Error::Microsoft(_)), "{error:?}");
    assert_eq!(
        scene.stream().await.pending_count,
        1,
        "what was on the first page is known"
    );
    assert!(listed(&scene).await.is_empty());
    assert_eq!(list(&scene).await.unwrap().new_count, 1);
    assert_eq!(listed(&scene).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_has_a_page_asked_for_again_and_no_page_before_it() {
    let scene = Scene::new();
    let door = scene.door(tenant());
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    let down = || Answer::status(503, "");
    scene
        .microsoft
        .on("page/2", [down(), down(), down(), down(), page(&["b"])]);
    let listed = list_hour(&door, CONTENT_TYPE, hour(), &*scene.ledger, start());
    assert_eq!(listed.await.unwrap().blob_count, 2);
    assert_eq!(scene.microsoft.count("content"), 1);
    // And in the end it is told.
    scene
        .microsoft
        .on("content", std::iter::repeat_with(down).take(5));
    let listed = list_hour(&door, CONTENT_TYPE, hour(), &*scene.ledger, start());
    assert!(!listed.await.unwrap_err().is_of_the_window());
    assert_eq!(scene.microsoft.count("content"), 1 + 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listed_that_the_ledger_did_not_take() {
    for method in ["note_seen", "note_listed"] {
        let scene = Scene::new();
        scene.microsoft.on("content", [page(&["a"])]);
        scene.ledger.fail_next(method, 1);
        assert!(matches!(list(&scene).await, Err(Error::Ledger(_))));
        assert!(listed(&scene).await.is_empty());
        list(&scene).await.unwrap();
        assert_eq!(scene.stream().await.pending_count, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_with_an_entry_that_cannot_be_used_is_not_listed() {
    let scene = Scene::new();
    let hostile = entry("b").replace("manage.office.com", "evil.example");
    scene.microsoft.on(
        "content",
        [
            Answer::ok(format!("[{},{hostile},{}]", entry("a"), entry("c"))),
            page(&["a", "b", "c"]),
        ],
    );
    let error = list(&scene).await.unwrap_err();
    assert!(
        matches!(error, Error::UnusableEntries { count: 1, .. }),
        "{error:?}"
    );
    assert_eq!(
        scene.stream().await.pending_count,
        2,
        "the others are known"
    );
    assert!(listed(&scene).await.is_empty());
    assert_eq!(list(&scene).await.unwrap().new_count, 1);
    assert_eq!(listed(&scene).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn pages_that_lead_back_to_one_that_was_read_end_in_an_error() {
    for back_to in ["2", "3"] {
        let scene = Scene::new();
        scene.microsoft.on("content", [page_before(&["a"], "2")]);
        scene.microsoft.on("page/2", [page_before(&["b"], "3")]);
        scene.microsoft.on("page/3", [page_before(&["c"], back_to)]);
        let error = list(&scene).await.unwrap_err();
        assert!(
            matches!(error, Error::RepeatedPage { page_count: 3, .. }),
            "{error:?}"
        );
        assert_eq!(scene.microsoft.count("content"), 1);
        assert!(listed(&scene).await.is_empty());
        assert_eq!(
            scene.stream().await.pending_count,
            2,
            "what came before is known"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_comes_twice_and_then_goes_on_costs_only_the_try() {
    let scene = Scene::new();
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    scene.microsoft.on(
        "page/2",
        [page_before(&["b"], "2"), page_before(&["b"], "3")],
    );
    scene.microsoft.on("page/3", [page(&["c"])]);
    assert!(list(&scene).await.is_err());
    assert_eq!(list(&scene).await.unwrap().blob_count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_content_type_without_a_subscription_is_no_listing() {
    let scene = Scene::new();
    scene
        .microsoft
        .on("content", [Answer::refused(400, "AF20022")]);
    let Error::Microsoft(error) = list(&scene).await.unwrap_err() else {
        panic!("it is Microsoft's")
    };
    assert_eq!(error.next_step(), NextStep::StartSubscription);
}

#[tokio::test(start_paused = true)]
async fn pages_can_be_read_without_noting_anything() {
    let scene = Scene::new();
    scene.microsoft.on("content", [page_before(&["a"], "2")]);
    scene.microsoft.on("page/2", [page(&["b"])]);
    let door = scene.door(tenant());
    let mut pages = Pages::of(&door, CONTENT_TYPE, hour());
    let mut names = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        names.extend(page.blobs.into_iter().map(|blob| blob.id.to_string()));
    }
    assert_eq!(names, ["a", "b"]);
    assert!(listed(&scene).await.is_empty());
    assert_eq!(scene.ledger.call_count("note_seen"), 0);
}
