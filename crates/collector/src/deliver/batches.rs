//! What a lane carries: parts, the batch that is made of them, and how far the sink took it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::repeats::Repeats;
use crate::record::{Batch, BlobPart};
use crate::sinks::Refused;

/// A part on its way to one sink.
#[derive(Clone)]
pub(super) struct LaneItem {
    pub(super) in_flight: Arc<InFlight>,
    pub(super) part: Arc<BlobPart>,
    /// When it was handed to the lane.
    pub(super) since: Instant,
}

impl LaneItem {
    /// The same without the records and their text.
    pub(super) fn bare(self) -> Self {
        Self {
            part: Arc::new(self.part.bare()),
            ..self
        }
    }
}

/// The texts in which the parts lie that are under way to one sink. Each counts as a whole, and once, however many of its
/// parts are under way: the last of them keeps all of it in memory.
#[derive(Default)]
pub(super) struct UnderWay {
    texts: Mutex<Texts>,
    /// A text is gone before its batch has arrived.
    has_room: Notify,
}

#[derive(Default)]
struct Texts {
    /// How many parts of each text.
    parts: HashMap<u64, usize>,
    bytes: usize,
}

impl UnderWay {
    /// Memory of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.texts().bytes
    }

    /// Counts these parts until they are under way no more.
    pub(super) fn begin<'a>(self: &Arc<Self>, parts: impl Iterator<Item = &'a BlobPart>) -> Held {
        let parts = parts.map(|part| (part.text().id(), part.text().held_bytes()));
        let parts: Vec<_> = parts.collect();
        let mut texts = self.texts();
        for (id, bytes) in &parts {
            let count = texts.parts.entry(*id).or_default();
            *count += 1;
            if *count == 1 {
                texts.bytes += bytes;
            }
        }
        drop(texts);
        Held {
            under_way: Arc::clone(self),
            parts,
        }
    }

    /// To be said when parts are under way no more while their batch is.
    pub(super) fn has_room_again(&self) {
        self.has_room.notify_one();
    }

    /// Until that is said.
    pub(super) async fn has_room(&self) {
        self.has_room.notified().await;
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        // Counts are never left half changed by whoever panics.
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts that are under way: the text of each, and what that takes.
pub(super) struct Held {
    under_way: Arc<UnderWay>,
    parts: Vec<(u64, usize)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut texts = self.under_way.texts();
        for (id, bytes) in &self.parts {
            let Entry::Occupied(mut parts) = texts.parts.entry(*id) else {
                continue;
            };
            *parts.get_mut() -= 1;
            if *parts.get() == 0 {
                parts.remove();
                texts.bytes -= bytes;
            }
        }
    }
}

/// How much more may come under way to one sink.
pub(super) struct Allowance<'a> {
    under_way: &'a UnderWay,
    bytes: usize,
    /// Texts that are allowed.
    texts: Vec<u64>,
    /// Whatever it takes, the first may.
    is_free: bool,
}

impl<'a> Allowance<'a> {
    /// Up to a share of the memory; a first text also when it is larger than all of that.
    pub(super) fn of(under_way: &'a UnderWay, share_bytes: usize) -> Self {
        let bytes = under_way.bytes();
        Self {
            under_way,
            bytes: share_bytes.saturating_sub(bytes),
            texts: Vec::new(),
            is_free: bytes == 0,
        }
    }

    /// Whether this one may, too. It counts from here on.
    pub(super) fn takes(&mut self, part: &BlobPart) -> bool {
        let text = part.text();
        let is_counted = self.texts.contains(&text.id())
            || self.under_way.texts().parts.contains_key(&text.id());
        let more = if is_counted { 0 } else { text.held_bytes() };
        if more > self.bytes && !self.is_free {
            return false;
        }
        self.is_free = false;
        self.bytes = self.bytes.saturating_sub(more);
        self.texts.push(text.id());
        true
    }
}

/// How far a batch got.
pub(super) struct Brought {
    /// What the sink was offered, all of it.
    pub(super) batch: Batch,
    /// Records of its parts, those that were left out included.
    pub(super) all_count: usize,
    pub(super) repeats: Repeats,
    /// Records at its head that are safe, of those that the sink was offered.
    pub(super) record_count: usize,
    /// When the rest may be tried again, where there is a rest.
    pub(super) retry_at: Option<Timestamp>,
    pub(super) position: Option<String>,
    /// Indexes are of those records that the sink was offered.
    pub(super) refused: Vec<Refused>,
}

