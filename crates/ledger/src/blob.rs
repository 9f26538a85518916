//! What discovery tells the ledger about a content blob, before anything of it has been fetched.

use activity_api::{ContentId, ContentType, TenantId};
use jiff::Timestamp;

use crate::BlobName;

/// One content blob that Microsoft said exists, as [`note_seen`](crate::Ledger::note_seen) takes it.
///
/// Tenant, content type and content id together name a blob; the rest may differ from one sighting to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBlob {
    /// The tenant whose records the blob holds.
    pub tenant: TenantId,
    /// The content type it was listed under.
    pub content_type: ContentType,
    /// The canonical id: a notification and a listing of the same blob must give the same one.
    pub content_id: ContentId,
    /// Where to fetch it. Cleared from the ledger when the blob is settled.
    pub uri: String,
    /// `contentCreated`, UTC. Kept to the millisecond, which is Microsoft's own precision.
    pub created_at: Timestamp,
    /// `contentExpiration`, UTC: from then on Microsoft answers that the blob is gone.
    pub expires_at: Timestamp,
    /// How we came to know of it.
    pub seen_via: SeenVia,
}

impl SeenBlob {
    /// What names the blob, in every ledger.
    #[must_use]
    pub fn name(&self) -> BlobName {
        BlobName {
            tenant: self.tenant,
            content_type: self.content_type,
            content_id: self.content_id.clone(),
        }
    }
}

/// How a blob came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeenVia {
    /// A page of the content listing: fetched from Microsoft with our own token, so its uri is believed.
    Listing,
    /// Microsoft's POST to the webhook, which anyone could imitate: a listing's uri replaces this one's.
    Notification,
}
