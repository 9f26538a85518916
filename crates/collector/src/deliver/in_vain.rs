//! Blobs whose text a sink let go of and then did not take. When they come again their text is kept until they have arrived,
//! so that the sink can look for the record that it does not take, whatever else it takes meanwhile.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::BlobName;

use super::batches::LaneItem;

/// With so many nothing is let go of any more until some have arrived.
const MAX_BLOBS: usize = 10_000;

/// What one sink let go of in vain. Lost with the process, after which a sink lets go of nothing until it has taken something.
#[derive(Debug, Default)]
pub(crate) struct InVain(Mutex<HashSet<BlobName>>);

impl InVain {
    /// The sink has not taken all of these, and their text is gone.
    pub(super) fn remember(&self, items: &[LaneItem]) {
        let mut blobs = self.blobs();
        for item in items {
            if blobs.len() < MAX_BLOBS {
                blobs.insert(item.part.blob().name());
            }
        }
    }

    /// Whether the text of these is to be kept.
    pub(super) fn has_any(&self, items: &[LaneItem]) -> bool {
        let blobs = self.blobs();
        let is_known = |item: &LaneItem| blobs.contains(&item.part.blob().name());
        blobs.len() >= MAX_BLOBS || !blobs.is_empty() && items.iter().any(is_known)
    }

    /// The sink has taken these.
    pub(super) fn forget(&self, items: &[LaneItem]) {
        let mut blobs = self.blobs();
        if !blobs.is_empty() {
            for item in items {
                blobs.remove(&item.part.blob().name());
            }
        }
    }

    fn blobs(&self) -> MutexGuard<'_, HashSet<BlobName>> {
        // No method leaves the set half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
