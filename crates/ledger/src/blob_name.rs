//! What names a blob in every ledger, and its text: what a queue's message holds to say which blob is waiting.

use std::fmt;
use std::str::FromStr;

use activity_api::{ContentId, ContentType, TenantId};
use serde::{Deserialize, Serialize};

/// One blob's name. Whoever holds it has no right to the blob yet: that is what a [`Lease`](crate::Lease) is for.
///
/// Its text is a line of JSON. It says where to look in the ledger and nothing else, so a forged one can do no more
/// than have a known blob looked after early.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName {
    /// The tenant whose records the blob holds.
    pub tenant: TenantId,
    /// The content type it was listed under.
    pub content_type: ContentType,
    /// The canonical id.
    pub content_id: ContentId,
}

/// The text does not name a blob. What it says is left out: it came from a queue that others can write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a blob: a JSON object with tenant, content_type and content_id is wanted")]
pub struct InvalidBlobName;

/// A message of Azure's queues has at most this many bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

#[derive(Serialize)]
struct Written<'a> {
    tenant: &'a str,
    content_type: &'a str,
    content_id: &'a str,
}

#[derive(Deserialize)]
struct Read {
    tenant: String,
    content_type: String,
    content_id: String,
}

impl fmt::Display for BlobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Written {
            tenant: &self.tenant.to_string(),
            content_type: self.content_type.as_str(),
            content_id: self.content_id.as_str(),
        };
        formatter.write_str(&serde_json::to_string(&written).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for BlobName {
    type Err = InvalidBlobName;

    /// Fields that it does not know are passed over, so that a later program's messages can be read.
    fn from_str(text: &str) -> Result<Self, InvalidBlobName> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(InvalidBlobName);
        }
        let read: Read = serde_json::from_str(text).map_err(|_| InvalidBlobName)?;
        if read.content_id.is_empty() {
            return Err(InvalidBlobName);
        }
        Ok(Self {
            tenant: read.tenant.parse().map_err(|_| InvalidBlobName)?,
            content_type: read.content_type.parse().map_err(|_| InvalidBlobName)?,
            content_id: ContentId::canonical(&read.content_id),
        })
    }
}

#[cfg(test)]
mod tests;
