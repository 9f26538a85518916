//! What others write into the ledger: texts of any characters and any length, and bytes by the megabyte.

use activity_api::{ContentId, Window};
use ledger::{AcknowledgedPart, Ledger, QuarantinedRecord, SeenBlob, SeenVia, SinkCommit};

use super::server::Database;
use crate::scene::{at, blob, request, sink};

/// A text that many a database would not take, of more than a megabyte.
fn long(start: &str) -> String {
    let piece = "\u{0}\u{1}'\"\\%_$1;--\u{7f}\u{80}\u{fffd}\u{10ffff} \u{202e}é\r\n";
    format!("{start}{}", piece.repeat(1_000_000 / piece.len() + 1))
}

fn texts() -> Vec<String> {
    vec![
        "\u{0}".into(),
        "a\u{0}".into(),
        "a\u{0}b".into(),
        "a".into(),
        "\\x00".into(),
        "\\".into(),
        "'; DROP SCHEMA o365_collector CASCADE; --".into(),
        "\u{10ffff}\u{fffe}".into(),
        long("x"),
        long("y"),
    ]
}

fn seen() -> Vec<SeenBlob> {
    texts()
        .iter()
        .map(|text| SeenBlob {
            content_id: ContentId::canonical(text),
            uri: text.clone(),
            seen_via: SeenVia::Notification,
            ..blob(1)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn texts_of_any_characters_and_length_are_kept_as_they_are() {
    let ledger = Database::new().await.ledger();
    let names: Vec<_> = seen().iter().map(SeenBlob::name).collect();
    assert_eq!(
        ledger.note_new(seen(), at(0)).await.unwrap().len(),
        names.len()
    );
    assert_eq!(ledger.note_seen(seen(), at(0)).await.unwrap(), 0);
    assert!(ledger.unknown(names.clone()).await.unwrap().is_empty());
    // A listing's word replaces a notification's.
    let listed = seen().into_iter().map(|blob| SeenBlob {
        seen_via: SeenVia::Listing,
        ..blob
    });
    assert_eq!(ledger.note_seen(listed.collect(), at(0)).await.unwrap(), 0);

    let mut named = request(100);
    named.only = names.clone();
    let leases = ledger.lease(&named, at(0)).await.unwrap();
    assert_eq!(leases.len(), names.len());
    for lease in leases {
        assert_eq!(lease.content_id().as_str(), lease.uri());
        let reason = lease.uri().to_owned();
        ledger.retry_later(lease, at(1), &reason).await.unwrap();
    }
    let range = Window::new(at(0), at(100)).unwrap();
    let (tenant, content_type) = (blob(1).tenant, blob(1).content_type);
    let undelivered = async || {
        ledger
            .undelivered(tenant, content_type, range, None, 100)
            .await
            .unwrap()
    };
    for blob in undelivered().await {
        assert_eq!(blob.reason.as_deref(), Some(blob.content_id.as_str()));
    }
    for lease in ledger.lease(&request(100), at(1)).await.unwrap() {
        let (reason, bytes) = (lease.uri().to_owned(), lease.uri().as_bytes().to_vec());
        ledger
            .quarantine(lease, &reason, bytes, at(1))
            .await
            .unwrap();
    }
    let items = ledger.quarantined(0, 100).await.unwrap();
    assert_eq!(items.len(), names.len());
    for item in &items {
        assert_eq!(item.reason, item.content_id.as_str());
        let bytes = ledger.quarantined_bytes(item.id).await.unwrap().unwrap();
        assert_eq!(bytes, item.reason.as_bytes());
        assert!(
            ledger
                .drop_quarantined(item.id, &item.reason, at(2))
                .await
                .unwrap()
        );
    }
    for blob in undelivered().await {
        let reason = blob.reason.unwrap();
        assert!(reason.starts_with(&format!("dropped by a person: {}", blob.content_id)));
        assert!(reason.ends_with(blob.content_id.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn facts_counters_and_positions_may_be_any_text() {
    let ledger = Database::new().await.ledger();
    for (number, text) in texts().iter().enumerate() {
        ledger.remember(text, "before").await.unwrap();
        ledger.remember(text, text).await.unwrap();
        ledger
            .count(vec![(text.clone(), number as u64)])
            .await
            .unwrap();
        let commit = SinkCommit {
            sink: sink("file"),
            position: Some(text.clone()),
            acknowledged: Vec::new(),
            quarantined: Vec::new(),
            remembered: None,
        };
        ledger.acknowledge(commit, at(0)).await.unwrap();
        assert_eq!(
            ledger.position(&sink("file")).await.unwrap().as_ref(),
            Some(text)
        );
    }
    for text in &texts() {
        assert_eq!(ledger.recall(text).await.unwrap().as_ref(), Some(text));
    }
    let mut sorted: Vec<_> = texts().into_iter().zip(0..).collect();
    sorted.sort();
    assert_eq!(ledger.counters("").await.unwrap(), sorted);
    let with_a = ledger.counters("a\u{0}").await.unwrap();
    assert_eq!(
        with_a,
        [("a\u{0}".to_owned(), 1), ("a\u{0}b".to_owned(), 2)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn bytes_of_32_mebibytes_come_back_from_quarantine() {
    let ledger = Database::new().await.ledger();
    ledger.note_seen(vec![blob(1)], at(0)).await.unwrap();
    let lease = ledger
        .lease(&request(1), at(0))
        .await
        .unwrap()
        .pop()
        .unwrap();
    let bytes: Vec<u8> = (0..32_u32 << 20)
        .map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let record = |index: u64, bytes: &[u8]| QuarantinedRecord {
        tenant: lease.tenant(),
        content_type: lease.content_type(),
        content_id: lease.content_id().clone(),
        record_index: index,
        sink: Some(sink("file")),
        reason: "too large".into(),
        bytes: bytes.to_vec().into(),
    };
    // Together more than one statement takes.
    let commit = SinkCommit {
        sink: sink("file"),
        position: None,
        acknowledged: vec![(lease.key(), AcknowledgedPart::Whole)],
        quarantined: vec![
            record(0, &[]),
            record(1, &bytes),
            record(2, b"{}"),
            record(3, &bytes[1..]),
        ],
        remembered: None,
    };
    ledger.acknowledge(commit.clone(), at(1)).await.unwrap();
    ledger.acknowledge(commit, at(1)).await.unwrap();
    let items = ledger.quarantined(0, 10).await.unwrap();
    let indexes: Vec<_> = items.iter().map(|item| item.record_index).collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2), Some(3)]);
    let kept = ledger
        .quarantined_bytes(items[1].id)
        .await
        .unwrap()
        .unwrap();
    assert!(kept == bytes, "they came back changed");
    ledger
        .quarantine(lease, "whole", bytes.clone(), at(2))
        .await
        .unwrap();
    let stream = &ledger.summary(at(2)).await.unwrap().streams[0];
    assert_eq!(stream.quarantined_byte_count, 3 * (32 << 20) - 1 + 2);
    let last = ledger.quarantined(items[3].id, 10).await.unwrap();
    let kept = ledger.quarantined_bytes(last[0].id).await.unwrap().unwrap();
    assert!(kept == bytes, "they came back changed");
}
