//! Rounds of listing, against a scripted Microsoft and a real ledger.

use activity_api::NextStep;
use jiff::ToSpan as _;

use super::super::testing::{DAY, HOUR, MINUTE, asked, asked_hours, entry_of, now, page, page_of};
use super::*;
use crate::discover::lateness::recall_lateness;
use crate::status;
use crate::testing::{Answer, CONTENT_TYPE, Scene, start, tenant};

/// A process that polls.
struct Poller {
    door: Microsoft,
    progress: Progress,
    live: Live,
}

impl Poller {
    fn of(scene: &Scene) -> Self {
        let live = Live::new(scene.now());
        live.add_tenant(tenant(), &[CONTENT_TYPE]);
        Self {
            door: scene.door(tenant()),
            progress: Progress::default(),
            live,
        }
    }

    async fn poll(&self, scene: &Scene, first_lookback: Duration) -> Round {
        poll_content(
            &self.door,
            CONTENT_TYPE,
            first_lookback,
            &*scene.ledger,
            &self.progress,
            &self.live,
            now(scene),
        )
        .await
    }

    /// As [`Self::poll`], when nothing may go wrong.
    async fn poll_well(&self, scene: &Scene, first_lookback: Duration) -> u64 {
        let round = self.poll(scene, first_lookback).await;
        assert!(round.failure.is_none(), "{:?}", round.failure);
        round.new_count
    }
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
async fn the_first_round_lists_hour_by_hour_as_far_back_as_configured() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    tokio::time::advance(30 * MINUTE).await;
    poller.poll_well(&scene, 3 * HOUR).await;
    assert_eq!(
        asked_hours(&scene),
        ["06:00-07:00", "07:00-08:00", "08:00-09:00", "09:00-09:30"]
    );
    assert_eq!(listed(&scene).await, [(start() - 3 * HOUR, now(&scene))]);
}

#[tokio::test(start_paused = true)]
async fn the_first_round_never_asks_for_what_is_over_167_hours_back() {
    let scene = Scene::new();
    tokio::time::advance(30 * MINUTE).await;
    Poller::of(&scene).poll_well(&scene, 30 * DAY).await;
    let asked = asked(&scene);
    assert_eq!(asked.len(), 167);
    assert!(now(&scene).duration_since(asked[0].start()) <= SignedDuration::from_hours(167));
    assert_eq!(listed(&scene).await, [(asked[0].start(), now(&scene))]);
}

#[tokio::test(start_paused = true)]
async fn where_listing_began_stays_when_the_setting_changes() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    poller.poll_well(&scene, HOUR).await;
    poller.poll_well(&scene, 3 * DAY).await;
    assert_eq!(listed(&scene).await, [(start() - HOUR, start())]);
}

