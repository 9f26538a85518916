//! Small facts, and the summary.

use activity_api::ContentType;

use crate::{DeliveredTotals, SeenBlob, StreamSummary};

use super::scene::{
    LEASE, Subject, acknowledge_whole, at, blob, deliver, delivery, lease_all, lease_one, listing,
    mark, note, sink, tenant,
};

async fn counters(ledger: &Subject, prefix: &str) -> Vec<(String, u64)> {
    ledger.counters(prefix).await.expect("read")
}

fn named(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value))
        .collect()
}

pub(super) async fn counts_add_up(ledger: Subject) {
    let count = async |pairs: &[(&str, u64)]| ledger.count(named(pairs)).await.expect("counted");
    assert!(counters(&ledger, "").await.is_empty());
    count(&[("calls", 1), ("errors", 0)]).await;
    count(&[("calls", 2), ("calls", 3)]).await;
    count(&[]).await;
    let expected = named(&[("calls", 6), ("errors", 0)]);
    assert_eq!(counters(&ledger, "").await, expected);
    // More than any engine's integers hold: the rest of the world goes on.
    count(&[("huge", u64::MAX)]).await;
    count(&[("huge", u64::MAX), ("calls", 1)]).await;
    let all = counters(&ledger, "").await;
    assert_eq!(all[..2], named(&[("calls", 7), ("errors", 0)]));
    let huge = all.last().expect("three").1;
    assert!(huge >= u64::MAX / 2, "{huge}");
}

pub(super) async fn counters_are_found_by_prefix(ledger: Subject) {
    let names = [
        "Deliver.calls",
        "Master.calls",
        "Master.errors",
        "Master/errors #1?",
        "Masterly",
        "a'b\"c%20\u{0}\u{1f600}",
        "a'b\"c%2",
        "",
    ];
    let increments = names.iter().map(|&name| (name.to_owned(), 1)).collect();
    ledger.count(increments).await.expect("counted");
    let mut sorted = names;
    sorted.sort_unstable();
    for prefix in [
        "",
        "M",
        "Master",
        "Master.",
        "Master/",
        "a'b\"c%2",
        "x",
        "\u{1f600}",
    ] {
        let expected: Vec<_> = sorted
            .iter()
            .filter(|name| name.starts_with(prefix))
            .map(|&name| (name.to_owned(), 1))
            .collect();
        assert_eq!(counters(&ledger, prefix).await, expected, "{prefix:?}");
    }
}

