//! What is left when the ledger was made smaller: every answer save its detail.

use activity_api::ContentType;
use jiff::Timestamp;

use crate::{Compacted, QuarantinedRecord, SeenBlob, Totals};

use super::scene::{
    Subject, at, blob, coverage, deliver, lease_all, listing, note, tenant, window,
};

const TYPE: ContentType = ContentType::Exchange;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// The scene begins so many seconds into a day.
const INTO_DAY: i64 = 32_000;

/// The first whole day of the scene.
const DAY_1: i64 = DAY - INTO_DAY;

async fn list(ledger: &Subject, start: i64, end: i64) {
    ledger
        .note_listed(listing(tenant(1), TYPE, (start, end), 1), at(end))
        .await
        .expect("noted");
}

async fn compact(ledger: &Subject, before: Timestamp) -> Compacted {
    let done = ledger.compact(before, 1_000).await.expect("compacted");
    assert!(done.is_done);
    done
}

/// Seconds into the scene of each listed window's start and end.
async fn windows(ledger: &Subject, start: i64, end: i64) -> Vec<(i64, i64)> {
    let windows = coverage(ledger, start, end).await.windows;
    let seconds = |time: Timestamp| time.duration_since(at(0)).as_secs();
    let spans = windows
        .iter()
        .map(|listed| (seconds(listed.window.start()), seconds(listed.window.end())));
    spans.collect()
}

pub(super) async fn windows_are_merged_by_the_day_and_a_gap_stays(ledger: Subject) {
    for hour in (0..48).filter(|hour| *hour != 5) {
        let start = DAY_1 + hour * HOUR;
        list(&ledger, start, start + HOUR).await;
    }
    // The second time, a day later.
    let again = listing(tenant(1), TYPE, (DAY_1, DAY_1 + HOUR), 4);
    ledger
        .note_listed(again, at(DAY_1 + DAY))
        .await
        .expect("noted");
    let (gap, next) = (DAY_1 + 5 * HOUR, DAY_1 + DAY);
    assert_eq!(compact(&ledger, at(DAY_1)).await.window_count, 0);

    // Up to within a day, of which the rest follows when its time has come.
    compact(&ledger, at(gap + 2 * HOUR + 1)).await;
    assert_eq!(
        windows(&ledger, DAY_1, gap + 3 * HOUR).await,
        [
            (DAY_1, gap),
            (gap + HOUR, gap + 2 * HOUR),
            (gap + 2 * HOUR, gap + 3 * HOUR)
        ]
    );
    let merged = coverage(&ledger, DAY_1, gap).await.windows;
    let [merged] = &merged[..] else {
        panic!("one window: {merged:?}")
    };
    assert_eq!((merged.blob_count, merged.listing_count), (8, 1));
    assert_eq!(merged.first_listed_at, at(DAY_1 + HOUR));
    assert_eq!(
        merged.last_listed_at,
        at(DAY_1 + 2 * HOUR),
        "no part of it was last listed earlier"
    );

    let done = compact(&ledger, at(next + DAY)).await;
    assert_eq!(done.window_count, 17 + 23);
    let expected = [(DAY_1, gap), (gap + HOUR, next), (next, next + DAY)];
    assert_eq!(windows(&ledger, 0, next + DAY).await, expected);
    assert_eq!(windows(&ledger, gap, gap + HOUR).await, [(0, 0); 0]);
    assert_eq!(
        compact(&ledger, at(next + DAY)).await,
        Compacted {
            is_done: true,
            ..Compacted::default()
        }
    );
    let stretches = ledger
        .listed_stretches(tenant(1), TYPE)
        .await
        .expect("read");
    assert_eq!(stretches.len(), 2);
}

pub(super) async fn delivered_blobs_are_forgotten_into_their_days_and_no_others(ledger: Subject) {
    // Expired at the end of the second day, save one.
    let old = |number: i64| SeenBlob {
        created_at: at(DAY_1 + number),
        expires_at: at(DAY_1 + 2 * DAY),
        ..blob(number)
    };
    let lasting = SeenBlob {
        expires_at: at(DAY_1 + 9 * DAY),
        ..old(5)
    };
    note(&ledger, (1..=4).map(old).collect()).await;
    note(&ledger, vec![lasting]).await;
    let next_day = SeenBlob {
        created_at: at(DAY_1 + DAY),
        ..old(6)
    };
    note(&ledger, vec![next_day]).await;
    let record = QuarantinedRecord {
        tenant: tenant(1),
        content_type: TYPE,
        content_id: old(1).content_id,
        record_index: 0,
        sink: None,
        reason: "not JSON".into(),
        bytes: Vec::new().into(),
    };
    ledger
        .quarantine_records(vec![record], at(0))
        .await
        .expect("kept");
    for lease in lease_all(&ledger, at(0)).await {
        let created_at = lease.created_at();
        if created_at == old(2).created_at {
            ledger.expire(lease, "gone", at(1)).await.expect("expired");
        } else if created_at == old(3).created_at {
            ledger
                .quarantine(lease, "not JSON", b"x".to_vec(), at(1))
                .await
                .expect("quarantined");
        } else {
            deliver(&ledger, lease).await;
        }
    }
    // What was noted last is never forgotten, in some backends.
    note(&ledger, vec![blob(99)]).await;
    let before = coverage(&ledger, DAY_1, DAY_1 + 2 * DAY).await;
    let summary = ledger.summary(at(0)).await.expect("read");
    let range = window(DAY_1, DAY_1 + 2 * DAY);
    let undelivered = async || {
        ledger
            .undelivered(tenant(1), TYPE, range, None, 100)
            .await
            .expect("read")
    };
    let named = undelivered().await;
    assert_eq!(named.len(), 3);

    assert_eq!(compact(&ledger, at(DAY_1 + 2 * DAY)).await.blob_count, 0);
    let done = compact(&ledger, at(DAY_1 + 2 * DAY + 1)).await;
    assert_eq!(
        done.blob_count, 2,
        "a delivered blob each of two days that nothing else is known of"
    );
    assert_eq!(coverage(&ledger, DAY_1, DAY_1 + 2 * DAY).await, before);
    assert_eq!(ledger.summary(at(0)).await.expect("read"), summary);
    assert_eq!(undelivered().await, named);

    // A part of a day has the whole day's forgotten ones.
    let part = coverage(&ledger, DAY_1 + DAY, DAY_1 + DAY + 60).await;
    assert!(part.has_whole_days);
    assert_eq!(
        part.delivered,
        Totals {
            blob_count: 1,
            record_count: 10,
            byte_count: 1_000
        }
    );
}

