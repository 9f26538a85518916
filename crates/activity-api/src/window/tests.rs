//! Tests of windows and of the plan.

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-07-15T20:45:30.123456Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

fn show(windows: &[Window]) -> String {
    windows
        .iter()
        .map(|window| format!("{} to {}\n", window.start(), window.end()))
        .collect()
}

#[test]
fn a_window_starts_before_it_ends() {
    let later = now() + hours(1);
    assert_eq!(Window::new(now(), later).unwrap().duration(), hours(1));
    assert_eq!(Window::new(later, now()), Err(EmptyWindow));
    assert_eq!(Window::new(now(), now()), Err(EmptyWindow));
    assert_eq!(
        Window::new(now(), now() + Duration::from_nanos(1)),
        Err(EmptyWindow),
        "less than a millisecond is nothing"
    );
}

#[test]
fn the_edges_are_cut_to_whole_milliseconds() {
    let window = Window::new(now(), now() + hours(1)).unwrap();
    assert_eq!(window.start().to_string(), "2026-07-15T20:45:30.123Z");
    let before_epoch = Timestamp::from_nanosecond(-1).unwrap();
    let window = Window::new(before_epoch, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(window.start().as_millisecond(), -1);
}

#[test]
fn the_first_plan_goes_back_as_far_as_it_is_told() {
    expect_test::expect![[r#"
        2026-07-14T20:45:30.123Z to 2026-07-15T08:45:30.123Z
        2026-07-15T08:45:30.123Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_windows(None, hours(24), now())));
}

#[test]
fn a_steady_poll_lists_the_trailing_hour_again() {
    let a_minute_ago = now() - Duration::from_secs(60);
    expect_test::expect![[r#"
        2026-07-15T19:44:30.123Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_windows(Some(a_minute_ago), hours(24), now())));
}

#[test]
fn after_a_pause_the_hour_before_it_is_listed_again() {
    let paused_at = now() - hours(30);
    let plan = plan_windows(Some(paused_at), hours(24), now());
    assert_eq!(plan.len(), 2);
    let first = plan.first().unwrap();
    assert_eq!(
        first.start(),
        Window::new(paused_at - hours(1), now()).unwrap().start()
    );
}

#[test]
fn a_listing_that_ended_in_the_future_still_gives_the_trailing_hour() {
    let plan = plan_windows(Some(now() + hours(5)), hours(24), now());
    assert_eq!(plan.len(), 1);
    assert_eq!(plan.first().unwrap().duration(), hours(1));
}

proptest! {
    #[test]
    fn a_plan_has_no_gap_and_only_windows_that_microsoft_accepts(
        listed_ago_ms in proptest::option::of(-10 * HOUR_MS..400 * HOUR_MS),
        lookback_ms in 0_u64..400 * 3_600_000,
        now_ns in 0_i128..4_000_000_000_000_000_000,
    ) {
        let now = Timestamp::from_nanosecond(now_ns).unwrap();
        let listed_until = listed_ago_ms.map(|ago| Timestamp::from_millisecond(now.as_millisecond() - ago).unwrap());
        let plan = plan_windows(listed_until, Duration::from_millis(lookback_ms), now);

        prop_assert!(!plan.is_empty());
        for window in &plan {
            prop_assert!(window.duration() >= hours(1), "{window:?}");
            prop_assert!(window.duration() <= hours(23), "{window:?}");
        }
        for pair in plan.windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].start());
        }
        let (first, last) = (plan.first().unwrap(), plan.last().unwrap());
        prop_assert_eq!(last.end().as_millisecond(), now.as_millisecond());
        prop_assert!(first.start().as_millisecond() >= now.as_millisecond() - 167 * HOUR_MS);
        if let Some(ago) = listed_ago_ms {
            // Nothing that Microsoft still lists lies between what was listed and what will be.
            let reachable = ago.min(167 * HOUR_MS);
            prop_assert!(first.start().as_millisecond() <= now.as_millisecond() - reachable);
        } else {
            let reachable = i64::try_from(lookback_ms).unwrap().min(167 * HOUR_MS);
            prop_assert!(first.start().as_millisecond() <= now.as_millisecond() - reachable);
        }
    }

    #[test]
    fn no_time_or_lookback_is_too_strange_for_a_plan(
        listed_ns in proptest::option::of(any::<i64>()),
        lookback in any::<Duration>(),
        now_ns in any::<i64>(),
    ) {
        let now = Timestamp::from_nanosecond(now_ns.into()).unwrap();
        let listed_until = listed_ns.map(|ns| Timestamp::from_nanosecond(ns.into()).unwrap());
        prop_assert!(plan_windows(listed_until, lookback, now).len() <= 8);
    }
}
