//! Two processes that share an account, as two instances of a function app do.

use std::collections::HashSet;
use std::sync::Arc;

use ledger::{
    AcknowledgedPart, AzureLedger, Lease, LeaseRequest, Ledger, QuarantinedRecord, SeenBlob,
    SinkCommit,
};

use super::account::{Place, at, blob, request, sink, tenant};
use crate::scene;

const BLOB_COUNT: i64 = 120;

fn of_two_tenants() -> Vec<SeenBlob> {
    (0..BLOB_COUNT)
        .map(|number| SeenBlob {
            tenant: tenant(number % 2),
            ..blob(number)
        })
        .collect()
}

async fn two() -> [Arc<AzureLedger>; 2] {
    let place = Place::new().await;
    [Arc::new(place.ledger()), Arc::new(place.ledger())]
}

async fn deliver(ledger: &AzureLedger, leases: Vec<Lease>) {
    let answers = scene::deliver(ledger, leases).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn two_processes_note_lease_and_deliver_each_blob_once() {
    let ledgers = two().await;
    let noting = ledgers.iter().map(|ledger| {
        let ledger = Arc::clone(ledger);
        tokio::spawn(async move { ledger.note_seen(of_two_tenants(), at(0)).await.unwrap() })
    });
    let mut new = 0;
    for noted in noting.collect::<Vec<_>>() {
        new += noted.await.unwrap();
    }
    assert_eq!(
        new,
        BLOB_COUNT.unsigned_abs(),
        "each is new for one of them"
    );

    // Four workers on each, some of which ask for whatever is due and some for what a queue told both of.
    let workers: Vec<_> = (0..8_usize)
        .map(|worker| {
            let ledger = Arc::clone(&ledgers[worker % 2]);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for round in 0.. {
                    let only = match worker / 2 {
                        0 | 1 => Vec::new(),
                        _ => of_two_tenants()
                            .iter()
                            .skip(round * 10)
                            .take(10)
                            .map(SeenBlob::name)
                            .collect(),
                    };
                    if worker / 2 > 1 && only.is_empty() {
                        break;
                    }
                    let wanted = LeaseRequest { only, ..request(7) };
                    let leases = ledger.lease(&wanted, at(1)).await.unwrap();
                    if leases.is_empty() && worker / 2 < 2 {
                        break;
                    }
                    mine.extend(leases.iter().map(|lease| lease.name()));
                    if !leases.is_empty() {
                        deliver(&ledger, leases).await;
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
    assert_eq!(all.len() as i64, BLOB_COUNT);
    assert_eq!(
        all.into_iter().collect::<HashSet<_>>().len() as i64,
        BLOB_COUNT
    );
    for ledger in &ledgers {
        let summary = ledger.summary(at(9)).await.unwrap();
        let sum =
            |of: fn(&ledger::StreamSummary) -> u64| summary.streams.iter().map(of).sum::<u64>();
        assert_eq!(
            sum(|stream| stream.delivered_count),
            BLOB_COUNT.unsigned_abs()
        );
        assert_eq!(
            sum(|stream| stream.delivered_record_count),
            3 * BLOB_COUNT.unsigned_abs()
        );
        assert_eq!(sum(|stream| stream.pending_count + stream.leased_count), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn what_a_dead_process_held_is_leased_by_another_when_its_leases_run_out() {
    let [dying, living] = two().await;
    dying.note_seen(of_two_tenants(), at(0)).await.unwrap();
    let held = dying.lease(&request(50), at(0)).await.unwrap();
    assert_eq!(held.len(), 50);
    drop((dying, held));
    let rest = living.lease(&request(1_000), at(299)).await.unwrap();
    assert_eq!(rest.len() as i64, BLOB_COUNT - 50);
    deliver(&living, rest).await;
    let taken_over = living.lease(&request(1_000), at(300)).await.unwrap();
    assert_eq!(taken_over.len(), 50);
    assert!(taken_over.iter().all(|lease| lease.attempts() == 2));
    deliver(&living, taken_over).await;
    assert!(
        living
            .lease(&request(1_000), at(9_000))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn a_process_whose_lease_ran_out_takes_nothing_from_the_one_that_has_the_blob() {
    let [slow, quick] = two().await;
    slow.note_seen(vec![blob(1)], at(0)).await.unwrap();
    let lost = slow.lease(&request(1), at(0)).await.unwrap().pop().unwrap();
    let held = quick
        .lease(&request(1), at(300))
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(
        slow.renew(&[lost.key()], at(900)).await.unwrap(),
        [lost.key()]
    );
    // What its sink has is a fact all the same, and the other's next lease would know it.
    let commit = SinkCommit {
        sink: sink("slow"),
        position: None,
        acknowledged: vec![(lost.key(), AcknowledgedPart::Whole)],
        quarantined: Vec::new(),
        remembered: None,
    };
    slow.acknowledge(commit, at(301)).await.unwrap();
    let late = slow.quarantine(lost, "late", b"x".to_vec(), at(301)).await;
    assert!(matches!(late, Err(ledger::Error::LeaseLost)), "{late:?}");
    deliver(&quick, vec![held]).await;
    let stream = &quick.summary(at(302)).await.unwrap().streams[0];
    assert_eq!((stream.delivered_count, stream.quarantined_count), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite"]
async fn two_processes_set_aside_and_count_without_losing_a_number() {
    let ledgers = two().await;
    let record = |index: u64, by: usize| QuarantinedRecord {
        tenant: blob(1).tenant,
        content_type: blob(1).content_type,
        content_id: blob(1).content_id,
        record_index: index,
        sink: Some(sink(&format!("sink-{by}"))),
        reason: "too large".into(),
        bytes: vec![
            7;
            if index.is_multiple_of(10) {
                100_000
            } else {
                10
            }
        ]
        .into(),
    };
    let tasks: Vec<_> = (0..2)
        .map(|by| {
            let ledger = Arc::clone(&ledgers[by]);
            let records: Vec<_> = (0..45).map(|index| record(index, by)).collect();
            tokio::spawn(async move {
                ledger.quarantine_records(records, at(1)).await.unwrap();
                for _ in 0..20 {
                    ledger.count(vec![("calls".into(), 1)]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut after = 0;
    let mut count = 0;
    loop {
        let page = ledgers[0].quarantined(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|item| item.id > after));
        count += page.len();
        after = last.id;
    }
    assert_eq!((count, after), (90, 90), "one number each, none left out");
    let stream = &ledgers[1].summary(at(2)).await.unwrap().streams[0];
    assert_eq!(stream.quarantined_record_count, 90);
    let counters = ledgers[0].counters("").await.unwrap();
    assert_eq!(counters, [("calls".to_owned(), 40)]);
}