pub(super) async fn a_forgotten_blob_is_not_brought_back(ledger: Subject) {
    let old = |number: i64| SeenBlob {
        created_at: at(DAY_1 + number),
        expires_at: at(DAY_1 + DAY),
        ..blob(number)
    };
    note(&ledger, vec![old(1), old(2)]).await;
    for lease in lease_all(&ledger, at(0)).await {
        deliver(&ledger, lease).await;
    }
    note(&ledger, vec![blob(99)]).await;
    list(&ledger, DAY_1, DAY_1 + HOUR).await;
    let late = at(DAY_1 + 9 * DAY);
    assert_eq!(compact(&ledger, at(DAY_1 + DAY + 1)).await.blob_count, 2);
    let note_late = async |seen| ledger.note_seen(vec![seen], late).await.expect("noted");
    assert_eq!(note_late(old(1)).await, 0);
    let pending = async || coverage(&ledger, DAY_1, DAY_1 + DAY).await.pending_count;
    assert_eq!(pending().await, 0);
    // Nothing says that this one was ever had: its hour was not listed.
    let unlisted = SeenBlob {
        created_at: at(DAY_1 + 2 * HOUR),
        ..old(3)
    };
    assert_eq!(note_late(unlisted).await, 1);
    // Nor this one: nothing of its day was forgotten.
    list(&ledger, DAY_1 + 3 * DAY, DAY_1 + 3 * DAY + HOUR).await;
    let other_day = SeenBlob {
        created_at: at(DAY_1 + 3 * DAY),
        expires_at: at(DAY_1 + 4 * DAY),
        ..old(4)
    };
    assert_eq!(note_late(other_day).await, 1);
    // And this one is to be had still.
    let fresh = SeenBlob {
        expires_at: late + jiff::SignedDuration::from_secs(1),
        ..old(5)
    };
    assert_eq!(note_late(fresh).await, 1);
    assert_eq!(pending().await, 2);
}

pub(super) async fn small_steps_come_to_the_same(ledger: Subject) {
    let old = |number: i64| SeenBlob {
        created_at: at(DAY_1 + number),
        expires_at: at(DAY_1 + DAY),
        ..blob(number)
    };
    note(&ledger, (1..=5).map(old).collect()).await;
    for lease in lease_all(&ledger, at(0)).await {
        deliver(&ledger, lease).await;
    }
    note(&ledger, vec![blob(99)]).await;
    for start in [0, HOUR, 2 * HOUR, DAY, DAY + HOUR] {
        list(&ledger, DAY_1 + start, DAY_1 + start + HOUR).await;
    }
    let before = coverage(&ledger, DAY_1, DAY_1 + 2 * DAY).await;
    let mut steps = Vec::new();
    loop {
        let done = ledger
            .compact(at(DAY_1 + 3 * DAY), 2)
            .await
            .expect("compacted");
        assert!(done.blob_count <= 2, "{done:?}");
        steps.push(done);
        if done.is_done {
            break;
        }
        assert!(steps.len() < 10, "{steps:?}");
    }
    assert!(steps.len() >= 3, "{steps:?}");
    let sum = |count: fn(&Compacted) -> u64| steps.iter().map(count).sum::<u64>();
    assert_eq!(sum(|done| done.blob_count), 5);
    assert_eq!(sum(|done| done.window_count), 3);
    let after = coverage(&ledger, DAY_1, DAY_1 + 2 * DAY).await;
    assert_eq!(after.delivered, before.delivered);
    assert_eq!(
        windows(&ledger, DAY_1, DAY_1 + 2 * DAY).await,
        [
            (DAY_1, DAY_1 + 3 * HOUR),
            (DAY_1 + DAY, DAY_1 + DAY + 2 * HOUR)
        ]
    );
}
