//! Leases of blobs that were asked for by name, as a queue's message names one.

use std::sync::Arc;
use std::time::Duration;

use activity_api::ContentType;

use crate::{BlobName, Lease, LeaseRequest, SeenBlob};

use super::scene::{
    LEASE, Subject, acknowledge_whole, at, blob, deliver, lease_all, note, request, sink, tenant,
    uris,
};

fn only(names: Vec<BlobName>) -> LeaseRequest {
    LeaseRequest {
        only: names,
        ..request(10)
    }
}

async fn lease_named(ledger: &Subject, names: Vec<BlobName>, now: i64) -> Vec<Lease> {
    ledger.lease(&only(names), at(now)).await.expect("leased")
}

pub(super) async fn only_the_named_blobs_are_leased(ledger: Subject) {
    let blob = |number| SeenBlob {
        expires_at: at(number * 3_600),
        ..blob(number)
    };
    let elsewhere = SeenBlob {
        tenant: tenant(2),
        ..blob(2)
    };
    let other_type = SeenBlob {
        content_type: ContentType::General,
        ..blob(2)
    };
    note(&ledger, (1..=6).map(blob).collect()).await;
    note(&ledger, vec![elsewhere.clone(), other_type]).await;
    assert!(
        lease_named(&ledger, vec![blob(99).name()], 1)
            .await
            .is_empty(),
        "nobody has seen it"
    );
    let unknown_stream = BlobName {
        tenant: tenant(77),
        ..blob(1).name()
    };
    assert!(
        lease_named(&ledger, vec![unknown_stream], 1)
            .await
            .is_empty()
    );
    let names = vec![
        blob(4).name(),
        elsewhere.name(),
        blob(99).name(),
        blob(4).name(),
        blob(3).name(),
    ];
    let leases = lease_named(&ledger, names, 1).await;
    let leased: Vec<_> = leases.iter().map(Lease::name).collect();
    assert_eq!(
        leased,
        [elsewhere.name(), blob(3).name(), blob(4).name()],
        "nearest expiry first, each once"
    );
    let few = LeaseRequest {
        max_count: 1,
        ..only(vec![blob(6).name(), blob(5).name()])
    };
    let leases = ledger.lease(&few, at(1)).await.expect("leased");
    assert_eq!(uris(&leases), [blob(5).uri]);
    assert_eq!(lease_all(&ledger, at(1)).await.len(), 4, "all that is left");
}

pub(super) async fn a_named_blob_is_leased_by_the_same_rules(ledger: Subject) {
    note(&ledger, (1..=2).map(blob).collect()).await;
    let names = || vec![blob(1).name()];
    let mut leases = lease_named(&ledger, names(), 0).await;
    let first = leases.pop().expect("it is due");
    assert_eq!((first.attempts(), first.leased_until()), (1, at(LEASE)));
    assert!(
        lease_named(&ledger, names(), LEASE - 1).await.is_empty(),
        "somebody has it"
    );
    acknowledge_whole(&ledger, "file", first.key()).await;
    ledger
        .retry_later(first, at(1_000), "not ready")
        .await
        .expect("given back");
    assert!(
        lease_named(&ledger, names(), 999).await.is_empty(),
        "it waits"
    );
    let mut without = only(names());
    without.except_tenants = vec![tenant(1)];
    assert!(
        ledger
            .lease(&without, at(1_000))
            .await
            .expect("leased")
            .is_empty()
    );
    let mut served = only(names());
    served.for_sinks = vec![sink("file")];
    assert!(
        ledger
            .lease(&served, at(1_000))
            .await
            .expect("leased")
            .is_empty()
    );
    served.for_sinks.push(sink("other"));
    served.duration = Duration::from_secs(LEASE.unsigned_abs());
    let mut leases = ledger.lease(&served, at(1_000)).await.expect("leased");
    let second = leases.pop().expect("the other sink lacks it");
    assert_eq!(second.attempts(), 2);
    assert!(second.is_acknowledged_wholly_by(&sink("file")));
    let mut leases = lease_named(&ledger, names(), 1_000 + LEASE).await;
    let third = leases.pop().expect("the lease ran out");
    deliver(&ledger, third).await;
    assert!(
        lease_named(&ledger, names(), 9 * LEASE).await.is_empty(),
        "it is settled"
    );
    assert_eq!(uris(&lease_all(&ledger, at(9)).await), [blob(2).uri]);
}

pub(super) async fn no_two_workers_get_the_same_named_blob(ledger: Subject) {
    note(&ledger, (0..20).map(blob).collect()).await;
    // As a queue that tells everyone everything would have it.
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                let mut count = 0;
                for number in 0..20 {
                    count += lease_named(&ledger, vec![blob(number).name()], 1)
                        .await
                        .len();
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for worker in workers {
        count += worker.await.expect("a worker ends");
    }
    assert_eq!(count, 20);
}
