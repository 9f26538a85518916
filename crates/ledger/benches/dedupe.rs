//! How fast records are looked up and remembered, when many are remembered already.
//!
//! `cargo bench -p ledger --bench dedupe` remembers ten million (or as many as the argument says), in batches of the
//! size that a sink's lane makes, each one look-up and one commit that is synced; one record in fifty is one of the last
//! eight batches again. It prints the rate at each tenth, the memory that the process has taken at most, and the size of
//! the file; then how long it takes to open the ledger again, until the first look-up is answered.
#![expect(
    clippy::print_stdout,
    reason = "a bench's result goes to standard output"
)]

use std::path::Path;
use std::time::Instant;

use activity_api::{ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};
use ledger::{Ledger, RecordKey, RememberedRecords, SinkCommit, SinkName, SqliteLedger};

/// 4 MiB of records of the usual size.
const BATCH: u64 = 3_000;
const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);

fn main() {
    let count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let count: u64 = count.unwrap_or(10_000_000);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(remember(&path, count));
    let started = Instant::now();
    let ledger = SqliteLedger::open(&path).expect("opened");
    let sink = sink();
    let known = ledger.known_records(&sink, vec![key(0)], start() - KEEP);
    let known = runtime.block_on(known);
    assert_eq!(known.expect("read"), [true]);
    println!(
        "opened again and answered in {:.2} s; {} MiB in memory at most",
        started.elapsed().as_secs_f64(),
        peak_mib()
    );
}

async fn remember(path: &Path, count: u64) {
    let ledger = SqliteLedger::open(path).expect("opened");
    let (mut next, mut told, mut told_at) = (0, 0, Instant::now());
    let mut duplicates = 0;
    while next < count {
        // A week's worth in a week, so that runs end by the day as well.
        let now = start() + KEEP * i32::try_from(next * 1_000 / count).expect("small") / 1_000;
        let before = next.saturating_sub(8 * BATCH);
        let again = before..before + BATCH / 50;
        let fresh = next..next + BATCH - BATCH / 50;
        next = fresh.end;
        let keys: Vec<_> = fresh.chain(again).map(key).collect();
        let sink = sink();
        let known = ledger.known_records(&sink, keys.clone(), now - KEEP);
        let known = known.await.expect("looked up");
        let keys: Vec<_> = keys
            .into_iter()
            .zip(known)
            .filter(|(_, is_known)| !is_known)
            .map(|(key, _)| key)
            .collect();
        duplicates += BATCH - keys.len() as u64;
        let commit = SinkCommit {
            sink,
            position: None,
            acknowledged: Vec::new(),
            quarantined: Vec::new(),
            remembered: Some(RememberedRecords {
                duplicate_count: BATCH - keys.len() as u64,
                keys,
                forget_before: now - KEEP,
            }),
        };
        ledger.acknowledge(commit, now).await.expect("committed");
        if next - told >= count / 10 || next >= count {
            let rate = (next - told) as f64 / told_at.elapsed().as_secs_f64();
            println!(
                "{next} remembered: {rate:.0} records/s, {} MiB in memory at most, {} MiB on disk",
                peak_mib(),
                size_mib(path)
            );
            (told, told_at) = (next, Instant::now());
        }
    }
    println!("{duplicates} were known");
}

fn start() -> Timestamp {
    Timestamp::from_second(1_760_000_000).expect("a time in 2025")
}

fn sink() -> SinkName {
    "file".parse().expect("a sink's name")
}

fn key(number: u64) -> RecordKey {
    let tenant: TenantId = "bf8d32d3-1c13-4487-af02-80dba2236485"
        .parse()
        .expect("a GUID");
    let id = format!("80c76bd2-9d81-4c57-a97a-{number:012x}");
    RecordKey::new(tenant, ContentType::Exchange, &id)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn size_mib(path: &Path) -> u64 {
    let wal = path.with_extension("db-wal");
    let size = |path: &Path| path.metadata().map(|found| found.len()).unwrap_or_default();
    (size(path) + size(&wal)) >> 20
}
