//! A process that dies between any two requests, or an answer that does not come: what is found afterwards.

use std::cmp::Ordering;
use std::sync::Arc;

use ledger::{
    AcknowledgedPart, AzureLedger, Delivery, Lease, Ledger, PartKey, QuarantinedRecord, SinkCommit,
    StreamSummary,
};

use tokio::task::JoinSet;

use super::account::{Fate, Network, Place, at, blob, request, sink};

/// How a blob's life goes on after it was leased and a sink has had all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Delivered,
    Quarantined,
    Expired,
    RetriedLater,
    Released,
}

const WAYS: [Way; 5] = [
    Way::Delivered,
    Way::Quarantined,
    Way::Expired,
    Way::RetriedLater,
    Way::Released,
];

/// More requests than a life has.
const FAR: u64 = 60;

fn commit(lease: &Lease, part: AcknowledgedPart, position: &str) -> SinkCommit {
    SinkCommit {
        sink: sink("file"),
        position: Some(position.into()),
        acknowledged: vec![(lease.key(), part)],
        quarantined: vec![QuarantinedRecord {
            tenant: lease.tenant(),
            content_type: lease.content_type(),
            content_id: lease.content_id().clone(),
            record_index: 3,
            sink: Some(sink("file")),
            reason: "too large".into(),
            bytes: b"{}".to_vec().into(),
        }],
        remembered: None,
    }
}

/// One blob's whole life, everything in it going well as far as the ledger says.
async fn live(ledger: &AzureLedger, way: Way) {
    let new = ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
    assert_eq!(new, 1);
    let mut leases = ledger.lease(&request(10), at(0)).await.unwrap();
    assert_eq!(leases.len(), 1);
    let lease = leases.pop().unwrap();
    finish(ledger, lease, way).await;
    ledger.count(vec![("lives".into(), 1)]).await.unwrap();
}

async fn finish(ledger: &AzureLedger, lease: Lease, way: Way) {
    let part = AcknowledgedPart::Part(PartKey {
        first_record: 0,
        record_count: 5,
        fingerprint: 7,
    });
    let before = commit(&lease, part, "half");
    ledger.acknowledge(before, at(1)).await.unwrap();
    let lost = ledger.renew(&[lease.key()], at(300)).await.unwrap();
    assert!(lost.is_empty());
    let whole = commit(&lease, AcknowledgedPart::Whole, "whole");
    let acknowledgements = ledger.acknowledge(whole, at(2)).await.unwrap();
    match way {
        Way::Delivered => {
            let delivery = Delivery {
                lease,
                acknowledgements,
                record_count: 10,
                byte_count: 100,
                quarantined_count: 1,
            };
            let answers = ledger
                .mark_delivered(vec![delivery], &[sink("file")], at(3))
                .await
                .unwrap();
            assert!(matches!(answers[..], [Ok(())]), "{answers:?}");
        }
        Way::Quarantined => {
            let bytes = vec![7; 200_000];
            ledger.quarantine(lease, "bad", bytes, at(3)).await.unwrap();
        }
        Way::Expired => ledger.expire(lease, "gone", at(3)).await.unwrap(),
        Way::RetriedLater => ledger.retry_later(lease, at(9), "later").await.unwrap(),
        Way::Released => ledger.release(vec![lease]).await.unwrap(),
    }
}

async fn stream(ledger: &AzureLedger) -> Option<StreamSummary> {
    let summary = ledger.summary(at(1_000)).await.unwrap();
    assert!(summary.streams.len() <= 1, "{summary:?}");
    summary.streams.into_iter().next()
}

fn ended(stream: &StreamSummary) -> (u64, u64, u64) {
    (
        stream.delivered_count,
        stream.quarantined_count,
        stream.expired_count,
    )
}

/// What must be true of the one blob, whatever happened: it waits or is over, never both; and it can be brought to
/// its end from wherever it is.
async fn assert_nothing_is_lost(place: &Place, what: &str) {
    let ledger = place.ledger();
    let noted = ledger.note_seen(vec![blob(1)], at(900)).await.unwrap();
    let found = stream(&ledger).await.unwrap();
    let ends = ended(&found);
    let over = ends.0 + ends.1 + ends.2;
    assert_eq!(found.leased_count, 0, "{what}: the lease ran out");
    assert_eq!(found.pending_count + over, 1, "{what}: {found:?}");
    assert!(noted == 0 || found.pending_count == 1, "{what}");
    let mut leases = ledger.lease(&request(10), at(1_000)).await.unwrap();
    assert_eq!(leases.len() as u64, found.pending_count, "{what}");
    if let Some(lease) = leases.pop() {
        assert_eq!(over, 0, "{what}");
        finish(&ledger, lease, Way::Delivered).await;
        let found = stream(&ledger).await.unwrap();
        assert_eq!(ended(&found), (1, 0, 0), "{what}");
        assert_eq!(found.delivered_record_count, 10, "{what}: counted once");
        assert_eq!(found.pending_count, 0, "{what}");
        assert_eq!(
            ledger.position(&sink("file")).await.unwrap().as_deref(),
            Some("whole")
        );
        let records = ledger.quarantined(0, 10).await.unwrap();
        let records = records.iter().filter(|item| item.record_index.is_some());
        assert_eq!(records.count(), 1, "{what}: set aside once");
        assert_eq!(found.quarantined_record_count, 1, "{what}");
    }
    let again = ledger.lease(&request(10), at(9_000)).await.unwrap();
    assert!(again.is_empty(), "{what}: it is over for good");
}

