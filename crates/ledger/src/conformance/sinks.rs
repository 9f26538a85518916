//! What sinks say yes to, and where they stand.

use crate::{AcknowledgedPart, Error, LeaseKey, PartKey, QuarantinedRecord, SinkCommit};

use super::scene::{
    LEASE, Subject, acknowledge, acknowledge_whole, at, blob, deliver, lease_all, lease_one, note,
    sink,
};

const FIRST: PartKey = PartKey {
    first_record: 0,
    record_count: 100,
    fingerprint: u64::MAX,
};
const SECOND: PartKey = PartKey {
    first_record: 100,
    record_count: 50,
    fingerprint: 7,
};

fn part(key: PartKey) -> AcknowledgedPart {
    AcknowledgedPart::Part(key)
}

pub(super) async fn only_whole_blobs_are_proof(ledger: Subject) {
    note(&ledger, (1..=3).map(blob).collect()).await;
    let leases = lease_all(&ledger, at(0)).await;
    let keys: Vec<_> = leases.iter().map(|lease| lease.key()).collect();
    let whole = AcknowledgedPart::Whole;
    let proofs = acknowledge(
        &ledger,
        "file",
        vec![(keys[2], whole), (keys[0], part(FIRST)), (keys[1], whole)],
    )
    .await;
    let named: Vec<_> = proofs
        .iter()
        .map(|proof| (proof.key(), proof.sink().clone()))
        .collect();
    assert_eq!(named, [(keys[2], sink("file")), (keys[1], sink("file"))]);
}

pub(super) async fn what_a_sink_has_comes_with_the_next_lease(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    acknowledge_whole(&ledger, "file", lease.key()).await;
    acknowledge(
        &ledger,
        "alertlogic",
        vec![(lease.key(), part(SECOND)), (lease.key(), part(FIRST))],
    )
    .await;
    acknowledge(&ledger, "alertlogic", vec![(lease.key(), part(SECOND))]).await;
    ledger
        .retry_later(lease, at(10), "alertlogic is away")
        .await
        .expect("given back");
    let lease = lease_one(&ledger, at(10)).await;
    let expected = [
        (sink("alertlogic"), part(FIRST)),
        (sink("alertlogic"), part(SECOND)),
        (sink("file"), AcknowledgedPart::Whole),
    ];
    assert_eq!(lease.acknowledged(), expected);
    assert!(lease.is_acknowledged_wholly_by(&sink("file")));
    assert!(!lease.is_acknowledged_wholly_by(&sink("alertlogic")));
}

pub(super) async fn a_whole_blob_takes_the_place_of_its_parts(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    acknowledge(&ledger, "file", vec![(lease.key(), part(FIRST))]).await;
    acknowledge(
        &ledger,
        "file",
        vec![(lease.key(), AcknowledgedPart::Whole)],
    )
    .await;
    acknowledge(&ledger, "file", vec![(lease.key(), part(SECOND))]).await;
    acknowledge(&ledger, "other", vec![(lease.key(), part(SECOND))]).await;
    ledger.release(vec![lease]).await.expect("released");
    let lease = lease_one(&ledger, at(1)).await;
    assert_eq!(
        lease.acknowledged(),
        [
            (sink("file"), AcknowledgedPart::Whole),
            (sink("other"), part(SECOND))
        ]
    );
}

pub(super) async fn the_same_place_with_other_content_is_another_part(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    let changed = PartKey {
        fingerprint: 1,
        ..FIRST
    };
    acknowledge(
        &ledger,
        "file",
        vec![(lease.key(), part(FIRST)), (lease.key(), part(changed))],
    )
    .await;
    ledger.release(vec![lease]).await.expect("released");
    let lease = lease_one(&ledger, at(1)).await;
    assert_eq!(
        lease.acknowledged(),
        [(sink("file"), part(changed)), (sink("file"), part(FIRST))]
    );
}

pub(super) async fn what_a_sink_has_is_a_fact_even_when_the_lease_was_lost(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lost = lease_one(&ledger, at(0)).await;
    let held = lease_one(&ledger, at(LEASE)).await;
    acknowledge_whole(&ledger, "file", lost.key()).await;
    ledger.release(vec![held]).await.expect("released");
    let held = lease_one(&ledger, at(LEASE)).await;
    assert!(held.is_acknowledged_wholly_by(&sink("file")));
    deliver(&ledger, held).await;
    let proof = acknowledge_whole(&ledger, "late", lost.key()).await;
    assert_eq!(proof.key(), lost.key(), "of a settled blob, too");
}

pub(super) async fn a_position_is_kept_until_the_next_one(ledger: Subject) {
    let commit = async |name: &str, position: Option<&str>| {
        let commit = SinkCommit {
            sink: sink(name),
            position: position.map(str::to_owned),
            acknowledged: Vec::new(),
            quarantined: Vec::new(),
            remembered: None,
        };
        let proofs = ledger.acknowledge(commit, at(1)).await.expect("recorded");
        assert!(proofs.is_empty());
    };
    let position = async |name: &str| ledger.position(&sink(name)).await.expect("read");
    assert_eq!(position("file").await, None);
    commit("file", None).await;
    assert_eq!(position("file").await, None);
    commit("file", Some("length 10")).await;
    commit("file-2", Some("length 99")).await;
    assert_eq!(position("file").await.as_deref(), Some("length 10"));
    commit("file", None).await;
    assert_eq!(position("file").await.as_deref(), Some("length 10"));
    commit("file", Some("")).await;
    assert_eq!(position("file").await.as_deref(), Some(""));
    assert_eq!(position("file-2").await.as_deref(), Some("length 99"));
}

pub(super) async fn a_commit_with_an_unknown_blob_records_nothing(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let lease = lease_one(&ledger, at(0)).await;
    let record = |index| QuarantinedRecord {
        tenant: lease.tenant(),
        content_type: lease.content_type(),
        content_id: lease.content_id().clone(),
        record_index: index,
        sink: Some(sink("file")),
        reason: "too large".into(),
        bytes: b"{}".to_vec().into(),
    };
    let commit = |keys: &[LeaseKey]| SinkCommit {
        sink: sink("file"),
        position: Some("after".into()),
        acknowledged: keys
            .iter()
            .map(|key| (*key, AcknowledgedPart::Whole))
            .collect(),
        quarantined: vec![record(3)],
        remembered: None,
    };
    let foreign = LeaseKey {
        blob: u128::from(u32::MAX),
        ..lease.key()
    };
    let answer = ledger
        .acknowledge(commit(&[lease.key(), foreign]), at(1))
        .await;
    assert!(matches!(answer, Err(Error::UnknownBlob)), "{answer:?}");
    assert_eq!(ledger.position(&sink("file")).await.expect("read"), None);
    assert!(ledger.quarantined(0, 10).await.expect("read").is_empty());

    let proofs = ledger
        .acknowledge(commit(&[lease.key()]), at(1))
        .await
        .expect("recorded");
    assert_eq!(proofs.len(), 1);
    assert_eq!(
        ledger
            .position(&sink("file"))
            .await
            .expect("read")
            .as_deref(),
        Some("after")
    );
    assert_eq!(ledger.quarantined(0, 10).await.expect("read").len(), 1);
    ledger.release(vec![lease]).await.expect("released");
    assert!(
        lease_one(&ledger, at(1))
            .await
            .is_acknowledged_wholly_by(&sink("file"))
    );
}
