//! One blob between its lease and its settlement: which sinks have which of its parts, and the moment at which
//! nothing more is to come. Plain state behind one lock; whoever brings the last piece settles the blob.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Acknowledgement, Completion, Lease, LeaseKey, Ledger, PartKey,
    quarantined_item_of,
};

use crate::quarantine::{Bound, NoRoom, ROOM_AGAIN};
use crate::record::BlobTag;
use decode::Totals;

/// A leased blob under way to every sink. Sinks are known by their index among the pipeline's.
#[derive(Debug)]
pub(super) struct InFlight {
    tag: Arc<BlobTag>,
    uri: Box<str>,
    expires_at: Timestamp,
    attempts: u32,
    /// Records and undecodable stretches that were set aside under this lease.
    quarantined: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Taken by whoever settles the blob.
    lease: Option<Lease>,
    fetch: Fetch,
    sinks: Vec<SinkProgress>,
    /// Why a sink may be tried again only later, when that is not the sink's failure.
    waits_because: Option<String>,
}

#[derive(Debug, Default)]
struct SinkProgress {
    /// Parts that earlier leases' deliveries have brought to it.
    had: Vec<PartKey>,
    /// It has the whole blob, and the ledger knows.
    is_whole: bool,
    /// The ledger's proof of that, when it was given under this lease.
    proof: Option<Acknowledgement>,
    /// Parts that are on their way to it.
    outstanding: usize,
    /// When it may be tried again: it did not take a part.
    failed_until: Option<Timestamp>,
    /// A part was given up before the sink had said anything, for want of time.
    is_cut_off: bool,
}

impl State {
    /// The totals of the blob, when `count` parts are the last that sink `index` lacks of it.
    fn is_all(&self, index: usize, count: usize) -> Option<&Totals> {
        let Fetch::Done(totals) = &self.fetch else {
            return None;
        };
        let sink = self.sinks.get(index)?;
        let is_last = sink.outstanding == count && sink.failed_until.is_none() && !sink.is_cut_off;
        is_last.then_some(totals)
    }
}

impl SinkProgress {
    /// It has the whole blob, and neither failed at anything.
    fn is_done(&self) -> bool {
        self.is_whole && self.outstanding == 0 && self.failed_until.is_none() && !self.is_cut_off
    }
}

/// The numbers of a blob that every sink has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) record_count: u64,
    pub(super) byte_count: u64,
}

impl Delivered {
    pub(super) fn of(totals: &Totals) -> Self {
        Self {
            record_count: totals.record_count + totals.undecodable_count,
            byte_count: totals.byte_count,
        }
    }
}

#[derive(Debug)]
enum Fetch {
    Running,
    /// All parts are handed out.
    Done(Totals),
    /// No more parts will come, and the blob cannot be delivered under this lease.
    Ended(Ending),
}

/// What becomes of a blob that is not delivered under this lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Fetched again, not before this.
    RetryLater {
        not_before: Timestamp,
        reason: String,
    },
    /// Microsoft has it no more.
    Expire { reason: String },
    /// Nothing that can be delivered is in it; a person must look.
    Quarantine { reason: String, bytes: Vec<u8> },
    /// Not our turn any more: as if it had never been leased.
    Release,
}

impl Ending {
    /// The same, unless it is to be set aside and there is no room for it: then it waits.
    ///
    /// # Errors
    /// When the ledger does not tell whether there is room.
    pub(super) async fn with_room(
        self,
        quarantine: &Bound,
        ledger: &dyn Ledger,
        now: Timestamp,
    ) -> Result<Self, ledger::Error> {
        let Self::Quarantine { reason, bytes } = self else {
            return Ok(self);
        };
        match quarantine.take(bytes.len() as u64, ledger, now).await {
            Ok(()) => Ok(Self::Quarantine { reason, bytes }),
            Err(NoRoom::Full(full)) => Ok(Self::RetryLater {
                not_before: now + ROOM_AGAIN,
                reason: format!("{reason}, and {full}"),
            }),
            Err(NoRoom::Ledger(error)) => Err(error),
        }
    }
}

/// A blob with nothing more to come, and its lease.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) in_flight: Arc<InFlight>,
    pub(super) lease: Lease,
    /// Sinks that have every part and of which the ledger does not know that this is the whole blob.
    pub(super) lacking: Vec<usize>,
    pub(super) outcome: Outcome,
}

