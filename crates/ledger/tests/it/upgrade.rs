//! A process is killed, with SIGKILL, while it brings an older ledger to the current format, and the next one goes on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::{Lease, LeaseRequest, Ledger, SqliteLedger};
use rusqlite::Connection;

/// Given to the test binary as a filter that fits no test, so that an opening process needs no program of its own.
const OPEN: &str = "open-and-end=";

/// Blobs that wait: enough that the upgrade takes a while.
const BLOBS: u32 = 20_000;

/// Processes that are killed.
const KILLS: usize = 8;

#[test]
fn an_upgrade_that_is_killed_is_gone_on_with() {
    if let Some(path) =
        std::env::args().find_map(|argument| argument.strip_prefix(OPEN).map(PathBuf::from))
    {
        drop(SqliteLedger::open(path).unwrap());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = directory.path().join(name);
        make_old(&path);
        path
    };
    let whole = place("whole.db");
    let started = Instant::now();
    assert!(opening(&whole).wait().unwrap().success());
    let took = started.elapsed();
    let current = format_of(&whole);
    let mut reached = Vec::new();
    // Machines have their moments, so each is killed somewhat earlier or later than the one before, by how far that got.
    let mut after = took / 2;
    while reached.len() < KILLS {
        let path = place(&format!("killed-{}.db", reached.len()));
        let mut process = opening(&path);
        std::thread::sleep(after);
        process.kill().unwrap();
        process.wait().unwrap();
        let format = format_of(&path);
        assert_whole(&path);
        assert_eq!(format_of(&path), current);
        after = match format {
            1 => after * 5 / 4,
            _ if format == current => after * 3 / 4,
            _ => after * 9 / 8,
        };
        reached.push(format);
    }
    let is_between = |format: &&i64| **format > 1 && **format < current;
    assert!(
        reached.iter().filter(is_between).count() > 0,
        "none was killed on its way: {reached:?}"
    );
}

/// A ledger of format 1, with blobs whose addresses have what later formats write otherwise.
fn make_old(path: &Path) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(include_str!("../../test-data/format-1.sql"))
        .unwrap();
    let made = old.execute(
        "WITH RECURSIVE number (n) AS (VALUES (10) UNION ALL SELECT n + 1 FROM number WHERE n < ?1 + 9)
         INSERT INTO blob (stream, seen_via, created_at, expires_at, seen_at, content_id, uri)
         SELECT 1, 0, 1760000000000 + n, 1760604800000 - n * 7919 % 3600000, 1760000000000, 'blob-' || n,
                'https://manage.office.com/{id}/blob-' || n
         FROM number",
        [BLOBS],
    );
    assert_eq!(made.unwrap(), BLOBS as usize);
}

fn opening(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "upgrade::an_upgrade_that_is_killed_is_gone_on_with",
            "--test-threads=1",
        ])
        .arg(format!("{OPEN}{}", path.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn format_of(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let format = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
    format.unwrap()
}

/// All blobs are there, with their addresses, once the ledger is opened.
fn assert_whole(path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ledger = SqliteLedger::open(path).unwrap();
        let now = Timestamp::from_second(1_760_000_000).unwrap();
        let summary = ledger.summary(now).await.unwrap();
        let stream = &summary.streams[0];
        let counts = (stream.pending_count, stream.delivered_count);
        assert_eq!(counts, (u64::from(BLOBS) + 1, 1));
        let request = LeaseRequest {
            max_count: usize::MAX,
            duration: Duration::from_secs(300),
            except_tenants: Vec::new(),
            for_sinks: Vec::new(),
            only: Vec::new(),
        };
        let leases = ledger.lease(&request, now).await.unwrap();
        let is_right = |lease: &&Lease| {
            let name = lease.content_id().as_str();
            lease.uri() == format!("https://manage.office.com/{{id}}/{name}")
        };
        assert_eq!(leases.iter().filter(is_right).count(), BLOBS as usize);
    });
}
