//! Sinks that keep what they took when the process dies: one with a position, which takes back what the ledger has not
//! committed, and others that do not know what they have.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use ledger::SinkName;

use super::plan::{Fault, PlannedSink};
use super::truth::Offer;
use super::world::World;
use crate::record::Batch;
use crate::sinks::{Error, Failure, Receipt, Refused, Sink};

/// What a sink has.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Blob and index, in the order in which they came.
    pub(crate) records: Vec<(usize, u64)>,
    /// A delivery began and did not end: with a position, the sink must be resumed before the next.
    is_dirty: bool,
}

pub(crate) struct SimulatedSink {
    world: Arc<World>,
    index: usize,
    name: SinkName,
}

impl SimulatedSink {
    pub(crate) fn new(world: &Arc<World>, index: usize) -> Self {
        Self {
            world: Arc::clone(world),
            index,
            name: world.plan.sinks[index].name.parse().unwrap(),
        }
    }

    fn planned(&self) -> &PlannedSink {
        &self.world.plan.sinks[self.index]
    }

    fn is_down(&self) -> bool {
        let state = self.world.state();
        let now = state.now();
        self.planned()
            .outage
            .is_some_and(|(from, until)| (from..until).contains(&now))
    }

    /// Writes down one record. Which sinks with a position do one after the other, so that they can die in between.
    fn take(&self, (blob, index): (usize, u64)) {
        let mut state = self.world.state();
        state.taken[self.index].records.push((blob, index));
    }

    /// Writes down all but those that it never takes.
    fn take_wanted(&self, records: &[(usize, u64)]) {
        let refused = self.refused(records);
        for (index, record) in records.iter().enumerate() {
            if !refused
                .iter()
                .any(|refused| refused.index_in_batch == index)
            {
                self.take(*record);
            }
        }
    }

    fn set_dirty(&self, is_dirty: bool) {
        self.world.state().taken[self.index].is_dirty = is_dirty;
    }

    /// The records of the batch, each checked.
    fn look_at(&self, batch: &Batch) -> Vec<(usize, u64)> {
        let mut state = self.world.state();
        let mut records = Vec::new();
        for record in batch.records() {
            let tag = record.blob();
            let id = tag.content_id.as_str();
            let Some(blob) = state.truth.blob(tag.tenant, tag.content_type, id) else {
                state.violate(format!("a record of no blob came to sink {}", self.name));
                continue;
            };
            let offer = Offer {
                sink: self.index,
                key: tag.lease,
                blob,
                index: record.index_in_blob(),
                text: std::str::from_utf8(record.text()).unwrap(),
            };
            if let Err(wrong) = state.truth.offered(&self.world.plan, &offer) {
                state.violate(wrong);
            }
            records.push((blob, offer.index));
        }
        records
    }

    async fn take_with_position(&self, records: &[(usize, u64)]) -> Result<Receipt, Failure> {
        let before = {
            let mut state = self.world.state();
            let taken = &mut state.taken[self.index];
            let (is_dirty, before) = (taken.is_dirty, taken.records.len());
            taken.is_dirty = true;
            if is_dirty {
                state.violate(format!(
                    "sink {} goes on without having been put back",
                    self.name
                ));
            }
            before
        };
        for record in records {
            self.take(*record);
            let is_slow = self.world.state().chance.percent(10);
            if is_slow {
                self.world
                    .step(|| format!("{} writes {record:?}", self.name))
                    .await;
            }
        }
        if self.world.goes_wrong(Fault::SinkTakesAndFails) {
            // It takes back what it wrote, as far as it is alive.
            self.world.state().taken[self.index]
                .records
                .truncate(before);
            self.set_dirty(false);
            return Err(down("it could not sync").into());
        }
        self.set_dirty(false);
        Ok(Receipt {
            position: Some((before + records.len()).to_string()),
            refused: Vec::new(),
        })
    }

    async fn take_without_position(&self, records: &[(usize, u64)]) -> Result<Receipt, Failure> {
        if self.world.goes_wrong(Fault::SinkTakesSome) {
            let some = self.world.state().chance.below(records.len() + 1);
            self.take_wanted(&records[..some]);
            let claimed = self.world.state().chance.below(some + 1);
            return Err(Failure {
                delivered_count: claimed,
                refused: self.refused(&records[..claimed]),
                error: down("it took some"),
            });
        }
        self.take_wanted(records);
        if self.world.goes_wrong(Fault::SinkTakesAndFails) {
            return Err(down("its answer was lost").into());
        }
        Ok(Receipt::default())
    }

    fn refused(&self, records: &[(usize, u64)]) -> Vec<Refused> {
        let is_refused = |(blob, index): &(usize, u64)| {
            let mut all = self.world.plan.blobs[*blob].records();
            all.nth(*index as usize)
                .is_some_and(|(_, refused_by): (&str, &BTreeSet<usize>)| {
                    refused_by.contains(&self.index)
                })
        };
        records
            .iter()
            .enumerate()
            .filter(|(_, record)| is_refused(record))
            .map(|(index_in_batch, _)| Refused {
                index_in_batch,
                reason: "it never takes this one".to_owned(),
            })
            .collect()
    }
}

