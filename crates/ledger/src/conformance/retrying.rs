//! How things leave the quarantine: tried again until that has come to an end, or dropped by a person.

use activity_api::ContentType;

use crate::{
    Lease, QuarantinedItem, QuarantinedRecord, SinkName, StreamSummary, Totals, UndeliveredState,
    quarantined_item_of,
};

use super::scene::{
    LEASE, Subject, acknowledge_whole, at, blob, coverage, deliver, delivery, lease_all, lease_one,
    mark, note, sink, tenant, window,
};

const TYPE: ContentType = ContentType::Exchange;

async fn items(ledger: &Subject) -> Vec<QuarantinedItem> {
    ledger.quarantined(0, 100).await.expect("read")
}

async fn only_item(ledger: &Subject) -> QuarantinedItem {
    let [item] = <[_; 1]>::try_from(items(ledger).await).expect("one item");
    item
}

async fn retry(ledger: &Subject, id: u64, now: i64) -> bool {
    ledger
        .retry_quarantined(id, at(now))
        .await
        .expect("asked for")
}

async fn drop_item(ledger: &Subject, id: u64) -> bool {
    ledger
        .drop_quarantined(id, "known noise", at(50))
        .await
        .expect("asked for")
}

async fn summary(ledger: &Subject) -> StreamSummary {
    let summary = ledger.summary(at(0)).await.expect("read");
    summary.stream(tenant(1), TYPE).expect("noted").clone()
}

fn record(content_id: activity_api::ContentId, refused_by: Option<&str>) -> QuarantinedRecord {
    QuarantinedRecord {
        tenant: tenant(1),
        content_type: TYPE,
        content_id,
        record_index: 3,
        sink: refused_by.map(sink),
        reason: "too large".into(),
        bytes: b"{\"a\":1}".to_vec().into(),
    }
}

/// A blob that two sinks have, of which one refused a record.
async fn with_refused_record(ledger: &Subject, refused_by: Option<&str>) -> QuarantinedItem {
    note(ledger, vec![blob(1)]).await;
    let lease = lease_one(ledger, at(0)).await;
    ledger
        .quarantine_records(vec![record(blob(1).content_id, refused_by)], at(1))
        .await
        .expect("kept");
    let file = acknowledge_whole(ledger, "file", lease.key()).await;
    let splunk = acknowledge_whole(ledger, "splunk", lease.key()).await;
    let required = [sink("file"), sink("splunk")];
    mark(ledger, delivery(lease, vec![file, splunk]), &required)
        .await
        .expect("delivered");
    only_item(ledger).await
}

fn whole_sinks(lease: &Lease) -> Vec<SinkName> {
    let whole = lease.acknowledged().iter();
    whole.map(|(name, _)| name.clone()).collect()
}

pub(super) async fn a_retried_record_is_a_blob_of_its_own_until_it_is_delivered(ledger: Subject) {
    let item = with_refused_record(&ledger, Some("splunk")).await;
    assert!(!item.is_retried);
    assert!(retry(&ledger, item.id, 100).await);
    assert!(retry(&ledger, item.id, 101).await, "asked twice");
    assert!(only_item(&ledger).await.is_retried);

    let lease = lease_one(&ledger, at(100)).await;
    let name = format!("{}~{}", blob(1).content_id.as_str(), item.id);
    assert_eq!(lease.content_id().as_str(), name);
    assert_eq!(quarantined_item_of(lease.uri()), Some(item.id));
    assert_eq!(lease.created_at(), blob(1).created_at);
    assert_eq!(
        whole_sinks(&lease),
        [sink("file")],
        "all but the one that refused it"
    );
    assert_eq!(lease.attempts(), 1);
    let bytes = ledger.quarantined_bytes(item.id).await.expect("read");
    assert_eq!(bytes.as_deref(), Some(&b"{\"a\":1}"[..]));
    let buckets = ledger.unsettled_by_expiry().await.expect("read");
    assert_eq!(buckets, [], "it does not expire");
    let pending = coverage(&ledger, 0, 100).await.pending_count;
    assert_eq!(pending, 1);
    // It waits for a while, and nothing of it is lost.
    ledger
        .retry_later(lease, at(200), "splunk is away")
        .await
        .expect("given back");
    assert!(only_item(&ledger).await.is_retried);

    let lease = lease_one(&ledger, at(200)).await;
    let proof = acknowledge_whole(&ledger, "splunk", lease.key()).await;
    let required = [sink("file"), sink("splunk")];
    mark(&ledger, delivery(lease, vec![proof]), &required)
        .await
        .expect("delivered");
    assert_eq!(items(&ledger).await, []);
    assert!(!retry(&ledger, item.id, 300).await, "there is no such item");
    let stream = summary(&ledger).await;
    assert_eq!(
        (stream.delivered_count, stream.delivered_record_count),
        (1, 10)
    );
    assert_eq!(
        (
            stream.quarantined_record_count,
            stream.quarantined_byte_count
        ),
        (0, 0)
    );
    let all = coverage(&ledger, 0, 100).await;
    assert_eq!((all.pending_count, all.quarantined_record_count), (0, 0));
    assert_eq!(
        all.delivered,
        Totals {
            blob_count: 1,
            record_count: 10,
            byte_count: 1_000
        }
    );
}

