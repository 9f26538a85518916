//! The request budget of one (tenant, publisher): how fast we may ask Microsoft, learned from its refusals, and whose turn it
//! is to ask.

mod line;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use self::line::Line;
pub use self::line::Use;
use self::pace::Pace;

/// The longest that a fetch waits for its turn. Longer than the queue of one tenant's fetches at any sensible rate,
/// shorter than a pause that Microsoft asks for: whoever fetches holds memory and a place among the fetches that another
/// tenant could use.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);
/// The same for a listing, which holds nothing. At the slowest rate every content type's turn to list comes within it.
const LISTING_PATIENCE: Duration = Duration::from_secs(60);

/// Spaces requests evenly at the present rate, never with more in a minute than the rate, and lets those who wait take
/// turns. Cheap to share: one lock held for a few instructions.
#[derive(Debug)]
pub struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    pace: Pace,
    line: Line,
}

impl Budget {
    /// A budget of `full_per_minute` requests a minute; Microsoft's baseline is 2,000.
    #[must_use]
    pub fn new(full_per_minute: u32) -> Self {
        Self(Mutex::new(State {
            pace: Pace::new(full_per_minute, Instant::now()),
            line: Line::default(),
        }))
    }

    /// Waits until it is the turn of a request for `of`.
    ///
    /// # Errors
    /// How long it would still have to wait, when that is too long: nothing was taken, and whoever asks has better things
    /// to do.
    ///
    /// # If interrupted
    /// The place in the line is given up. When the turn had just come, it is lost and the rate a little lower for a moment.
    pub async fn take(&self, of: Use) -> Result<(), Duration> {
        if let Some(pause) = self.paused_for() {
            return Err(pause);
        }
        let patience = match of {
            Use::Fetching(_) => FETCH_PATIENCE,
            Use::Control | Use::Listing(_) => LISTING_PATIENCE,
        };
        let now = Instant::now();
        let give_up_at = now + patience;
        let mut turn = {
            let mut state = self.state();
            if state.goes_at_once(of, now) {
                return Ok(());
            }
            state.line.join(of)
        };
        loop {
            // Whoever wakes first calls all whose turn has come, itself among them or not.
            let next_at = self.state().call_those_who_are_due(Instant::now());
            if turn.try_recv().is_ok() {
                return Ok(());
            }
            if next_at > give_up_at || Instant::now() >= give_up_at {
                drop(turn);
                return Err(self.state().wait_of_a_newcomer(Instant::now()));
            }
            tokio::select! {
                biased;
                _ = &mut turn => return Ok(()),
                () = tokio::time::sleep_until(next_at.min(give_up_at)) => {}
            }
        }
    }

    /// How long until a request fits in, when that is longer than five seconds.
    #[must_use]
    pub fn paused_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let wait = self
            .state()
            .pace
            .next_at(now)
            .saturating_duration_since(now);
        (wait > FETCH_PATIENCE).then_some(wait)
    }

    /// How many fetches may wait at once so that each of them has its turn before it gives up, with a listing's turn between
    /// every two of them. At least one.
    #[must_use]
    pub fn fetches_in_time(&self) -> usize {
        let state = self.state();
        let spacing = state.pace.spacing(state.pace.rate(Instant::now()));
        let turns = FETCH_PATIENCE.as_millis() / (2 * spacing).as_millis().max(1);
        usize::try_from(turns).unwrap_or(usize::MAX).max(1)
    }

    /// Microsoft refused a request as one too many. By how much longer that makes the silence.
    pub fn throttled(&self, retry_after: Option<Duration>) -> Duration {
        self.state().pace.throttled(retry_after, Instant::now())
    }

    /// The present rate, in requests a minute.
    #[must_use]
    pub fn per_minute(&self) -> f64 {
        self.state().pace.rate(Instant::now())
    }

    /// Whether there is nothing to spare for what can wait.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.state().pace.is_tight(Instant::now())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere cannot have left them half changed.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Lets a newcomer send whom nobody is before and nothing holds back.
    fn goes_at_once(&mut self, of: Use, now: Instant) -> bool {
        let goes = self.line.is_empty() && self.pace.next_at(now) <= now;
        if goes {
            self.line.took_its_turn(of);
            self.pace.sent(now);
        }
        goes
    }

    /// Calls as many as may send now. When the next may.
    fn call_those_who_are_due(&mut self, now: Instant) -> Instant {
        loop {
            let next_at = self.pace.next_at(now);
            if next_at > now || !self.line.call_next() {
                return next_at;
            }
            self.pace.sent(now);
        }
    }

    fn wait_of_a_newcomer(&mut self, now: Instant) -> Duration {
        let ahead = u32::try_from(self.line.len()).unwrap_or(u32::MAX);
        let spacing = self.pace.spacing(self.pace.rate(now));
        self.pace.next_at(now).saturating_duration_since(now) + spacing.saturating_mul(ahead)
    }
}
