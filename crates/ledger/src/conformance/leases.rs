//! Who gets which blob, when, and for how long.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use activity_api::{ContentId, ContentType};

use crate::{Error, LeaseRequest, SeenBlob};

use super::scene::{
    LEASE, Subject, acknowledge_whole, at, blob, delivery, lease_all, lease_one, mark, note,
    request, sink, tenant, uris,
};

pub(super) async fn a_lease_carries_what_was_noted(ledger: Subject) {
    note(&ledger, vec![blob(7)]).await;
    let lease = lease_one(&ledger, at(10)).await;
    let noted = blob(7);
    assert_eq!(
        (lease.tenant(), lease.content_type()),
        (noted.tenant, noted.content_type)
    );
    assert_eq!(
        (lease.content_id(), lease.uri()),
        (&noted.content_id, noted.uri.as_str())
    );
    assert_eq!(
        (lease.created_at(), lease.expires_at()),
        (noted.created_at, noted.expires_at)
    );
    assert_eq!(
        (lease.attempts(), lease.leased_until()),
        (1, at(10 + LEASE))
    );
    assert!(lease.acknowledged().is_empty());
}

pub(super) async fn the_nearest_expiry_is_leased_first(ledger: Subject) {
    // Spread over tenants and content types, which must not matter, and noted in an order that is not the expiry's. Each
    // expires in an hour of its own.
    let types = ContentType::ALL;
    let spread = |number: i64| {
        let content_type = types
            .into_iter()
            .cycle()
            .nth(number.unsigned_abs() as usize % 7)
            .expect("it cycles");
        SeenBlob {
            tenant: tenant(u32::try_from(number % 3).expect("small")),
            content_type,
            expires_at: at(number * 3_600),
            ..blob(number)
        }
    };
    let shuffled: Vec<_> = (0..400).map(|step| spread(step * 173 % 400)).collect();
    let mut nearest: Vec<_> = shuffled
        .iter()
        .map(|blob| (blob.expires_at, blob.uri.clone()))
        .collect();
    nearest.sort();
    note(&ledger, shuffled).await;
    let mut leased = Vec::new();
    for max_count in [1, 2, 40, 7, 300, 1_000] {
        let leases = ledger
            .lease(&request(max_count), at(1_000))
            .await
            .expect("leased");
        leased.extend(
            leases
                .iter()
                .map(|lease| (lease.expires_at(), lease.uri().to_owned())),
        );
    }
    assert_eq!(leased, nearest);
}

pub(super) async fn no_more_are_leased_than_asked_for(ledger: Subject) {
    note(&ledger, (0..5).map(blob).collect()).await;
    let count = async |max_count| {
        ledger
            .lease(&request(max_count), at(1))
            .await
            .expect("leased")
            .len()
    };
    assert_eq!(count(0).await, 0);
    assert_eq!(count(2).await, 2);
    assert_eq!(count(usize::MAX).await, 3);
    assert_eq!(count(usize::MAX).await, 0);
    note(&ledger, vec![blob(9)]).await;
    let forever = LeaseRequest {
        duration: Duration::MAX,
        ..request(1)
    };
    assert_eq!(
        ledger.lease(&forever, at(1)).await.expect("leased").len(),
        1
    );
    assert_eq!(
        lease_all(&ledger, at(1_000_000)).await.len(),
        5,
        "all but the one leased for good"
    );
}

pub(super) async fn a_leased_blob_is_leased_again_only_when_the_lease_ran_out(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let first = lease_one(&ledger, at(0)).await;
    assert!(lease_all(&ledger, at(LEASE - 1)).await.is_empty());
    let second = lease_one(&ledger, at(LEASE)).await;
    assert_eq!(first.content_id(), second.content_id());
    assert_ne!(first.key(), second.key());
}