#[tokio::test(start_paused = true)]
async fn each_round_lists_this_hour_and_the_one_before_and_finds_what_is_late() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    scene.microsoft.on(
        "hour/2026-07-16T08",
        [
            page(&["a", "b"]),
            page(&["a", "b"]),
            page(&["a", "late", "b"]),
        ],
    );
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(poller.poll_well(&scene, HOUR).await);
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(found, [2, 0, 1]);
    assert_eq!(
        asked_hours(&scene),
        [
            "08:00-09:00",
            "08:00-09:00",
            "09:00-09:01",
            "08:00-09:00",
            "09:00-09:02"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_hour_is_listed_again_at_each_age_with_the_same_bounds() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    // A round every ten minutes for a week.
    for _ in 0..7 * 24 * 6 {
        poller.poll_well(&scene, HOUR).await;
        tokio::time::advance(10 * MINUTE).await;
    }
    let first = asked(&scene)[0];
    let range = Window::new(start() - HOUR, start()).unwrap();
    assert_eq!(first, range);
    let again = asked(&scene)
        .iter()
        .filter(|window| window.start() == first.start())
        .inspect(|window| assert_eq!(**window, first))
        .count();
    // Six times in its first hour, which the first two ages are in, and at the five ages from an hour on.
    assert_eq!(again, 6 + 5);
    let windows = scene
        .ledger
        .listed_windows(tenant(), CONTENT_TYPE, range)
        .await
        .unwrap()
        .windows;
    assert_eq!(windows[0].listing_count, 11);
    let last_age = windows[0].last_listed_at.duration_since(start());
    assert_eq!(last_age.as_hours(), 156, "six and a half days");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_comes_days_late_is_found_and_its_lateness_counted() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    scene.microsoft.on(
        "hour/2026-07-16T08",
        [
            page(&[]),
            page_of([entry_of("late", start() - 30 * MINUTE)]),
        ],
    );
    assert_eq!(poller.poll_well(&scene, HOUR).await, 0);
    tokio::time::advance(72 * HOUR).await;
    assert_eq!(poller.poll_well(&scene, HOUR).await, 1);
    let all = recall_lateness(&*scene.ledger).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        all[0].counts,
        [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        "over three days"
    );
}

#[tokio::test(start_paused = true)]
async fn an_hour_that_fails_keeps_none_of_the_others_from_being_listed_and_heals() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    scene.microsoft.on(
        "hour/2026-07-16T06",
        [
            Answer::no_connection(),
            Answer::status(500, ""),
            Answer::ok(r#"[{"contentId":"odd"}]"#),
            page(&["odd"]),
        ],
    );
    let (from, gap) = (start() - 5 * HOUR, start() - 3 * HOUR);
    for _ in 0..3 {
        let round = poller.poll(&scene, 5 * HOUR).await;
        assert!(round.failure.is_some());
        assert_eq!(
            listed(&scene).await,
            [(from, gap), (gap + HOUR, now(&scene))]
        );
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(poller.poll_well(&scene, 5 * HOUR).await, 1);
    assert_eq!(listed(&scene).await, [(from, now(&scene))]);
}

#[tokio::test(start_paused = true)]
async fn many_hours_that_always_fail_keep_none_of_the_others_from_being_listed() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    // The oldest twenty of thirty hours.
    let bad: Vec<Timestamp> = (11..=30).map(|back| start() - back * HOUR).collect();
    for hour in &bad {
        let kind = format!("hour/{}", &hour.to_string()[..13]);
        scene.microsoft.on(&kind, [Answer::status(500, "")]);
    }
    tokio::time::advance(MINUTE).await;
    for _ in 0..3 {
        assert!(poller.poll(&scene, 30 * HOUR).await.failure.is_some());
        tokio::time::advance(MINUTE).await;
    }
    assert_eq!(
        listed(&scene).await,
        [(start() - 10 * HOUR, now(&scene) - MINUTE)]
    );
    for hour in &bad {
        let kind = format!("hour/{}", &hour.to_string()[..13]);
        assert!(scene.microsoft.count(&kind) > 0, "{hour} was never tried");
        scene.microsoft.on(&kind, [page(&[])]);
    }
    poller.poll_well(&scene, 30 * HOUR).await;
    assert_eq!(
        listed(&scene).await,
        [(start() - 30 * HOUR, now(&scene))],
        "a gap heals itself"
    );
}

#[tokio::test(start_paused = true)]
async fn when_nothing_can_be_listed_a_round_ends_after_a_few_tries_and_the_next_begins_with_the_oldest()
 {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    tokio::time::advance(MINUTE).await;
    scene.microsoft.on("content", [Answer::status(503, "")]);
    for _ in 0..2 {
        assert!(poller.poll(&scene, 3 * DAY).await.failure.is_some());
    }
    let count = scene.microsoft.count("content");
    assert_eq!(count, 8, "three hours and the present one, each time");
    scene.microsoft.on("content", [page(&[])]);
    poller.poll_well(&scene, 3 * DAY).await;
    let oldest = asked(&scene)[count];
    assert_eq!(oldest.start(), start() - 3 * DAY);
    assert!(asked(&scene)[count..].is_sorted(), "oldest first");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_whole_content_type_ends_the_round_at_once() {
    for (status, code) in [(400, "AF20022"), (401, "AF10001"), (403, "AF429")] {
        let scene = Scene::new();
        let poller = Poller::of(&scene);
        let refusal = Answer::refused(status, code).header("Retry-After", "60");
        scene.microsoft.on("content", [refusal]);
        let round = poller.poll(&scene, DAY).await;
        let Some(Error::Microsoft(error)) = round.failure else {
            panic!("{code}: {:?}", round.failure);
        };
        match code {
            "AF20022" => assert_eq!(error.next_step(), NextStep::StartSubscription),
            "AF10001" => assert!(matches!(error.next_step(), NextStep::StopTenant(_))),
            _ => assert!(matches!(error.next_step(), NextStep::RetryAfter(Some(_)))),
        }
        assert_eq!(scene.microsoft.count("content"), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_listing_resumes_where_the_ledger_stands_and_says_so() {
    let scene = Scene::new();
    tokio::time::advance(20 * MINUTE).await;
    Poller::of(&scene).poll_well(&scene, HOUR).await;
    let (stood_at, count) = (now(&scene), asked(&scene).len());
    tokio::time::advance(5 * HOUR).await;

    let scene = scene.restarted().await;
    let poller = Poller::of(&scene);
    poller.poll_well(&scene, HOUR).await;
    assert_eq!(
        asked_hours(&scene)[count..],
        [
            "09:00-10:00",
            "10:00-11:00",
            "11:00-12:00",
            "12:00-13:00",
            "13:00-14:00",
            "14:00-14:20",
            // An hour has passed since it ended.
            "08:00-09:00"
        ]
    );
    assert_eq!(listed(&scene).await, [(start() - HOUR, now(&scene))]);
    let summary = scene.ledger.summary(scene.now()).await.unwrap();
    let view = status::view(&summary, Some(&poller.live), scene.now());
    let catch_up = view.tenants[0].streams[0].catch_up.as_ref().unwrap();
    assert_eq!(catch_up.from, stood_at);
    assert_eq!((catch_up.hour_count, catch_up.left_count), (5, 0));
    assert!(status::to_text(&view).contains(
        "began with 5 hours to catch up, from 2026-07-16 09:20:00Z to 2026-07-16 14:20:00Z: all listed"
    ), "{}", status::to_text(&view));
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_cut_off_in_the_middle_is_gone_on_with() {
    let scene = Scene::new();
    tokio::time::advance(MINUTE).await;
    Poller::of(&scene).poll_well(&scene, HOUR).await;
    tokio::time::advance(5 * HOUR).await;
    let answers = [page(&[]), page(&[]), Answer::ok("[]").after(DAY)];
    scene.microsoft.on("content", answers);
    let poller = Poller::of(&scene);
    // As when the time of an invocation is up.
    let cut_off = tokio::time::timeout(MINUTE, poller.poll(&scene, HOUR)).await;
    assert!(cut_off.is_err());
    scene.microsoft.on("content", [page(&[])]);
    let count = asked(&scene).len();
    poller.poll_well(&scene, HOUR).await;
    assert_eq!(asked_hours(&scene)[count], "11:00-12:00");
    assert_eq!(listed(&scene).await, [(start() - HOUR, now(&scene))]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_can_be_listed_no_more_stays_visible_and_listing_goes_on() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    poller.poll_well(&scene, HOUR).await;
    tokio::time::advance(9 * DAY).await;
    poller.poll_well(&scene, HOUR).await;
    let reached = now(&scene) - 167.hours();
    assert_eq!(
        listed(&scene).await,
        [(start() - HOUR, start()), (reached, now(&scene))]
    );
    let count = scene.microsoft.count("content");
    tokio::time::advance(MINUTE).await;
    poller.poll_well(&scene, HOUR).await;
    assert_eq!(scene.microsoft.count("content"), count + 2);
    assert_eq!(
        scene
            .ledger
            .listed_until(tenant(), CONTENT_TYPE)
            .await
            .unwrap(),
        Some(now(&scene))
    );
}

#[tokio::test(start_paused = true)]
async fn re_listings_give_way_while_the_budget_is_tight_and_not_for_ever() {
    let scene = Scene::new();
    let poller = Poller::of(&scene);
    poller.poll_well(&scene, 8 * HOUR).await;
    // Several ages pass unused, and Microsoft wants less.
    tokio::time::advance(30 * HOUR).await;
    poller.door.budget().throttled(Some(Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(2)).await;
    let count = asked(&scene).len();
    let round = poller.poll(&scene, HOUR).await;
    assert!(round.failure.is_none());
    let starts: Vec<_> = asked(&scene)[count..].iter().map(Window::start).collect();
    let old_count = starts.iter().filter(|at| **at < start()).count();
    assert_eq!(old_count, URGENT_AT_A_TIME as usize);
    assert!(round.put_off_count >= 4);
    let new_count = starts.iter().filter(|at| **at >= start()).count();
    assert_eq!(new_count, 31, "what was never listed waits for nothing");
    // The rate stays low, and the others have their turn all the same.
    poller.door.budget().throttled(Some(Duration::from_secs(1)));
    tokio::time::advance(MINUTE).await;
    poller.poll_well(&scene, HOUR).await;
    let range = Window::new(start() - 8 * HOUR, start()).unwrap();
    let windows = scene
        .ledger
        .listed_windows(tenant(), CONTENT_TYPE, range)
        .await
        .unwrap()
        .windows;
    let counts: Vec<_> = windows.iter().map(|window| window.listing_count).collect();
    // The next age of the two oldest is still to come, so those wait on.
    assert_eq!(counts, [1, 1, 2, 2, 2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_ends_the_round() {
    for method in ["listed_windows", "begin_listing", "note_listed"] {
        let scene = Scene::new();
        let poller = Poller::of(&scene);
        scene.ledger.fail_next(method, 1);
        let round = poller.poll(&scene, 5 * HOUR).await;
        assert!(matches!(round.failure, Some(Error::Ledger(_))), "{method}");
        assert!(scene.microsoft.count("content") <= 1, "{method}");
        poller.poll_well(&scene, 5 * HOUR).await;
        assert_eq!(listed(&scene).await, [(start() - 5 * HOUR, start())]);
    }
}
