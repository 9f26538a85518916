//! Whether everything that waits is fetched before Microsoft drops it: a forecast from how much expires when and how fast it
//! goes, and the alarm while the forecast is bad. Blobs are fetched in the order in which they expire, so what is lost first
//! is what a slow rate cannot reach.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use activity_api::TenantId;
use jiff::{SignedDuration, Timestamp};

/// What the rate is measured over: long enough to even out a slow batch, short enough to follow a sink that goes down.
const MEASURED: SignedDuration = SignedDuration::from_mins(5);
/// The least time that says anything about a rate.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
/// How far ahead a loss is an alarm. What a person needs to hear of it and to mend the cause; a rate of some minutes says
/// little about the day after.
const HORIZON: SignedDuration = SignedDuration::from_hours(24);
/// How often in a row the forecast must be good before the alarm is over: one good minute in a bad hour is not the end of it.
const GOOD_IN_A_ROW: u32 = 5;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Blobs that wait and expire in the same hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The hour's beginning.
    pub expires_from: Timestamp,
    /// How many.
    pub blob_count: u64,
}

/// What will become of what waits, at one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Blobs that wait or are under way.
    pub waiting_count: u64,
    /// Blobs settled a minute.
    pub per_minute: f64,
    /// When none of these is left. Nothing: never, at this rate.
    pub caught_up_at: Option<Timestamp>,
    /// Blobs whose turn comes after their end.
    pub too_late_count: u64,
    /// When the first of them is lost.
    pub first_lost_at: Option<Timestamp>,
}

/// Follows `buckets` in the order in which they expire, at a steady rate. A blob has until the beginning of its hour: rather a
/// forecast that is an hour too dark than one that is too bright.
#[must_use]
pub fn predict(buckets: &[Bucket], per_minute: f64, now: Timestamp) -> Forecast {
    let mut in_order = buckets.to_vec();
    in_order.sort_unstable_by_key(|bucket| bucket.expires_from);
    let per_second = per_minute / 60.0;
    let mut forecast = Forecast {
        waiting_count: 0,
        per_minute,
        caught_up_at: Some(now),
        too_late_count: 0,
        first_lost_at: None,
    };
    // Seconds from now until what comes before is done.
    let mut busy_for = 0.0_f64;
    for bucket in in_order {
        forecast.waiting_count = forecast.waiting_count.saturating_add(bucket.blob_count);
        let lost_at = lost_at(bucket.expires_from, now);
        let time_left = lost_at.duration_since(now).as_secs_f64() - busy_for;
        let in_time = (time_left.max(0.0) * per_second).floor();
        let too_late = (bucket.blob_count as f64 - in_time).max(0.0) as u64;
        if too_late > 0 {
            forecast.too_late_count = forecast.too_late_count.saturating_add(too_late);
            forecast.first_lost_at.get_or_insert(lost_at);
        }
        // Those that come too late are asked for all the same: only Microsoft's answer tells that they are gone.
        busy_for += bucket.blob_count as f64 / per_second;
    }
    if forecast.waiting_count > 0 {
        forecast.caught_up_at = SignedDuration::try_from_secs_f64(busy_for)
            .ok()
            .and_then(|busy_for| now.checked_add(busy_for).ok());
    }
    forecast
}

/// When blobs that expire in the hour from `expires_from` on are taken for lost. In the hour itself that is anywhere in what
/// is left of it.
fn lost_at(expires_from: Timestamp, now: Timestamp) -> Timestamp {
    if expires_from > now {
        return expires_from;
    }
    let left = expires_from
        .checked_add(HOUR)
        .map_or(SignedDuration::ZERO, |end| end.duration_since(now));
    now.checked_add(left.max(SignedDuration::ZERO) / 2)
        .unwrap_or(now)
}

/// What changed with a look ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Nothing is to be feared.
    Quiet,
    /// Some blobs will be lost, which was not so before.
    Raised,
    /// It goes on.
    Lasting,
    /// It is over.
    Over,
}

impl Alarm {
    /// Whether some blobs will be lost.
    #[must_use]
    pub fn is_on(self) -> bool {
        matches!(self, Self::Raised | Self::Lasting)
    }
}

/// Measures how fast each tenant's blobs are settled, and looks ahead.
#[derive(Debug, Default)]
pub struct Foresight(Mutex<BTreeMap<TenantId, Track>>);

#[derive(Debug, Default)]
struct Track {
    /// Oldest first.
    samples: VecDeque<Sample>,
    has_alarm: bool,
    good_in_a_row: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    /// Blobs of the tenant that were ever settled.
    settled_count: u64,
    waiting_count: u64,
}

impl Foresight {
    /// Looks ahead from what waits at `now`, after `settled_count` blobs of the tenant were ever settled. The rate is the one
    /// measured while there was always something to do, and never over the budget; until it is known, the budget.
    #[must_use]
    pub fn look_ahead(
        &self,
        tenant: TenantId,
        settled_count: u64,
        buckets: &[Bucket],
        budget_per_minute: f64,
        now: Timestamp,
    ) -> (Forecast, Alarm) {
        // Every change is complete before anything can panic.
        let mut tracks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let track = tracks.entry(tenant).or_default();
        track.note(Sample {
            at: now,
            settled_count,
            waiting_count: buckets.iter().map(|bucket| bucket.blob_count).sum(),
        });
        let per_minute = track
            .measured_per_minute()
            .map_or(budget_per_minute, |measured| {
                measured.min(budget_per_minute)
            });
        let forecast = predict(buckets, per_minute, now);
        (forecast, track.judge(&forecast, now))
    }
}

impl Track {
    fn note(&mut self, sample: Sample) {
        if self.samples.back().is_some_and(|last| last.at > sample.at) {
            // The clock was set back, so the times say nothing about each other.
            self.samples.clear();
        }
        self.samples.push_back(sample);
        while self
            .samples
            .front()
            .is_some_and(|first| sample.at.duration_since(first.at) > MEASURED)
        {
            self.samples.pop_front();
        }
    }

    /// Nothing when that cannot be said: it was looked at for too short a time, or there was not always something to do.
    fn measured_per_minute(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let span = last.at.duration_since(first.at);
        if span < SHORTEST || self.samples.iter().any(|sample| sample.waiting_count == 0) {
            return None;
        }
        let settled = last.settled_count.saturating_sub(first.settled_count);
        Some(settled as f64 * 60.0 / span.as_secs_f64())
    }

    fn judge(&mut self, forecast: &Forecast, now: Timestamp) -> Alarm {
        let is_bad = forecast
            .first_lost_at
            .is_some_and(|at| at.duration_since(now) <= HORIZON);
        if is_bad {
            self.good_in_a_row = 0;
        } else {
            self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        }
        let is_over = self.good_in_a_row >= GOOD_IN_A_ROW || forecast.waiting_count == 0;
        match (self.has_alarm, is_bad) {
            (false, false) => Alarm::Quiet,
            (false, true) => {
                self.has_alarm = true;
                Alarm::Raised
            }
            (true, false) if is_over => {
                self.has_alarm = false;
                Alarm::Over
            }
            (true, _) => Alarm::Lasting,
        }
    }
}
