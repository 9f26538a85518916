//! What a blob's life costs in the ledger, and that it costs the same however many blobs are remembered or wait.
//!
//! Each batch is 100 blobs and two sinks: noted, leased, acknowledged twice, delivered; five commits, each synced.
//! `items/s` are blobs. The time includes the disk's syncs, which groups of a busy collector share among more blobs.

use std::time::Duration;

use activity_api::{ContentId, ContentType};
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Delivery, Lease, LeaseRequest, Ledger, SeenBlob, SeenVia, SinkCommit,
    SinkName, SqliteLedger,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BATCH: u64 = 100;

fn main() {
    divan::main();
}

/// A life of 100 blobs, with so many delivered before.
#[divan::bench(args = [0, 100_000, 1_000_000], sample_count = 100)]
fn life_with_delivered(bencher: Bencher, delivered_count: u64) {
    let mut bench = Bench::new();
    bench.live(delivered_count, 10_000);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| bench.live(BATCH, BATCH));
}

/// The same with so many that wait and are not due.
#[divan::bench(args = [0, 100_000], sample_count = 100)]
fn life_with_waiting(bencher: Bencher, waiting_count: u64) {
    let mut bench = Bench::new();
    bench.note(waiting_count);
    for lease in bench.lease(usize::MAX, &[]) {
        bench.retry_later(lease);
    }
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| bench.live(BATCH, BATCH));
}

/// The same with so many due that only another sink lacks, as when that one is unreachable for a day.
#[divan::bench(args = [0, 100_000], sample_count = 100)]
fn life_with_blobs_that_another_sink_lacks(bencher: Bencher, lacked_count: u64) {
    let mut bench = Bench::new();
    bench.note(lacked_count);
    let leases = bench.lease(usize::MAX, &[]);
    for sink in sinks() {
        bench.acknowledge(&sink, &leases);
    }
    bench.release(leases);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| bench.live(BATCH, BATCH));
}

/// Noting 100 blobs that are all known, as the trailing hour is listed every minute.
#[divan::bench(sample_count = 100)]
fn note_known(bencher: Bencher) {
    let mut bench = Bench::new();
    bench.live(100_000, 10_000);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        bench.noted_count -= BATCH;
        bench.note(BATCH);
    });
}

/// The summary, with so many blobs due and ten times as many delivered.
#[divan::bench(args = [0, 100_000], sample_count = 20)]
fn summary_with_pending(bencher: Bencher, pending_count: u64) {
    let mut bench = Bench::new();
    bench.live(pending_count * 10, 10_000);
    bench.note(pending_count);
    bencher.bench_local(|| {
        bench
            .runtime
            .block_on(bench.ledger.summary(bench.now))
            .expect("read")
    });
}

struct Bench {
    runtime: Runtime,
    ledger: SqliteLedger,
    now: Timestamp,
    noted_count: u64,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = SqliteLedger::open(directory.path().join("ledger.db")).expect("opened");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let now = Timestamp::from_second(1_760_000_000).expect("a time in 2025");
        Self {
            runtime,
            ledger,
            now,
            noted_count: 0,
            _directory: directory,
        }
    }

    /// Has `count` blobs noted, leased, acknowledged by both sinks and delivered, a batch at a time.
    fn live(&mut self, count: u64, batch: u64) {
        for _ in 0..count / batch {
            self.note(batch);
            let leases = self.lease(usize::try_from(batch).expect("small"), &sinks());
            assert_eq!(leases.len() as u64, batch);
            let acknowledgements: Vec<_> = sinks()
                .iter()
                .flat_map(|sink| self.acknowledge(sink, &leases))
                .collect();
            // Two proofs per delivery, in the order that the batch was leased in.
            let (first, second) = acknowledgements.split_at(leases.len());
            let deliveries = leases
                .into_iter()
                .zip(first.iter().zip(second))
                .map(|(lease, (first, second))| Delivery {
                    lease,
                    acknowledgements: vec![first.clone(), second.clone()],
                    record_count: 100,
                    byte_count: 130_000,
                    quarantined_count: 0,
                })
                .collect();
            let answers = self
                .runtime
                .block_on(self.ledger.mark_delivered(deliveries, &sinks(), self.now))
                .expect("delivered");
            assert!(answers.iter().all(Result::is_ok));
        }
    }

    fn note(&mut self, count: u64) {
        let seen = (0..count)
            .map(|index| blob(self.now, self.noted_count + index))
            .collect();
        self.runtime
            .block_on(self.ledger.note_seen(seen, self.now))
            .expect("noted");
        self.noted_count += count;
    }

    fn lease(&self, max_count: usize, for_sinks: &[SinkName]) -> Vec<Lease> {
        let request = LeaseRequest {
            max_count,
            duration: Duration::from_secs(300),
            except_tenants: Vec::new(),
            for_sinks: for_sinks.to_vec(),
            only: Vec::new(),
        };
        self.runtime
            .block_on(self.ledger.lease(&request, self.now))
            .expect("leased")
    }

    fn acknowledge(&self, sink: &SinkName, leases: &[Lease]) -> Vec<ledger::Acknowledgement> {
        let commit = SinkCommit {
            sink: sink.clone(),
            position: Some("length 123456789".into()),
            acknowledged: leases
                .iter()
                .map(|lease| (lease.key(), AcknowledgedPart::Whole))
                .collect(),
            quarantined: Vec::new(),
            remembered: None,
        };
        self.runtime
            .block_on(self.ledger.acknowledge(commit, self.now))
            .expect("acknowledged")
    }

    fn retry_later(&self, lease: Lease) {
        let tomorrow = self.now + SignedDuration::from_hours(24);
        self.runtime
            .block_on(self.ledger.retry_later(lease, tomorrow, "not ready"))
            .expect("given back");
    }

    fn release(&self, leases: Vec<Lease>) {
        self.runtime
            .block_on(self.ledger.release(leases))
            .expect("released");
    }
}

fn sinks() -> [SinkName; 2] {
    ["file", "alertlogic"].map(|name| name.parse().expect("a sink's name"))
}

/// Ids and addresses of the length and the order that Microsoft's have.
fn blob(now: Timestamp, number: u64) -> SeenBlob {
    let content_id =
        format!("2025100908{number:09}$20251009081530044$audit_exchange$Audit_Exchange$na0018");
    SeenBlob {
        tenant: "bf8d32d3-1c13-4487-af02-80dba2236485"
            .parse()
            .expect("a GUID"),
        content_type: ContentType::ALL[(number % 5) as usize],
        uri: format!(
            "https://manage.office.com/api/v1.0/bf8d32d3-1c13-4487-af02-80dba2236485/activity/feed/audit/{content_id}"
        ),
        content_id: ContentId::canonical(&content_id),
        created_at: now + SignedDuration::from_millis(number.cast_signed()),
        expires_at: now
            + SignedDuration::from_millis(number.cast_signed())
            + SignedDuration::from_hours(168),
        seen_via: SeenVia::Listing,
    }
}