pub(super) async fn every_attempt_is_counted_save_released_ones(ledger: Subject) {
    note(&ledger, vec![blob(1)]).await;
    let first = lease_one(&ledger, at(0)).await;
    assert_eq!(first.attempts(), 1);
    ledger.release(vec![first]).await.expect("released");
    let again = lease_one(&ledger, at(0)).await;
    assert_eq!(again.attempts(), 1, "released at once due, and not counted");
    ledger
        .retry_later(again, at(10), "not ready")
        .await
        .expect("given back");
    assert_eq!(lease_one(&ledger, at(10)).await.attempts(), 2);
    assert_eq!(
        lease_one(&ledger, at(10 + LEASE)).await.attempts(),
        3,
        "one that ran out counts"
    );
}

pub(super) async fn a_blob_given_back_for_later_waits_until_then(ledger: Subject) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let mut leases = lease_all(&ledger, at(0)).await;
    let second = leases.pop().expect("two blobs");
    let first = leases.pop().expect("two blobs");
    ledger
        .retry_later(first, at(5_000), "not ready")
        .await
        .expect("given back");
    assert!(lease_all(&ledger, at(10)).await.is_empty());
    // Later than the lease would have lasted: the wait is not the lease.
    assert_eq!(uris(&lease_all(&ledger, at(4_999)).await), [second.uri()]);
    assert_eq!(lease_all(&ledger, at(5_000)).await.len(), 1);
}

pub(super) async fn a_blob_given_back_is_lost_to_its_old_key(ledger: Subject) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let [retried, released] =
        <[_; 2]>::try_from(lease_all(&ledger, at(0)).await).expect("two blobs are due");
    let keys = [retried.key(), released.key()];
    ledger
        .retry_later(retried, at(10), "not ready")
        .await
        .expect("given back");
    ledger.release(vec![released]).await.expect("released");
    assert_eq!(ledger.renew(&keys, at(5_000)).await.expect("renewed"), keys);
    assert_eq!(
        lease_all(&ledger, at(10)).await.len(),
        2,
        "the renewal did not take them back"
    );
}

pub(super) async fn excepted_tenants_are_left_alone(ledger: Subject) {
    let of = |number: u32| SeenBlob {
        tenant: tenant(number),
        ..blob(number.into())
    };
    note(
        &ledger,
        vec![
            of(1),
            of(2),
            of(3),
            SeenBlob {
                content_type: ContentType::General,
                ..of(2)
            },
        ],
    )
    .await;
    let all_but = |tenants: Vec<u32>| LeaseRequest {
        except_tenants: tenants.into_iter().map(tenant).collect(),
        ..request(10)
    };
    let leases = ledger
        .lease(&all_but(vec![2, 9]), at(1))
        .await
        .expect("leased");
    assert_eq!(uris(&leases), [of(1).uri, of(3).uri]);
    let leases = ledger
        .lease(&all_but(vec![1, 3]), at(1))
        .await
        .expect("leased");
    assert_eq!(uris(&leases), [of(2).uri, of(2).uri]);
}

pub(super) async fn blobs_that_the_sinks_have_are_left_alone(ledger: Subject) {
    note(&ledger, (1..=3).map(blob).collect()).await;
    let leases = lease_all(&ledger, at(0)).await;
    let [one, two, _three] = &leases[..] else {
        panic!("three blobs are due")
    };
    acknowledge_whole(&ledger, "file", one.key()).await;
    acknowledge_whole(&ledger, "file", two.key()).await;
    acknowledge_whole(&ledger, "alertlogic", two.key()).await;
    ledger.release(leases).await.expect("released");

    let needed_by = async |names: &[&str]| {
        let for_sinks = names.iter().map(|name| sink(name)).collect();
        let leases = ledger
            .lease(
                &LeaseRequest {
                    for_sinks,
                    ..request(10)
                },
                at(1),
            )
            .await
            .expect("leased");
        let found: Vec<_> = leases.iter().map(|lease| lease.uri().to_owned()).collect();
        ledger.release(leases).await.expect("released");
        found
    };
    assert_eq!(needed_by(&["file"]).await, [blob(3).uri]);
    assert_eq!(
        needed_by(&["file", "alertlogic"]).await,
        [blob(1).uri, blob(3).uri]
    );
    assert_eq!(needed_by(&["alertlogic"]).await, [blob(1).uri, blob(3).uri]);
    assert_eq!(
        needed_by(&["file", "splunk"]).await.len(),
        3,
        "splunk has nothing yet"
    );
    assert_eq!(needed_by(&[]).await.len(), 3);
}

