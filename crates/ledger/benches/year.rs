//! How large a ledger is after a year: five content types, fifty blobs of each in every hour, every hour listed seven
//! times, compacted once a day as the collector does.
//!
//! Prints the file's size as the year goes by, and what opening, leasing, a day's coverage and a day's compaction cost at
//! its beginning and its end. `cargo bench -p ledger --bench year`, with a number of days behind `--` for a shorter year.

#![expect(
    clippy::print_stdout,
    reason = "what it measures is for whoever runs it"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use activity_api::{ContentId, ContentType, TenantId, Window};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Delivery, LeaseRequest, Ledger, Listing, SeenBlob, SeenVia, SinkCommit,
    SinkName, SqliteLedger,
};

const BLOBS_AN_HOUR: i64 = 50;

/// How far back compaction lets things be: what Microsoft lists, and a day.
const KEPT_DAYS: i64 = 8;

/// Blobs forgotten in one transaction, which keeps others from writing for that long.
const STEP: usize = 2_000;

/// A listing when the hour is over, and one at each of six ages.
const AGES: [i64; 7] = [
    0,
    15,
    60,
    6 * 60,
    24 * 60,
    3 * 24 * 60,
    6 * 24 * 60 + 12 * 60,
];

fn main() {
    // Run by `cargo test` too, which has no use for it.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let day_count = arguments.iter().find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(year(day_count.unwrap_or(365)));
}

async fn year(day_count: i64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let mut ledger = SqliteLedger::open(&path).expect("opened");
    println!("day      file      opened      leased    coverage   compacted   blobs so far");
    for day in 0..day_count {
        live(&ledger, day).await;
        let (compacted, step_count) = compact(&ledger, day).await;
        if day + 1 == day_count || matches!(day + 1, 1 | 7 | 9 | 30 | 90 | 180 | 365) {
            // Closed, so that all is in the one file.
            drop(ledger);
            let size = path.metadata().expect("a file").len();
            let started = Instant::now();
            ledger = SqliteLedger::open(&path).expect("opened");
            let opened = started.elapsed();
            let leased = lease_a_few(&ledger, day).await;
            let coverage = coverage_of_a_month(&ledger, day).await;
            println!(
                "{:>3} {:>7.1} MB {opened:>11.2?} {leased:>11.2?} {coverage:>11.2?} {compacted:>11.2?} ({step_count}) {:>10}",
                day + 1,
                size as f64 / 1e6,
                (day + 1) * 24 * 5 * BLOBS_AN_HOUR,
            );
        }
    }
    assert_all_known(&ledger, day_count).await;
    drop(ledger);
    assert!(!Path::new(&format!("{}-wal", path.display())).exists());
}

/// A day: everything created in it is noted, delivered to two sinks and listed.
async fn live(ledger: &SqliteLedger, day: i64) {
    let now = at(day + 1);
    for content_type in ContentType::ALL {
        let seen = (0..24 * BLOBS_AN_HOUR).map(|number| blob(content_type, day, number));
        ledger.note_seen(seen.collect(), now).await.expect("noted");
    }
    let leases = ledger
        .lease(&request(usize::MAX), now)
        .await
        .expect("leased");
    assert_eq!(leases.len() as i64, 24 * 5 * BLOBS_AN_HOUR);
    let mut proofs = Vec::new();
    for sink in sinks() {
        let commit = SinkCommit {
            sink,
            position: None,
            acknowledged: leases
                .iter()
                .map(|lease| (lease.key(), AcknowledgedPart::Whole))
                .collect(),
            quarantined: Vec::new(),
            remembered: None,
        };
        proofs.push(ledger.acknowledge(commit, now).await.expect("acknowledged"));
    }
    let [first, second] = <[Vec<_>; 2]>::try_from(proofs).expect("two sinks");
    let deliveries =
        leases
            .into_iter()
            .zip(first.into_iter().zip(second))
            .map(|(lease, (first, second))| Delivery {
                lease,
                acknowledgements: vec![first, second],
                record_count: 100,
                byte_count: 130_000,
                quarantined_count: 0,
            });
    let answers = ledger
        .mark_delivered(deliveries.collect(), &sinks(), now)
        .await
        .expect("delivered");
    assert!(answers.iter().all(Result::is_ok));
    let listings = (0..24).flat_map(|hour| {
        ContentType::ALL.into_iter().flat_map(move |content_type| {
            AGES.into_iter().map(move |age| (hour, content_type, age))
        })
    });
    let listings = listings.map(|(hour, content_type, age)| {
        let start = at(day) + SignedDuration::from_hours(hour);
        let end = start + SignedDuration::from_hours(1);
        let listing = Listing {
            tenant: tenant(),
            content_type,
            window: Window::new(start, end).expect("a window"),
            blob_count: BLOBS_AN_HOUR as u64,
        };
        ledger.note_listed(listing, end + SignedDuration::from_mins(age))
    });
    for noted in join_all(listings).await {
        noted.expect("noted");
    }
}

