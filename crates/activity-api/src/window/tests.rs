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

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The whole hour that begins at this hour of the day of [`NOW`], as it was listed at that time of that day.
fn listed(hour: &str, listed_at: &str) -> LastListing {
    let start = at(&format!("2026-07-15T{hour}:00:00Z"));
    LastListing {
        window: Window::new(start, start + hours(1)).unwrap(),
        listed_at: at(&format!("2026-07-15T{listed_at}Z")),
    }
}

fn listing(start: &str, end: &str, listed_at: &str) -> LastListing {
    LastListing {
        window: Window::new(at(start), at(end)).unwrap(),
        listed_at: at(listed_at),
    }
}

fn show(plan: &[DueHour]) -> String {
    plan.iter()
        .map(|due| {
            format!(
                "{:?} {} to {}\n",
                due.why,
                due.window.start(),
                due.window.end()
            )
        })
        .collect()
}

/// What a collector would have listed that polled at `times`, each time all that was due.
fn poll_at(
    began_at: Timestamp,
    mut listings: Vec<LastListing>,
    times: impl IntoIterator<Item = Timestamp>,
) -> Vec<LastListing> {
    for now in times {
        for due in plan_hours(began_at, &listings, now) {
            note(&mut listings, due.window, now);
        }
    }
    listings
}

