//! Windows of time to list, and the plan of which ones to list next. Pure: the time comes in as an argument.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

const HOUR_MS: i64 = 3_600_000;

/// The narrowest window that is planned, and how much of the past every plan lists again.
///
/// Content of several data centers is gathered by Microsoft and may come late, so the trailing hour is looked at until it is an hour old.
const TRAILING_MS: i64 = HOUR_MS;

/// The widest window that is planned. Microsoft documents 24 hours, but exactly 24 hours was seen refused with AF20055.
const WIDEST_MS: i64 = 23 * HOUR_MS;

/// How far back a plan goes. Microsoft refuses a start over 7 days (168 hours) back with AF20030 or AF20055;
/// the hour between is for a clock that is off and for the time that a long listing takes.
const FARTHEST_BACK_MS: i64 = 167 * HOUR_MS;

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

/// The windows to list next, oldest first, each 1 to 23 hours wide, without a gap between them, ending at `now`.
///
/// They begin an hour before `listed_until`, the end of what was listed without a gap so far, so that blobs which became
/// visible late are found. Rejected: beginning at `listed_until` itself after a pause, because the hour before the pause would
/// then have been looked at only once. Without `listed_until`, they begin `first_lookback` before `now`, at least an hour.
///
/// Never farther back than 167 hours: where the first window starts after `listed_until`, what lies between is gone.
pub fn plan_windows(
    listed_until: Option<Timestamp>,
    first_lookback: Duration,
    now: Timestamp,
) -> Vec<Window> {
    let end = now.as_millisecond();
    let wanted_back = match listed_until {
        Some(listed_until) => {
            let ago = end.saturating_sub(listed_until.as_millisecond()).max(0);
            ago.saturating_add(TRAILING_MS)
        }
        None => i64::try_from(first_lookback.as_millis()).unwrap_or(i64::MAX),
    };
    let back = wanted_back.clamp(TRAILING_MS, FARTHEST_BACK_MS);
    let count = (back + WIDEST_MS - 1) / WIDEST_MS;
    let edge = |index: i64| {
        let ms = end - back + back * index / count;
        // Before the year -9999 there is no such time, and nothing of Microsoft's to list either.
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
    };
    // Equal shares: a tail narrower than an hour cannot arise, because two windows or more share over 23 hours.
    (0..count)
        .filter_map(|index| Window::new(edge(index), edge(index + 1)).ok())
        .collect()
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