/// The longest step, and how many there were.
async fn compact(ledger: &SqliteLedger, day: i64) -> (Duration, u32) {
    let before = at(day + 1 - KEPT_DAYS);
    let mut longest = Duration::ZERO;
    let mut step_count = 0;
    loop {
        let started = Instant::now();
        let done = ledger.compact(before, STEP).await.expect("compacted");
        longest = longest.max(started.elapsed());
        step_count += 1;
        if done.is_done {
            return (longest, step_count);
        }
    }
}

async fn lease_a_few(ledger: &SqliteLedger, day: i64) -> Duration {
    let started = Instant::now();
    let leases = ledger.lease(&request(16), at(day + 1)).await;
    assert!(leases.expect("leased").is_empty());
    started.elapsed()
}

async fn coverage_of_a_month(ledger: &SqliteLedger, day: i64) -> Duration {
    let range = Window::new(at(day - 30), at(day + 1)).expect("a window");
    let started = Instant::now();
    let coverage = ledger
        .coverage(tenant(), ContentType::Exchange, range)
        .await
        .expect("read");
    let elapsed = started.elapsed();
    let days = (day + 1).min(31) as u64;
    assert_eq!(
        coverage.delivered.blob_count,
        days * 24 * BLOBS_AN_HOUR as u64
    );
    elapsed
}

/// Every hour of the year is listed, whether merged or not, and no blob is missing in the totals.
async fn assert_all_known(ledger: &SqliteLedger, day_count: i64) {
    for content_type in ContentType::ALL {
        let range = Window::new(at(0), at(day_count)).expect("a window");
        let coverage = ledger
            .coverage(tenant(), content_type, range)
            .await
            .expect("read");
        let mut reach = at(0);
        for listed in &coverage.windows {
            assert!(listed.window.start() <= reach, "a gap at {reach}");
            reach = reach.max(listed.window.end());
        }
        assert_eq!(reach, at(day_count));
        assert_eq!(
            coverage.delivered.blob_count as i64,
            day_count * 24 * BLOBS_AN_HOUR
        );
    }
}

/// The beginning of a day of the year.
fn at(day: i64) -> Timestamp {
    Timestamp::from_second((20_370 + day) * 86_400).expect("a time in 2025 or 2026")
}

fn tenant() -> TenantId {
    "bf8d32d3-1c13-4487-af02-80dba2236485"
        .parse()
        .expect("a GUID")
}

fn sinks() -> [SinkName; 2] {
    ["file", "alertlogic"].map(|name| name.parse().expect("a sink's name"))
}

fn request(max_count: usize) -> LeaseRequest {
    LeaseRequest {
        max_count,
        duration: Duration::from_secs(300),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    }
}

/// Ids and addresses of the length that Microsoft's have.
fn blob(content_type: ContentType, day: i64, number: i64) -> SeenBlob {
    let created_at = at(day) + SignedDuration::from_secs(number * 3_600 / BLOBS_AN_HOUR);
    let content_id =
        format!("{day:08}{number:09}$20251009081530044$audit_exchange$Audit_Exchange$na0018");
    SeenBlob {
        tenant: tenant(),
        content_type,
        uri: format!(
            "https://manage.office.com/api/v1.0/bf8d32d3-1c13-4487-af02-80dba2236485/activity/feed/audit/{content_id}"
        ),
        content_id: ContentId::canonical(&content_id),
        created_at,
        expires_at: created_at + SignedDuration::from_hours(168),
        seen_via: SeenVia::Listing,
    }
}
