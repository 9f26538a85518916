//! What the checks have in common: a few tenants and blobs, a clock that is told the time, and the usual steps.

use std::sync::Arc;
use std::time::Duration;

use activity_api::{ContentId, ContentType, TenantId, Window};
use jiff::{SignedDuration, Timestamp};

use crate::{
    AcknowledgedPart, Acknowledgement, Coverage, Delivery, Error, Lease, LeaseKey, LeaseRequest,
    Ledger, Listing, SeenBlob, SeenVia, SinkCommit, SinkName,
};

/// The ledger that a check is given.
pub(super) type Subject = Arc<dyn Ledger>;

/// Every lease lasts this long.
pub(super) const LEASE: i64 = 300;

/// An instant, so many seconds into the scene.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000).expect("a time in 2025")
        + SignedDuration::from_secs(seconds)
}

pub(super) fn tenant(number: u32) -> TenantId {
    format!("00000000-0000-0000-0000-{number:012}")
        .parse()
        .expect("a GUID")
}

pub(super) fn sink(name: &str) -> SinkName {
    name.parse().expect("a sink's name")
}

/// A listed blob of tenant 1, created `number` seconds into the scene and kept for seven days.
pub(super) fn blob(number: i64) -> SeenBlob {
    SeenBlob {
        tenant: tenant(1),
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical(&format!("20251009{number:06}$audit_exchange$na0018")),
        uri: format!("https://manage.office.com/blob/{number}"),
        created_at: at(number),
        expires_at: at(number + 7 * 86_400),
        seen_via: SeenVia::Listing,
    }
}

pub(super) fn window(start: i64, end: i64) -> Window {
    Window::new(at(start), at(end)).expect("a window")
}

/// What is known of a range of tenant 1's, in seconds into the scene.
pub(super) async fn coverage(ledger: &Subject, start: i64, end: i64) -> Coverage {
    ledger
        .coverage(tenant(1), ContentType::Exchange, window(start, end))
        .await
        .expect("read")
}

/// A window, from so many seconds into the scene to so many, listed with this many blobs.
pub(super) fn listing(
    tenant: TenantId,
    content_type: ContentType,
    (start, end): (i64, i64),
    blob_count: u64,
) -> Listing {
    Listing {
        tenant,
        content_type,
        window: window(start, end),
        blob_count,
    }
}

pub(super) fn request(max_count: usize) -> LeaseRequest {
    LeaseRequest {
        max_count,
        duration: Duration::from_secs(LEASE.unsigned_abs()),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    }
}

pub(super) async fn note(ledger: &Subject, blobs: Vec<SeenBlob>) {
    ledger.note_seen(blobs, at(0)).await.expect("noted");
}

/// Leases everything that is due.
pub(super) async fn lease_all(ledger: &Subject, now: Timestamp) -> Vec<Lease> {
    ledger.lease(&request(1000), now).await.expect("leased")
}

/// Leases the one blob that must be due.
pub(super) async fn lease_one(ledger: &Subject, now: Timestamp) -> Lease {
    let mut leases = lease_all(ledger, now).await;
    assert_eq!(leases.len(), 1, "one blob is due");
    leases.pop().expect("it was counted")
}

/// The uris of leases, which tell blobs apart across tenants and content types.
pub(super) fn uris(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(Lease::uri).collect()
}

pub(super) async fn acknowledge(
    ledger: &Subject,
    name: &str,
    acknowledged: Vec<(LeaseKey, AcknowledgedPart)>,
) -> Vec<Acknowledgement> {
    let commit = SinkCommit {
        sink: sink(name),
        position: None,
        acknowledged,
        quarantined: Vec::new(),
        remembered: None,
    };
    ledger
        .acknowledge(commit, at(1))
        .await
        .expect("acknowledged")
}

pub(super) async fn acknowledge_whole(
    ledger: &Subject,
    name: &str,
    key: LeaseKey,
) -> Acknowledgement {
    let mut proofs = acknowledge(ledger, name, vec![(key, AcknowledgedPart::Whole)]).await;
    assert_eq!(proofs.len(), 1, "one proof for one whole blob");
    proofs.pop().expect("it was counted")
}

pub(super) fn delivery(lease: Lease, acknowledgements: Vec<Acknowledgement>) -> Delivery {
    Delivery {
        lease,
        acknowledgements,
        record_count: 10,
        byte_count: 1_000,
        quarantined_count: 0,
    }
}

/// Claims one delivery and returns the answer to it.
pub(super) async fn mark(
    ledger: &Subject,
    delivery: Delivery,
    required: &[SinkName],
) -> Result<(), Error> {
    let mut answers = ledger
        .mark_delivered(vec![delivery], required, at(2))
        .await
        .expect("answered");
    assert_eq!(answers.len(), 1, "one answer for one delivery");
    answers.pop().expect("it was counted")
}

/// Has the one sink "file" take the blob, and settles it.
pub(super) async fn deliver(ledger: &Subject, lease: Lease) {
    let proof = acknowledge_whole(ledger, "file", lease.key()).await;
    mark(ledger, delivery(lease, vec![proof]), &[sink("file")])
        .await
        .expect("delivered");
}