pub(super) async fn a_retried_record_that_nobody_could_decode_is_for_every_sink(ledger: Subject) {
    let item = with_refused_record(&ledger, None).await;
    assert!(retry(&ledger, item.id, 100).await);
    let lease = lease_one(&ledger, at(100)).await;
    assert_eq!(whole_sinks(&lease), []);
}

pub(super) async fn a_retried_record_that_is_refused_again_is_a_new_item(ledger: Subject) {
    let item = with_refused_record(&ledger, Some("splunk")).await;
    assert!(retry(&ledger, item.id, 100).await);
    let lease = lease_one(&ledger, at(100)).await;
    let again = record(lease.content_id().clone(), Some("splunk"));
    ledger
        .quarantine_records(vec![again], at(101))
        .await
        .expect("kept");
    let both = items(&ledger).await;
    assert_eq!(both.len(), 2, "the old one is there until the blob is over");
    deliver_to_splunk(&ledger, lease).await;
    let new = only_item(&ledger).await;
    assert_ne!(new.id, item.id);
    assert!(!new.is_retried);
    let stream = summary(&ledger).await;
    assert_eq!(stream.quarantined_record_count, 1);
    assert_eq!(stream.quarantined_byte_count, 7);
    let named = ledger
        .undelivered(tenant(1), TYPE, window(0, 100), None, 10)
        .await
        .expect("read");
    assert_eq!(named.len(), 1, "{named:?}");
    // And that one may be tried once more.
    assert!(retry(&ledger, new.id, 200).await);
    let lease = lease_one(&ledger, at(200)).await;
    deliver_to_splunk(&ledger, lease).await;
    assert_eq!(items(&ledger).await, []);
}

async fn deliver_to_splunk(ledger: &Subject, lease: Lease) {
    let proof = acknowledge_whole(ledger, "splunk", lease.key()).await;
    let required = [sink("file"), sink("splunk")];
    mark(ledger, delivery(lease, vec![proof]), &required)
        .await
        .expect("delivered");
}

async fn with_quarantined_blob(ledger: &Subject, bytes: &[u8]) -> QuarantinedItem {
    note(ledger, vec![blob(1)]).await;
    let lease = lease_one(ledger, at(0)).await;
    ledger
        .quarantine(lease, "not JSON", bytes.to_vec(), at(1))
        .await
        .expect("quarantined");
    only_item(ledger).await
}

