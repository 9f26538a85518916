//! Whether each sink takes records at present, kept from one pass to the next.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ledger::SinkName;

use super::pauses::plan_pause;
use super::withheld::Withheld;

/// The longest pause of a lane that is down. An outage ends for us at most this long after it ended.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// For how long a sink may have batches without ending one, and still hold up the others by the memory that it holds: a
/// restart of the other side, or a busy disk, passes unnoticed.
const SHORTEST_STALL: Duration = Duration::from_secs(30);

/// Which blobs are worth leasing for a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// All that it lacks.
    Up,
    /// One, to see whether it works again.
    Trial,
    /// None: they would be fetched in vain.
    Down,
}

/// Whether a sink takes records at present. Outlives the passes.
#[derive(Debug)]
pub(crate) struct Health {
    pub(super) sink: SinkName,
    /// Parts that it has but for records for which there is no room in quarantine.
    pub(super) withheld: Withheld,
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    failures: u32,
    /// How often in a row the ledger failed it.
    ledger_failures: u32,
    paused_until: Option<Timestamp>,
    /// When the one blob that it is tried with was leased, while it has to show that it works.
    trial_at: Option<Timestamp>,
    /// It has batches and has not ended one for long.
    is_stalled: bool,
    /// How long it took over the last batch that it took.
    took: Duration,
    /// The ledger does not know what the sink wrote last, so the sink must be put back before it goes on.
    must_resume: bool,
}

impl Health {
    pub(crate) fn new(sink: SinkName) -> Self {
        Self {
            sink,
            withheld: Withheld::default(),
            state: Mutex::default(),
        }
    }

    /// When the sink may be tried again, where that is still to come.
    pub(crate) fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        // A pause that would last longer than any is one that began before the clock was set back.
        self.state()
            .paused_until
            .filter(|until| *until > now && *until <= now + LONGEST_PAUSE)
    }

    /// Whether its last delivery failed for good.
    pub(super) fn was_failing(&self) -> bool {
        self.state().failures > 0
    }

    /// It took a batch, in this time.
    pub(super) fn works(&self, took: Duration) {
        let mut state = self.state();
        state.failures = 0;
        state.paused_until = None;
        state.trial_at = None;
        state.took = took;
    }

    /// Which blobs are worth leasing for it.
    pub(super) fn readiness(&self, now: Timestamp) -> Readiness {
        let is_paused = self.paused_until(now).is_some();
        let state = self.state();
        // A trial whose blob never came to the sink, as it could not be fetched, is over after a while.
        let is_on_trial = state
            .trial_at
            .is_some_and(|at| now.duration_since(at).unsigned_abs() < LONGEST_PAUSE);
        match (state.failures, state.is_stalled || is_paused || is_on_trial) {
            (_, true) => Readiness::Down,
            (0, false) => Readiness::Up,
            (_, false) => Readiness::Trial,
        }
    }

    /// A blob was leased to try it with.
    pub(super) fn trial_begins(&self, now: Timestamp) {
        self.state().trial_at = Some(now);
    }

    /// For how long it may have batches without ending one before it stands still. One that is slow by nature gets longer.
    pub(super) fn stalls_after(&self) -> Duration {
        SHORTEST_STALL.max(self.state().took * 3)
    }

    /// See [`Health::set_stalled`].
    pub(super) fn is_stalled(&self) -> bool {
        self.state().is_stalled
    }

    /// Whether it stands still: it has batches, and has not ended one for long.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        self.state().is_stalled = is_stalled;
    }

    /// It was given up. When it may be tried again.
    pub(super) fn fails(&self, now: Timestamp, at_least: Option<Duration>) -> Timestamp {
        // Several batches under way meet the same failure, which must not make the pause longer with each.
        if let Some(until) = self.paused_until(now) {
            return until;
        }
        let mut state = self.state();
        state.failures += 1;
        state.trial_at = None;
        let pause = plan_pause(state.failures + 2, (&self.sink, now))
            .max(at_least.unwrap_or_default())
            .min(LONGEST_PAUSE);
        *state.paused_until.insert(now + pause)
    }

    /// The ledger took its yes. Apart from [`Health::works`], which is said before the ledger is asked.
    pub(super) fn is_recorded(&self) {
        self.state().ledger_failures = 0;
    }

    /// It waits for the ledger, which does not take its yes. That is no failure of the sink's: it has no fewer tries
    /// afterwards. When it may be tried again.
    pub(super) fn waits_for_ledger(&self, now: Timestamp) -> Timestamp {
        // Several batches under way meet the same failure.
        if let Some(until) = self.paused_until(now) {
            return until;
        }
        let mut state = self.state();
        state.ledger_failures += 1;
        let pause = plan_pause(state.ledger_failures + 2, (&self.sink, now)).min(LONGEST_PAUSE);
        *state.paused_until.insert(now + pause)
    }

    /// Whether the sink must be put back to the ledger's position before it does anything else.
    pub(crate) fn must_resume(&self) -> bool {
        self.state().must_resume
    }

    /// See [`Health::must_resume`].
    pub(super) fn set_must_resume(&self, must: bool) {
        self.state().must_resume = must;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the sink resume when a batch's way ends anywhere but at its end, because the pass was dropped or by a panic: what
/// the sink wrote may then be unknown to the ledger.
pub(super) struct Interruption<'a>(pub(super) Option<&'a Health>);

impl Interruption<'_> {
    pub(super) fn did_not_happen(mut self) {
        self.0 = None;
    }
}

impl Drop for Interruption<'_> {
    fn drop(&mut self) {
        if let Some(health) = self.0 {
            health.set_must_resume(true);
        }
    }
}

/// Ends what is said of a sink that stands still with the lane that says it.
pub(super) struct StallGuard<'a>(pub(super) &'a Health);

impl Drop for StallGuard<'_> {
    fn drop(&mut self) {
        self.0.set_stalled(false);
    }
}