/// What is known of a blob when nothing more is to come.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Every sink has every part.
    Complete {
        totals: Totals,
        proofs: Vec<Acknowledgement>,
    },
    /// It ends otherwise.
    Ended(Ending),
}

impl InFlight {
    pub(super) fn new(lease: Lease, sinks: &[ledger::SinkName]) -> Arc<Self> {
        let tag = Arc::new(BlobTag {
            lease: lease.key(),
            tenant: lease.tenant(),
            content_type: lease.content_type(),
            content_id: lease.content_id().clone(),
            created_at: lease.created_at(),
        });
        let progress = |sink: &ledger::SinkName| {
            let had = lease
                .acknowledged()
                .iter()
                .filter(|(name, _)| name == sink)
                .filter_map(|(_, part)| match part {
                    AcknowledgedPart::Part(key) => Some(*key),
                    AcknowledgedPart::Whole => None,
                });
            SinkProgress {
                had: had.collect(),
                is_whole: lease.is_acknowledged_wholly_by(sink),
                ..SinkProgress::default()
            }
        };
        let sinks = sinks.iter().map(progress).collect();
        Arc::new(Self {
            tag,
            uri: lease.uri().into(),
            expires_at: lease.expires_at(),
            attempts: lease.attempts(),
            quarantined: AtomicU64::new(0),
            state: Mutex::new(State {
                lease: Some(lease),
                fetch: Fetch::Running,
                sinks,
                waits_because: None,
            }),
        })
    }

