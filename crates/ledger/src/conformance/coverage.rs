//! What is known of a range of time: which windows were listed, in what state its blobs are, and what is not delivered.

use activity_api::{ContentType, Window};

use crate::{
    ExpiryBucket, ListedWindow, QuarantinedRecord, SeenBlob, Totals, UndeliveredBlob,
    UndeliveredState,
};

use super::scene::{
    LEASE, Subject, at, blob, coverage, deliver, lease_all, listing, note, sink, tenant, window,
};

const TYPE: ContentType = ContentType::Exchange;

async fn list(ledger: &Subject, span: (i64, i64), blob_count: u64, now: i64) {
    ledger
        .note_listed(listing(tenant(1), TYPE, span, blob_count), at(now))
        .await
        .expect("noted");
}

/// A listed window in seconds into the scene: its span, how many blobs, how often, first and last.
fn listed(
    (start, end): (i64, i64),
    blob_count: u64,
    listing_count: u64,
    (first, last): (i64, i64),
) -> ListedWindow {
    ListedWindow {
        window: window(start, end),
        blob_count,
        listing_count,
        first_listed_at: at(first),
        last_listed_at: at(last),
    }
}

pub(super) async fn listing_began_where_the_first_caller_said(ledger: Subject) {
    let begin = async |number, from| {
        ledger
            .begin_listing(tenant(number), TYPE, at(from))
            .await
            .expect("noted")
    };
    assert_eq!(coverage(&ledger, 0, 1).await.began_at, None);
    assert_eq!(begin(1, 500).await, at(500));
    assert_eq!(begin(1, 100).await, at(500));
    assert_eq!(begin(1, 900).await, at(500));
    assert_eq!(begin(2, 900).await, at(900));
    list(&ledger, (0, 100), 1, 100).await;
    assert_eq!(coverage(&ledger, 0, 1).await.began_at, Some(at(500)));
}

pub(super) async fn a_window_listed_again_has_the_numbers_of_the_last_time(ledger: Subject) {
    list(&ledger, (0, 3_600), 5, 3_600).await;
    let once = listed((0, 3_600), 5, 1, (3_600, 3_600));
    assert_eq!(coverage(&ledger, 0, 3_600).await.windows, [once]);
    list(&ledger, (0, 3_600), 5, 3_600).await;
    assert_eq!(
        coverage(&ledger, 0, 3_600).await.windows,
        [once],
        "asked again for the same listing"
    );
    list(&ledger, (0, 3_600), 7, 7_200).await;
    let twice = listed((0, 3_600), 7, 2, (3_600, 7_200));
    assert_eq!(coverage(&ledger, 0, 3_600).await.windows, [twice]);
}

pub(super) async fn a_wider_window_absorbs_and_a_narrower_one_stands_beside(ledger: Subject) {
    list(&ledger, (0, 600), 1, 600).await;
    list(&ledger, (600, 700), 1, 700).await;
    list(&ledger, (0, 1_200), 3, 1_200).await;
    let wide = listed((0, 1_200), 3, 2, (600, 1_200));
    assert_eq!(coverage(&ledger, 0, 3_600).await.windows, [wide]);
    // Of the wider one's other parts it says nothing.
    list(&ledger, (0, 600), 1, 5_000).await;
    let narrow = listed((0, 600), 1, 1, (5_000, 5_000));
    assert_eq!(coverage(&ledger, 0, 3_600).await.windows, [narrow, wide]);
    // Those that only overlap stay, too.
    list(&ledger, (1_000, 2_000), 0, 5_000).await;
    assert_eq!(coverage(&ledger, 0, 3_600).await.windows.len(), 3);
}

pub(super) async fn coverage_shows_the_windows_of_the_range_and_no_others(ledger: Subject) {
    for start in [0, 100, 300, 400] {
        list(&ledger, (start, start + 100), 0, 500).await;
    }
    let other = listing(tenant(1), ContentType::General, (200, 300), 0);
    ledger.note_listed(other, at(500)).await.expect("noted");
    let starts = async |start, end| -> Vec<i64> {
        let coverage = coverage(&ledger, start, end).await;
        let starts = coverage.windows.iter().map(|listed| listed.window.start());
        starts
            .map(|start| start.duration_since(at(0)).as_secs())
            .collect()
    };
    assert_eq!(starts(0, 500).await, [0, 100, 300, 400]);
    assert_eq!(starts(100, 300).await, [100]);
    assert_eq!(starts(150, 301).await, [100, 300]);
    assert_eq!(starts(200, 300).await, [0; 0], "a gap is a gap");
    assert_eq!(starts(500, 900).await, [0; 0]);
}

/// Of one blob each: delivered, quarantined, expired, waiting, leased. And a record of the first in quarantine.
async fn one_of_each(ledger: &Subject) {
    note(ledger, (1..=5).map(blob).collect()).await;
    let other = SeenBlob {
        content_type: ContentType::General,
        ..blob(3)
    };
    note(ledger, vec![other]).await;
    let mut leases = lease_all(ledger, at(0)).await;
    leases.retain(|lease| lease.content_type() == TYPE);
    let [delivered, quarantined, expired, waiting, _leased] =
        <[_; 5]>::try_from(leases).expect("five blobs");
    let record = QuarantinedRecord {
        tenant: tenant(1),
        content_type: TYPE,
        content_id: blob(1).content_id,
        record_index: 7,
        sink: Some(sink("splunk")),
        reason: "too large".into(),
        bytes: b"{}".to_vec().into(),
    };
    ledger
        .quarantine_records(vec![record], at(1))
        .await
        .expect("kept");
    deliver(ledger, delivered).await;
    ledger
        .quarantine(quarantined, "not JSON", b"<html>".to_vec(), at(1))
        .await
        .expect("quarantined");
    ledger
        .expire(expired, "gone at Microsoft", at(1))
        .await
        .expect("expired");
    ledger
        .retry_later(waiting, at(900), "not ready")
        .await
        .expect("given back");
}

