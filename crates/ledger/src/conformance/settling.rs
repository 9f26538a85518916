//! The three ways in which a blob ends, and single records set aside.

use activity_api::ContentType;

use crate::{
    AcknowledgedPart, Acknowledgement, Completion, Error, Lease, LeaseKey, QuarantinedItem,
    QuarantinedRecord, SeenBlob, SinkCommit, SinkName,
};

use super::scene::{
    LEASE, Subject, acknowledge_whole, at, blob, deliver, delivery, lease_all, lease_one, mark,
    note, request, sink, tenant, uris,
};

pub(super) async fn a_blob_is_delivered_when_every_required_sink_said_yes(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let required = [sink("file"), sink("alertlogic")];
    let lease = lease_one(&ledger, at(0)).await;
    let file = acknowledge_whole(&ledger, "file", lease.key()).await;
    let answer = mark(&ledger, delivery(lease, vec![file]), &required).await;
    let Err(Error::MissingAcknowledgement { sink: missing }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(missing, sink("alertlogic"));

    let lease = lease_one(&ledger, at(LEASE)).await;
    let file = acknowledge_whole(&ledger, "file", lease.key()).await;
    let alertlogic = acknowledge_whole(&ledger, "alertlogic", lease.key()).await;
    mark(&ledger, delivery(lease, vec![alertlogic, file]), &required)
        .await
        .expect("delivered");
    assert!(lease_all(&ledger, at(LEASE * 9)).await.is_empty());
}

pub(super) async fn a_delivery_that_nobody_was_asked_to_take_is_refused(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    let answer = ledger
        .mark_delivered(vec![delivery(lease, Vec::new())], &[], at(1))
        .await;
    assert!(matches!(answer, Err(Error::NothingRequired)), "{answer:?}");
    assert_eq!(
        lease_all(&ledger, at(LEASE)).await.len(),
        1,
        "it is not delivered"
    );
}

pub(super) async fn proof_of_one_blob_is_no_proof_of_another(ledger: Subject) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let [one, two] = <[_; 2]>::try_from(lease_all(&ledger, at(0)).await).expect("two blobs");
    let of_one = acknowledge_whole(&ledger, "file", one.key()).await;
    let answer = mark(&ledger, delivery(two, vec![of_one]), &[sink("file")]).await;
    assert!(
        matches!(answer, Err(Error::MissingAcknowledgement { .. })),
        "{answer:?}"
    );
}

pub(super) async fn what_a_sink_had_before_need_not_be_proved_again(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    acknowledge_whole(&ledger, "file", lease.key()).await;
    ledger
        .retry_later(lease, at(10), "alertlogic is away")
        .await
        .expect("given back");
    let lease = lease_one(&ledger, at(10)).await;
    let alertlogic = acknowledge_whole(&ledger, "alertlogic", lease.key()).await;
    let required = [sink("file"), sink("alertlogic")];
    mark(&ledger, delivery(lease, vec![alertlogic]), &required)
        .await
        .expect("delivered");
}

pub(super) async fn a_refused_delivery_does_not_hold_up_the_others(ledger: Subject) {
    note(&ledger, (1..=3).map(blob).collect()).await;
    let [lost, unproved, good] =
        <[_; 3]>::try_from(lease_all(&ledger, at(0)).await).expect("three blobs");
    let taken = ledger.lease(&request(1), at(LEASE)).await.expect("leased");
    assert_eq!(uris(&taken), [lost.uri()]);
    let of_lost = acknowledge_whole(&ledger, "file", lost.key()).await;
    let of_good = acknowledge_whole(&ledger, "file", good.key()).await;
    let deliveries = vec![
        delivery(lost, vec![of_lost]),
        delivery(unproved, Vec::new()),
        delivery(good, vec![of_good]),
    ];
    let answers = ledger
        .mark_delivered(deliveries, &[sink("file")], at(2))
        .await
        .expect("answered");
    assert!(
        matches!(
            &answers[..],
            [
                Err(Error::LeaseLost),
                Err(Error::MissingAcknowledgement { .. }),
                Ok(())
            ]
        ),
        "{answers:?}"
    );
    assert_eq!(delivered_count(&ledger).await, 1);
}

