//! The request budget of one (tenant, publisher): how fast we may ask Microsoft, learned from its refusals.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// What a budget never falls below, in requests a minute: slower than this, a tenant's content types could not even
/// all be listed each minute.
const FLOOR_PER_MINUTE: f64 = 30.0;
/// How much of the full rate comes back each minute after a refusal.
const RECOVERY_PER_MINUTE: f64 = 0.05;
/// How long to stay silent after a refusal that does not say for how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);
/// How far requests may run ahead of an even pace, so that a pause in our own work is not lost. Kept far below the
/// minute over which Microsoft counts.
const BURST: Duration = Duration::from_secs(3);

/// The longest that a request waits for its turn. Longer than the queue of one tenant's fetches at any sensible rate,
/// shorter than a pause that Microsoft asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Spaces requests evenly at the present rate. Cheap to share: one lock held for a few instructions.
#[derive(Debug)]
pub struct Budget {
    full_per_minute: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    per_minute: f64,
    /// When the rate was last changed.
    changed_at: Instant,
    /// When the next request is due at an even pace; lags behind the present by at most [`BURST`].
    next_at: Instant,
    /// Refusals that answer requests sent before this do not count again: one storm halves the rate once.
    deaf_until: Instant,
}

impl Budget {
    /// A budget of `full_per_minute` requests a minute; Microsoft's baseline is 2,000.
    #[must_use]
    pub fn new(full_per_minute: u32) -> Self {
        let now = Instant::now();
        Self {
            full_per_minute: f64::from(full_per_minute),
            state: Mutex::new(State {
                per_minute: f64::from(full_per_minute),
                changed_at: now,
                next_at: now,
                deaf_until: now,
            }),
        }
    }

    /// Waits until one more request fits in.
    ///
    /// # Errors
    /// The wait, when it is longer than five seconds: nothing was taken, and whoever asks has better things to do
    /// than to hold memory and a place among the fetches that another tenant could use.
    ///
    /// # If interrupted
    /// The request's place is lost and the rate a little lower for a moment.
    pub async fn take(&self) -> Result<(), Duration> {
        tokio::time::sleep_until(self.plan_next(Instant::now())?).await;
        Ok(())
    }

    /// How long until a request fits in, when that is longer than five seconds.
    #[must_use]
    pub fn paused_for(&self) -> Option<Duration> {
        let wait = self
            .state()
            .next_at
            .saturating_duration_since(Instant::now());
        (wait > LONGEST_WAIT).then_some(wait)
    }

    /// Microsoft refused a request as one too many.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        if now >= state.deaf_until {
            state.per_minute =
                (self.recovered(&state, now) / 2.0).max(FLOOR_PER_MINUTE.min(self.full_per_minute));
            state.changed_at = now;
        }
        let pause = retry_after.unwrap_or(DEFAULT_PAUSE);
        state.next_at = state.next_at.max(now + pause);
        state.deaf_until = state.deaf_until.max(now + pause);
    }

    /// The present rate, requests a minute.
    #[must_use]
    pub fn per_minute(&self) -> f64 {
        let state = self.state();
        self.recovered(&state, Instant::now())
    }

    fn plan_next(&self, now: Instant) -> Result<Instant, Duration> {
        let mut state = self.state();
        let wait = state.next_at.saturating_duration_since(now);
        if wait > LONGEST_WAIT {
            return Err(wait);
        }
        let rate = self.recovered(&state, now);
        let at = match now.checked_sub(BURST) {
            Some(earliest) => state.next_at.max(earliest),
            None => state.next_at,
        };
        state.next_at = at + Duration::from_secs_f64(60.0 / rate);
        Ok(at)
    }

    fn recovered(&self, state: &State, now: Instant) -> f64 {
        let minutes = now
            .saturating_duration_since(state.changed_at)
            .as_secs_f64()
            / 60.0;
        (state.per_minute + self.full_per_minute * RECOVERY_PER_MINUTE * minutes)
            .min(self.full_per_minute)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere cannot have left them half changed.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count_in(budget: &Budget, time: Duration) -> u32 {
        let end = Instant::now() + time;
        let mut count = 0;
        loop {
            match tokio::time::timeout_at(end, budget.take()).await {
                Ok(Ok(())) => count += 1,
                Ok(Err(wait)) => tokio::time::sleep(wait).await,
                Err(_) => return count,
            }
            if Instant::now() > end {
                return count;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_to_the_rate() {
        let budget = Budget::new(600);
        let count = count_in(&budget, Duration::from_secs(60)).await;
        assert!((599..=602).contains(&count), "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_minute_is_not_saved_up() {
        let budget = Budget::new(600);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let count = count_in(&budget, Duration::from_secs(60)).await;
        assert!(count <= 632, "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_pauses_and_halves_once() {
        let budget = Budget::new(1_200);
        for _ in 0..20 {
            budget.throttled(Some(Duration::from_secs(5)));
        }
        assert_eq!(budget.per_minute(), 600.0);
        assert_eq!(count_in(&budget, Duration::from_millis(4_900)).await, 0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        budget.throttled(None);
        assert!(budget.per_minute() < 320.0, "{}", budget.per_minute());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_in_line_for_a_long_pause() {
        let budget = Budget::new(600);
        assert_eq!(budget.paused_for(), None);
        budget.throttled(Some(Duration::from_secs(120)));
        assert_eq!(budget.paused_for(), Some(Duration::from_secs(120)));
        let started = Instant::now();
        assert_eq!(budget.take().await, Err(Duration::from_secs(120)));
        assert_eq!(started.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(118)).await;
        assert_eq!(budget.take().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_recovers_slowly_and_never_falls_to_nothing() {
        let budget = Budget::new(1_000);
        for _ in 0..40 {
            budget.throttled(Some(Duration::from_secs(1)));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert!(budget.per_minute() >= FLOOR_PER_MINUTE);
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        assert_eq!(budget.per_minute(), 1_000.0);
    }
}