pub(super) async fn coverage_counts_the_blobs_of_the_range_by_their_state(ledger: Subject) {
    one_of_each(&ledger).await;
    let all = coverage(&ledger, 0, 100).await;
    let delivered = Totals {
        blob_count: 1,
        record_count: 10,
        byte_count: 1_000,
    };
    assert_eq!(all.delivered, delivered);
    assert!(!all.has_whole_days);
    let counts = |coverage: &crate::Coverage| {
        (
            coverage.pending_count,
            coverage.quarantined_count,
            coverage.expired_count,
            coverage.dropped_count,
            coverage.quarantined_record_count,
        )
    };
    assert_eq!(counts(&all), (2, 1, 1, 0, 1));
    let some = coverage(&ledger, 2, 4).await;
    assert_eq!(some.delivered, Totals::default());
    assert_eq!(
        counts(&some),
        (0, 1, 1, 0, 0),
        "the range ends before its end"
    );
    assert_eq!(counts(&coverage(&ledger, 6, 100).await), (0, 0, 0, 0, 0));
}

pub(super) async fn what_is_not_delivered_is_named_page_by_page(ledger: Subject) {
    one_of_each(&ledger).await;
    let page = async |range: Window, after, max_count| {
        ledger
            .undelivered(tenant(1), TYPE, range, after, max_count)
            .await
            .expect("read")
    };
    let all = page(window(0, 100), None, 100).await;
    let shown = |blob: &UndeliveredBlob| {
        (
            blob.created_at,
            blob.record_index,
            blob.state,
            blob.reason.clone(),
        )
    };
    let said = |text: &str| Some(text.to_owned());
    let found: Vec<_> = all.iter().map(shown).collect();
    let expected = [
        (
            at(1),
            Some(7),
            UndeliveredState::Quarantined,
            said("too large"),
        ),
        (at(2), None, UndeliveredState::Quarantined, said("not JSON")),
        (
            at(3),
            None,
            UndeliveredState::Expired,
            said("gone at Microsoft"),
        ),
        (at(4), None, UndeliveredState::Pending, said("not ready")),
        (at(5), None, UndeliveredState::Leased, None),
    ];
    assert_eq!(found, expected);
    let record = all.first().expect("five");
    assert_eq!(record.sink, Some(sink("splunk")));
    assert!(all.iter().all(|blob| blob.attempts == 1));
    for number in 1..=5 {
        let noted = blob(number);
        let found = all
            .iter()
            .find(|found| found.created_at == noted.created_at);
        let found = found.expect("one each");
        assert_eq!(
            (&found.content_id, found.expires_at),
            (&noted.content_id, noted.expires_at)
        );
    }

    let mut after = None;
    let mut paged = Vec::new();
    loop {
        let page = page(window(0, 100), after, 2).await;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(page(window(2, 4), None, 100).await, all[1..3]);
    assert_eq!(page(window(6, 9), None, 100).await, []);
    let nobody = ledger
        .undelivered(tenant(9), TYPE, window(0, 100), None, 100)
        .await
        .expect("read");
    assert_eq!(nobody, []);
}

pub(super) async fn unsettled_blobs_are_counted_by_the_hour_in_which_they_expire(ledger: Subject) {
    let expiring = |number: i64, of: u32, expires: i64| SeenBlob {
        tenant: tenant(of),
        expires_at: at(expires),
        ..blob(number)
    };
    // The scene begins 3,200 seconds into an hour.
    note(
        &ledger,
        vec![
            expiring(1, 1, 399),
            expiring(2, 1, 400),
            expiring(3, 1, 3_999),
            expiring(4, 1, 4_000),
            expiring(5, 2, 4_000),
            expiring(6, 1, -3_201),
        ],
    )
    .await;
    let bucket = |of, from, blob_count| ExpiryBucket {
        tenant: tenant(of),
        expires_from: at(from),
        blob_count,
    };
    let buckets = async || ledger.unsettled_by_expiry().await.expect("read");
    let expected = [
        bucket(1, -6_800, 1),
        bucket(1, -3_200, 1),
        bucket(1, 400, 2),
        bucket(1, 4_000, 1),
        bucket(2, 4_000, 1),
    ];
    assert_eq!(buckets().await, expected);
    // Leased or waiting, they expire all the same; settled, they do not.
    let mut leases = lease_all(&ledger, at(0)).await;
    assert_eq!(buckets().await, expected);
    let first = leases.remove(0);
    deliver(&ledger, first).await;
    for lease in leases {
        ledger
            .retry_later(lease, at(9 * LEASE), "later")
            .await
            .expect("given back");
    }
    assert_eq!(buckets().await, expected[1..]);
}
