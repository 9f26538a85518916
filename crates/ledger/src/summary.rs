//! The state of the whole ledger as plain numbers, for the status page, metrics and `status`.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;

/// Everything [`summary`](crate::Ledger::summary) counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// One entry per tenant and content type that was ever noted, ordered by both.
    pub streams: Vec<StreamSummary>,
}

impl Summary {
    /// The entry of one tenant and content type.
    #[must_use]
    pub fn stream(&self, tenant: TenantId, content_type: ContentType) -> Option<&StreamSummary> {
        self.streams
            .iter()
            .find(|stream| stream.tenant == tenant && stream.content_type == content_type)
    }
}

/// The counts of one tenant and content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// The tenant.
    pub tenant: TenantId,
    /// The content type.
    pub content_type: ContentType,
    /// Blobs that wait for a worker, because nobody has had them yet or until they are due again.
    pub pending_count: u64,
    /// Blobs that a worker holds at this moment. Not counted as pending.
    pub leased_count: u64,
    /// Blobs that every required sink has.
    pub delivered_count: u64,
    /// Blobs set aside whole, and still in quarantine.
    pub quarantined_count: u64,
    /// Blobs that Microsoft dropped before we had them.
    pub expired_count: u64,
    /// Records in the delivered blobs.
    pub delivered_record_count: u64,
    /// Bytes of those records.
    pub delivered_byte_count: u64,
    /// Single records in quarantine, counted once per sink that refused them.
    pub quarantined_record_count: u64,
    /// Bytes in quarantine, of blobs and records together.
    pub quarantined_byte_count: u64,
    /// Blobs that a person dropped from quarantine.
    pub dropped_count: u64,
    /// Single records that a person dropped from quarantine.
    pub dropped_record_count: u64,
    /// See [`listed_until`](crate::Ledger::listed_until).
    pub listed_until: Option<Timestamp>,
    /// Creation time of the oldest blob that is pending or leased.
    pub oldest_pending_created_at: Option<Timestamp>,
    /// Nearest expiry among the blobs that are pending or leased.
    pub nearest_pending_expires_at: Option<Timestamp>,
}

impl StreamSummary {
    /// One in which nothing was noted.
    #[must_use]
    pub fn empty(tenant: TenantId, content_type: ContentType) -> Self {
        Self {
            tenant,
            content_type,
            pending_count: 0,
            leased_count: 0,
            delivered_count: 0,
            quarantined_count: 0,
            expired_count: 0,
            delivered_record_count: 0,
            delivered_byte_count: 0,
            quarantined_record_count: 0,
            quarantined_byte_count: 0,
            dropped_count: 0,
            dropped_record_count: 0,
            listed_until: None,
            oldest_pending_created_at: None,
            nearest_pending_expires_at: None,
        }
    }
}

/// What sinks have of a tenant, over all of its content types and since the ledger began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveredTotals {
    /// Records in the delivered blobs.
    pub record_count: u64,
    /// Bytes of those records.
    pub byte_count: u64,
}

/// A stretch of `contentCreated` that was listed without a gap, however many windows it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedStretch {
    /// First instant of it.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
}