    pub(super) fn tag(&self) -> &Arc<BlobTag> {
        &self.tag
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether its bytes are the ledger's own, from quarantine.
    pub(super) fn is_stored(&self) -> bool {
        quarantined_item_of(&self.uri).is_some()
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn key(&self) -> LeaseKey {
        self.tag.lease
    }

    pub(super) fn quarantined_count(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }

    pub(super) fn add_quarantined(&self, count: u64) {
        self.quarantined.fetch_add(count, Ordering::Relaxed);
    }

    /// Which sinks need this part; it counts as on its way to each of them from here on.
    pub(super) fn hand_out(&self, part: PartKey) -> Vec<usize> {
        let mut state = self.state();
        let mut needed = Vec::new();
        for (index, sink) in state.sinks.iter_mut().enumerate() {
            if !sink.is_whole && !sink.had.contains(&part) {
                sink.outstanding += 1;
                needed.push(index);
            }
        }
        needed
    }

    /// Every part is handed out.
    pub(super) fn fetched(self: &Arc<Self>, totals: Totals) -> Option<Settled> {
        let mut state = self.state();
        state.fetch = Fetch::Done(totals);
        self.settle_if_complete(state)
    }

    /// No more parts will come, and this is to become of the blob once those that are out have arrived.
    pub(super) fn ended(self: &Arc<Self>, ending: Ending) -> Option<Settled> {
        let mut state = self.state();
        state.fetch = Fetch::Ended(ending);
        self.settle_if_complete(state)
    }

    /// What sink `index`, who took `parts`, is to be recorded as having: the whole blob, when nothing else is to come.
    pub(super) fn plan_acknowledgement(
        &self,
        index: usize,
        parts: &[PartKey],
    ) -> Vec<AcknowledgedPart> {
        if self.state().is_all(index, parts.len()).is_some() {
            vec![AcknowledgedPart::Whole]
        } else {
            parts.iter().copied().map(AcknowledgedPart::Part).collect()
        }
    }

    /// What to claim along with the acknowledgement of `count` parts by sink `index`, when these are all that is lacking: that
    /// the blob is delivered. And its numbers.
    pub(super) fn plan_completion(
        &self,
        index: usize,
        count: usize,
    ) -> Option<(Completion, Delivered)> {
        let state = self.state();
        let totals = state.is_all(index, count)?;
        let mut others = state.sinks.iter().enumerate();
        if !others.all(|(other, sink)| other == index || sink.is_done()) {
            return None;
        }
        let delivered = Delivered::of(totals);
        let completion = Completion::of(
            state.lease.as_ref()?,
            delivered.record_count,
            delivered.byte_count,
            self.quarantined_count(),
        )?;
        Some((completion, delivered))
    }

    /// The ledger has recorded that sink `index` took the last `count` parts, and that the blob is delivered by that.
    pub(super) fn delivered(&self, index: usize, count: usize) {
        let mut state = self.state();
        if let Some(sink) = state.sinks.get_mut(index) {
            sink.outstanding -= count;
            sink.is_whole = true;
        }
        drop(state.lease.take());
    }

    /// The ledger has recorded that sink `index` took `count` parts, and gave a proof if that was the whole blob.
    pub(super) fn acknowledged(
        self: &Arc<Self>,
        index: usize,
        count: usize,
        proof: Option<Acknowledgement>,
    ) -> Option<Settled> {
        let mut state = self.state();
        if let Some(sink) = state.sinks.get_mut(index) {
            sink.outstanding -= count;
            sink.is_whole |= proof.is_some();
            sink.proof = proof.or(sink.proof.take());
        }
        self.settle_if_complete(state)
    }

    /// Sink `index` did not take `count` parts and may be tried again at `retry_at`.
    pub(super) fn failed(
        self: &Arc<Self>,
        index: usize,
        count: usize,
        retry_at: Timestamp,
    ) -> Option<Settled> {
        let mut state = self.state();
        if let Some(sink) = state.sinks.get_mut(index) {
            sink.outstanding -= count;
            sink.failed_until = sink.failed_until.max(Some(retry_at));
        }
        self.settle_if_complete(state)
    }

    /// Sink `index` has `count` parts but for what it refuses, and there is no room for that before `retry_at`.
    pub(super) fn waits(
        self: &Arc<Self>,
        index: usize,
        count: usize,
        retry_at: Timestamp,
        reason: String,
    ) -> Option<Settled> {
        self.state().waits_because = Some(reason);
        self.failed(index, count, retry_at)
    }

    /// There is no more time for sink `index` to take `count` parts. That is nobody's failure.
    pub(super) fn cut_off(self: &Arc<Self>, index: usize, count: usize) -> Option<Settled> {
        let mut state = self.state();
        if let Some(sink) = state.sinks.get_mut(index) {
            sink.outstanding -= count;
            sink.is_cut_off = true;
        }
        self.settle_if_complete(state)
    }

    fn settle_if_complete(
        self: &Arc<Self>,
        mut state: std::sync::MutexGuard<'_, State>,
    ) -> Option<Settled> {
        if matches!(state.fetch, Fetch::Running)
            || state.sinks.iter().any(|sink| sink.outstanding > 0)
        {
            return None;
        }
        let lease = state.lease.take()?;
        let failed_until = state
            .sinks
            .iter()
            .filter_map(|sink| sink.failed_until)
            .max();
        let is_cut_off = state.sinks.iter().any(|sink| sink.is_cut_off);
        let is_fetched = matches!(state.fetch, Fetch::Done(_));
        let outcome = match (&state.fetch, failed_until) {
            // A blob that is gone is gone, and a release is a release, whatever a sink did meanwhile.
            (Fetch::Ended(ending @ (Ending::Expire { .. } | Ending::Release)), _) => {
                Outcome::Ended(ending.clone())
            }
            _ if is_cut_off => Outcome::Ended(Ending::Release),
            // Both have their reason to wait.
            (Fetch::Ended(Ending::RetryLater { not_before, reason }), failed_until) => {
                let not_before = failed_until.unwrap_or(*not_before).max(*not_before);
                Outcome::Ended(Ending::RetryLater {
                    not_before,
                    reason: reason.clone(),
                })
            }
            (_, Some(not_before)) => Outcome::Ended(Ending::RetryLater {
                not_before,
                reason: state
                    .waits_because
                    .clone()
                    .unwrap_or_else(|| "not every sink has all of it on record".to_owned()),
            }),
            (Fetch::Ended(ending), None) => Outcome::Ended(ending.clone()),
            (Fetch::Done(totals), None) => Outcome::Complete {
                totals: totals.clone(),
                proofs: state
                    .sinks
                    .iter_mut()
                    .filter_map(|sink| sink.proof.take())
                    .collect(),
            },
            (Fetch::Running, _) => unreachable!("checked above"),
        };
        let has_all =
            |sink: &SinkProgress| !sink.is_whole && sink.failed_until.is_none() && !sink.is_cut_off;
        let lacking = match is_fetched {
            true => (0..state.sinks.len())
                .filter(|index| state.sinks.get(*index).is_some_and(has_all))
                .collect(),
            false => Vec::new(),
        };
        drop(state);
        Some(Settled {
            in_flight: Arc::clone(self),
            lease,
            lacking,
            outcome,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change below is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