impl Brought {
    pub(super) fn new(batch: Batch, all_count: usize, repeats: Repeats) -> Self {
        Self {
            batch,
            all_count,
            repeats,
            record_count: 0,
            retry_at: None,
            position: None,
            refused: Vec::new(),
        }
    }

    /// All of a part was brought before, but for these.
    pub(super) fn all(item: &LaneItem, refused: Vec<Refused>) -> Self {
        let batch = Batch::new(vec![Arc::clone(&item.part)]);
        let count = batch.record_count();
        Self {
            record_count: count,
            refused,
            ..Self::new(batch, count, Repeats::default())
        }
    }

    /// How many of all records, from the first on, are settled.
    pub(super) fn head(&self) -> usize {
        if self.record_count >= self.batch.record_count() {
            self.all_count
        } else {
            self.batch.place_of(self.record_count)
        }
    }

    /// What is refused, by its place among all records.
    pub(super) fn refused(&self) -> Vec<Refused> {
        let refused = self.refused.iter().map(|refused| Refused {
            index_in_batch: self.batch.place_of(refused.index_in_batch),
            reason: refused.reason.clone(),
        });
        let mut refused = refused.collect();
        self.repeats.refuse_repetitions(&mut refused);
        refused
    }

    pub(super) fn add(&mut self, count: usize, refused: Vec<Refused>) {
        let before = self.record_count;
        self.refused
            .extend(refused.into_iter().map(|refused| Refused {
                index_in_batch: refused.index_in_batch + before,
                reason: refused.reason,
            }));
        self.record_count += count;
    }

    /// The rest is given up. An error when nothing came before it.
    pub(super) fn up_to_here(mut self, retry_at: Timestamp) -> Result<Self, Timestamp> {
        self.retry_at = Some(retry_at);
        if self.record_count > 0 {
            Ok(self)
        } else {
            Err(retry_at)
        }
    }
}

/// How long a part waits for others to come along. Every batch costs a request or a sync of the sink's, a commit of the
/// ledger's and the waking of threads, whatever is in it; blobs of a few records would each cost all of that. Far less than
/// anyone sees of a record's way, which takes Microsoft minutes.
const LINGER: Duration = Duration::from_millis(20);

/// The parts that wait for one sink, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    items: VecDeque<LaneItem>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, item: LaneItem) {
        self.bytes += item.part.text_bytes();
        self.items.push_back(item);
    }

    /// Text of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Until when the first of them may wait for more. Nothing when there is none, or enough for a batch of `bytes`.
    pub(super) fn lingers_until(&self, bytes: usize) -> Option<Instant> {
        let first = self.items.front()?;
        (self.bytes < bytes).then(|| first.since + LINGER)
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<LaneItem> {
        self.bytes = 0;
        std::mem::take(&mut self.items).into()
    }

    /// The next batch: in order, up to `bytes` of text but at least one part, as far as the allowance goes. Where tenants are
    /// kept apart, only parts of the tenant whose part has waited longest.
    pub(super) fn take_batch(
        &mut self,
        bytes: usize,
        keeps_tenants_apart: bool,
        allowance: &mut Allowance<'_>,
    ) -> Vec<LaneItem> {
        let mut batch: Vec<LaneItem> = Vec::new();
        let mut held = 0;
        let mut others = VecDeque::new();
        while let Some(item) = self.items.pop_front() {
            let fits = batch.is_empty() || held + item.part.text_bytes() <= bytes;
            if !fits {
                others.push_back(item);
                break;
            }
            let is_of_another = |first: &LaneItem| {
                keeps_tenants_apart && first.part.blob().tenant != item.part.blob().tenant
            };
            if batch.first().is_some_and(is_of_another) {
                others.push_back(item);
                continue;
            }
            if !allowance.takes(&item.part) {
                others.push_back(item);
                break;
            }
            held += item.part.text_bytes();
            batch.push(item);
        }
        others.append(&mut self.items);
        self.items = others;
        self.bytes -= held;
        batch
    }
}

/// The parts of each blob, in the order in which the blobs first appear.
pub(super) fn group_by_blob(items: &[LaneItem]) -> Vec<(Arc<InFlight>, Vec<ledger::PartKey>)> {
    let mut groups: Vec<(Arc<InFlight>, Vec<ledger::PartKey>)> = Vec::new();
    for item in items {
        match groups.last_mut() {
            // Parts of one blob that are not neighbors make two groups, which is as good.
            Some((in_flight, parts)) if in_flight.key() == item.in_flight.key() => {
                parts.push(item.part.key())
            }
            _ => groups.push((Arc::clone(&item.in_flight), vec![item.part.key()])),
        }
    }
    groups
}