pub(super) async fn the_last_acknowledgement_delivers_what_it_completes_and_nothing_else(
    ledger: Subject,
) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let [one, two] = <[_; 2]>::try_from(lease_all(&ledger, at(0)).await).expect("two blobs");
    let of_file = acknowledge_whole(&ledger, "file", one.key()).await;
    let required = [sink("file"), sink("alertlogic")];
    let (proofs, delivered) = complete(&ledger, "alertlogic", &[&one, &two], &required).await;
    assert_eq!(proofs.len(), 2, "a proof for each, delivered or not");
    assert!(
        delivered.is_empty() || delivered == [one.key()],
        "{delivered:?}"
    );
    // A backend may leave it to this, and the other blob needs it in any case.
    let [one_proof, two_proof] = <[_; 2]>::try_from(proofs).expect("they were counted");
    if delivered.is_empty() {
        mark(&ledger, delivery(one, vec![of_file, one_proof]), &required)
            .await
            .expect("delivered");
    }
    assert_eq!(delivered_count(&ledger).await, 1);
    let of_file = acknowledge_whole(&ledger, "file", two.key()).await;
    mark(&ledger, delivery(two, vec![of_file, two_proof]), &required)
        .await
        .expect("delivered");
    assert_eq!(delivered_count(&ledger).await, 2);
    assert!(lease_all(&ledger, at(LEASE * 9)).await.is_empty());
}

