//! Records that a sink is not given, because it has them: each is delivered once by its `Id`, where the configuration
//! wants that. Which those are is decided here, before the sink is offered a batch.
//!
//! The rule, for one sink: a record is left out when the ledger knows that the sink took one of the same `Id` within the
//! configured time, or when one stands before it in the same batch. The ledger knows from the commit that also holds the
//! acknowledgement, never before; so while a batch is under way, no other that has one of its ids is begun (`Claims`).
//! A record without an `Id` is never left out, and one that the sink refused is not remembered.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ledger::RecordKey;

use super::batches::LaneItem;
use crate::record::Batch;
use crate::sinks::Refused;

/// The ids of the batches that are under way to one sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<RecordKey>>>);

/// A batch's ids, each claimed until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    /// One entry a record of the batch, in order.
    keys: Vec<Option<RecordKey>>,
    distinct: Vec<RecordKey>,
}

/// Which records of a batch its sink is not given.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// The key of each record of the batch.
    keys: Vec<Option<RecordKey>>,
    /// Those that are left out, in order; with the one before it in the same batch that is given in its place, or nothing
    /// when the sink had it before the batch.
    left_out: Vec<(usize, Option<usize>)>,
}

/// The key of each of these parts' records; nothing for a record without an `Id`.
pub(super) fn keys_of(items: &[LaneItem]) -> Vec<Option<RecordKey>> {
    let records = items.iter().flat_map(|item| item.part.records_from(0));
    records
        .map(|record| {
            let tag = record.blob();
            record
                .id()
                .map(|id| RecordKey::new(tag.tenant, tag.content_type, id))
        })
        .collect()
}

/// The ids to ask the ledger for, each once.
pub(super) fn distinct_of(keys: &[Option<RecordKey>]) -> Vec<RecordKey> {
    let mut seen = HashSet::with_capacity(keys.len());
    let keys = keys.iter().flatten().copied();
    keys.filter(|key| seen.insert(*key)).collect()
}

impl Claims {
    /// Claims these ids for a batch. Nothing when one of them is another batch's, and `keys` back.
    pub(super) fn claim(
        &self,
        keys: Vec<Option<RecordKey>>,
    ) -> Result<Claim, Vec<Option<RecordKey>>> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().flatten().any(|key| claimed.contains(key)) {
            return Err(keys);
        }
        let known = claimed.len();
        let distinct = keys.iter().flatten().copied();
        let distinct: Vec<_> = distinct.filter(|key| claimed.insert(*key)).collect();
        debug_assert_eq!(claimed.len(), known + distinct.len());
        drop(claimed);
        Ok(Claim {
            claims: self.clone(),
            keys,
            distinct,
        })
    }
}

impl Claim {
    /// The key of each record of the batch.
    pub(super) fn keys(&self) -> &[Option<RecordKey>] {
        &self.keys
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.distinct {
            claimed.remove(key);
        }
    }
}

impl Repeats {
    /// What is left out of a batch with these keys, `known` being the ledger's answers for the `distinct` ones.
    pub(super) fn plan(
        keys: Vec<Option<RecordKey>>,
        distinct: &[RecordKey],
        known: &[bool],
    ) -> Self {
        let answers = distinct.iter().zip(known);
        let known: HashSet<_> = answers
            .filter(|(_, is_known)| **is_known)
            .map(|(key, _)| *key)
            .collect();
        let mut first: HashMap<RecordKey, usize> = HashMap::with_capacity(distinct.len());
        let mut left_out = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let Some(key) = key else {
                continue;
            };
            if known.contains(key) {
                left_out.push((index, None));
            } else if let Some(first) = first.get(key) {
                left_out.push((index, Some(*first)));
            } else {
                first.insert(*key, index);
            }
        }
        Self { keys, left_out }
    }

    /// The batch without what is left out.
    pub(super) fn leave_out_of(&self, batch: Batch) -> Batch {
        batch.without(self.left_out.iter().map(|(index, _)| *index).collect())
    }

    /// Adds to what the sink refused the repetitions of those records: the sink has neither, so neither may vanish.
    pub(super) fn refuse_repetitions(&self, refused: &mut Vec<Refused>) {
        let mut reasons: HashMap<usize, String> = HashMap::new();
        for refused in refused.iter() {
            reasons.insert(refused.index_in_batch, refused.reason.clone());
        }
        for (index_in_batch, first) in &self.left_out {
            if let Some(reason) = first.and_then(|first| reasons.get(&first)) {
                let reason =
                    format!("its Id is that of a record before it, which was refused: {reason}");
                refused.push(Refused {
                    index_in_batch: *index_in_batch,
                    reason,
                });
            }
        }
    }

    /// The keys of what the sink took of the batch's first `head` records.
    pub(super) fn taken(&self, head: usize, refused: &[Refused]) -> Vec<RecordKey> {
        let mut not_taken: HashSet<usize> = self.left_out.iter().map(|(index, _)| *index).collect();
        not_taken.extend(refused.iter().map(|refused| refused.index_in_batch));
        let keys = self.keys.iter().take(head).enumerate();
        keys.filter(|(index, _)| !not_taken.contains(index))
            .filter_map(|(_, key)| *key)
            .collect()
    }

    /// How many of the batch's first `head` records the sink was not given because it has them.
    pub(super) fn duplicate_count(&self, head: usize, refused: &[Refused]) -> u64 {
        let refused: HashSet<usize> = refused
            .iter()
            .map(|refused| refused.index_in_batch)
            .collect();
        let left_out = self.left_out.iter().map(|(index, _)| index);
        left_out
            .filter(|index| **index < head && !refused.contains(index))
            .count() as u64
    }
}

#[cfg(test)]
mod tests;
