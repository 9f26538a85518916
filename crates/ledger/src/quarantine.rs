//! Records and blobs set aside for a person to look at, with their bytes and the reason.

use activity_api::{ContentId, ContentType, TenantId};
use bytes::Bytes;
use jiff::Timestamp;

use crate::SinkName;

/// One record that cannot be decoded, or that a sink can never accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRecord {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The content type of its blob.
    pub content_type: ContentType,
    /// Its blob.
    pub content_id: ContentId,
    /// Zero-based index within the blob.
    pub record_index: u64,
    /// The sink that refused it. `None`: it could not be decoded, so no sink was asked.
    pub sink: Option<SinkName>,
    /// What is wrong with it, in words for a person.
    pub reason: String,
    /// The record as it came. Shared: one may be tens of megabytes long, and lies in memory already.
    pub bytes: Bytes,
}

/// Something in quarantine, as [`quarantined`](crate::Ledger::quarantined) lists it: without its bytes, of which there may be many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedItem {
    /// Grows with each item; the listing continues after it.
    pub id: u64,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The content type of its blob.
    pub content_type: ContentType,
    /// Its blob.
    pub content_id: ContentId,
    /// Zero-based index within the blob. `None`: the whole blob.
    pub record_index: Option<u64>,
    /// The sink that refused it. `None`: it could not be decoded, so no sink was asked.
    pub sink: Option<SinkName>,
    /// What is wrong with it, in words for a person.
    pub reason: String,
    /// How many bytes are kept of it: [`quarantined_bytes`](crate::Ledger::quarantined_bytes) gives them.
    pub byte_count: u64,
    /// When it was set aside.
    pub quarantined_at: Timestamp,
    /// Whether it is being retried: it leaves the quarantine when that has come to an end.
    pub is_retried: bool,
}

/// The scheme of a blob's uri when its bytes are those of an item in quarantine and not Microsoft's to give:
/// `quarantine:` and the item's id.
pub const QUARANTINE_SCHEME: &str = "quarantine:";

/// The item that such a uri names.
#[must_use]
pub fn quarantined_item_of(uri: &str) -> Option<u64> {
    uri.strip_prefix(QUARANTINE_SCHEME)?.parse().ok()
}

pub(crate) fn quarantine_uri(item: u64) -> String {
    format!("{QUARANTINE_SCHEME}{item}")
}

/// What stands before the reason for which something was set aside, once a person has dropped it.
pub(crate) fn dropped_for(why: &str) -> String {
    format!("dropped by a person: {why}; it was set aside for: ")
}

/// The reason of a blob that Microsoft no longer has, when its bytes are still in quarantine.
pub(crate) const GONE_BUT_KEPT: &str =
    "gone at Microsoft while it was retried; the bytes in quarantine are kept: ";
