//! The end of a blob's way: delivered, later again, expired, quarantined or released. The only caller of
//! [`mark_delivered`](ledger::Ledger::mark_delivered); most blobs are delivered along with their last acknowledgement, by the
//! lane.

mod delivered;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Acknowledgement, Delivery, Lease, LeaseKey, LeaseRequest, Ledger, SinkCommit,
    SinkName,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::in_flight::{Delivered, Ending, InFlight, Outcome, Settled};
use super::{Unsettled, Wanted};
use crate::clock::Clock;
#[cfg(test)]
use crate::planted::{self, Bug};
use crate::quarantine::Bound;
use crate::status::Live;
use crate::telemetry::{self, LedgerOperation, chain};
use decode::Totals;

/// The fact that is written to see whether the ledger takes writes again. Its value says when that was, and nobody reads it.
const PROBE: &str = "ledger/probed_at";

/// What one pass of delivering brought about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassCounts {
    /// Blobs that every sink has.
    pub delivered_blobs: u64,
    /// Records in them.
    pub delivered_records: u64,
    /// Blobs to be tried again later.
    pub retried_blobs: u64,
    /// Blobs and single records set aside.
    pub quarantined: u64,
    /// Blobs that were gone.
    pub expired_blobs: u64,
}

/// Settles blobs in the ledger and counts what it did.
pub(super) struct Settler {
    ledger: Arc<dyn Ledger>,
    sinks: Vec<SinkName>,
    clock: Arc<dyn Clock>,
    live: Live,
    /// What earlier writes, also of earlier passes, could not settle.
    unsettled: Arc<Unsettled>,
    quarantine: Arc<Bound>,
    /// How long a lease lasts.
    lease: Duration,
    /// Who waits for what is let go.
    wanted: Arc<Wanted>,
    /// Leases that are held, for renewal.
    held: Mutex<BTreeSet<LeaseKey>>,
    /// Told whenever leases are let go.
    settled: Notify,
    /// When that was done last.
    renewed_at: Mutex<Timestamp>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    delivered_blobs: AtomicU64,
    delivered_records: AtomicU64,
    retried_blobs: AtomicU64,
    quarantined: AtomicU64,
    expired_blobs: AtomicU64,
}

