//! The pure parts, and the answers of real ledgers.

mod ledgers;

use super::*;

fn at(text: &str) -> Timestamp {
    format!("2026-07-{text}Z").parse().unwrap()
}

fn window(from: &str, to: &str) -> Window {
    Window::new(at(from), at(to)).unwrap()
}

fn judged(
    from: Option<&str>,
    began_at: Option<&str>,
    is_configured: bool,
    listed: &[Window],
) -> Judged {
    judge(
        from.map(at),
        at("16T08:00:00"),
        began_at.map(at),
        is_configured,
        listed,
        at("16T08:20:00"),
        at("16T08:00:00"),
    )
}

#[test]
fn what_no_window_covers_is_named_and_neighbors_are_merged() {
    let range = window("16T00:00:00", "16T08:00:00");
    let listed = [
        window("15T22:00:00", "16T01:00:00"),
        window("16T01:00:00", "16T02:00:00"),
        window("16T04:00:00", "16T05:30:00"),
        window("16T04:30:00", "16T05:00:00"),
    ];
    assert_eq!(
        uncovered(range, &listed),
        [
            window("16T02:00:00", "16T04:00:00"),
            window("16T05:30:00", "16T08:00:00")
        ]
    );
    assert_eq!(judge::covered(range, &listed).as_secs(), 3 * 3600 + 1800);
    assert_eq!(uncovered(range, &[]), [range]);
    assert_eq!(uncovered(range, &[range]), []);
    let elsewhere = window("17T00:00:00", "18T00:00:00");
    assert_eq!(uncovered(range, &[elsewhere]), [range]);
}

#[test]
fn nothing_is_owed_from_before_listing_began() {
    let listed = [window("16T02:00:00", "16T08:00:00")];
    let judged = judged(Some("16T00:00:00"), Some("16T01:30:00"), true, &listed);
    assert_eq!(judged.not_owed, [window("16T00:00:00", "16T01:30:00")]);
    let gap = Gap {
        window: window("16T01:30:00", "16T02:00:00"),
        why: Why::NotYet,
    };
    assert_eq!(judged.gaps, [gap]);
}

#[test]
fn what_was_never_listed_is_all_gap_and_without_a_beginning_there_is_no_range() {
    assert_eq!(judged(None, None, true, &[]), Judged::default());
    let judged = judged(Some("16T07:00:00"), None, true, &[]);
    let gap = Gap {
        window: window("16T07:00:00", "16T08:00:00"),
        why: Why::NotYet,
    };
    assert_eq!(judged.gaps, [gap]);
}

#[test]
fn a_gap_says_whether_it_can_still_be_mended() {
    // 167 hours before 08:20 on the 16th it was 09:20 on the 9th.
    let judged = judge(
        Some(at("09T08:00:00")),
        at("16T09:00:00"),
        Some(at("01T00:00:00")),
        true,
        &[window("09T10:00:00", "16T07:00:00")],
        at("16T08:20:00"),
        at("16T08:00:00"),
    );
    let gap = |from, to, why| Gap {
        window: window(from, to),
        why,
    };
    assert_eq!(
        judged.gaps,
        [
            gap("09T08:00:00", "09T09:20:00", Why::TooOld),
            gap("09T09:20:00", "09T10:00:00", Why::NotYet),
            gap("16T07:00:00", "16T08:00:00", Why::NotYet),
            gap("16T08:00:00", "16T09:00:00", Why::TooRecent),
        ]
    );
}

#[test]
fn of_a_content_type_that_was_given_up_nothing_is_owed_since() {
    let listed = [
        window("16T01:00:00", "16T02:00:00"),
        window("16T03:00:00", "16T04:00:00"),
    ];
    let judged = judged(None, Some("16T01:00:00"), false, &listed);
    assert_eq!(judged.not_owed, [window("16T04:00:00", "16T08:00:00")]);
    let gap = Gap {
        window: window("16T02:00:00", "16T03:00:00"),
        why: Why::NotYet,
    };
    assert_eq!(judged.gaps, [gap]);
}

#[test]
fn an_hour_is_asked_for_a_quarter_of_an_hour_after_it_ended() {
    let margin_of = |secs| margin(Duration::from_secs(secs));
    assert_eq!(margin_of(60), Duration::from_secs(900));
    assert_eq!(margin_of(3600), Duration::from_secs(7200));
    let end = |now| default_end(at(now), margin_of(60));
    assert_eq!(end("16T09:14:59"), at("16T08:00:00"));
    assert_eq!(end("16T09:15:00"), at("16T09:00:00"));
}

#[test]
fn hours_are_those_of_the_clock_whatever_the_range() {
    let hours: Vec<_> = judge::hours(window("16T07:30:00", "16T09:00:00.500")).collect();
    assert_eq!(
        hours,
        [
            window("16T07:30:00", "16T08:00:00"),
            window("16T08:00:00", "16T09:00:00"),
            window("16T09:00:00", "16T09:00:00.500")
        ]
    );
}
