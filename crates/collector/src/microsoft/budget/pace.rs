//! How fast requests may follow each other, learned from Microsoft's refusals. Pure: the time comes in as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What a rate never falls below, in requests a minute: slower than this, a tenant's content types could not even
/// all be listed each minute.
pub(super) const FLOOR_PER_MINUTE: f64 = 30.0;
/// How much of the full rate comes back each minute after a refusal.
const RECOVERY_PER_MINUTE: f64 = 0.05;
/// How long to stay silent after a refusal that does not say for how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);
/// How far requests may run ahead of an even pace, so that a pause in our own work is not lost. Kept far below the
/// minute over which Microsoft counts.
const BURST: Duration = Duration::from_secs(3);
/// What Microsoft counts over.
const MINUTE: Duration = Duration::from_secs(60);
/// The part of a minute in which requests are counted together. The finer, the nearer a full minute comes to the whole
/// rate: a part that has only begun to leave the minute is counted as if all of it were still inside.
const SLOT: Duration = Duration::from_millis(500);
/// Below this part of the full rate there is none to spare.
const EASY_SHARE: f64 = 0.75;
/// Above this part of the rate, what is asked for is more than what can be spared.
const BUSY_SHARE: f64 = 0.8;

/// Spaces requests evenly at the present rate, and lets no minute have more of them than the rate.
#[derive(Debug)]
pub(super) struct Pace {
    full_per_minute: f64,
    per_minute: f64,
    /// When the rate was last changed.
    changed_at: Instant,
    /// When the next request is due at an even pace; lags behind the present by at most [`BURST`].
    next_at: Instant,
    /// Until when Microsoft wants to hear nothing.
    paused_until: Instant,
    /// Refusals that answer requests sent before this do not count again: one storm halves the rate once.
    deaf_until: Instant,
    /// All requests of the last minute, which keep to the full rate.
    all: LastMinute,
    /// Those since the last change, which keep to the changed one.
    since_change: LastMinute,
}

impl Pace {
    pub(super) fn new(full_per_minute: u32, now: Instant) -> Self {
        Self {
            full_per_minute: f64::from(full_per_minute),
            per_minute: f64::from(full_per_minute),
            changed_at: now,
            next_at: now,
            paused_until: now,
            deaf_until: now,
            all: LastMinute::default(),
            since_change: LastMinute::default(),
        }
    }

    /// When the next request may be sent, given those that were.
    pub(super) fn next_at(&mut self, now: Instant) -> Instant {
        let rate = self.rate(now);
        let full = self.full_per_minute;
        self.next_at
            .max(self.paused_until)
            .max(self.all.room_at(full, now))
            .max(self.since_change.room_at(rate, now))
    }

    /// Counts a request that is sent now.
    pub(super) fn sent(&mut self, now: Instant) {
        let rate = self.rate(now);
        let from = now
            .checked_sub(BURST)
            .map_or(self.next_at, |earliest| self.next_at.max(earliest));
        self.next_at = from + self.spacing(rate);
        self.all.count(now);
        self.since_change.count(now);
    }

    /// Microsoft refused a request as one too many. By how much longer that makes the silence.
    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        if now >= self.deaf_until {
            self.per_minute =
                (self.rate(now) / 2.0).max(FLOOR_PER_MINUTE.min(self.full_per_minute));
            self.changed_at = now;
            self.since_change = LastMinute::default();
        }
        let before = self.paused_until.max(now);
        self.paused_until = before.max(now + retry_after.unwrap_or(DEFAULT_PAUSE));
        self.next_at = self.next_at.max(self.paused_until);
        self.deaf_until = self.deaf_until.max(self.paused_until);
        self.paused_until - before
    }

    /// The present rate, in requests a minute.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let minutes = now.saturating_duration_since(self.changed_at).as_secs_f64() / 60.0;
        (self.per_minute + self.full_per_minute * RECOVERY_PER_MINUTE * minutes)
            .min(self.full_per_minute)
    }

    /// The time between two requests at an even pace.
    pub(super) fn spacing(&self, rate: f64) -> Duration {
        Duration::from_secs_f64(60.0 / rate.max(1.0))
    }

    /// Whether there is nothing to spare: Microsoft wants silence, the rate is far from what it was, or nearly all of
    /// it was used in the last minute.
    pub(super) fn is_tight(&mut self, now: Instant) -> bool {
        let rate = self.rate(now);
        self.paused_until > now
            || rate < EASY_SHARE * self.full_per_minute
            || f64::from(self.all.sum(now)) >= BUSY_SHARE * rate
    }
}

/// The requests of the last minute and a little more, by [`SLOT`].
#[derive(Debug, Default)]
struct LastMinute {
    /// Oldest first: when a slot began, and how many fell into it.
    slots: VecDeque<(Instant, u32)>,
    sum: u32,
}

impl LastMinute {
    fn sum(&mut self, now: Instant) -> u32 {
        self.forget(now);
        self.sum
    }

    /// When there is room for one more, with at most `rate` in any minute.
    fn room_at(&mut self, rate: f64, now: Instant) -> Instant {
        self.forget(now);
        let mut sum = self.sum;
        let mut at = now;
        for (began, count) in &self.slots {
            if f64::from(sum) + 1.0 <= rate.max(1.0) {
                break;
            }
            sum -= count;
            at = *began + SLOT + MINUTE;
        }
        at
    }

    fn count(&mut self, now: Instant) {
        self.forget(now);
        self.sum += 1;
        match self.slots.back_mut() {
            Some((began, count)) if now < *began + SLOT => *count += 1,
            _ => self.slots.push_back((now, 1)),
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((began, count)) = self.slots.front()
            && now >= *began + SLOT + MINUTE
        {
            self.sum -= count;
            self.slots.pop_front();
        }
    }
}
