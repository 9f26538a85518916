//! The end of a blob's way: delivered, later again, expired, quarantined or released. The only caller of
//! [`mark_delivered`](ledger::Ledger::mark_delivered).

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::hash::Hash as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use activity_api::TenantId;
use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Acknowledgement, Delivery, Lease, LeaseKey, Ledger, SinkCommit, SinkName,
};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::LEASE;
use super::in_flight::{Ending, InFlight, Outcome, Settled};
use crate::clock::Clock;
use crate::decode::Totals;
use crate::status::Live;
use crate::telemetry::{self, LedgerOperation};

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
    /// Leases that are held, for renewal.
    held: Mutex<BTreeSet<LeaseKey>>,
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
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        sinks: Vec<SinkName>,
        clock: Arc<dyn Clock>,
        live: Live,
    ) -> Self {
        let renewed_at = Mutex::new(clock.now());
        Self {
            ledger,
            sinks,
            clock,
            live,
            held: Mutex::default(),
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
            tokio::time::sleep(LEASE / 3).await;
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
        if self.clock.now().duration_since(renewed_at).unsigned_abs() > LEASE / 2 {
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
        match self.ledger.renew(&keys, now + LEASE).await {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => {
                warn!(
                    count = lost.len(),
                    "leases were lost, another worker has their blobs"
                );
                self.let_go(lost);
            }
            Err(cause) => error!(%cause, "leases could not be renewed"),
        }
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
        self.write(LedgerOperation::PutBack, self.ledger.release(leases))
            .await;
        self.let_go(keys);
    }

    /// Writes down what became of blobs that have nothing more to come.
    ///
    /// # If interrupted
    /// Before the ledger's answer: the leases run out and the blobs are leased again, with every acknowledgement that
    /// was recorded. They are fetched once more and no sink sees anything twice that it acknowledged.
    pub(super) async fn settle(&self, settled: Vec<Settled>) {
        let keys: Vec<_> = settled.iter().map(|blob| blob.in_flight.key()).collect();
        let mut late_proofs = self.acknowledge_lacking(&settled).await;
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
                Outcome::Ended(ending) => self.end(&in_flight, lease, ending).await,
            }
        }
        if !complete.is_empty() {
            self.deliver(complete).await;
        }
        self.let_go(keys);
    }

    /// Writes "whole" down for sinks that had every part, but not in a way that let their last acknowledgement say so.
    /// Also of a blob that another sink lacks: it is then leased no more on their account.
    async fn acknowledge_lacking(
        &self,
        settled: &[Settled],
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
            };
            let proofs = self.write(
                LedgerOperation::Acknowledge,
                self.ledger.acknowledge(commit, self.clock.now()),
            );
            // Without the proof the blob is not marked delivered, and comes again.
            for proof in proofs.await.into_iter().flatten() {
                all_proofs.entry(proof.key()).or_default().push(proof);
            }
        }
        all_proofs
    }

    async fn deliver(&self, complete: Vec<Complete>) {
        let mut tags = Vec::with_capacity(complete.len());
        let mut deliveries = Vec::with_capacity(complete.len());
        for Complete {
            in_flight,
            lease,
            totals,
            proofs,
        } in complete
        {
            let record_count = totals.record_count + totals.undecodable_count;
            deliveries.push(Delivery {
                lease,
                acknowledgements: proofs,
                record_count,
                byte_count: totals.byte_count,
                quarantined_count: in_flight.quarantined_count(),
            });
            tags.push((in_flight, record_count, totals.byte_count));
        }
        let now = self.clock.now();
        let marked = self.ledger.mark_delivered(deliveries, &self.sinks, now);
        let Some(results) = self.write(LedgerOperation::MarkDelivered, marked).await else {
            return;
        };
        for ((in_flight, record_count, byte_count), result) in tags.into_iter().zip(results) {
            let tag = in_flight.tag();
            match result {
                Ok(()) => {
                    self.counts.delivered_blobs.fetch_add(1, Ordering::Relaxed);
                    self.counts
                        .delivered_records
                        .fetch_add(record_count, Ordering::Relaxed);
                    telemetry::blob_delivered(
                        tag.tenant,
                        tag.content_type,
                        record_count,
                        byte_count,
                        tag.created_at,
                        now,
                    );
                    self.live.delivered(record_count, byte_count, now);
                    debug!(tenant = %tag.tenant, content_id = %tag.content_id, record_count, "blob delivered");
                }
                Err(cause) => {
                    warn!(tenant = %tag.tenant, content_id = %tag.content_id, %cause, "blob not marked delivered, it comes again");
                }
            }
        }
    }

    async fn end(&self, in_flight: &InFlight, lease: Lease, ending: Ending) {
        let tag = in_flight.tag();
        let now = self.clock.now();
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
                .await;
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
                .await;
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
                .await;
            }
            Ending::Release => {
                self.write(LedgerOperation::PutBack, self.ledger.release(vec![lease]))
                    .await;
            }
        }
    }

    /// Waits for a write and counts how it went. Nothing is retried here: the leases it concerned run out, and the
    /// blobs come again with all that the ledger knows of them.
    async fn write<T>(
        &self,
        operation: LedgerOperation,
        write: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Option<T> {
        let started = Instant::now();
        match write.await {
            Ok(value) => {
                telemetry::ledger_committed(operation, started.elapsed());
                Some(value)
            }
            Err(cause) => {
                telemetry::ledger_failed(operation);
                error!(
                    operation = operation.as_str(),
                    cause = &cause as &dyn std::error::Error,
                    "ledger write failed"
                );
                None
            }
        }
    }

    fn let_go(&self, keys: Vec<LeaseKey>) {
        let mut held = self.held();
        for key in keys {
            held.remove(&key);
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<LeaseKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Complete {
    in_flight: Arc<InFlight>,
    lease: Lease,
    totals: Totals,
    proofs: Vec<Acknowledgement>,
}

/// How long to wait before try number `tries` + 1: doubling from one second to five minutes, less up to half so that what
/// failed together does not come back together. What part is cut off depends on `seed` alone (an id, a time): no chance
/// is needed, and a simulation repeats itself.
pub(super) fn plan_pause(tries: u32, seed: impl std::hash::Hash) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    let whole = Duration::from_secs(1)
        .saturating_mul(1 << tries.saturating_sub(1).min(20))
        .min(LONGEST);
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    (tries, seed).hash(&mut hasher);
    whole.mul_f64(1.0 - (hasher.digest() % 1_000) as f64 / 2_000.0)
}

/// Tenants that are left alone for the moment.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<TenantId, (Timestamp, u32)>>);

impl Pauses {
    const LONGEST: Duration = Duration::from_secs(15 * 60);

    /// Leaves the tenant alone: for half a minute first, then longer each time, up to a quarter of an hour.
    pub(crate) fn pause(&self, tenant: TenantId, now: Timestamp) -> Timestamp {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, count) = pauses.entry(tenant).or_insert((now, 0));
        if !Self::is_ahead(*until, now) {
            *until = now
                + Duration::from_secs(30)
                    .saturating_mul(1 << (*count).min(10))
                    .min(Self::LONGEST);
            *count += 1;
        }
        *until
    }

    /// The tenant works again.
    pub(crate) fn clear(&self, tenant: TenantId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tenant);
    }

    /// Whether the tenant is to be left alone at `now`.
    pub(crate) fn is_paused(&self, tenant: TenantId, now: Timestamp) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .is_some_and(|(until, _)| Self::is_ahead(*until, now))
    }

    /// All tenants to be left alone at `now`.
    pub(crate) fn paused(&self, now: Timestamp) -> Vec<TenantId> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses
            .iter()
            .filter(|(_, (until, _))| Self::is_ahead(*until, now))
            .map(|(tenant, _)| *tenant)
            .collect()
    }

    /// A pause that would last longer than any is one that began before the clock was set back.
    fn is_ahead(until: Timestamp, now: Timestamp) -> bool {
        until > now && until <= now + Self::LONGEST
    }
}
