//! Which stretches of time count as listed.

use activity_api::{ContentType, TenantId};

use crate::ListedStretch;

use super::scene::{Subject, at, listing, tenant};

const TYPE: ContentType = ContentType::Exchange;

async fn list(ledger: &Subject, tenant: TenantId, start: i64, end: i64) {
    ledger
        .note_listed(listing(tenant, TYPE, (start, end), 0), at(end))
        .await
        .expect("noted");
}

/// Seconds into the scene: where listing continues, and the stretches.
async fn assert_listed(
    ledger: &Subject,
    tenant: TenantId,
    until: Option<i64>,
    stretches: &[(i64, i64)],
) {
    let expected: Vec<_> = stretches
        .iter()
        .map(|&(start, end)| ListedStretch {
            start: at(start),
            end: at(end),
        })
        .collect();
    assert_eq!(
        ledger.listed_stretches(tenant, TYPE).await.expect("read"),
        expected
    );
    assert_eq!(
        ledger.listed_until(tenant, TYPE).await.expect("read"),
        until.map(at)
    );
}

pub(super) async fn windows_that_touch_extend_the_stretch(ledger: Subject) {
    assert_listed(&ledger, tenant(1), None, &[]).await;
    list(&ledger, tenant(1), 0, 100).await;
    assert_listed(&ledger, tenant(1), Some(100), &[(0, 100)]).await;
    list(&ledger, tenant(1), 100, 200).await;
    assert_listed(&ledger, tenant(1), Some(200), &[(0, 200)]).await;
    list(&ledger, tenant(1), 150, 300).await;
    assert_listed(&ledger, tenant(1), Some(300), &[(0, 300)]).await;
}

pub(super) async fn a_window_beyond_a_gap_waits_for_the_gap_to_close(ledger: Subject) {
    list(&ledger, tenant(1), 0, 100).await;
    list(&ledger, tenant(1), 200, 300).await;
    list(&ledger, tenant(1), 400, 500).await;
    assert_listed(
        &ledger,
        tenant(1),
        Some(100),
        &[(0, 100), (200, 300), (400, 500)],
    )
    .await;
    list(&ledger, tenant(1), 100, 200).await;
    assert_listed(&ledger, tenant(1), Some(300), &[(0, 300), (400, 500)]).await;
    list(&ledger, tenant(1), 50, 450).await;
    assert_listed(&ledger, tenant(1), Some(500), &[(0, 500)]).await;
}

pub(super) async fn listing_again_or_earlier_moves_nothing(ledger: Subject) {
    list(&ledger, tenant(1), 1_000, 1_100).await;
    list(&ledger, tenant(1), 1_000, 1_100).await;
    list(&ledger, tenant(1), 1_020, 1_080).await;
    assert_listed(&ledger, tenant(1), Some(1_100), &[(1_000, 1_100)]).await;
    list(&ledger, tenant(1), 100, 200).await;
    assert_listed(
        &ledger,
        tenant(1),
        Some(1_100),
        &[(100, 200), (1_000, 1_100)],
    )
    .await;
    list(&ledger, tenant(1), 200, 1_000).await;
    assert_listed(&ledger, tenant(1), Some(1_100), &[(100, 1_100)]).await;
}

pub(super) async fn a_gap_that_cannot_be_closed_is_passed_and_stays_visible(ledger: Subject) {
    let pass = async |before| {
        ledger
            .note_unlistable(tenant(1), TYPE, at(before))
            .await
            .expect("noted")
    };
    pass(50).await;
    assert_listed(&ledger, tenant(1), None, &[]).await;
    list(&ledger, tenant(1), 0, 100).await;
    pass(50).await;
    assert_listed(&ledger, tenant(1), Some(100), &[(0, 100)]).await;
    pass(500).await;
    assert_listed(&ledger, tenant(1), Some(500), &[(0, 100)]).await;
    list(&ledger, tenant(1), 500, 600).await;
    assert_listed(&ledger, tenant(1), Some(600), &[(0, 100), (500, 600)]).await;
    list(&ledger, tenant(1), 700, 800).await;
    pass(750).await;
    assert_listed(
        &ledger,
        tenant(1),
        Some(800),
        &[(0, 100), (500, 600), (700, 800)],
    )
    .await;
}

pub(super) async fn tenants_and_content_types_are_listed_apart(ledger: Subject) {
    list(&ledger, tenant(1), 0, 100).await;
    list(&ledger, tenant(2), 0, 50).await;
    assert_listed(&ledger, tenant(1), Some(100), &[(0, 100)]).await;
    assert_listed(&ledger, tenant(2), Some(50), &[(0, 50)]).await;
    let other = ledger
        .listed_until(tenant(1), ContentType::General)
        .await
        .expect("read");
    assert_eq!(other, None);
}
