//! What a blob's life costs, in requests: each is paid for and takes a few milliseconds.

use std::sync::Arc;
use std::time::Instant;

use ledger::{AcknowledgedPart, AzureLedger, Delivery, Lease, LeaseRequest, Ledger, SinkCommit};

use super::account::{Fate, Network, Place, at, blob, request, sink};

async fn counted(place: &Place) -> (AzureLedger, Arc<Network>) {
    let network = Arc::new(Network::new(place.http.clone(), |_| Fate::Answered));
    (place.ledger_through(Arc::clone(&network)), network)
}

async fn deliver(ledger: &AzureLedger, leases: Vec<Lease>) {
    let commit = SinkCommit {
        sink: sink("alertlogic"),
        position: None,
        acknowledged: leases
            .iter()
            .map(|lease| (lease.key(), AcknowledgedPart::Whole))
            .collect(),
        quarantined: Vec::new(),
        remembered: None,
    };
    let proofs = ledger.acknowledge(commit, at(2)).await.unwrap();
    let deliveries = leases.into_iter().map(|lease| Delivery {
        acknowledgements: proofs
            .iter()
            .filter(|proof| proof.key() == lease.key())
            .cloned()
            .collect(),
        lease,
        record_count: 1,
        byte_count: 1,
        quarantined_count: 0,
    });
    let answers = ledger
        .mark_delivered(deliveries.collect(), &[sink("alertlogic")], at(3))
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_ok));
}

/// As in the function app: one message, one blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_blob_that_a_message_names_takes_seven_requests() {
    let place = Place::with_queue().await;
    let (ledger, network) = counted(&place).await;
    let mut per_blob = Vec::new();
    let started = Instant::now();
    for number in 0..20 {
        let before = network.count();
        ledger.note_seen(vec![blob(number)], at(0)).await.unwrap();
        let named = LeaseRequest {
            only: vec![blob(number).name()],
            ..request(1)
        };
        let leases = ledger.lease(&named, at(0)).await.unwrap();
        deliver(&ledger, leases).await;
        per_blob.push(network.count() - before);
    }
    println!(
        "one at a time: {:?} a blob, {per_blob:?} requests",
        started.elapsed() / 20
    );
    // The first creates the table and the queue, lists the tenant and looks for counts.
    assert!(
        per_blob[1..].iter().all(|count| *count == 7),
        "{per_blob:?}"
    );
}

/// As in the long-running host: many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn many_blobs_at_once_share_their_requests() {
    let place = Place::new().await;
    let (ledger, network) = counted(&place).await;
    let blobs: Vec<_> = (0..1_000).map(blob).collect();
    let started = Instant::now();
    assert_eq!(ledger.note_seen(blobs.clone(), at(0)).await.unwrap(), 1_000);
    let noted = network.count();
    let leases = ledger.lease(&request(1_000), at(0)).await.unwrap();
    assert_eq!(leases.len(), 1_000);
    deliver(&ledger, leases).await;
    let all = network.count();
    println!(
        "a thousand: {:?} a blob; {noted} requests to note, {all} in all",
        started.elapsed() / 1_000
    );
    assert!(all < 200, "{all}");

    // Listed again, as every minute for an hour.
    ledger.note_seen(blobs.clone(), at(60)).await.unwrap();
    assert_eq!(
        network.count(),
        all,
        "what is known for sure is not asked about"
    );
    // By a process that has just started.
    let (other, network) = counted(&place).await;
    assert_eq!(other.note_seen(blobs, at(60)).await.unwrap(), 0);
    println!(
        "known to all but this process: {} requests",
        network.count()
    );
    assert!(network.count() < 2_100);
}
