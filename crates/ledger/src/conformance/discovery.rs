//! What becomes of blobs that are noted, once or again.

use activity_api::ContentType;
use jiff::Timestamp;

use crate::{SeenBlob, SeenVia};

use super::scene::{Subject, at, blob, deliver, lease_all, lease_one, note, tenant, uris};

pub(super) async fn a_blob_is_new_once(ledger: Subject) {
    let first = ledger
        .note_seen(vec![blob(1), blob(2), blob(1)], at(0))
        .await
        .expect("noted");
    assert_eq!(first, 2, "a blob named twice in one call is one blob");
    let second = ledger
        .note_seen(vec![blob(2), blob(3)], at(1))
        .await
        .expect("noted");
    assert_eq!(second, 1);
    assert_eq!(ledger.note_seen(Vec::new(), at(1)).await.expect("noted"), 0);
    assert_eq!(lease_all(&ledger, at(2)).await.len(), 3);
}

pub(super) async fn the_same_id_elsewhere_is_another_blob(ledger: Subject) {
    let here = blob(1);
    let other_type = SeenBlob {
        content_type: ContentType::General,
        ..here.clone()
    };
    let other_tenant = SeenBlob {
        tenant: tenant(2),
        ..here.clone()
    };
    let new = ledger
        .note_seen(vec![here, other_type, other_tenant], at(0))
        .await
        .expect("noted");
    assert_eq!(new, 3);
    assert_eq!(lease_all(&ledger, at(1)).await.len(), 3);
}

pub(super) async fn a_listing_replaces_what_a_notification_said(ledger: Subject) {
    let notified = SeenBlob {
        uri: "https://elsewhere.example/".into(),
        created_at: at(99),
        expires_at: at(100),
        seen_via: SeenVia::Notification,
        ..blob(1)
    };
    note(&ledger, vec![notified]).await;
    let new = ledger.note_seen(vec![blob(1)], at(1)).await.expect("noted");
    assert_eq!(new, 0, "it was known");
    let lease = lease_one(&ledger, at(2)).await;
    assert_eq!(lease.uri(), blob(1).uri);
    assert_eq!(
        (lease.created_at(), lease.expires_at()),
        (blob(1).created_at, blob(1).expires_at)
    );
}

pub(super) async fn a_notification_replaces_nothing(ledger: Subject) {
    note(
        &ledger,
        vec![
            blob(1),
            SeenBlob {
                seen_via: SeenVia::Notification,
                ..blob(2)
            },
        ],
    )
    .await;
    let forged = |number| SeenBlob {
        uri: "https://elsewhere.example/".into(),
        expires_at: at(1),
        seen_via: SeenVia::Notification,
        ..blob(number)
    };
    note(&ledger, vec![forged(1), forged(2)]).await;
    let leases = lease_all(&ledger, at(2)).await;
    assert_eq!(uris(&leases), [blob(1).uri, blob(2).uri]);
}

pub(super) async fn the_farthest_times_there_are_can_be_kept(ledger: Subject) {
    let odd = SeenBlob {
        created_at: Timestamp::MIN,
        expires_at: Timestamp::MAX,
        ..blob(1)
    };
    note(&ledger, vec![odd]).await;
    let lease = lease_one(&ledger, Timestamp::MAX).await;
    assert_eq!(lease.created_at(), Timestamp::MIN);
    assert!(lease.expires_at() >= at(0));
    ledger.release(vec![lease]).await.expect("released");
    let summary = ledger.summary(Timestamp::MIN).await.expect("read");
    assert_eq!(summary.streams.len(), 1);
}

pub(super) async fn a_settled_blob_seen_again_stays_settled(ledger: Subject) {
    note(
        &ledger,
        vec![SeenBlob {
            seen_via: SeenVia::Notification,
            ..blob(1)
        }],
    )
    .await;
    let lease = lease_one(&ledger, at(1)).await;
    deliver(&ledger, lease).await;
    assert_eq!(
        ledger.note_seen(vec![blob(1)], at(3)).await.expect("noted"),
        0
    );
    assert_eq!(uris(&lease_all(&ledger, at(1_000)).await), [] as [&str; 0]);
}

pub(super) async fn what_was_never_noted_is_told_apart_whatever_became_of_the_rest(
    ledger: Subject,
) {
    note(&ledger, vec![blob(1), blob(2)]).await;
    let mut leases = lease_all(&ledger, at(1)).await;
    deliver(&ledger, leases.remove(0)).await;
    let elsewhere = SeenBlob {
        content_type: ContentType::General,
        ..blob(1)
    };
    let asked = [blob(1), blob(2), blob(3), elsewhere.clone()].map(|blob| blob.name());
    let unknown = ledger.unknown(asked.to_vec()).await.expect("read");
    assert_eq!(unknown, [blob(3).name(), elsewhere.name()]);
    assert_eq!(ledger.unknown(Vec::new()).await.expect("read"), []);
}
