//! What one tenant's deliveries add up to: for the volume reports that follow payloads, and as evidence that the service
//! takes its payloads. What a check-in reports comes from the ledger, which outlives the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alertlogic::azcollect::CollectionStats;
use jiff::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Not yet in a report.
    unreported: CollectionStats,
    is_reporting: bool,
    accepted_at: Option<Timestamp>,
}

impl Statistics {
    /// A payload got its yes.
    pub(super) fn note_delivered(&self, record_count: usize, text_bytes: usize, now: Timestamp) {
        let mut counts = self.lock();
        let (events, bytes) = (record_count as u64, text_bytes as u64);
        counts.unreported.events += events;
        counts.unreported.bytes += bytes;
        counts.accepted_at = Some(now);
    }

    pub(super) fn has_accepted_since(&self, at: Timestamp) -> bool {
        self.lock()
            .accepted_at
            .is_some_and(|accepted_at| accepted_at >= at)
    }

    /// The right to report, when nobody has it. One report at a time: while it is under way the next one adds up, so
    /// that a slow service gets fewer and larger reports and never holds anything up.
    pub(super) fn begin_report(self: &Arc<Self>) -> Option<Report> {
        let mut counts = self.lock();
        if counts.is_reporting {
            return None;
        }
        counts.is_reporting = true;
        Some(Report {
            statistics: Arc::clone(self),
            is_over: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counters have no half-done state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands out what is to be reported until there is nothing; dropped before that, it leaves the rest to the next one.
#[derive(Debug)]
pub(super) struct Report {
    statistics: Arc<Statistics>,
    /// Whether the right to report was given back.
    is_over: bool,
}

impl Report {
    pub(super) fn next(&mut self) -> Option<CollectionStats> {
        let mut counts = self.statistics.lock();
        if counts.unreported.events == 0 {
            // Given back under the same lock: a payload noted after this begins a report of its own.
            counts.is_reporting = false;
            self.is_over = true;
            return None;
        }
        Some(std::mem::take(&mut counts.unreported))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_over {
            self.statistics.lock().is_reporting = false;
        }
    }
}