pub(super) async fn a_retried_blob_comes_back_under_its_name(ledger: Subject) {
    let item = with_quarantined_blob(&ledger, b"<html>").await;
    assert!(retry(&ledger, item.id, 100).await);
    assert!(retry(&ledger, item.id, 100).await, "asked twice");
    let stream = summary(&ledger).await;
    assert_eq!((stream.pending_count, stream.quarantined_count), (1, 0));
    assert!(only_item(&ledger).await.is_retried);
    let lease = lease_one(&ledger, at(100)).await;
    assert_eq!(lease.content_id(), &blob(1).content_id);
    assert_eq!(lease.uri(), blob(1).uri, "Microsoft still has it");
    assert_eq!(lease.attempts(), 1);
    // The holder dies, and the next one is not better off than before.
    let lease = {
        drop(lease);
        lease_one(&ledger, at(100 + LEASE)).await
    };
    deliver(&ledger, lease).await;
    assert_eq!(items(&ledger).await, []);
    let stream = summary(&ledger).await;
    assert_eq!((stream.delivered_count, stream.quarantined_count), (1, 0));
    assert_eq!(stream.quarantined_byte_count, 0);
}

pub(super) async fn a_blob_that_microsoft_no_longer_has_is_retried_from_its_bytes(ledger: Subject) {
    let item = with_quarantined_blob(&ledger, b"[]").await;
    let late = 8 * 86_400;
    assert!(retry(&ledger, item.id, late).await);
    let lease = lease_one(&ledger, at(late)).await;
    assert_eq!(quarantined_item_of(lease.uri()), Some(item.id));
    assert_eq!(lease.content_id(), &blob(1).content_id);
    deliver(&ledger, lease).await;
    assert_eq!(items(&ledger).await, []);
}

pub(super) async fn a_retried_blob_that_fails_again_is_a_new_item_with_the_bytes_there_are(
    ledger: Subject,
) {
    let item = with_quarantined_blob(&ledger, b"<html>").await;
    assert!(retry(&ledger, item.id, 100).await);
    let lease = lease_one(&ledger, at(100)).await;
    ledger
        .quarantine(lease, "refused", Vec::new(), at(101))
        .await
        .expect("quarantined");
    let new = only_item(&ledger).await;
    assert_ne!(new.id, item.id);
    assert_eq!((new.reason.as_str(), new.byte_count), ("refused", 6));
    assert!(!new.is_retried);
    let bytes = async |id| ledger.quarantined_bytes(id).await.expect("read");
    assert_eq!(bytes(new.id).await.as_deref(), Some(&b"<html>"[..]));
    assert_eq!(bytes(item.id).await, None);
    let stream = summary(&ledger).await;
    assert_eq!((stream.pending_count, stream.quarantined_count), (0, 1));
    assert_eq!(stream.quarantined_byte_count, 6);

    assert!(retry(&ledger, new.id, 200).await);
    let lease = lease_one(&ledger, at(200)).await;
    ledger
        .quarantine(lease, "worse", b"other bytes".to_vec(), at(201))
        .await
        .expect("quarantined");
    let newest = only_item(&ledger).await;
    assert_eq!((newest.reason.as_str(), newest.byte_count), ("worse", 11));
    assert_eq!(bytes(newest.id).await.as_deref(), Some(&b"other bytes"[..]));
}

pub(super) async fn a_blob_gone_while_it_was_retried_keeps_its_bytes(ledger: Subject) {
    let item = with_quarantined_blob(&ledger, b"<html>").await;
    assert!(retry(&ledger, item.id, 100).await);
    let lease = lease_one(&ledger, at(100)).await;
    ledger
        .expire(lease, "AF20051", at(101))
        .await
        .expect("settled");
    let kept = only_item(&ledger).await;
    assert_eq!((kept.id, kept.is_retried), (item.id, false));
    let stream = summary(&ledger).await;
    assert_eq!(
        (
            stream.pending_count,
            stream.quarantined_count,
            stream.expired_count
        ),
        (0, 1, 0)
    );
    let all = coverage(&ledger, 0, 100).await;
    assert_eq!((all.quarantined_count, all.expired_count), (1, 0));
    // The next time it is those bytes that are tried.
    assert!(retry(&ledger, item.id, 200).await);
    let lease = lease_one(&ledger, at(200)).await;
    assert_eq!(quarantined_item_of(lease.uri()), Some(item.id));
}

