//! The text of a batch under way: kept for another try, until the sink lets go of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batches::{Brought, Held, LaneItem, UnderWay};
use crate::record::{Batch, BlobPart};

/// The parts of one batch with their text, and what they count as.
pub(super) struct Kept {
    under_way: Arc<UnderWay>,
    /// Whether the sink may let go of them.
    may_go: bool,
    parts: Mutex<Option<(Vec<Arc<BlobPart>>, Held)>>,
}

impl Kept {
    /// Counts the text of these from here on.
    pub(super) fn new(under_way: &Arc<UnderWay>, items: &[LaneItem]) -> Self {
        let parts: Vec<_> = items.iter().map(|item| Arc::clone(&item.part)).collect();
        let held = under_way.begin(parts.iter().map(|part| &**part));
        Self {
            under_way: Arc::clone(under_way),
            may_go: false,
            parts: Mutex::new(Some((parts, held))),
        }
    }

    /// The same; whether the sink may let go of them.
    pub(super) fn may_go(self, may_go: bool) -> Self {
        Self { may_go, ..self }
    }

    /// The batch, of these parts, as it is given to a sink that has nothing of it.
    pub(super) fn hand_out(self: &Arc<Self>, batch: Batch) -> Batch {
        match self.may_go {
            true => {
                let kept = Arc::clone(self);
                batch.let_go_by(move || kept.let_go())
            }
            false => batch,
        }
    }

    /// Only these of them; the others count no more.
    pub(super) fn only(self, items: &[LaneItem]) -> Self {
        Self::new(&self.under_way, items)
    }

    /// The parts, as long as their text is here.
    pub(super) fn parts(&self) -> Option<Vec<Arc<BlobPart>>> {
        self.lock().as_ref().map(|(parts, _)| parts.clone())
    }

    /// The items with their text, if it is here. As they are when it is not though records of them were refused, which
    /// must be set aside with it.
    pub(super) fn return_to(
        &self,
        mut items: Vec<LaneItem>,
        brought: &Brought,
    ) -> Result<Vec<LaneItem>, Vec<LaneItem>> {
        match self.lock().as_ref() {
            Some((parts, _)) => {
                for (item, part) in items.iter_mut().zip(parts) {
                    item.part = Arc::clone(part);
                }
                Ok(items)
            }
            None if brought.refused.is_empty() => Ok(items),
            None => Err(items),
        }
    }

    /// Whether the sink has let go of them.
    pub(super) fn is_gone(&self) -> bool {
        self.lock().is_none()
    }

    /// Nobody needs the text any more: there is room for another batch.
    fn let_go(&self) {
        let gone = self.lock().take();
        drop(gone);
        self.under_way.has_room_again();
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Vec<Arc<BlobPart>>, Held)>> {
        // Taken out in one go, by nobody who could panic halfway.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
