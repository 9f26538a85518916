//! Which of a stretch of time was listed and which was not. Pure: windows and instants in, windows out.

use std::time::Duration;

use activity_api::Window;
use jiff::Timestamp;

const HOUR_MS: i64 = 3_600_000;

/// How long after its end an hour is asked for when nobody names an end: a collector lists it within a poll or two, and what
/// Microsoft lists late has had a first chance. Shorter, and a healthy collector would be said to lack the hour that has
/// just ended.
pub(super) const LEAST_MARGIN: Duration = Duration::from_secs(15 * 60);

/// How far back Microsoft lists, less an hour for a clock that is off.
pub const FARTHEST_BACK: Duration = Duration::from_secs(167 * 3600);

/// A stretch that was not listed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// From when to when.
    pub window: Window,
    /// Why, and whether that can be mended.
    pub why: Why,
}

/// Why a stretch was not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Microsoft lists seven days back and no further.
    TooOld,
    /// It can still be listed.
    NotYet,
    /// It is too near to the present to be asked for, or has not come yet.
    TooRecent,
}

/// What came of comparing what was asked for with what was listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// What was judged. Nothing when there is no such time yet.
    pub range: Option<Window>,
    /// Stretches of it that nobody promised to list: before listing began, or after a content type was given up.
    pub not_owed: Vec<Window>,
    /// Stretches of it that should have been listed and were not, oldest first.
    pub gaps: Vec<Gap>,
}

/// The end of the last hour that may be asked for: it ended at least `margin` ago.
#[must_use]
pub fn default_end(now: Timestamp, margin: Duration) -> Timestamp {
    let ms = now
        .as_millisecond()
        .saturating_sub(i64::try_from(margin.as_millis()).unwrap_or(i64::MAX));
    at(ms - ms.rem_euclid(HOUR_MS))
}

/// How long after its end an hour is asked for, where listings are `interval` apart.
#[must_use]
pub fn margin(interval: Duration) -> Duration {
    LEAST_MARGIN.max(interval.saturating_mul(2))
}

/// Holds what was listed against what was asked for. `from` is where listing began unless somebody said otherwise;
/// `recent` is the end of what can be asked for at present.
#[must_use]
pub fn judge(
    from: Option<Timestamp>,
    to: Timestamp,
    began_at: Option<Timestamp>,
    is_configured: bool,
    listed: &[Window],
    now: Timestamp,
    recent: Timestamp,
) -> Judged {
    let Some(range) = from
        .or(began_at)
        .and_then(|from| Window::new(from, to).ok())
    else {
        return Judged::default();
    };
    let mut judged = Judged {
        range: Some(range),
        ..Judged::default()
    };
    let last = listed.iter().map(Window::end).max();
    for gap in uncovered(range, listed) {
        // Of a content type that is collected no more, nothing is owed behind what was listed last.
        if !is_configured && last.is_none_or(|last| gap.start() >= last) {
            judged.not_owed.push(gap);
            continue;
        }
        let (before, owed) = split(gap, began_at.unwrap_or(Timestamp::MIN));
        judged.not_owed.extend(before);
        let Some(owed) = owed else { continue };
        let horizon = at(now
            .as_millisecond()
            .saturating_sub(FARTHEST_BACK.as_millis() as i64));
        let (old, rest) = split(owed, horizon);
        let (open, late) = rest.map_or((None, None), |rest| split(rest, recent));
        let parts = [
            (old, Why::TooOld),
            (open, Why::NotYet),
            (late, Why::TooRecent),
        ];
        let gaps = parts.into_iter();
        judged.gaps.extend(gaps.filter_map(|(window, why)| {
            Some(Gap {
                window: window?,
                why,
            })
        }));
    }
    judged
}

/// What of `range` is in none of `windows`, which are in order of their starts. Neighbors are merged.
#[must_use]
pub fn uncovered(range: Window, windows: &[Window]) -> Vec<Window> {
    let mut gaps = Vec::new();
    let mut from = range.start();
    for window in windows {
        let until = window.start().min(range.end());
        gaps.extend(Window::new(from, until));
        from = from.max(window.end());
    }
    gaps.extend(Window::new(from, range.end()));
    gaps
}

/// How much of `range` is in `windows`, which are in order of their starts.
#[must_use]
pub(super) fn covered(range: Window, windows: &[Window]) -> Duration {
    let open: Duration = uncovered(range, windows).iter().map(Window::duration).sum();
    range.duration().saturating_sub(open)
}

/// The hours of UTC that `range` touches, oldest first, the first and the last cut to it.
///
/// By the hour, because where one blob ends can depend on the bounds that are asked for: everybody who lists asks for the
/// same ones.
pub fn hours(range: Window) -> impl Iterator<Item = Window> {
    let first = range.start().as_millisecond();
    let first = first - first.rem_euclid(HOUR_MS);
    let starts = (0..).map(move |number| first.saturating_add(HOUR_MS * number));
    let starts = starts.take_while(move |start| *start < range.end().as_millisecond());
    starts.filter_map(move |start| {
        let (from, to) = (at(start), at(start.saturating_add(HOUR_MS)));
        Window::new(from.max(range.start()), to.min(range.end())).ok()
    })
}

/// The part before `at` and the part from then on.
fn split(window: Window, at: Timestamp) -> (Option<Window>, Option<Window>) {
    let before = Window::new(window.start(), window.end().min(at));
    let after = Window::new(window.start().max(at), window.end());
    (before.ok(), after.ok())
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
}
