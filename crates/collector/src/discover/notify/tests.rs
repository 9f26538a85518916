//! Tests of `notify`: every entry is counted once, and what is not for us does not reach the ledger.

use std::sync::Arc;

use activity_api::{Origin, PublisherId};
use ledger::SqliteLedger;

use super::*;

const TENANT: &str = "bf8d32d3-1c13-4487-af02-80dba2236485";

fn entry(tenant: &str, content_type: &str, host: &str, number: u32) -> String {
    let id = format!(
        "2026071520450077400{number:04}$2026071520450077400{number:04}$audit_x$Audit_X$na0018"
    );
    format!(
        r#"{{"tenantId":"{tenant}","contentType":"{content_type}","contentId":"{id}$na0018",
            "contentUri":"https://{host}/api/v1.0/{tenant}/activity/feed/audit/{id}$na0018",
            "contentCreated":"2026-07-15T20:45:00.774Z","contentExpiration":"2026-08-05T19:44:00.774Z"}}"#
    )
}

fn feeds() -> Feeds {
    let tenant: TenantId = TENANT.parse().unwrap();
    let origin: Origin = "https://manage.office.com".parse().unwrap();
    let feed = Feed::new(origin, tenant, PublisherId::from(tenant));
    Feeds::from_iter([(feed, vec![ContentType::Exchange, ContentType::Dlp])])
}

fn now() -> Timestamp {
    "2026-07-15T21:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn every_entry_is_counted_once_and_only_ours_reach_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> =
        Arc::new(SqliteLedger::open(folder.path().join("ledger.db")).unwrap());
    let other_tenant = "41463f53-8812-40f4-890f-865bf6e35190";
    let body = format!(
        "[{},{},{},{},{},{},{},{}]",
        entry(TENANT, "Audit.Exchange", "manage.office.com", 1),
        entry(TENANT, "Audit.Exchange", "manage.office.com", 2),
        entry(TENANT, "Audit.Exchange", "manage.office.com", 2),
        entry(TENANT, "DLP.All", "manage.office.com", 3),
        entry(TENANT, "Audit.General", "manage.office.com", 4),
        entry(TENANT, "Audit.Tomorrow", "evil.example", 5),
        entry(TENANT, "Audit.Exchange", "evil.example", 6),
        entry(other_tenant, "Audit.Exchange", "manage.office.com", 7),
    );
    let noted = note_notification(body.as_bytes(), &feeds(), ledger.as_ref(), now())
        .await
        .unwrap();
    assert_eq!(
        noted,
        Noted {
            new_count: 3,
            known_count: 1,
            ignored_count: 2,
            refused_count: 2
        }
    );

    let summary = ledger.summary(now()).await.unwrap();
    let pending: Vec<_> = summary
        .streams
        .iter()
        .map(|stream| (stream.content_type, stream.pending_count))
        .collect();
    assert_eq!(pending, [(ContentType::Exchange, 2), (ContentType::Dlp, 1)]);
    let exchange = summary
        .stream(TENANT.parse().unwrap(), ContentType::Exchange)
        .unwrap();
    let expires_at: Timestamp = "2026-08-05T19:44:00.774Z".parse().unwrap();
    assert_eq!(
        exchange.nearest_pending_expires_at,
        Some(expires_at),
        "the field is read, never computed"
    );
}

#[tokio::test]
async fn a_listing_finds_a_notified_blob_known_though_its_id_is_written_differently() {
    let folder = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> =
        Arc::new(SqliteLedger::open(folder.path().join("ledger.db")).unwrap());
    let body = format!(
        "[{}]",
        entry(TENANT, "Audit.Exchange", "manage.office.com", 1)
    );
    note_notification(body.as_bytes(), &feeds(), ledger.as_ref(), now())
        .await
        .unwrap();

    let id = "20260715204500774000001$20260715204500774000001$audit_x$Audit_X$na0018";
    let listed = SeenBlob {
        tenant: TENANT.parse().unwrap(),
        content_type: ContentType::Exchange,
        content_id: activity_api::ContentId::canonical(id),
        uri: format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{id}"),
        created_at: now(),
        expires_at: now(),
        seen_via: SeenVia::Listing,
    };
    assert_eq!(ledger.note_seen(vec![listed], now()).await.unwrap(), 0);
}

#[tokio::test]
async fn one_entry_of_the_wrong_shape_and_nothing_of_the_notification_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> =
        Arc::new(SqliteLedger::open(folder.path().join("ledger.db")).unwrap());
    let body = format!(
        "[{},{{}}]",
        entry(TENANT, "Audit.Exchange", "manage.office.com", 1)
    );
    let error = note_notification(body.as_bytes(), &feeds(), ledger.as_ref(), now())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Malformed(_)));
    assert!(ledger.summary(now()).await.unwrap().streams.is_empty());
}