fn down(what: &str) -> Error {
    Error::Unavailable {
        what: what.to_owned(),
        retry_after: None,
    }
}

#[async_trait]
impl Sink for SimulatedSink {
    fn name(&self) -> &SinkName {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        self.planned().batch_bytes
    }

    fn max_in_flight(&self) -> usize {
        self.planned().max_in_flight
    }

    /// The pipeline never asks.
    async fn probe(&self) -> Result<String, Error> {
        Ok(String::new())
    }

    async fn resume(&self, position: Option<&str>) -> Result<(), Error> {
        let position = position.map(str::to_owned);
        self.world
            .step(|| format!("{} resumes at {position:?}", self.name))
            .await;
        if !self.planned().has_position {
            return Ok(());
        }
        let position = position.map_or(0, |text| text.parse().unwrap());
        let mut state = self.world.state();
        if state.truth.position(self.index) != position {
            state.violate(format!(
                "sink {} was put back to a place that is not its own",
                self.name
            ));
        }
        let taken = &mut state.taken[self.index];
        let has = taken.records.len();
        taken.records.truncate(position);
        taken.is_dirty = false;
        if has < position {
            state.violate(format!("sink {} has lost what it had", self.name));
        }
        Ok(())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let records = self.look_at(batch);
        self.world.hold(batch, true);
        let held = Held(&self.world, batch);
        let result = self.answer(records).await;
        drop(held);
        result
    }

    fn may_let_go(&self) -> bool {
        !self.planned().has_position
    }

    /// Lets go of some batches, as if it had packed them.
    async fn deliver_and_let_go(&self, batch: Batch) -> Result<Receipt, Failure> {
        let records = self.look_at(&batch);
        let lets_go = self.world.state().chance.percent(50);
        if !batch.is_kept() || !lets_go {
            return self.deliver(&batch).await;
        }
        self.world
            .step(|| format!("{} lets go of {records:?}", self.name))
            .await;
        batch.let_go();
        if !self.refused(&records).is_empty() {
            // Which of them it is about it can only find out with their text.
            return Err(down("it does not take all of them").into());
        }
        self.answer(records).await
    }

    async fn tick(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl SimulatedSink {
    /// What becomes of these records.
    async fn answer(&self, records: Vec<(usize, u64)>) -> Result<Receipt, Failure> {
        self.world
            .step(|| format!("{} is offered {records:?}", self.name))
            .await;
        if !self.planned().takes.is_zero() {
            tokio::time::sleep(self.planned().takes).await;
        }
        if self.world.goes_wrong(Fault::SinkSlow) {
            let time = self.world.state().chance.secs(1..150);
            tokio::time::sleep(time).await;
            self.world.step(|| format!("{} was slow", self.name)).await;
        }
        if self.world.goes_wrong(Fault::SinkPanics) {
            let half = self.world.state().chance.below(records.len() + 1);
            self.set_dirty(true);
            self.take_wanted(&records[..half]);
            self.world.note(|| format!("{} panics", self.name));
            // As a panic, but that nothing is printed.
            std::panic::resume_unwind(Box::new("as the simulation wants it"));
        }
        if self.is_down() || self.world.goes_wrong(Fault::SinkDown) {
            let wait = self.world.state().chance.below(3);
            return Err(Error::Unavailable {
                what: "it is down".to_owned(),
                retry_after: (wait == 0).then_some(std::time::Duration::from_secs(20)),
            }
            .into());
        }
        if self.world.goes_wrong(Fault::SinkLocked) {
            return Err(Error::Refused {
                what: "it is locked".to_owned(),
            }
            .into());
        }
        let refused = self.refused(&records);
        let wanted: Vec<_> = records
            .iter()
            .enumerate()
            .filter(|(index, _)| {
                !refused
                    .iter()
                    .any(|refused| refused.index_in_batch == *index)
            })
            .map(|(_, record)| *record)
            .collect();
        let result = match self.planned().has_position {
            true => self.take_with_position(&wanted).await,
            // What it refuses it has seen as well.
            false => self.take_without_position(&records).await,
        };
        let result = result.map(|receipt| Receipt { refused, ..receipt });
        self.world
            .step(|| format!("{} answers {}", self.name, told(&result)))
            .await;
        result
    }
}

fn told(result: &Result<Receipt, Failure>) -> String {
    match result {
        Ok(receipt) => format!(
            "yes, at {:?}, refusing {}",
            receipt.position,
            receipt.refused.len()
        ),
        Err(failure) => format!("no after {}: {}", failure.delivered_count, failure.error),
    }
}

/// A batch in a sink's hands.
struct Held<'a>(&'a World, &'a Batch);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.hold(self.1, false);
    }
}
