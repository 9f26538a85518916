//! What a single record is known by, and which records a sink was given: the ledger's part in delivering each record once.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;

/// Names a record among all that were ever delivered: its `Id`, within its tenant and content type.
///
/// The two belong to it because a tenant must not be able to hide another's record behind an `Id`, and because what one
/// feed says about an event is not what another says about it (`DLP.All` holds what the other feeds leave out).
///
/// It is the head of a SHA-256, also of a GUID: no `Id` can be made up that is taken for a different one, and keys are
/// spread evenly whatever the ids look like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub(crate) [u8; Self::BYTES]);

impl RecordKey {
    /// How long one is.
    pub(crate) const BYTES: usize = 16;

    /// The key of the record whose `Id` is `id`, which must not be empty: a record without an `Id` has no key.
    #[must_use]
    pub fn new(tenant: TenantId, content_type: ContentType, id: &str) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(tenant.to_string().as_bytes());
        hash.update(content_type.as_str().as_bytes());
        // Ends the content type's name, so that none of it can be read as part of the id.
        hash.update(&[0]);
        if is_guid(id) {
            hash.update(id.to_ascii_lowercase().as_bytes());
        } else {
            hash.update(id.as_bytes());
        }
        let mut key = [0; Self::BYTES];
        for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        Self(key)
    }
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RecordKey({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a sink's yes says about single records, to be written in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedRecords {
    /// The records that the sink took, from here on known to have been given to it.
    pub keys: Vec<RecordKey>,
    /// How many records it was not given, as it had them already. Added to the counter [`duplicates_counter`] names.
    pub duplicate_count: u64,
    /// What was remembered before this may be forgotten.
    pub forget_before: Timestamp,
}

/// Under which name the ledger counts the records that a sink was not given because it had them. See
/// [`counters`](crate::Ledger::counters).
#[must_use]
pub fn duplicates_counter(sink: &crate::SinkName) -> String {
    format!("{DUPLICATES_PREFIX}{sink}")
}

/// How the names of [`duplicates_counter`] begin.
pub const DUPLICATES_PREFIX: &str = "duplicates/";

/// Whether the text is a GUID as Microsoft writes it: 32 hexadecimal digits with four hyphens. Its letters may be of
/// either case and it is the same GUID.
fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests;