pub(super) async fn counts_of_many_tasks_at_once_add_up(ledger: Subject) {
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let ledger = std::sync::Arc::clone(&ledger);
            tokio::spawn(async move {
                for _ in 0..5 {
                    let increments = vec![("all".to_owned(), 1), (format!("of-{number}"), 2)];
                    ledger.count(increments).await.expect("counted");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task ends");
    }
    assert_eq!(counters(&ledger, "all").await, named(&[("all", 40)]));
    let each = counters(&ledger, "of-").await;
    assert_eq!(each.len(), 8);
    assert!(each.iter().all(|(_, value)| *value == 10), "{each:?}");
}

pub(super) async fn facts_are_kept_until_the_next_value(ledger: Subject) {
    let recall = async |key: &str| ledger.recall(key).await.expect("read");
    assert_eq!(recall("registration").await, None);
    ledger
        .remember("registration", "{\"id\":1}")
        .await
        .expect("kept");
    ledger
        .remember("other", "ü ✓ \u{0} end")
        .await
        .expect("kept");
    assert_eq!(recall("registration").await.as_deref(), Some("{\"id\":1}"));
    ledger.remember("registration", "").await.expect("kept");
    assert_eq!(recall("registration").await.as_deref(), Some(""));
    assert_eq!(recall("other").await.as_deref(), Some("ü ✓ \u{0} end"));
}

async fn only_stream(ledger: &Subject, now: i64) -> StreamSummary {
    let summary = ledger.summary(at(now)).await.expect("read");
    let [stream] = &summary.streams[..] else {
        panic!("one stream: {summary:?}")
    };
    stream.clone()
}

pub(super) async fn the_summary_follows_a_blob_through_its_life(ledger: Subject) {
    assert!(
        ledger
            .summary(at(0))
            .await
            .expect("read")
            .streams
            .is_empty()
    );
    note(&ledger, (1..=4).map(blob).collect()).await;
    let counts = async |now| {
        let stream = only_stream(&ledger, now).await;
        let settled = (
            stream.delivered_count,
            stream.quarantined_count,
            stream.expired_count,
        );
        (stream.pending_count, stream.leased_count, settled)
    };
    assert_eq!(counts(0).await, (4, 0, (0, 0, 0)));
    let leases = lease_all(&ledger, at(0)).await;
    assert_eq!(counts(0).await, (0, 4, (0, 0, 0)));
    assert_eq!(
        counts(LEASE).await,
        (4, 0, (0, 0, 0)),
        "a lease that ran out holds nothing"
    );
    let [delivered, quarantined, expired, waiting] =
        <[_; 4]>::try_from(leases).expect("four blobs");
    deliver(&ledger, delivered).await;
    assert_eq!(counts(1).await, (0, 3, (1, 0, 0)));
    ledger
        .quarantine(quarantined, "bad", b"x".to_vec(), at(1))
        .await
        .expect("quarantined");
    assert_eq!(counts(1).await, (0, 2, (1, 1, 0)));
    ledger
        .expire(expired, "gone", at(1))
        .await
        .expect("expired");
    assert_eq!(counts(1).await, (0, 1, (1, 1, 1)));
    ledger
        .retry_later(waiting, at(500), "not ready")
        .await
        .expect("given back");
    assert_eq!(counts(1).await, (1, 0, (1, 1, 1)));
}

pub(super) async fn the_summary_adds_up_per_tenant_and_content_type(ledger: Subject) {
    let other = |number| SeenBlob {
        tenant: tenant(2),
        content_type: ContentType::General,
        ..blob(number)
    };
    note(&ledger, vec![blob(1), blob(2), other(3)]).await;
    for lease in lease_all(&ledger, at(0)).await {
        let proof = acknowledge_whole(&ledger, "file", lease.key()).await;
        mark(&ledger, delivery(lease, vec![proof]), &[sink("file")])
            .await
            .expect("delivered");
    }
    ledger
        .note_listed(listing(tenant(2), ContentType::General, (0, 60), 0), at(60))
        .await
        .expect("noted");
    let summary = ledger.summary(at(1)).await.expect("read");
    let names: Vec<_> = summary
        .streams
        .iter()
        .map(|stream| (stream.tenant, stream.content_type))
        .collect();
    assert_eq!(
        names,
        [
            (tenant(1), ContentType::Exchange),
            (tenant(2), ContentType::General)
        ]
    );
    let totals: Vec<_> = summary
        .streams
        .iter()
        .map(|stream| {
            (
                stream.delivered_count,
                stream.delivered_record_count,
                stream.delivered_byte_count,
            )
        })
        .collect();
    assert_eq!(totals, [(2, 20, 2_000), (1, 10, 1_000)]);
    let expected = [
        (tenant(1), 20, 2_000),
        (tenant(2), 10, 1_000),
        (tenant(3), 0, 0),
    ];
    for (tenant, record_count, byte_count) in expected {
        let totals = ledger.delivered_totals(tenant).await.expect("read");
        let expected = DeliveredTotals {
            record_count,
            byte_count,
        };
        assert_eq!(totals, expected);
    }
    let listed: Vec<_> = summary
        .streams
        .iter()
        .map(|stream| stream.listed_until)
        .collect();
    assert_eq!(listed, [None, Some(at(60))]);
    assert!(summary.stream(tenant(2), ContentType::Exchange).is_none());
    assert_eq!(
        summary.stream(tenant(2), ContentType::General),
        summary.streams.last()
    );
}

pub(super) async fn the_summary_knows_the_oldest_and_the_nearest(ledger: Subject) {
    // The oldest is not the one that expires first.
    let hasty = SeenBlob {
        expires_at: at(5_000),
        ..blob(20)
    };
    note(&ledger, vec![blob(30), hasty, blob(10)]).await;
    let both = async |now| {
        let stream = only_stream(&ledger, now).await;
        (
            stream.oldest_pending_created_at,
            stream.nearest_pending_expires_at,
        )
    };
    assert_eq!(both(0).await, (Some(at(10)), Some(at(5_000))));
    let mut leases = lease_all(&ledger, at(0)).await;
    assert_eq!(
        both(0).await,
        (Some(at(10)), Some(at(5_000))),
        "leased ones are not out of danger"
    );
    deliver(&ledger, leases.remove(0)).await;
    assert_eq!(both(0).await, (Some(at(10)), Some(blob(10).expires_at)));
    for lease in leases {
        ledger
            .retry_later(lease, at(100), "not ready")
            .await
            .expect("given back");
    }
    assert_eq!(both(0).await, (Some(at(10)), Some(blob(10).expires_at)));
    for _ in 0..2 {
        let mut leases = ledger
            .lease(&super::scene::request(1), at(100))
            .await
            .expect("leased");
        ledger
            .expire(leases.remove(0), "gone", at(100))
            .await
            .expect("expired");
    }
    assert_eq!(both(100).await, (None, None));
    note(&ledger, vec![blob(40)]).await;
    assert_eq!(lease_one(&ledger, at(100)).await.created_at(), at(40));
}