pub(super) async fn a_retried_blob_without_bytes_can_expire(ledger: Subject) {
    let item = with_quarantined_blob(&ledger, b"").await;
    let late = 8 * 86_400;
    assert!(retry(&ledger, item.id, late).await);
    let lease = lease_one(&ledger, at(late)).await;
    assert_eq!(lease.uri(), blob(1).uri, "there is nothing else to try");
    ledger
        .expire(lease, "AF20051", at(late))
        .await
        .expect("settled");
    assert_eq!(items(&ledger).await, []);
    let stream = summary(&ledger).await;
    assert_eq!((stream.quarantined_count, stream.expired_count), (0, 1));
}

pub(super) async fn what_a_person_drops_leaves_its_trace(ledger: Subject) {
    let item = with_refused_record(&ledger, Some("splunk")).await;
    note(&ledger, vec![blob(2)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    ledger
        .quarantine(lease, "not JSON", b"<html>".to_vec(), at(1))
        .await
        .expect("quarantined");
    let whole = items(&ledger).await.pop().expect("two items");
    assert!(!drop_item(&ledger, 9_999).await);
    assert!(drop_item(&ledger, item.id).await);
    assert!(!drop_item(&ledger, item.id).await, "asked twice");
    assert!(drop_item(&ledger, whole.id).await);
    assert_eq!(items(&ledger).await, []);
    let bytes = ledger.quarantined_bytes(whole.id).await.expect("read");
    assert_eq!(bytes, None);
    assert!(!retry(&ledger, item.id, 60).await);
    assert!(!retry(&ledger, whole.id, 60).await);
    assert!(lease_all(&ledger, at(60)).await.is_empty());

    let stream = summary(&ledger).await;
    assert_eq!(
        (stream.quarantined_count, stream.quarantined_record_count),
        (0, 0)
    );
    assert_eq!(stream.quarantined_byte_count, 0);
    assert_eq!((stream.dropped_count, stream.dropped_record_count), (1, 1));
    let all = coverage(&ledger, 0, 100).await;
    assert_eq!(
        (all.quarantined_count, all.quarantined_record_count),
        (0, 0)
    );
    assert_eq!((all.dropped_count, all.dropped_record_count), (1, 1));
    let named = ledger
        .undelivered(tenant(1), TYPE, window(0, 100), None, 10)
        .await
        .expect("read");
    let named: Vec<_> = named
        .iter()
        .map(|blob| (blob.record_index, blob.state, blob.reason.as_deref()))
        .collect();
    assert_eq!(
        named,
        [
            (
                Some(3),
                UndeliveredState::Dropped,
                Some("dropped by a person: known noise; it was set aside for: too large")
            ),
            (
                None,
                UndeliveredState::Dropped,
                Some("dropped by a person: known noise; it was set aside for: not JSON")
            ),
        ]
    );
    // Seen again by Microsoft's listing, it is what it was.
    let again = ledger.note_seen(vec![blob(2)], at(70)).await;
    assert_eq!(again.expect("noted"), 0);
}

pub(super) async fn what_is_being_retried_cannot_be_dropped(ledger: Subject) {
    let item = with_refused_record(&ledger, Some("splunk")).await;
    assert!(retry(&ledger, item.id, 100).await);
    assert!(!drop_item(&ledger, item.id).await);
    let lease = lease_one(&ledger, at(100)).await;
    deliver_to_splunk(&ledger, lease).await;
    assert_eq!(items(&ledger).await, []);
}

pub(super) async fn a_name_that_somebody_has_taken_keeps_no_record_from_being_retried(
    ledger: Subject,
) {
    let item = with_refused_record(&ledger, Some("splunk")).await;
    let name = format!("{}~{}", blob(1).content_id.as_str(), item.id);
    let forged = crate::SeenBlob {
        content_id: activity_api::ContentId::canonical(&name),
        seen_via: crate::SeenVia::Notification,
        ..blob(7)
    };
    note(&ledger, vec![forged]).await;
    let lease = lease_one(&ledger, at(0)).await;
    deliver(&ledger, lease).await;
    assert!(retry(&ledger, item.id, 100).await);
    assert!(retry(&ledger, item.id, 100).await, "asked twice");
    let lease = lease_one(&ledger, at(100)).await;
    assert_eq!(quarantined_item_of(lease.uri()), Some(item.id));
    assert_eq!(lease.content_id().as_str(), format!("{name}~"));
}
