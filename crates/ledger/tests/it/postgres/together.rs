//! Two collectors that share a database: two ledgers, each with connections of its own.

use std::collections::HashSet;
use std::sync::Arc;

use ledger::{
    AcknowledgedPart, Error, Lease, LeaseRequest, Ledger, PartKey, PostgresLedger,
    QuarantinedRecord, SeenBlob, SinkCommit,
};

use super::server::Database;
use crate::scene::{at, blob, deliver, request, sink, tenant, whole};

const BLOB_COUNT: i64 = 400;

fn of_four_tenants() -> Vec<SeenBlob> {
    (0..BLOB_COUNT)
        .map(|number| SeenBlob {
            tenant: tenant(number % 4),
            ..blob(number)
        })
        .collect()
}

async fn two() -> [Arc<PostgresLedger>; 2] {
    let database = Database::new().await;
    [Arc::new(database.ledger()), Arc::new(database.ledger())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn two_collectors_note_lease_and_deliver_each_blob_once() {
    let ledgers = two().await;
    let noting: Vec<_> = ledgers
        .iter()
        .enumerate()
        .map(|(number, ledger)| {
            let ledger = Arc::clone(ledger);
            let mut seen = of_four_tenants();
            // In the other order, as two listings may be.
            if number == 1 {
                seen.reverse();
            }
            tokio::spawn(async move { ledger.note_seen(seen, at(0)).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for noted in noting {
        new += noted.await.unwrap();
    }
    assert_eq!(
        new,
        BLOB_COUNT.unsigned_abs(),
        "each is new for one of them"
    );

    // Four workers on each, some of which ask for whatever is due and some for blobs by name.
    let workers: Vec<_> = (0..8_usize)
        .map(|worker| {
            let ledger = Arc::clone(&ledgers[worker % 2]);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for round in 0.. {
                    let only: Vec<_> = match worker / 2 {
                        0 | 1 => Vec::new(),
                        _ => of_four_tenants()
                            .iter()
                            .skip(round * 10)
                            .take(10)
                            .map(SeenBlob::name)
                            .collect(),
                    };
                    let is_named = worker / 2 > 1;
                    if is_named && only.is_empty() {
                        break;
                    }
                    let wanted = LeaseRequest { only, ..request(7) };
                    let leases = ledger.lease(&wanted, at(1)).await.unwrap();
                    if leases.is_empty() && !is_named {
                        break;
                    }
                    mine.extend(leases.iter().map(Lease::name));
                    if !leases.is_empty() {
                        let answers = deliver(&*ledger, leases).await.unwrap();
                        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                    }
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    // Whoever asks while others take may get fewer than are due, so some may be left; none was given twice.
    let unique: HashSet<_> = all.iter().cloned().collect();
    assert_eq!(unique.len(), all.len(), "a blob was leased twice");
    let rest = ledgers[0].lease(&request(1_000), at(1)).await.unwrap();
    assert_eq!((all.len() + rest.len()) as i64, BLOB_COUNT);
    deliver(&*ledgers[0], rest).await.unwrap();
    for ledger in &ledgers {
        let summary = ledger.summary(at(9)).await.unwrap();
        let sum =
            |of: fn(&ledger::StreamSummary) -> u64| summary.streams.iter().map(of).sum::<u64>();
        let blob_count = BLOB_COUNT.unsigned_abs();
        assert_eq!(sum(|stream| stream.delivered_count), blob_count);
        assert_eq!(sum(|stream| stream.delivered_record_count), 3 * blob_count);
        assert_eq!(sum(|stream| stream.pending_count + stream.leased_count), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_a_dead_collector_held_is_leased_by_another_when_its_leases_run_out() {
    let [dying, living] = two().await;
    dying.note_seen(of_four_tenants(), at(0)).await.unwrap();
    let held = dying.lease(&request(50), at(0)).await.unwrap();
    assert_eq!(held.len(), 50);
    drop((dying, held));
    let rest = living.lease(&request(1_000), at(299)).await.unwrap();
    assert_eq!(rest.len() as i64, BLOB_COUNT - 50);
    deliver(&*living, rest).await.unwrap();
    let taken_over = living.lease(&request(1_000), at(300)).await.unwrap();
    assert_eq!(taken_over.len(), 50);
    assert!(taken_over.iter().all(|lease| lease.attempts() == 2));
    deliver(&*living, taken_over).await.unwrap();
    let more = living.lease(&request(1_000), at(9_000)).await.unwrap();
    assert!(more.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_collector_whose_lease_was_lost_settles_nothing() {
    let [slow, quick] = two().await;
    slow.note_seen(vec![blob(1)], at(0)).await.unwrap();
    let mut leases = Vec::new();
    for (ledger, second) in [
        (&slow, 0),
        (&slow, 300),
        (&slow, 600),
        (&slow, 900),
        (&quick, 1_200),
    ] {
        leases.push(
            ledger
                .lease(&request(1), at(second))
                .await
                .unwrap()
                .pop()
                .unwrap(),
        );
    }
    let held = leases.pop().unwrap();
    let keys: Vec<_> = leases.iter().map(Lease::key).collect();
    assert_eq!(slow.renew(&keys, at(9_000)).await.unwrap(), keys);
    // What its sink has is a fact all the same.
    slow.acknowledge(whole("slow", &leases[..1]), at(1_201))
        .await
        .unwrap();
    let late = slow.expire(leases.pop().unwrap(), "late", at(1_201)).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    let late = slow
        .quarantine(leases.pop().unwrap(), "late", b"x".to_vec(), at(1_201))
        .await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    let late = slow
        .retry_later(leases.pop().unwrap(), at(9_000), "late")
        .await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    let late = deliver(&*slow, vec![leases.pop().unwrap()]).await.unwrap();
    assert!(
        matches!(late.as_slice(), [Err(Error::LeaseLost)]),
        "{late:?}"
    );
    assert!(quick.quarantined(0, 10).await.unwrap().is_empty());
    assert!(
        deliver(&*quick, vec![held])
            .await
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
    let stream = &quick.summary(at(1_202)).await.unwrap().streams[0];
    assert_eq!(
        (
            stream.delivered_count,
            stream.quarantined_count,
            stream.expired_count
        ),
        (1, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn sinks_that_two_collectors_name_at_once_have_numbers_of_their_own() {
    let ledgers = two().await;
    ledgers[0].note_seen(vec![blob(1)], at(0)).await.unwrap();
    let lease = ledgers[0]
        .lease(&request(1), at(0))
        .await
        .unwrap()
        .pop()
        .unwrap();
    let key = lease.key();
    let tasks: Vec<_> = (0..40_usize)
        .map(|number| {
            let ledger = Arc::clone(&ledgers[number % 2]);
            tokio::spawn(async move {
                let name = format!("sink-{number:02}");
                let commit = SinkCommit {
                    position: Some(name.clone()),
                    acknowledged: vec![(key, AcknowledgedPart::Whole)],
                    ..whole(&name, &[])
                };
                ledger.acknowledge(commit, at(1)).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for number in 0..40_usize {
        let name = format!("sink-{number:02}");
        let position = ledgers[(number + 1) % 2]
            .position(&sink(&name))
            .await
            .unwrap();
        assert_eq!(position, Some(name));
    }
    ledgers[0].release(vec![lease]).await.unwrap();
    let lease = ledgers[1]
        .lease(&request(1), at(2))
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(lease.acknowledged().len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn operations_on_the_same_blobs_in_other_orders_all_end() {
    let ledgers = two().await;
    ledgers[0]
        .note_seen(of_four_tenants(), at(0))
        .await
        .unwrap();
    let leases = ledgers[0].lease(&request(1_000), at(0)).await.unwrap();
    let keys: Vec<_> = leases.iter().map(Lease::key).collect();
    let tasks: Vec<_> = (0..8_usize)
        .map(|number| {
            let ledger = Arc::clone(&ledgers[number % 2]);
            let mut keys = keys.clone();
            keys.rotate_left(number * 40);
            if number % 2 == 0 {
                keys.reverse();
            }
            tokio::spawn(async move {
                for round in 0..10_u64 {
                    let part = PartKey {
                        first_record: round,
                        record_count: 1,
                        fingerprint: round,
                    };
                    let commit = SinkCommit {
                        acknowledged: keys
                            .iter()
                            .map(|key| (*key, AcknowledgedPart::Part(part)))
                            .collect(),
                        quarantined: (0..20)
                            .map(|index| record(index * (round + 1), number))
                            .collect(),
                        ..whole(&format!("sink-{number}"), &[])
                    };
                    ledger.acknowledge(commit, at(1)).await.unwrap();
                    assert!(ledger.renew(&keys, at(500)).await.unwrap().is_empty());
                    ledger
                        .count(vec![("b".into(), 1), ("a".into(), 1)])
                        .await
                        .unwrap();
                    let mut seen = of_four_tenants();
                    seen.rotate_left(number * 50);
                    assert_eq!(ledger.note_seen(seen, at(1)).await.unwrap(), 0);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let counters = ledgers[0].counters("").await.unwrap();
    assert_eq!(counters, [("a".to_owned(), 80), ("b".to_owned(), 80)]);
    // Of each sink, the multiples of 1 to 10 below 20 times that, each once.
    let different: HashSet<u64> = (1..=10)
        .flat_map(|step| (0..20).map(move |index| index * step))
        .collect();
    let stream = ledgers[1].summary(at(2)).await.unwrap();
    let stream = stream.stream(tenant(1), blob(1).content_type).unwrap();
    assert_eq!(stream.quarantined_record_count, 8 * different.len() as u64);
    ledgers[0].release(leases).await.unwrap();
    let lease = ledgers[1]
        .lease(&request(1), at(2))
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(lease.acknowledged().len(), 80);
}

fn record(index: u64, by: usize) -> QuarantinedRecord {
    QuarantinedRecord {
        tenant: blob(1).tenant,
        content_type: blob(1).content_type,
        content_id: blob(1).content_id,
        record_index: index,
        sink: Some(sink(&format!("sink-{by}"))),
        reason: "too large".into(),
        bytes: vec![7; 10].into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn two_collectors_that_compact_forget_each_blob_once() {
    let ledgers = two().await;
    ledgers[0]
        .note_seen(of_four_tenants(), at(0))
        .await
        .unwrap();
    let leases = ledgers[0].lease(&request(1_000), at(0)).await.unwrap();
    deliver(&*ledgers[0], leases).await.unwrap();
    let tasks: Vec<_> = ledgers
        .iter()
        .map(|ledger| {
            let ledger = Arc::clone(ledger);
            tokio::spawn(async move {
                let mut count = 0;
                loop {
                    let done = ledger.compact(at(30 * 86_400), 7).await.unwrap();
                    count += done.blob_count;
                    if done.is_done {
                        return count;
                    }
                }
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    assert_eq!(count, BLOB_COUNT.unsigned_abs());
    let mut delivered = 0;
    for number in 0..4 {
        let range = activity_api::Window::new(at(-86_400), at(86_400)).unwrap();
        let coverage = ledgers[1]
            .coverage(tenant(number), blob(1).content_type, range)
            .await
            .unwrap();
        delivered += coverage.delivered.record_count;
    }
    assert_eq!(delivered, 3 * BLOB_COUNT.unsigned_abs());
}