/// As the ledger does it: one window for each start.
fn note(listings: &mut Vec<LastListing>, window: Window, now: Timestamp) {
    listings.retain(|listing| listing.window.start() != window.start());
    listings.push(LastListing {
        window,
        listed_at: now,
    });
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
fn the_first_listing_goes_back_as_far_as_it_is_told_in_whole_hours() {
    let began_at = first_hour(hours(2), now());
    expect_test::expect![[r#"
        Missing 2026-07-15T18:00:00Z to 2026-07-15T19:00:00Z
        Missing 2026-07-15T19:00:00Z to 2026-07-15T20:00:00Z
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_hours(began_at, &[], now())));
    assert_eq!(first_hour(hours(0), now()), at("2026-07-15T20:00:00Z"));
}

#[test]
fn the_first_listing_is_never_of_an_hour_that_starts_over_167_hours_back() {
    let began_at = first_hour(hours(1_000), now());
    assert_eq!(began_at, at("2026-07-08T22:00:00Z"));
    assert_eq!(plan_hours(began_at, &[], now()).len(), 167);
    // On the hour itself exactly 167 hours are whole.
    let on_the_hour = at("2026-07-15T20:00:00Z");
    assert_eq!(earliest_hour(on_the_hour), at("2026-07-08T21:00:00Z"));
}

#[test]
fn a_steady_poll_lists_this_hour_and_the_one_before() {
    let began_at = at("2026-07-15T18:00:00Z");
    let a_minute_ago = now() - Duration::from_secs(60);
    let listings = poll_at(began_at, Vec::new(), [a_minute_ago]);
    expect_test::expect![[r#"
        Recent 2026-07-15T19:00:00Z to 2026-07-15T20:00:00Z
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_hours(began_at, &listings, now())));
}

#[test]
fn an_hour_that_ended_since_the_last_poll_is_listed_to_its_end() {
    let began_at = at("2026-07-15T20:00:00Z");
    let listings = poll_at(began_at, Vec::new(), [now()]);
    expect_test::expect![[r#"
        Missing 2026-07-15T20:00:00Z to 2026-07-15T21:00:00Z
        Current 2026-07-15T21:00:00Z to 2026-07-15T21:00:10Z
    "#]]
    .assert_eq(&show(&plan_hours(
        began_at,
        &listings,
        at("2026-07-15T21:00:10Z"),
    )));
    assert_eq!(
        show(&plan_hours(began_at, &listings, at("2026-07-15T21:00:00Z"))),
        "Missing 2026-07-15T20:00:00Z to 2026-07-15T21:00:00Z\n",
        "an hour that has not begun is no window"
    );
}

#[test]
fn a_gap_in_the_middle_comes_first_and_the_oldest_of_it_before_all() {
    let began_at = at("2026-07-15T15:00:00Z");
    let listings = [
        listed("15", "20:44:00"),
        listed("17", "20:44:00"),
        listed("19", "20:44:00"),
    ];
    expect_test::expect![[r#"
        Missing 2026-07-15T16:00:00Z to 2026-07-15T17:00:00Z
        Missing 2026-07-15T18:00:00Z to 2026-07-15T19:00:00Z
        Recent 2026-07-15T19:00:00Z to 2026-07-15T20:00:00Z
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_hours(began_at, &listings, now())));
    assert_eq!(
        covered_until(began_at, &listings, now()),
        at("2026-07-15T16:00:00Z")
    );
}

#[test]
fn an_hour_is_listed_again_at_each_age_and_not_between() {
    let began_at = at("2026-07-08T00:00:00Z");
    let end = began_at + hours(1);
    // A poll each minute for eight days, with all but the listings of the one hour forgotten.
    let mut last: Option<LastListing> = None;
    let mut ages = Vec::new();
    for minute in 0..8 * 24 * 60 {
        let now = end + Duration::from_secs(minute * 60 + 30);
        let listings: Vec<_> = last.into_iter().collect();
        let due = plan_hours(began_at, &listings, now)
            .into_iter()
            .find(|due| due.window.start() == began_at);
        if let Some(due) = due {
            last = Some(LastListing {
                window: due.window,
                listed_at: now,
            });
            if !matches!(due.why, Why::Recent) {
                ages.push(format!("{minute} min: {:?}", due.why));
            }
        }
    }
    expect_test::expect![[r#"
        0 min: Missing
        15 min: Again { is_urgent: false }
        60 min: Again { is_urgent: false }
        360 min: Again { is_urgent: false }
        1440 min: Again { is_urgent: false }
        4320 min: Again { is_urgent: false }
        9360 min: Again { is_urgent: false }"#]]
    .assert_eq(&ages.join("\n"));
}

#[test]
fn several_missed_ages_are_one_listing_and_an_urgent_one() {
    let began_at = at("2026-07-15T10:00:00Z");
    let mut listings = poll_at(began_at, Vec::new(), [now()]);
    // Listed at its end, and then not for nine hours: three ages have passed.
    note(
        &mut listings,
        listed("10", "11:00:00").window,
        at("2026-07-15T11:00:00Z"),
    );
    let again = |listings: &[LastListing]| -> Vec<_> {
        plan_hours(began_at, listings, now())
            .into_iter()
            .filter(|due| matches!(due.why, Why::Again { .. }))
            .collect()
    };
    expect_test::expect![[r#"
        Again { is_urgent: true } 2026-07-15T10:00:00Z to 2026-07-15T11:00:00Z
    "#]]
    .assert_eq(&show(&again(&listings)));
    note(&mut listings, listed("10", "11:00:00").window, now());
    assert_eq!(again(&listings), []);
}

#[test]
fn a_re_listing_becomes_urgent_when_the_next_age_has_come_and_the_last_while_it_can_still_be_had() {
    let began_at = at("2026-07-01T10:00:00Z");
    let end = began_at + hours(1);
    let why = |listed_after: Duration, asked_after: Duration| {
        let listings = [LastListing {
            window: Window::new(began_at, end).unwrap(),
            listed_at: end + listed_after,
        }];
        plan_hours(began_at, &listings, end + asked_after)
            .into_iter()
            .find(|due| due.window.start() == began_at)
            .map(|due| due.why)
    };
    let again = |is_urgent| Some(Why::Again { is_urgent });
    assert_eq!(why(hours(1), hours(6)), again(false));
    assert_eq!(why(hours(1), hours(23)), again(false));
    assert_eq!(why(hours(1), hours(24)), again(true));
    assert_eq!(why(hours(80), hours(155)), None);
    assert_eq!(why(hours(80), hours(156)), again(false));
    assert_eq!(why(hours(80), hours(160)), again(true));
    assert_eq!(
        why(hours(80), hours(166)),
        again(true),
        "it starts 167 hours back"
    );
    assert_eq!(why(hours(80), hours(167)), None, "it can be listed no more");
}

#[test]
fn after_a_pause_every_hour_of_it_is_missing() {
    let began_at = at("2026-07-01T00:00:00Z");
    let paused_at = at("2026-07-15T09:20:00Z");
    let listings = poll_at(began_at, Vec::new(), [paused_at]);
    let plan = plan_hours(began_at, &listings, now());
    let missing: Vec<_> = plan
        .iter()
        .take_while(|due| due.why == Why::Missing)
        .map(|due| due.window.start())
        .collect();
    assert_eq!(missing.len(), 11, "from 9 to 19 o'clock");
    assert_eq!(missing.first(), Some(&at("2026-07-15T09:00:00Z")));
    let reached = earliest_hour(now());
    assert_eq!(covered_until(reached, &listings, now()), paused_at);
}

#[test]
fn after_a_pause_of_more_than_a_week_listing_begins_where_it_still_can() {
    let began_at = at("2026-06-01T00:00:00Z");
    let listings = poll_at(began_at, Vec::new(), [at("2026-06-20T12:00:00Z")]);
    let plan = plan_hours(began_at, &listings, now());
    assert_eq!(plan.len(), 167);
    assert_eq!(plan.first().unwrap().window.start(), earliest_hour(now()));
}

#[test]
fn listings_made_before_the_clock_was_set_back_are_made_again() {
    let began_at = at("2026-07-15T18:00:00Z");
    // The clock was five hours fast: it listed hours that had not come, and this one as if it were over.
    let fast = now() + hours(5);
    let mut listings = poll_at(began_at, Vec::new(), [fast]);
    expect_test::expect![[r#"
        Missing 2026-07-15T18:00:00Z to 2026-07-15T19:00:00Z
        Missing 2026-07-15T19:00:00Z to 2026-07-15T20:00:00Z
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan_hours(began_at, &listings, now())));
    // Once each, and the hours that come are listed as they come.
    listings = poll_at(began_at, listings, [now()]);
    let later = now() + Duration::from_secs(60);
    assert_eq!(plan_hours(began_at, &listings, later).len(), 2);
    let tomorrow = now() + hours(24);
    let plan = plan_hours(began_at, &listings, tomorrow);
    let starts: Vec<_> = plan.iter().map(|due| due.window.start()).collect();
    for hour in 22..24 {
        let start = at(&format!("2026-07-15T{hour}:00:00Z"));
        assert!(
            starts.contains(&start),
            "{start} was listed before it was over"
        );
    }
}

#[test]
fn a_listing_that_began_in_the_future_leaves_this_hour_to_list() {
    let plan = plan_hours(now() + hours(5), &[], now());
    expect_test::expect![[r#"
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
    "#]]
    .assert_eq(&show(&plan));
}

#[test]
fn windows_off_the_grid_count_for_the_hours_that_they_cover() {
    // As an older version listed, whose windows ended at any minute, and as compaction leaves a day.
    let listings = [
        listing(
            "2026-07-14T00:00:00Z",
            "2026-07-15T00:00:00Z",
            "2026-07-15T20:40:00Z",
        ),
        listing(
            "2026-07-15T00:00:00Z",
            "2026-07-15T16:20:00Z",
            "2026-07-15T20:40:00Z",
        ),
        listing(
            "2026-07-15T15:20:00Z",
            "2026-07-15T18:30:00Z",
            "2026-07-15T18:30:00Z",
        ),
    ];
    let began_at = at("2026-07-14T00:00:00Z");
    // Listed at 18:30, which is past the first two ages of the hour that ended at 17:00, and past one of the next.
    expect_test::expect![[r#"
        Missing 2026-07-15T18:00:00Z to 2026-07-15T19:00:00Z
        Missing 2026-07-15T19:00:00Z to 2026-07-15T20:00:00Z
        Current 2026-07-15T20:00:00Z to 2026-07-15T20:45:30.123Z
        Again { is_urgent: false } 2026-07-15T17:00:00Z to 2026-07-15T18:00:00Z
    "#]]
    .assert_eq(&show(&plan_hours(began_at, &listings, now())));
    assert_eq!(
        covered_until(began_at, &listings, now()),
        at("2026-07-15T18:30:00Z")
    );
    let later = at("2026-07-15T23:10:00Z");
    let again: Vec<_> = plan_hours(began_at, &listings, later)
        .into_iter()
        .filter(|due| matches!(due.why, Why::Again { .. }))
        .collect();
    expect_test::expect![[r#"
        Again { is_urgent: false } 2026-07-14T20:00:00Z to 2026-07-14T21:00:00Z
        Again { is_urgent: false } 2026-07-14T21:00:00Z to 2026-07-14T22:00:00Z
        Again { is_urgent: false } 2026-07-14T22:00:00Z to 2026-07-14T23:00:00Z
        Again { is_urgent: false } 2026-07-15T14:00:00Z to 2026-07-15T15:00:00Z
        Again { is_urgent: false } 2026-07-15T15:00:00Z to 2026-07-15T16:00:00Z
        Again { is_urgent: false } 2026-07-15T16:00:00Z to 2026-07-15T17:00:00Z
        Again { is_urgent: false } 2026-07-15T17:00:00Z to 2026-07-15T18:00:00Z
    "#]]
    .assert_eq(&show(&again));
}

prop_compose! {
    /// Windows of every width, on the grid and off it, listed before and after the present.
    fn any_listing(now_ms: i64)(
        start_ago_ms in -5 * HOUR_MS..300 * HOUR_MS,
        on_grid in any::<bool>(),
        width_ms in 1..30 * HOUR_MS,
        listed_ago_ms in -5 * HOUR_MS..300 * HOUR_MS,
    ) -> LastListing {
        let start = now_ms - start_ago_ms;
        let (start, width) = if on_grid { (start.div_euclid(HOUR_MS) * HOUR_MS, HOUR_MS) } else { (start, width_ms) };
        LastListing {
            window: Window::new(from_ms(start), from_ms(start + width)).unwrap(),
            listed_at: from_ms(now_ms - listed_ago_ms),
        }
    }
}

const SOME_MS: i64 = 1_784_148_330_123;

proptest! {
    #[test]
    fn a_plan_and_what_was_listed_leave_no_gap_and_ask_for_nothing_that_microsoft_refuses(
        began_ago_ms in -5 * HOUR_MS..300 * HOUR_MS,
        minutes in 0_i64..60,
        listings in proptest::collection::vec(any_listing(SOME_MS), 0..60),
    ) {
        let now = from_ms(SOME_MS + minutes * 60_000);
        let began_at = from_ms(SOME_MS - began_ago_ms);
        let plan = plan_hours(began_at, &listings, now);

        for due in &plan {
            let (start, end) = (due.window.start(), due.window.end());
            prop_assert_eq!(start, hour_of(start), "on the grid");
            prop_assert!(due.window.duration() <= hours(1));
            prop_assert!(end == start + hours(1) || (due.why == Why::Current && end == now));
            prop_assert!(end <= now);
            prop_assert!(now.duration_since(start) <= jiff::SignedDuration::from_hours(167));
        }
        let mut starts: Vec<_> = plan.iter().map(|due| due.window.start()).collect();
        starts.sort();
        let count = starts.len();
        starts.dedup();
        prop_assert_eq!(starts.len(), count, "no hour twice");
        let missing: Vec<_> = plan.iter().map(|due| due.why == Why::Missing).collect();
        prop_assert!(missing.is_sorted_by(|a, b| a >= b), "missing hours come first");
        for group in plan.chunk_by(|a, b| std::mem::discriminant(&a.why) == std::mem::discriminant(&b.why)) {
            prop_assert!(group.is_sorted_by_key(|due| due.window.start()), "oldest first");
        }

        // With everything listed that the plan asks for, nothing reachable is left out.
        let mut after = listings.clone();
        for due in &plan {
            note(&mut after, due.window, now);
        }
        let from = hour_of(began_at).max(earliest_hour(now));
        if from < now {
            prop_assert!(covered_until(from, &after, now) >= now);
        }
        // Nor is anything due again at the same moment, but for what is listed at each poll.
        for due in plan_hours(began_at, &after, now) {
            prop_assert!(matches!(due.why, Why::Recent | Why::Current), "{due:?}");
        }
    }

    #[test]
    fn a_collector_that_is_often_down_lists_every_hour_and_each_at_its_ages(
        steps in proptest::collection::vec(prop_oneof![4 => 1_u64..90, 1 => 60_u64..3_000], 1..30),
    ) {
        let began_at = at("2026-07-01T00:00:00Z");
        let mut listings: Vec<LastListing> = Vec::new();
        let mut now = began_at;
        for minutes in steps {
            now += Duration::from_secs(minutes * 60);
            listings = poll_at(began_at, listings, [now]);
            let from = began_at.max(earliest_hour(now));
            prop_assert_eq!(covered_until(from, &listings, now), now);
            // Each reachable hour was listed at or after the last of its ages that has come.
            for listing in &listings {
                let end = listing.window.end();
                if listing.window.start() < from || listing.window.duration() < hours(1) {
                    continue;
                }
                for age in RELISTING_AGES.into_iter().filter(|age| end + *age <= now) {
                    prop_assert!(listing.listed_at >= end + age, "{listing:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn no_time_or_lookback_is_too_strange_for_a_plan(
        began_ns in any::<i64>(),
        lookback in any::<Duration>(),
        now_ns in any::<i64>(),
    ) {
        let now = Timestamp::from_nanosecond(now_ns.into()).unwrap();
        let began_at = Timestamp::from_nanosecond(began_ns.into()).unwrap();
        prop_assert!(plan_hours(began_at, &[], now).len() <= 168);
        prop_assert!(first_hour(lookback, now) <= now);
    }
}

#[test]
fn the_ends_of_time_are_not_too_strange_for_a_plan() {
    for now in [Timestamp::MIN, Timestamp::MAX] {
        for began_at in [Timestamp::MIN, Timestamp::MAX] {
            assert!(plan_hours(began_at, &[], now).len() <= 168);
        }
    }
}