pub(super) async fn a_renewed_lease_lasts_longer(ledger: Subject) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let leases = lease_all(&ledger, at(0)).await;
    let [kept, other] = &leases[..] else {
        panic!("two blobs are due")
    };
    let lost = ledger
        .renew(&[kept.key()], at(1_000))
        .await
        .expect("renewed");
    assert!(lost.is_empty());
    assert_eq!(uris(&lease_all(&ledger, at(999)).await), [other.uri()]);
    assert_eq!(lease_all(&ledger, at(1_000)).await.len(), 1);
}

pub(super) async fn a_lease_that_ran_out_is_good_until_somebody_takes_the_blob(ledger: Subject) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let leases = lease_all(&ledger, at(0)).await;
    // A lease taken now makes the backend look at what has run out, which must not make the other worse.
    let taken = ledger.lease(&request(1), at(LEASE)).await.expect("leased");
    let [gone, mine] = <[_; 2]>::try_from(leases).expect("two blobs are due");
    assert_eq!(uris(&taken), [gone.uri()]);
    let lost = ledger
        .renew(&[gone.key(), mine.key()], at(LEASE * 2))
        .await
        .expect("renewed");
    assert_eq!(lost, [gone.key()]);
    assert!(
        lease_all(&ledger, at(LEASE + 1)).await.is_empty(),
        "the renewed one is held again"
    );
    let proof = acknowledge_whole(&ledger, "file", mine.key()).await;
    mark(&ledger, delivery(mine, vec![proof]), &[sink("file")])
        .await
        .expect("still mine");
}

pub(super) async fn a_lost_lease_settles_nothing(ledger: Subject) {
    note(&ledger, (1..=5).map(blob).collect()).await;
    let lost = lease_all(&ledger, at(0)).await;
    let held = lease_all(&ledger, at(LEASE)).await;
    assert_eq!((lost.len(), held.len()), (5, 5));
    let [delivered, retried, quarantined, expired, released] =
        <[_; 5]>::try_from(lost).expect("five");
    let proof = acknowledge_whole(&ledger, "file", delivered.key()).await;
    let answers = [
        mark(&ledger, delivery(delivered, vec![proof]), &[sink("file")]).await,
        ledger.retry_later(retried, at(0), "late").await,
        ledger
            .quarantine(quarantined, "late", b"bytes".to_vec(), at(2))
            .await,
        ledger.expire(expired, "late", at(2)).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Error::LeaseLost)), "{answer:?}");
    }
    ledger.release(vec![released]).await.expect("passed over");
    assert!(ledger.quarantined(0, 10).await.expect("read").is_empty());
    assert!(
        lease_all(&ledger, at(LEASE + 1)).await.is_empty(),
        "all five are still held"
    );
    let keys: Vec<_> = held.iter().map(|lease| lease.key()).collect();
    assert!(
        ledger
            .renew(&keys, at(LEASE * 3))
            .await
            .expect("renewed")
            .is_empty()
    );
}

pub(super) async fn no_two_workers_get_the_same_blob(ledger: Subject) {
    note(&ledger, (0..200).map(blob).collect()).await;
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                let mut mine: Vec<ContentId> = Vec::new();
                loop {
                    let leases = ledger.lease(&request(7), at(1)).await.expect("leased");
                    if leases.is_empty() {
                        return mine;
                    }
                    mine.extend(leases.iter().map(|lease| lease.content_id().clone()));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("a worker ends"));
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200);
}
