//! Answers about a blob that prove nothing the first time: how often each was given.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use activity_api::{ContentId, ContentType, TenantId};

use crate::record::BlobTag;

/// How many attempts, whatever became of them, stand for one doubtful answer. Only a process that ends after each attempt
/// never counts enough answers itself.
const ATTEMPTS_PER_ANSWER: u32 = 10;

/// How often in a row each blob was said to be missing, or came damaged. Counted apart from the lease's attempts, which an
/// outage of a sink drives up: the first doubtful answer after one would be the last.
///
/// Lost with the process, which only means more tries.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<HashMap<(TenantId, ContentType, ContentId), u32>>);

impl Doubts {
    /// One more doubtful answer about the blob, at this attempt. Whether that is enough to believe it, for one who believes
    /// the answer number `enough`; the count then begins anew.
    pub(super) fn is_enough(&self, blob: &BlobTag, attempts: u32, enough: u32) -> bool {
        let mut counts = self.counts();
        let count = counts.entry(name(blob)).or_default();
        *count += 1;
        let is_enough = *count >= enough || attempts >= enough.saturating_mul(ATTEMPTS_PER_ANSWER);
        if is_enough {
            counts.remove(&name(blob));
        }
        is_enough
    }

    /// The blob came whole.
    pub(super) fn clear(&self, blob: &BlobTag) {
        let mut counts = self.counts();
        // Nearly always there is none: no id is copied for that.
        if !counts.is_empty() {
            counts.remove(&name(blob));
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<(TenantId, ContentType, ContentId), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(blob: &BlobTag) -> (TenantId, ContentType, ContentId) {
    (blob.tenant, blob.content_type, blob.content_id.clone())
}
