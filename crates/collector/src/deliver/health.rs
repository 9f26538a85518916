//! Whether each sink takes records at present, kept from one pass to the next.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ledger::SinkName;

use super::pauses::plan_pause;
use super::withheld::Withheld;

/// The longest pause of a lane that is down. An outage ends for us at most this long after it ended.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

    /// It took a batch.
    pub(super) fn works(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.paused_until = None;
    }

    /// It was given up. When it may be tried again.
    pub(super) fn fails(&self, now: Timestamp, at_least: Option<Duration>) -> Timestamp {
        // Several batches under way meet the same failure, which must not make the pause longer with each.
        if let Some(until) = self.paused_until(now) {
            return until;
        }
        let mut state = self.state();
        state.failures += 1;
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
