//! What a stretch of time holds, and how it is known to be complete: the ledger's side of `verify`.

use activity_api::{ContentId, ContentType, TenantId, Window};
use jiff::Timestamp;

use crate::SinkName;

/// A window that was listed to its last page, as [`note_listed`](crate::Ledger::note_listed) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The tenant.
    pub tenant: TenantId,
    /// The content type.
    pub content_type: ContentType,
    /// The slice of `contentCreated` that was asked for.
    pub window: Window,
    /// How many different blobs all its pages named, known ones included.
    pub blob_count: u64,
}

/// A window that is known to have been listed to its last page at least once.
///
/// One that [`compact`](crate::Ledger::compact) merged of several says of them only what holds for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedWindow {
    /// The slice of `contentCreated`.
    pub window: Window,
    /// Blobs that its last listing named. Of a merged one: of all of them together.
    pub blob_count: u64,
    /// How often it was listed. Of a merged one: the least often of them.
    pub listing_count: u64,
    /// When it was first listed. Of a merged one: the earliest of them.
    pub first_listed_at: Timestamp,
    /// When it was last listed. Of a merged one: no part of it was last listed before this.
    pub last_listed_at: Timestamp,
}

/// What was listed of one tenant's content type in a range of `contentCreated`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedWindows {
    /// Where listing began: see [`begin_listing`](crate::Ledger::begin_listing).
    pub began_at: Option<Timestamp>,
    /// As in [`Coverage`].
    pub windows: Vec<ListedWindow>,
}

/// Blobs with what they held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub blob_count: u64,
    /// Records in them, quarantined ones included.
    pub record_count: u64,
    /// Bytes of those records.
    pub byte_count: u64,
}

impl Totals {
    /// The sum, up to the largest number there is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            blob_count: self.blob_count.saturating_add(other.blob_count),
            record_count: self.record_count.saturating_add(other.record_count),
            byte_count: self.byte_count.saturating_add(other.byte_count),
        }
    }
}

/// What the ledger knows of one tenant's content type in a range of `contentCreated`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Where listing began: see [`begin_listing`](crate::Ledger::begin_listing).
    pub began_at: Option<Timestamp>,
    /// Every window listed that has a part in the range, whole, oldest first. They may overlap. What none of them
    /// covers was never listed completely.
    pub windows: Vec<ListedWindow>,
    /// Delivered blobs created in the range.
    pub delivered: Totals,
    /// Whether the range cuts a day whose delivered blobs are remembered as totals only. Such a day's totals are in
    /// [`delivered`](Self::delivered) whole. The other counts are always of the range itself.
    pub has_whole_days: bool,
    /// Blobs created in the range that wait, or that a worker holds.
    pub pending_count: u64,
    /// Blobs created in the range that are set aside whole.
    pub quarantined_count: u64,
    /// Blobs created in the range that Microsoft dropped before we had them.
    pub expired_count: u64,
    /// Blobs created in the range that were set aside whole and dropped by a person.
    pub dropped_count: u64,
    /// Single records, of blobs created in the range, that are in quarantine.
    pub quarantined_record_count: u64,
    /// Single records, of blobs created in the range, that were dropped from quarantine by a person.
    pub dropped_record_count: u64,
}

/// Why something is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UndeliveredState {
    /// It waits for a worker.
    Pending,
    /// A worker has it, or had it last and has not come back.
    Leased,
    /// It is in quarantine.
    Quarantined,
    /// Microsoft dropped it before we had it.
    Expired,
    /// It was in quarantine, and a person dropped it.
    Dropped,
}

/// A blob, or a single record of a blob, that not every sink has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndeliveredBlob {
    /// Where it stands among the others: the listing continues after it.
    pub place: UndeliveredPlace,
    /// The blob. Of a record that is being retried from quarantine: the blob that was made for it, named after the
    /// first with `~` and the item's id.
    pub content_id: ContentId,
    /// Zero-based index of the record within the blob. `None`: the whole blob.
    pub record_index: Option<u64>,
    /// The sink that refused the record.
    pub sink: Option<SinkName>,
    /// Why it is not delivered.
    pub state: UndeliveredState,
    /// The blob's `contentCreated`.
    pub created_at: Timestamp,
    /// The blob's `contentExpiration`.
    pub expires_at: Timestamp,
    /// How often the blob was tried.
    pub attempts: u32,
    /// What was said when it was set aside, given up or given back; nothing for one that was not tried yet.
    pub reason: Option<String>,
}

/// A place in the order of [`undelivered`](crate::Ledger::undelivered): by creation. Opaque, and good only in the
/// ledger that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UndeliveredPlace {
    /// Milliseconds since 1970.
    pub(crate) created_at: i64,
    /// The backend's number of the blob.
    pub(crate) blob: u128,
    /// The item of quarantine, 0 for the blob itself.
    pub(crate) item: u64,
}

impl UndeliveredPlace {
    /// The item of quarantine that it is, where it is one of a single record.
    #[must_use]
    pub fn item(&self) -> Option<u64> {
        (self.item > 0).then_some(self.item)
    }
}

/// Unsettled blobs of one tenant that expire in the same hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryBucket {
    /// The tenant.
    pub tenant: TenantId,
    /// The hour's beginning: they expire in it.
    pub expires_from: Timestamp,
    /// How many.
    pub blob_count: u64,
}

/// What one step of [`compact`](crate::Ledger::compact) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// By how many the listed windows became fewer.
    pub window_count: u64,
    /// Delivered blobs that were forgotten into their days' totals.
    pub blob_count: u64,
    /// Whether nothing is left to do for that `before`.
    pub is_done: bool,
}
