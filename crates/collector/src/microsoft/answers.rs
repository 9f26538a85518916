//! How long Microsoft's answers take, and how fast they can be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The fastest answer of the last one or two of these counts as what the way takes: ways change, and so does load.
const PERIOD: Duration = Duration::from_secs(15);

/// Answers to one tenant's requests for blobs, since they were last asked for.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    took: Duration,
    fastest: Option<Duration>,
    fastest_before: Option<Duration>,
    period_ends: Option<Instant>,
}

impl Answers {
    /// The head of one more was there after so long.
    pub(super) fn note(&self, took: Duration) {
        let now = Instant::now();
        let mut state = self.state();
        if state.period_ends.is_none_or(|end| end <= now) {
            state.period_ends = Some(now + PERIOD);
            state.fastest_before = state.fastest.take();
        }
        state.fastest = Some(state.fastest.map_or(took, |fastest| fastest.min(took)));
        state.count += 1;
        state.took += took;
    }

    /// How many there were, how long they took together, and how long they would have at the pace of the fastest.
    pub(crate) fn take(&self) -> (usize, Duration, Duration) {
        let mut state = self.state();
        let (count, took) = (state.count, state.took);
        (state.count, state.took) = (0, Duration::ZERO);
        let fastest = state.fastest.into_iter().chain(state.fastest_before).min();
        let count_for_time = u32::try_from(count).unwrap_or(u32::MAX);
        let needed = fastest.unwrap_or_default().saturating_mul(count_for_time);
        (count, took, needed)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere cannot have left them half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
