//! Windows of time to list, and the plan of which ones to list next. Pure: the time comes in as an argument.
//!
//! Every listing is of one hour of UTC on the grid, or of the part of it that is over. Where one blob ends can depend on the
//! bounds that were asked for, so an hour that is listed again must be listed with the bounds of the first time; hours on a
//! grid have no others.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

const HOUR_MS: i64 = 3_600_000;

/// How far back a plan goes. Microsoft refuses a start over 7 days (168 hours) back with AF20030 or AF20055;
/// the hour between is for a clock that is off and for the time that a long listing takes.
const FARTHEST_BACK_MS: i64 = 167 * HOUR_MS;

/// How long after its end an hour is listed again, each time. Content that is gathered from several data centers comes late,
/// some of it by days. The last is as near to the seven days as leaves half a day for trying again.
pub const RELISTING_AGES: [Duration; 6] = [
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(72 * 3600),
    Duration::from_secs(156 * 3600),
];

/// How long the re-listing of the last age may be put off: then six hours are left before the hour can be listed no more.
const LAST_AGE_PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// A half-open stretch of time, `start <= t < end`, in whole milliseconds of UTC: a slice of `contentCreated` to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

/// A window that would hold nothing: it does not start before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a window must start at least a millisecond before it ends")]
pub struct EmptyWindow;

impl Window {
    /// The window from `start` to `end`, both cut to whole milliseconds, which is as fine as Microsoft's times are.
    ///
    /// # Errors
    /// [`EmptyWindow`] unless `start` is then before `end`.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, EmptyWindow> {
        let (start, end) = (floor_to_ms(start), floor_to_ms(end));
        if start < end {
            Ok(Self { start, end })
        } else {
            Err(EmptyWindow)
        }
    }

    /// The first instant inside.
    pub const fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after it.
    pub const fn end(&self) -> Timestamp {
        self.end
    }

    /// How long it is, in whole milliseconds.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(
            self.end
                .as_millisecond()
                .abs_diff(self.start.as_millisecond()),
        )
    }
}

/// What was listed last of a window, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastListing {
    /// The window.
    pub window: Window,
    /// When.
    pub listed_at: Timestamp,
}

/// An hour that is to be listed, or as much of it as is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueHour {
    /// Its bounds: those of an hour on the grid, or from its start to the present.
    pub window: Window,
    /// Why it is due.
    pub why: Why,
}

/// Why an hour is to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is over and was never listed completely.
    Missing,
    /// It is not over.
    Current,
    /// It ended less than an hour ago, so what comes a little late is most likely there.
    Recent,
    /// One of [`RELISTING_AGES`] has passed since it was listed last.
    Again {
        /// It waits for so long that the next age has come, or the end of what can be listed is near.
        is_urgent: bool,
    },
}

/// The hour of UTC that `at` is in.
#[must_use]
pub fn hour_of(at: Timestamp) -> Timestamp {
    from_ms(
        at.as_millisecond()
            .div_euclid(HOUR_MS)
            .saturating_mul(HOUR_MS),
    )
}

/// The start of the earliest hour that can be listed whole: never over 167 hours back.
#[must_use]
pub fn earliest_hour(now: Timestamp) -> Timestamp {
    let back = now.as_millisecond().saturating_sub(FARTHEST_BACK_MS);
    let hour = hour_of(from_ms(back));
    if hour.as_millisecond() < back {
        from_ms(hour.as_millisecond().saturating_add(HOUR_MS))
    } else {
        hour
    }
}

/// Where listing begins that never began before: the hour in which the time `lookback` ago lies, or the earliest that can be
/// listed.
#[must_use]
pub fn first_hour(lookback: Duration, now: Timestamp) -> Timestamp {
    let back = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX);
    let wanted = from_ms(now.as_millisecond().saturating_sub(back));
    hour_of(wanted).max(earliest_hour(now))
}

/// The end of what was listed without a gap from `from` on; `from` itself when nothing was.
#[must_use]
pub fn covered_until(from: Timestamp, listings: &[LastListing], now: Timestamp) -> Timestamp {
    let mut spans: Vec<_> = listings
        .iter()
        .filter_map(|listing| span(listing, now))
        .collect();
    spans.sort_unstable();
    let mut until = from.as_millisecond();
    for (start, end, _) in spans {
        if start > until {
            break;
        }
        until = until.max(end);
    }
    from_ms(until)
}

