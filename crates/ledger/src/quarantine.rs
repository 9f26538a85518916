//! Records and blobs set aside for a person to look at, with their bytes and the reason.

use activity_api::{ContentId, ContentType, TenantId};
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
    /// The record as it came.
    pub bytes: Vec<u8>,
}

/// Something in quarantine, as [`quarantined`](crate::Ledger::quarantined) lists it.
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
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// When it was set aside.
    pub quarantined_at: Timestamp,
}