impl Settler {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a thing of its own that outlives the pass, and there is one caller"
    )]
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        sinks: Vec<SinkName>,
        clock: Arc<dyn Clock>,
        live: Live,
        unsettled: Arc<Unsettled>,
        quarantine: Arc<Bound>,
        lease: Duration,
        wanted: Arc<Wanted>,
    ) -> Self {
        let renewed_at = Mutex::new(clock.now());
        Self {
            ledger,
            sinks,
            clock,
            live,
            unsettled,
            quarantine,
            lease,
            wanted,
            held: Mutex::default(),
            settled: Notify::new(),
            renewed_at,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> PassCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PassCounts {
            delivered_blobs: read(&self.counts.delivered_blobs),
            delivered_records: read(&self.counts.delivered_records),
            retried_blobs: read(&self.counts.retried_blobs),
            quarantined: read(&self.counts.quarantined),
            expired_blobs: read(&self.counts.expired_blobs),
        }
    }

    /// The lease is ours from here on and is to be renewed.
    pub(super) fn hold(&self, key: LeaseKey) {
        self.held().insert(key);
    }

    /// Renews every lease that is ours, three times in the life of each, for as long as it is polled.
    pub(super) async fn renew_now_and_then(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.lease / 3).await;
            self.renew().await;
        }
    }

    /// Renews every lease that is ours when the time of day has jumped (the machine slept, or its clock was set right).
    /// Asked before leases are taken: our own would else have run out, and be taken from ourselves.
    pub(super) async fn renew_after_a_jump(&self) {
        let renewed_at = *self
            .renewed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.clock.now().duration_since(renewed_at).unsigned_abs() > self.lease / 2 {
            self.renew().await;
        }
    }

    /// Renews every lease that is ours when the ledger took its time to give the last of them. They count from `asked_at`
    /// and may have run out already: the next look would take them from ourselves, and have their blobs under way twice.
    pub(super) async fn renew_after_a_stall(&self, asked_at: Timestamp) {
        if self.clock.now().duration_since(asked_at).unsigned_abs() > self.lease / 3 {
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let now = self.clock.now();
        *self
            .renewed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
        let keys: Vec<_> = self.held().iter().copied().collect();
        if keys.is_empty() {
            return;
        }
        match self.ledger.renew(&keys, now + self.lease).await {
            Ok(lost) => {
                // One that was kept was written.
                if lost.len() < keys.len() {
                    self.live.ledger_ok();
                }
                if !lost.is_empty() {
                    warn!(
                        count = lost.len(),
                        "leases were lost, another worker has their blobs"
                    );
                    self.let_go(lost);
                }
            }
            Err(cause) => {
                telemetry::ledger_failed(LedgerOperation::Renew);
                self.note_failing(&cause);
                error!(
                    cause = &cause as &dyn std::error::Error,
                    "leases could not be renewed"
                );
            }
        }
    }

    /// Takes leases, and notes whether the ledger gives them.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(super) async fn lease(
        &self,
        request: &LeaseRequest,
        now: Timestamp,
    ) -> Result<Vec<Lease>, ledger::Error> {
        let leased = self.ledger.lease(request, now).await;
        match &leased {
            // To find nothing due writes nothing, and proves nothing.
            Ok(leases) if leases.is_empty() => {}
            Ok(_) => self.live.ledger_ok(),
            Err(cause) => {
                telemetry::ledger_failed(LedgerOperation::Lease);
                self.note_failing(cause);
            }
        }
        leased
    }

    /// Makes blobs due whose settlement the ledger did not take, once it takes writes again, and finds out whether it does
    /// while it is said to fail. They keep their acknowledgements.
    ///
    /// # If interrupted
    /// The next look does the same again, which changes nothing.
    pub(super) async fn look_after_ledger(&self) {
        let now = self.clock.now();
        let keys = self.unsettled.due(now);
        if !keys.is_empty() {
            // Until now and no longer: a lease that has run out is anybody's.
            match self.ledger.renew(&keys, now).await {
                Ok(lost) => {
                    self.unsettled.freed(&keys);
                    warn!(
                        count = keys.len() - lost.len(),
                        "blobs that could not be settled are due again"
                    );
                    if lost.len() < keys.len() {
                        self.live.ledger_ok();
                    }
                }
                Err(cause) => {
                    telemetry::ledger_failed(LedgerOperation::Renew);
                    self.unsettled.not_freed(now);
                    self.note_failing(&cause);
                }
            }
        }
        if self.live.is_ledger_failing() {
            let started = Instant::now();
            match self.ledger.remember(PROBE, &now.to_string()).await {
                Ok(()) => {
                    telemetry::ledger_committed(LedgerOperation::Remember, started.elapsed());
                    self.live.ledger_ok();
                }
                Err(cause) => {
                    telemetry::ledger_failed(LedgerOperation::Remember);
                    self.note_failing(&cause);
                }
            }
        }
    }

    fn note_failing(&self, cause: &ledger::Error) {
        self.live.ledger_failed(&chain(cause), self.clock.now());
    }

    /// Single records were set aside.
    pub(super) fn count_quarantined(&self, in_flight: &InFlight, count: u64) {
        let tag = in_flight.tag();
        self.counts.quarantined.fetch_add(count, Ordering::Relaxed);
        telemetry::records_quarantined(tag.tenant, tag.content_type, count);
    }

    /// A blob goes back because its tenant cannot be collected at present.
    pub(super) fn count_stopped(&self) {
        self.counts.retried_blobs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a blob that was leased but not begun back.
    ///
    /// # If interrupted
    /// The lease runs out by itself.
    pub(super) async fn release(&self, leases: Vec<Lease>) {
        let keys: Vec<_> = leases.iter().map(Lease::key).collect();
        let mut failed = Failed::default();
        let written = self.write(LedgerOperation::PutBack, self.ledger.release(leases));
        if let Err(cause) = written.await {
            failed.add(LedgerOperation::PutBack, cause, keys.iter().copied());
        }
        self.note_failed(failed);
        self.let_go(keys);
    }

    /// Writes down what became of blobs that have nothing more to come.
    ///
    /// # If interrupted
    /// Before the ledger's answer: the leases run out and the blobs are leased again, with every acknowledgement that
    /// was recorded. They are fetched once more and no sink sees anything twice that it acknowledged. The same goes for
    /// a write that fails, but that the leases do not run out first: see [`Settler::look_after_ledger`].
    pub(super) async fn settle(&self, settled: Vec<Settled>) {
        // Most blobs are still on their way to a sink when their fetch ends, and nobody is to be woken for that.
        if settled.is_empty() {
            return;
        }
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug takes one out"))]
        let mut keys: Vec<_> = settled.iter().map(|blob| blob.in_flight.key()).collect();
        let mut failed = Failed::default();
        let mut late_proofs = self.acknowledge_lacking(&settled, &mut failed).await;
        let mut complete = Vec::new();
        for Settled {
            in_flight,
            lease,
            outcome,
            ..
        } in settled
        {
            match outcome {
                Outcome::Complete { totals, mut proofs } => {
                    proofs.append(&mut late_proofs.remove(&lease.key()).unwrap_or_default());
                    complete.push(Complete {
                        in_flight,
                        lease,
                        totals,
                        proofs,
                    });
                }
                Outcome::Ended(ending) => {
                    let key = lease.key();
                    #[cfg(test)]
                    if planted::has(Bug::ForgetsALease)
                        && matches!(ending, Ending::RetryLater { .. })
                    {
                        keys.retain(|settled| *settled != key);
                        continue;
                    }
                    if let Err(cause) = self.end(&in_flight, lease, ending).await {
                        failed.add(LedgerOperation::PutBack, cause, [key]);
                    }
                }
            }
        }
        if !complete.is_empty() {
            self.deliver(complete, &mut failed).await;
        }
        self.note_failed(failed);
        self.let_go(keys);
    }

    /// Writes "whole" down for sinks that had every part, but not in a way that let their last acknowledgement say so.
    /// Also of a blob that another sink lacks: it is then leased no more on their account.
    async fn acknowledge_lacking(
        &self,
        settled: &[Settled],
        failed: &mut Failed,
    ) -> HashMap<LeaseKey, Vec<Acknowledgement>> {
        let mut all_proofs: HashMap<_, Vec<_>> = HashMap::new();
        for (index, sink) in self.sinks.iter().enumerate() {
            let acknowledged: Vec<_> = settled
                .iter()
                .filter(|blob| blob.lacking.contains(&index))
                .map(|blob| (blob.lease.key(), AcknowledgedPart::Whole))
                .collect();
            if acknowledged.is_empty() {
                continue;
            }
            let commit = SinkCommit {
                sink: sink.clone(),
                position: None,
                acknowledged,
                quarantined: Vec::new(),
                remembered: None,
            };
            let proofs = self.write(
                LedgerOperation::Acknowledge,
                self.ledger.acknowledge(commit, self.clock.now()),
            );
            match proofs.await {
                Ok(proofs) => {
                    for proof in proofs {
                        all_proofs.entry(proof.key()).or_default().push(proof);
                    }
                }
                // Without the proof the blob is not marked delivered, and is freed because of that.
                Err(cause) => failed.add(LedgerOperation::Acknowledge, cause, []),
            }
        }
        all_proofs
    }

    async fn deliver(&self, complete: Vec<Complete>, failed: &mut Failed) {
        let mut tags = Vec::with_capacity(complete.len());
        let mut deliveries = Vec::with_capacity(complete.len());
        for Complete {
            in_flight,
            lease,
            totals,
            proofs,
        } in complete
        {
            let delivered = Delivered::of(&totals);
            deliveries.push(Delivery {
                lease,
                acknowledgements: proofs,
                record_count: delivered.record_count,
                byte_count: delivered.byte_count,
                quarantined_count: in_flight.quarantined_count(),
            });
            tags.push((in_flight, delivered));
        }
        let now = self.clock.now();
        let marked = self.ledger.mark_delivered(deliveries, &self.sinks, now);
        let results = match self.write(LedgerOperation::MarkDelivered, marked).await {
            Ok(results) => results,
            Err(cause) => {
                let keys = tags.iter().map(|(in_flight, _)| in_flight.key());
                failed.add(LedgerOperation::MarkDelivered, cause, keys);
                return;
            }
        };
        let mut delivered = Vec::with_capacity(tags.len());
        for ((in_flight, numbers), result) in tags.into_iter().zip(results) {
            let tag = in_flight.tag();
            match result {
                Ok(()) => delivered.push((in_flight, numbers)),
                Err(cause) => {
                    warn!(tenant = %tag.tenant, content_id = %tag.content_id, %cause, "blob not marked delivered, it comes again");
                    if !matches!(cause, ledger::Error::LeaseLost) {
                        failed.keys.push(in_flight.key());
                    }
                }
            }
        }
        self.count_delivered(&delivered, now);
    }

    async fn end(
        &self,
        in_flight: &InFlight,
        lease: Lease,
        ending: Ending,
    ) -> Result<(), ledger::Error> {
        let tag = in_flight.tag();
        let now = self.clock.now();
        let ending = ending
            .with_room(&self.quarantine, &*self.ledger, now)
            .await?;
        match ending {
            Ending::RetryLater { not_before, reason } => {
                self.counts.retried_blobs.fetch_add(1, Ordering::Relaxed);
                debug!(tenant = %tag.tenant, content_id = %tag.content_id, reason, "blob put back");
                self.live
                    .blob_failed(tag.tenant, tag.content_type, &reason, Some(not_before), now);
                self.write(
                    LedgerOperation::PutBack,
                    self.ledger.retry_later(lease, not_before, &reason),
                )
                .await
            }
            Ending::Expire { reason } => {
                self.counts.expired_blobs.fetch_add(1, Ordering::Relaxed);
                error!(tenant = %tag.tenant, content_id = %tag.content_id, reason, "blob is gone");
                telemetry::blob_expired(tag.tenant, tag.content_type);
                self.live
                    .blob_failed(tag.tenant, tag.content_type, &reason, None, now);
                self.write(
                    LedgerOperation::PutBack,
                    self.ledger.expire(lease, &reason, now),
                )
                .await
            }
            Ending::Quarantine { reason, bytes } => {
                self.counts.quarantined.fetch_add(1, Ordering::Relaxed);
                error!(tenant = %tag.tenant, content_id = %tag.content_id, reason, "blob quarantined");
                telemetry::blob_quarantined(tag.tenant, tag.content_type);
                self.live
                    .blob_failed(tag.tenant, tag.content_type, &reason, None, now);
                self.write(
                    LedgerOperation::PutBack,
                    self.ledger.quarantine(lease, &reason, bytes, now),
                )
                .await
            }
            Ending::Release => {
                self.write(LedgerOperation::PutBack, self.ledger.release(vec![lease]))
                    .await
            }
        }
    }

    /// Waits for a write and counts how it went. Nothing is tried again here: the blobs that it concerned come again with
    /// all that the ledger knows of them.
    async fn write<T>(
        &self,
        operation: LedgerOperation,
        write: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Result<T, ledger::Error> {
        let started = Instant::now();
        let result = write.await;
        match &result {
            Ok(_) => {
                telemetry::ledger_committed(operation, started.elapsed());
                self.live.ledger_ok();
            }
            // The ledger is right, and it is late.
            Err(ledger::Error::LeaseLost) => {}
            Err(cause) => {
                telemetry::ledger_failed(operation);
                self.note_failing(cause);
            }
        }
        result
    }

    /// Keeps what was not settled for later, and says so once, however many blobs it is.
    fn note_failed(&self, failed: Failed) {
        let Failed { keys, first } = failed;
        if let Some((operation, cause)) = first {
            error!(
                operation = operation.as_str(),
                blob_count = keys.len(),
                cause = &cause as &dyn std::error::Error,
                "ledger write failed, blobs come again"
            );
        }
        if !keys.is_empty() {
            self.unsettled.add(keys, self.clock.now());
        }
    }

    /// Whether no lease is held.
    pub(super) fn holds_none(&self) -> bool {
        self.held().is_empty()
    }

    /// Waits until leases were let go.
    pub(super) async fn settled(&self) {
        self.settled.notified().await;
    }

    fn let_go(&self, keys: Vec<LeaseKey>) {
        let mut held = self.held();
        for key in &keys {
            held.remove(key);
        }
        drop(held);
        self.wanted.ended(&keys);
        self.settled.notify_one();
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<LeaseKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the ledger did not take of one settlement.
#[derive(Default)]
struct Failed {
    keys: Vec<LeaseKey>,
    first: Option<(LedgerOperation, ledger::Error)>,
}

impl Failed {
    fn add(
        &mut self,
        operation: LedgerOperation,
        cause: ledger::Error,
        keys: impl IntoIterator<Item = LeaseKey>,
    ) {
        // Whoever has the blob goes on with it: there is nothing to free, and nothing failed.
        if matches!(cause, ledger::Error::LeaseLost) {
            debug!("a lease was lost before its blob was settled");
            return;
        }
        self.keys.extend(keys);
        self.first.get_or_insert((operation, cause));
    }
}

struct Complete {
    in_flight: Arc<InFlight>,
    lease: Lease,
    totals: Totals,
    proofs: Vec<Acknowledgement>,
}