/// The hours to list next, in the order in which they are best listed, given where listing began and what was listed since.
/// No hour is in it twice, and none starts over 167 hours back.
///
/// First those that were never listed completely, oldest first, because the oldest is the first that can be listed no more:
/// a gap anywhere heals itself, whether it comes from a pause or from one hour that failed. Then the hour before this one
/// and this one, whose content is still coming in. Last, oldest first, those that are due again because of their age; several
/// ages that passed unused ask for one listing, not for several.
///
/// A listing that claims to have been made at a time yet to come says nothing, because the clock was wrong then or is now.
#[must_use]
pub fn plan_hours(began_at: Timestamp, listings: &[LastListing], now: Timestamp) -> Vec<DueHour> {
    let current = hour_of(now);
    let first = hour_of(began_at).max(earliest_hour(now)).min(current);
    let count = (current.as_millisecond() - first.as_millisecond()) / HOUR_MS;
    let spans = by_hour(first.as_millisecond(), count, listings, now);

    let mut missing = Vec::new();
    let mut recent = Vec::new();
    let mut again = Vec::new();
    for (index, spans) in (0..count).zip(&spans) {
        let start = first.as_millisecond() + index * HOUR_MS;
        let end = start + HOUR_MS;
        let Ok(window) = Window::new(from_ms(start), from_ms(end)) else {
            continue;
        };
        let why = match listed_at(start, end, spans) {
            None => Why::Missing,
            Some(listed_at) => match next_age(end, listed_at, now) {
                Some(is_urgent) => Why::Again { is_urgent },
                None if index == count - 1 => Why::Recent,
                None => continue,
            },
        };
        let due = DueHour { window, why };
        match why {
            Why::Missing => missing.push(due),
            Why::Again { .. } => again.push(due),
            Why::Current | Why::Recent => recent.push(due),
        }
    }
    if let Ok(window) = Window::new(current, now) {
        recent.push(DueHour {
            window,
            why: Why::Current,
        });
    }
    missing.append(&mut recent);
    missing.append(&mut again);
    missing
}

/// From when to when a listing speaks for, and when it was made. It cannot speak for what was yet to come.
fn span(listing: &LastListing, now: Timestamp) -> Option<(i64, i64, i64)> {
    let listed_at = listing.listed_at.as_millisecond();
    let (start, end) = (
        listing.window.start().as_millisecond(),
        listing.window.end().as_millisecond().min(listed_at),
    );
    (listed_at <= now.as_millisecond() && start < end).then_some((start, end, listed_at))
}

/// The spans that reach into each of `count` hours.
fn by_hour(
    first: i64,
    count: i64,
    listings: &[LastListing],
    now: Timestamp,
) -> Vec<Vec<(i64, i64, i64)>> {
    let mut hours = vec![Vec::new(); usize::try_from(count).unwrap_or(0)];
    for span in listings.iter().filter_map(|listing| span(listing, now)) {
        let (start, end, _) = span;
        let from = (start - first).div_euclid(HOUR_MS).max(0);
        let to = (end - 1 - first).div_euclid(HOUR_MS).min(count - 1);
        for index in from..=to {
            if let Some(hour) = usize::try_from(index).ok().and_then(|at| hours.get_mut(at)) {
                hour.push(span);
            }
        }
    }
    hours
}

/// The latest time of which it is true that every moment of the hour was listed then or later.
///
/// Mostly one window is the hour. Windows of another width come from ledgers older than the grid, and from days that were
/// put together out of hours.
fn listed_at(start: i64, end: i64, spans: &[(i64, i64, i64)]) -> Option<Timestamp> {
    let mut latest_first = spans.to_vec();
    latest_first.sort_unstable_by_key(|(_, _, listed_at)| std::cmp::Reverse(*listed_at));
    (1..=latest_first.len()).find_map(|count| {
        let used = latest_first.get(..count)?;
        let mut in_order = used.to_vec();
        in_order.sort_unstable();
        let mut until = start;
        for (from, to, _) in in_order {
            if from <= until {
                until = until.max(to);
            }
        }
        let (_, _, listed_at) = used.last()?;
        (until >= end).then(|| from_ms(*listed_at))
    })
}

/// Whether an age has come since the hour that ended at `end` was listed, and if so whether the listing is urgent.
fn next_age(end: i64, listed_at: Timestamp, now: Timestamp) -> Option<bool> {
    let after =
        |age: Duration| end.saturating_add(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (now, listed_at) = (now.as_millisecond(), listed_at.as_millisecond());
    let first_missed = RELISTING_AGES
        .iter()
        .position(|age| after(*age) <= now && listed_at < after(*age))?;
    let put_off_until = match RELISTING_AGES.get(first_missed + 1) {
        Some(next) => after(*next),
        None => after(RELISTING_AGES[first_missed] + LAST_AGE_PATIENCE),
    };
    Some(now >= put_off_until)
}

fn from_ms(ms: i64) -> Timestamp {
    // Outside the years -9999 to 9999 there is no such time, and nothing of Microsoft's to list either.
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn floor_to_ms(time: Timestamp) -> Timestamp {
    let ms = time.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