pub(super) async fn blobs_of_several_tenants_are_delivered_by_one_commit(ledger: Subject) {
    let of_tenant = |number: i64, of: u32| SeenBlob {
        tenant: tenant(of),
        content_type: ContentType::ALL[number as usize % 2],
        ..blob(number)
    };
    // Two of the second tenant's, between those of others.
    let blobs = [(1, 1), (2, 2), (3, 3), (4, 2)].map(|(number, of)| of_tenant(number, of));
    note(&ledger, blobs.to_vec()).await;
    let leases = lease_all(&ledger, at(0)).await;
    assert_eq!(leases.len(), 4);
    let required = [sink("file")];
    let all: Vec<_> = leases.iter().collect();
    let (proofs, delivered) = complete(&ledger, "file", &all, &required).await;
    let keys: Vec<_> = leases.iter().map(Lease::key).collect();
    let proved: Vec<_> = proofs.iter().map(Acknowledgement::key).collect();
    assert_eq!(proved, keys);
    assert!(delivered.is_empty() || delivered == keys, "{delivered:?}");
    // A backend may leave it to this.
    if delivered.is_empty() {
        let deliveries = leases.into_iter().zip(proofs);
        let deliveries = deliveries.map(|(lease, proof)| delivery(lease, vec![proof]));
        let answers = ledger
            .mark_delivered(deliveries.collect(), &required, at(2))
            .await
            .expect("answered");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    let summary = ledger.summary(at(3)).await.expect("read");
    let count_of = |of: u32| -> (u64, u64) {
        let streams = summary.streams.iter();
        let of_tenant = streams.filter(|stream| stream.tenant == tenant(of));
        of_tenant.fold((0, 0), |(blobs, records), stream| {
            let counted = (stream.delivered_count, stream.delivered_record_count);
            (blobs + counted.0, records + counted.1)
        })
    };
    assert_eq!([1, 2, 3].map(count_of), [(1, 10), (2, 20), (1, 10)]);
    assert!(lease_all(&ledger, at(LEASE * 9)).await.is_empty());
}

pub(super) async fn an_acknowledgement_under_a_lost_lease_delivers_nothing(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lost = lease_one(&ledger, at(0)).await;
    let taken = lease_one(&ledger, at(LEASE)).await;
    let required = [sink("file")];
    let (proofs, delivered) = complete(&ledger, "file", &[&lost], &required).await;
    assert_eq!((proofs.len(), delivered), (1, Vec::new()));
    let (_, delivered) = complete(&ledger, "file", &[&taken], &[]).await;
    assert!(delivered.is_empty(), "nobody was asked to take it");
    mark(&ledger, delivery(taken, proofs), &required)
        .await
        .expect("delivered");
    assert_eq!(delivered_count(&ledger).await, 1);
}

/// Has a sink take whole blobs, and claims that they are delivered by that.
async fn complete(
    ledger: &Subject,
    name: &str,
    leases: &[&Lease],
    required: &[SinkName],
) -> (Vec<Acknowledgement>, Vec<LeaseKey>) {
    let commit = SinkCommit {
        sink: sink(name),
        position: None,
        acknowledged: leases
            .iter()
            .map(|lease| (lease.key(), AcknowledgedPart::Whole))
            .collect(),
        quarantined: Vec::new(),
        remembered: None,
    };
    let claims = leases
        .iter()
        .filter_map(|lease| Completion::of(lease, 10, 1_000, 0));
    ledger
        .acknowledge_and_deliver(commit, claims.collect(), required, at(1))
        .await
        .expect("acknowledged")
}

async fn delivered_count(ledger: &Subject) -> u64 {
    let summary = ledger.summary(at(3)).await.expect("read");
    let counts = summary.streams.iter().map(|stream| stream.delivered_count);
    counts.sum()
}

pub(super) async fn a_settled_blob_is_never_leased_again(ledger: Subject) {
    note(&ledger, (1..=4).map(blob).collect()).await;
    let [delivered, quarantined, expired, open] =
        <[_; 4]>::try_from(lease_all(&ledger, at(0)).await).expect("four blobs");
    let keys = [delivered.key(), quarantined.key(), expired.key()];
    deliver(&ledger, delivered).await;
    ledger
        .quarantine(quarantined, "not JSON", Vec::new(), at(1))
        .await
        .expect("quarantined");
    ledger
        .expire(expired, "gone", at(1))
        .await
        .expect("expired");
    let lost = ledger.renew(&keys, at(1)).await.expect("renewed");
    assert_eq!(lost, keys);
    assert_eq!(
        uris(&lease_all(&ledger, at(99 * LEASE)).await),
        [open.uri()]
    );
}

pub(super) async fn a_quarantined_blob_keeps_its_bytes_and_reason(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    // Every byte there is, and more of them than a page of any backend holds.
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .map(|index| index.to_le_bytes()[0])
        .collect();
    ledger
        .quarantine(lease, "no JSON at all", bytes.clone(), at(5))
        .await
        .expect("quarantined");
    let items = ledger.quarantined(0, 10).await.expect("read");
    let [item] = &items[..] else {
        panic!("one item")
    };
    let noted = blob(1);
    let expected = QuarantinedItem {
        id: item.id,
        tenant: noted.tenant,
        content_type: noted.content_type,
        content_id: noted.content_id,
        record_index: None,
        sink: None,
        reason: "no JSON at all".into(),
        byte_count: 1_000_000,
        quarantined_at: at(5),
        is_retried: false,
    };
    assert_eq!(*item, expected);
    let kept = ledger.quarantined_bytes(item.id).await.expect("read");
    assert!(
        kept == Some(bytes),
        "the bytes differ from what was set aside"
    );
    let none = ledger.quarantined_bytes(item.id + 1).await.expect("read");
    assert_eq!(none, None);
}

fn record(index: u64, sink: Option<SinkName>, reason: &str) -> QuarantinedRecord {
    let noted = blob(1);
    QuarantinedRecord {
        tenant: noted.tenant,
        content_type: noted.content_type,
        content_id: noted.content_id,
        record_index: index,
        sink,
        reason: reason.into(),
        bytes: reason.as_bytes().to_vec().into(),
    }
}

pub(super) async fn a_quarantined_record_is_kept_once_per_sink(ledger: Subject) {
    let again = record(0, None, "seen again");
    let records = vec![
        record(0, None, "not an object"),
        record(1, None, "not an object"),
        record(1, Some(sink("alertlogic")), "too large"),
        record(1, Some(sink("splunk")), "too large"),
        again.clone(),
    ];
    ledger
        .quarantine_records(records, at(1))
        .await
        .expect("kept");
    ledger
        .quarantine_records(vec![again], at(2))
        .await
        .expect("kept");
    let items = ledger.quarantined(0, 10).await.expect("read");
    let named: Vec<_> = items
        .iter()
        .map(|item| (item.record_index, item.sink.clone(), item.reason.as_str()))
        .collect();
    let expected = [
        (Some(0), None, "not an object"),
        (Some(1), None, "not an object"),
        (Some(1), Some(sink("alertlogic")), "too large"),
        (Some(1), Some(sink("splunk")), "too large"),
    ];
    assert_eq!(named, expected);
    for item in items {
        assert_eq!(item.quarantined_at, at(1));
        let bytes = ledger.quarantined_bytes(item.id).await.expect("read");
        assert_eq!(bytes.as_deref(), Some(item.reason.as_bytes()));
    }
    let summary = ledger.summary(at(3)).await.expect("read");
    let counted: u64 = summary
        .streams
        .iter()
        .map(|stream| stream.quarantined_record_count)
        .sum();
    assert_eq!(counted, 4);
}

pub(super) async fn quarantine_is_read_page_by_page(ledger: Subject) {
    let records = (0..10).map(|index| record(index, None, "bad")).collect();
    ledger
        .quarantine_records(records, at(1))
        .await
        .expect("kept");
    let mut after = 0;
    let mut indexes = Vec::new();
    loop {
        let items = ledger.quarantined(after, 3).await.expect("read");
        assert!(items.len() <= 3);
        let Some(last) = items.last() else { break };
        after = last.id;
        indexes.extend(items.iter().filter_map(|item| item.record_index));
    }
    assert_eq!(indexes, (0..10).collect::<Vec<_>>());
}
