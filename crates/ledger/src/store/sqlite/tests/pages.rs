//! How much of the file a step writes.

use std::collections::HashSet;

use activity_api::{ContentId, ContentType};
use jiff::SignedDuration;

use super::{blob, now, place, request};
use crate::{Lease, LeaseRequest, Ledger, SeenBlob, SqliteLedger};

/// Blobs of three content types, created one after the other and expiring up to an hour out of that order, as Microsoft's do.
fn backlog(count: usize) -> Vec<SeenBlob> {
    let minute = SignedDuration::from_mins(1);
    let blobs = (0..count).map(|number| {
        let created_at = now() + minute * i32::try_from(number / 60).unwrap();
        let early = minute * i32::try_from(number * 7_919 % 48).unwrap();
        let name = format!(
            "20231016001037495037203$2023101600{number:0>13}$audit_exchange$Audit_Exchange$jpn0016"
        );
        let blob = blob(number);
        SeenBlob {
            content_type: ContentType::ALL[number % 3],
            content_id: ContentId::canonical(&name),
            uri: format!(
                "https://manage.office.com/api/v1.0/{}/activity/feed/audit/{name}",
                blob.tenant
            ),
            created_at,
            expires_at: created_at + minute * 10_080 - early,
            ..blob
        }
    });
    // Each type's listing is noted by itself.
    let mut blobs: Vec<_> = blobs.collect();
    blobs.sort_by_key(|blob| blob.content_type);
    blobs
}

#[tokio::test]
async fn a_lease_writes_few_pages_however_blobs_expire() {
    let (_directory, path) = place();
    let ledger = SqliteLedger::open(&path).unwrap();
    ledger.note_seen(backlog(18_000), now()).await.unwrap();
    let log = path.with_extension("db-wal");
    let log_bytes = || std::fs::metadata(&log).unwrap().len();
    let before = log_bytes();
    let some = LeaseRequest {
        max_count: 256,
        ..request()
    };
    let hour = |lease: &Lease| lease.expires_at().as_second() / 3_600;
    let (mut hours, mut names) = (Vec::new(), HashSet::new());
    for _ in 0..12 {
        let leases = ledger.lease(&some, now()).await.unwrap();
        assert_eq!(leases.len(), 256);
        hours.extend(leases.iter().map(hour));
        names.extend(leases.iter().map(Lease::name));
    }
    assert!(hours.is_sorted());
    assert_eq!(names.len(), hours.len(), "each is leased once");
    // A page of the log is 4,096 bytes and a head. A page for each blob would make 3,072 of them, and whole addresses 629.
    let pages = (log_bytes() - before) / 4_120;
    assert!((1..540).contains(&pages), "{pages}");
}
