//! What the tests of the engines on servers have in common: a few tenants and blobs, the time, and a delivery.

use std::time::Duration;

use activity_api::{ContentId, ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};
use ledger::{
    AcknowledgedPart, Delivery, Error, Lease, LeaseRequest, Ledger, SeenBlob, SeenVia, SinkCommit,
    SinkName,
};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

pub(crate) fn tenant(number: i64) -> TenantId {
    format!("00000000-0000-0000-0000-{number:012}")
        .parse()
        .unwrap()
}

/// A listed blob of tenant 1.
pub(crate) fn blob(number: i64) -> SeenBlob {
    SeenBlob {
        tenant: tenant(1),
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical(&format!("20251009{number:06}$audit_exchange$na0018")),
        uri: format!("https://manage.office.com/blob/{number}"),
        created_at: at(number),
        expires_at: at(number + 7 * 86_400),
        seen_via: SeenVia::Listing,
    }
}

pub(crate) fn request(max_count: usize) -> LeaseRequest {
    LeaseRequest {
        max_count,
        duration: Duration::from_secs(300),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    }
}

/// A sink's yes to these blobs, whole.
pub(crate) fn whole(name: &str, leases: &[Lease]) -> SinkCommit {
    SinkCommit {
        sink: sink(name),
        position: None,
        acknowledged: leases
            .iter()
            .map(|lease| (lease.key(), AcknowledgedPart::Whole))
            .collect(),
        quarantined: Vec::new(),
        remembered: None,
    }
}

/// The sink `file` says yes to these blobs, and they are settled.
pub(crate) async fn deliver(
    ledger: &dyn Ledger,
    leases: Vec<Lease>,
) -> Result<Vec<Result<(), Error>>, Error> {
    let proofs = ledger.acknowledge(whole("file", &leases), at(2)).await?;
    let deliveries = leases
        .into_iter()
        .map(|lease| Delivery {
            lease,
            acknowledgements: proofs.clone(),
            record_count: 3,
            byte_count: 30,
            quarantined_count: 0,
        })
        .collect();
    ledger
        .mark_delivered(deliveries, &[sink("file")], at(3))
        .await
}
