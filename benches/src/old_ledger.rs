//! A ledger with many blobs that were delivered long ago, made by the ledger's own operations.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Delivery, Lease, LeaseRequest, Ledger as _, SeenBlob, SeenVia, SinkCommit,
    SinkName, SqliteLedger,
};
use tokio::runtime::Runtime;

use crate::args::Sink;

/// Blobs at a time. A transaction each, so large ones are made soonest.
const BATCH: u64 = 10_000;

/// Fills the ledger at `path` up to `count` delivered blobs.
pub(crate) struct OldLedger {
    ledger: SqliteLedger,
    runtime: Runtime,
    tenant: String,
    sink: SinkName,
    now: Timestamp,
    count: u64,
}

impl OldLedger {
    /// Opens the ledger at `path`, in which `count` such blobs are.
    pub(crate) fn open(path: &Path, tenant: &str, count: u64) -> anyhow::Result<Self> {
        let since = std::time::UNIX_EPOCH.elapsed()?;
        Ok(Self {
            ledger: SqliteLedger::open(path)?,
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            tenant: tenant.to_owned(),
            sink: Sink::Alertlogic.name().parse()?,
            now: Timestamp::from_second(i64::try_from(since.as_secs())?)?,
            count,
        })
    }

    /// How many blobs there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn grow(&mut self, count: u64) -> anyhow::Result<()> {
        while self.count < count {
            self.live(BATCH.min(count - self.count))?;
        }
        Ok(())
    }

    /// How long a batch of 100 new blobs takes to be noted, and to be leased.
    pub(crate) fn note_and_lease(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let started = Instant::now();
        self.note(100)?;
        let noted = started.elapsed();
        let started = Instant::now();
        let leases = self.lease(100)?;
        let leased = started.elapsed();
        self.deliver(leases)?;
        Ok((noted, leased))
    }

    fn live(&mut self, count: u64) -> anyhow::Result<()> {
        self.note(count)?;
        let leases = self.lease(usize::try_from(count)?)?;
        self.deliver(leases)
    }

    fn note(&mut self, count: u64) -> anyhow::Result<()> {
        let numbers = self.count..self.count + count;
        let seen = numbers
            .map(|number| self.blob(number))
            .collect::<anyhow::Result<_>>()?;
        self.runtime
            .block_on(self.ledger.note_seen(seen, self.now))?;
        self.count += count;
        Ok(())
    }

    fn lease(&self, max_count: usize) -> anyhow::Result<Vec<Lease>> {
        let request = LeaseRequest {
            max_count,
            duration: Duration::from_secs(300),
            except_tenants: Vec::new(),
            for_sinks: vec![self.sink.clone()],
            only: Vec::new(),
        };
        let leases = self
            .runtime
            .block_on(self.ledger.lease(&request, self.now))?;
        ensure!(leases.len() == max_count, "{} leases", leases.len());
        Ok(leases)
    }

    fn deliver(&self, leases: Vec<Lease>) -> anyhow::Result<()> {
        let commit = SinkCommit {
            sink: self.sink.clone(),
            position: None,
            acknowledged: leases
                .iter()
                .map(|lease| (lease.key(), AcknowledgedPart::Whole))
                .collect(),
            quarantined: Vec::new(),
            remembered: None,
        };
        let proofs = self
            .runtime
            .block_on(self.ledger.acknowledge(commit, self.now))?;
        let deliveries = leases
            .into_iter()
            .zip(proofs)
            .map(|(lease, proof)| Delivery {
                lease,
                acknowledgements: vec![proof],
                record_count: 100,
                byte_count: 130_000,
                quarantined_count: 0,
            })
            .collect();
        let sinks = std::slice::from_ref(&self.sink);
        let marked = self.ledger.mark_delivered(deliveries, sinks, self.now);
        let is_all = self.runtime.block_on(marked)?.iter().all(Result::is_ok);
        ensure!(is_all, "a blob could not be delivered");
        Ok(())
    }

    /// Ids and addresses of the length and the order that Microsoft's have, spread over the last day.
    fn blob(&self, number: u64) -> anyhow::Result<SeenBlob> {
        let content_id =
            format!("2025100908{number:09}$20251009081530044$audit_exchange$Audit_Exchange$na0018");
        let created_at =
            self.now - SignedDuration::from_millis(86_400_000 - number.cast_signed() % 80_000_000);
        Ok(SeenBlob {
            tenant: self.tenant.parse()?,
            content_type: activity_api::ContentType::ALL[(number % 5) as usize],
            uri: format!(
                "https://localhost/api/v1.0/{}/activity/feed/audit/{content_id}",
                self.tenant
            ),
            content_id: activity_api::ContentId::canonical(&content_id),
            created_at,
            expires_at: created_at + SignedDuration::from_hours(168),
            seen_via: SeenVia::Listing,
        })
    }
}
