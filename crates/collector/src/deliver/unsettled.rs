//! Blobs whose settlement the ledger did not take. They would stay leased to nobody until their leases run out, so their
//! keys are kept here, from one pass to the next, until the ledger takes writes again and makes them due.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ledger::LeaseKey;

/// The longest pause between two tries. A ledger that works again has its blobs back at most this long after it does.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// After how long without a failure the next one counts as the first.
const CALM: Duration = Duration::from_secs(60);

/// The keys of leases that nobody works on any more and that the ledger still counts as held.
///
/// Lost with the process, which only means that the leases run out, or are freed when the ledger is opened again.
#[derive(Debug, Default)]
pub(crate) struct Unsettled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: BTreeSet<LeaseKey>,
    failures: u32,
    failed_at: Option<Timestamp>,
    retry_at: Option<Timestamp>,
}

impl Unsettled {
    /// The ledger did not take what became of these.
    ///
    /// The first time they may be freed at once. When that goes on, later each time: a ledger that leases and does not
    /// settle would else have the same blobs fetched without a pause.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = LeaseKey>, now: Timestamp) {
        let mut state = self.state();
        state.keys.extend(keys);
        state.fail(now);
    }

    /// Those that it is time to free. They stay kept until [`Unsettled::freed`].
    pub(super) fn due(&self, now: Timestamp) -> Vec<LeaseKey> {
        let state = self.state();
        if state.is_waiting(now) {
            return Vec::new();
        }
        state.keys.iter().copied().collect()
    }

    /// They are due again, or somebody else's.
    pub(super) fn freed(&self, keys: &[LeaseKey]) {
        let mut state = self.state();
        for key in keys {
            state.keys.remove(key);
        }
    }

    /// They could not be freed either.
    pub(super) fn not_freed(&self, now: Timestamp) {
        self.state().fail(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, now: Timestamp) {
        // What fails while all wait is the same failure.
        if self.is_waiting(now) {
            return;
        }
        let was_calm = self
            .failed_at
            .is_none_or(|at| now.duration_since(at).unsigned_abs() > CALM);
        self.failures = if was_calm { 1 } else { self.failures + 1 };
        self.failed_at = Some(now);
        let pause = match self.failures {
            1 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 2).min(10)).min(LONGEST_PAUSE),
        };
        self.retry_at = Some(now + pause);
    }

    /// A pause that would last longer than any is one that began before the clock was set back.
    fn is_waiting(&self, now: Timestamp) -> bool {
        self.retry_at
            .is_some_and(|at| at > now && at <= now + LONGEST_PAUSE)
    }
}
