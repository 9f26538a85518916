//! Parts of which a sink has all but the records that it refuses for ever, when there is no room in quarantine for these.
//! The blob waits for room and is fetched again; the sink need not be asked again, which would give it the part twice.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{BlobName, PartKey};

use super::batches::LaneItem;
use crate::sinks::Refused;

/// How many parts are remembered. A sink that refuses more than these is given some of them again, which a sink without a
/// position may be given anyway.
const MAX_PARTS: usize = 10_000;

/// A part, and the records of it that the sink refuses, by their index in it.
pub(super) type Refusals = (LaneItem, Vec<Refused>);

/// What one sink refuses and nobody could set aside yet. Lost with the process: the sink is then asked again.
#[derive(Debug, Default)]
pub(crate) struct Withheld(Mutex<HashMap<(BlobName, PartKey), Vec<Refused>>>);

impl Withheld {
    /// The sink has this part but for these records.
    pub(super) fn remember(&self, item: &LaneItem, refused: Vec<Refused>) {
        let mut parts = self.parts();
        if parts.len() < MAX_PARTS {
            parts.insert(key(item), refused);
        }
    }

    /// Those of `items` that the sink has but for the records named, and the others.
    pub(super) fn split(&self, items: Vec<LaneItem>) -> (Vec<Refusals>, Vec<LaneItem>) {
        let mut parts = self.parts();
        if parts.is_empty() {
            return (Vec::new(), items);
        }
        let mut known = Vec::new();
        let mut others = Vec::with_capacity(items.len());
        for item in items {
            match parts.remove(&key(&item)) {
                Some(refused) => known.push((item, refused)),
                None => others.push(item),
            }
        }
        (known, others)
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<(BlobName, PartKey), Vec<Refused>>> {
        // No method leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each part of a batch with the refusals that fall into it.
pub(super) fn refusals_by_part(items: &[LaneItem], refused: &[Refused]) -> Vec<Refusals> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        let end = start + item.part.record_count();
        let own = refused
            .iter()
            .filter(|refused| (start..end).contains(&refused.index_in_batch))
            .map(|refused| Refused {
                index_in_batch: refused.index_in_batch - start,
                reason: refused.reason.clone(),
            });
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|refused| refused.index_in_batch);
        parts.push((item.clone(), own));
        start = end;
    }
    parts
}

fn key(item: &LaneItem) -> (BlobName, PartKey) {
    (item.part.blob().name(), item.part.key())
}