/// Kills the process at every request of every life: once when the request has not arrived, once when it was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_process_that_dies_between_two_requests_loses_nothing() {
    let mut tasks = JoinSet::new();
    for way in WAYS {
        for is_done in [false, true] {
            tasks.spawn(kill_at_every_request(way, is_done));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn kill_at_every_request(way: Way, is_done: bool) {
    for number in 1.. {
        assert!(number < FAR);
        let place = Place::new().await;
        let network = Network::new(place.http.clone(), move |request| {
            match (request.cmp(&number), is_done) {
                (Ordering::Less, _) => Fate::Answered,
                (Ordering::Equal, true) => Fate::DoneAndHangs,
                _ => Fate::Hangs,
            }
        });
        let network = Arc::new(network);
        let ledger = place.ledger_through(Arc::clone(&network));
        let was_killed = tokio::select! {
            () = live(&ledger, way) => false,
            () = network.hung() => true,
        };
        drop(ledger);
        let what = format!("{way:?}, request {number}, done: {is_done}");
        assert_nothing_is_lost(&place, &what).await;
        if !was_killed {
            assert!(number > 8, "{way:?} took {number} requests");
            return;
        }
    }
}

/// Every request of a life is sent twice, because the first answer was lost, or because it never arrived. The life goes
/// as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_request_that_is_sent_again_is_done_once() {
    let mut tasks = JoinSet::new();
    for fate in [Fate::AnswerLost, Fate::Lost] {
        for way in WAYS {
            tasks.spawn(send_every_request_twice(way, fate));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn send_every_request_twice(way: Way, fate: Fate) {
    for number in 1.. {
        assert!(number < FAR);
        let place = Place::new().await;
        let network = Network::new(place.http.clone(), move |request| {
            if request == number {
                fate
            } else {
                Fate::Answered
            }
        });
        let network = Arc::new(network);
        let ledger = place.ledger_through(Arc::clone(&network));
        live(&ledger, way).await;
        let request_count = network.count();
        let what = format!("{way:?}, request {number}, {fate:?}");
        let counters = ledger.counters("").await.unwrap();
        assert_eq!(counters, [("lives".to_owned(), 1)], "{what}");
        let found = stream(&ledger).await.unwrap();
        let expected = match way {
            Way::Delivered => (1, 0, 0),
            Way::Quarantined => (0, 1, 0),
            Way::Expired => (0, 0, 1),
            Way::RetriedLater | Way::Released => (0, 0, 0),
        };
        assert_eq!(ended(&found), expected, "{what}");
        assert_eq!(found.quarantined_record_count, 1, "{what}");
        assert_nothing_is_lost(&place, &what).await;
        if request_count < number {
            return;
        }
    }
}

/// Two of three requests are refused, as by a partition that is asked too much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn throttling_is_waited_out() {
    let place = Place::new().await;
    let network = Network::new(place.http.clone(), |request| match request % 3 {
        0 => Fate::Answered,
        1 => Fate::Refused(503),
        _ => Fate::Refused(429),
    });
    let ledger = place.ledger_through(Arc::new(network));
    live(&ledger, Way::Delivered).await;
    assert_eq!(ended(&stream(&ledger).await.unwrap()), (1, 0, 0));
}

/// An account that refuses everything is named, and not asked again and again.
#[tokio::test]
#[ignore = "needs Azurite"]
async fn a_refused_key_is_named_at_once_and_not_shown() {
    let place = Place::new().await;
    let network = Arc::new(Network::new(place.http.clone(), |_| Fate::Refused(403)));
    let ledger = place.ledger_through(Arc::clone(&network));
    let error = ledger.recall("registration").await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    assert!(text.contains("refuses the credential"), "{text}");
    assert!(!text.contains("Eby8vdM02"), "{text}");
    assert_eq!(network.count(), 1);
}
