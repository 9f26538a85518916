//! The way to one sink. Each sink has a lane of its own, so that a slow or failing one holds up nobody else: parts wait
//! here (their memory is counted), leave in batches, and are acknowledged in the ledger under the sink's name.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use ledger::{Acknowledgement, Ledger, QuarantinedRecord, SinkCommit};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::health::{Health, LONGEST_PAUSE};
use super::in_flight::{InFlight, Settled};
use super::pauses::plan_pause;
use super::settle::Settler;
use super::withheld::{Refusals, refusals_by_part};
use crate::clock::Clock;
use crate::quarantine::{Bound, ROOM_AGAIN};
use crate::record::{Batch, BlobPart};
use crate::sinks::{Error, Failure, Receipt, Refused, Sink};
use crate::status::Live;
use crate::telemetry::chain;
use crate::telemetry::{self, LedgerOperation};

/// How often a batch is tried before its lane counts as down. With the pauses between, some fifteen seconds: a
/// restart of the other side passes unnoticed, and an outage frees the memory soon.
const TRIES: u32 = 5;

/// A part on its way to one sink.
#[derive(Clone)]
pub(super) struct LaneItem {
    pub(super) in_flight: Arc<InFlight>,
    pub(super) part: Arc<BlobPart>,
}

/// The way to one sink, for one pass.
pub(super) struct Lane {
    /// The sink's index among the pipeline's.
    pub(super) index: usize,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) health: Arc<Health>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) quarantine: Arc<Bound>,
    pub(super) settler: Arc<Settler>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) live: Live,
    /// Set when there is no more time: what is not acknowledged is given up.
    pub(super) hurry: CancellationToken,
}

impl Lane {
    /// Delivers what comes in until nothing more can come and everything has arrived or was given up.
    ///
    /// # If interrupted
    /// Batches under way are not acknowledged and come again; see [`Sink::deliver`].
    pub(super) async fn run(self: Arc<Self>, mut items: UnboundedReceiver<LaneItem>) {
        let mut waiting = VecDeque::new();
        let mut under_way = JoinSet::new();
        let mut is_open = true;
        loop {
            // All that is there by now, so that batches are as large as the sink is slow.
            while let Ok(item) = items.try_recv() {
                waiting.push_back(item);
            }
            while under_way.len() < self.sink.max_in_flight().max(1) && !waiting.is_empty() {
                let batch = take_batch(&mut waiting, self.sink.batch_bytes());
                under_way.spawn(Arc::clone(&self).carry(batch));
            }
            if !is_open && under_way.is_empty() {
                return;
            }
            tokio::select! {
                item = items.recv(), if is_open => match item {
                    Some(item) => waiting.push_back(item),
                    None => is_open = false,
                },
                Some(ended) = under_way.join_next() => {
                    if let Err(panic) = ended {
                        // The sink's own panics are caught in `carry`; this one is ours, and its blobs come again
                        // when their leases run out.
                        error!(sink = %self.health.sink, cause = %panic, "a batch was dropped by a defect");
                    }
                }
            }
        }
    }

    /// Brings one batch to the sink, writes down its yes, and settles the blobs that this completes.
    ///
    /// # If interrupted
    /// Before the sink's yes: nothing is known, the records come again. Between its yes and the ledger's: the same,
    /// which a sink with a position undoes and any other sees as a repeat.
    async fn carry(self: Arc<Self>, items: Vec<LaneItem>) {
        let interruption = Interruption(Some(&self.health));
        let mut settled = Vec::new();
        let (known, items) = self.health.withheld.split(items);
        for (item, refused) in known {
            let brought = Brought::all(item.part.record_count(), refused);
            settled.append(&mut self.acknowledge(vec![item], brought).await);
        }
        if !items.is_empty() {
            settled.append(&mut match self.bring(&items).await {
                Ok(brought) => self.acknowledge(items, brought).await,
                Err(retry_at) => self.give_up(&items, retry_at),
            });
        }
        interruption.did_not_happen();
        if !settled.is_empty() {
            self.settler.settle(settled).await;
        }
    }

    /// How far the sink took the batch. An error when it took none of its parts.
    async fn bring(&self, items: &[LaneItem]) -> Result<Brought, Timestamp> {
        let now = self.clock.now();
        if let Some(until) = self.health.paused_until(now) {
            return Err(until);
        }
        let Some(first) = items.first() else {
            return Err(now);
        };
        let parts = items.iter().map(|item| Arc::clone(&item.part)).collect();
        let batch = Batch::new(first.part.blob().tenant, parts);
        let total = batch.record_count();
        let mut brought = Brought {
            record_count: 0,
            retry_at: None,
            position: None,
            refused: Vec::new(),
        };
        // A lane that was down tries once and no more: it must show that it works before anything is spent on it.
        let tries = if self.health.was_failing() { 1 } else { TRIES };
        for tried in 1.. {
            if self.hurry.is_cancelled() {
                return brought.up_to_here(self.clock.now());
            }
            // Also between two tries: a sink that panicked may have left half of what it was writing.
            if let Err(retry_at) = self.resume_if_needed().await {
                return brought.up_to_here(retry_at);
            }
            let rest = batch.clone().skip(brought.record_count);
            let rest_count = rest.record_count();
            let started = Instant::now();
            let result = self.deliver(&rest).await;
            let took = started.elapsed();
            match result {
                Ok(receipt) => {
                    brought.add(rest_count, receipt.refused);
                    brought.position = receipt.position;
                    telemetry::sink_batch(&self.health.sink, true, rest_count as u64, took);
                    self.live
                        .sink_ok(&self.health.sink, rest_count as u64, self.clock.now());
                    telemetry::sink_failing(&self.health.sink, false);
                    self.health.works();
                    debug_assert_eq!(brought.record_count, total);
                    return Ok(brought);
                }
                Err(failure) => {
                    let delivered = failure.delivered_count.min(rest_count);
                    telemetry::sink_batch(&self.health.sink, false, delivered as u64, took);
                    brought.add(delivered, failure.refused);
                    let pause = plan_pause(tried, (&self.health.sink, self.clock.now()));
                    let (asked, is_final) = match &failure.error {
                        Error::Unavailable { retry_after, .. } => (*retry_after, false),
                        Error::Io { .. } | Error::Ledger(_) => (None, false),
                        Error::Refused { .. } => (None, true),
                    };
                    let pause = pause.max(asked.unwrap_or_default());
                    // Not the sink's fault, and not to be held against it.
                    if self.hurry.is_cancelled() {
                        continue;
                    }
                    let now = self.clock.now();
                    let gives_up = is_final || tried >= tries || pause > LONGEST_PAUSE;
                    let retry_at = match &failure.error {
                        _ if !gives_up => now + pause,
                        Error::Ledger(_) => self.health.waits_for_ledger(now),
                        _ => self.health.fails(now, asked),
                    };
                    self.note_failure(&failure.error, delivered, retry_at, now);
                    if gives_up {
                        return brought.up_to_here(retry_at);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.hurry.cancelled() => {}
                    }
                }
            }
        }
        unreachable!("the loop above ends by returning")
    }

    /// The sink's delivery, given up when there is no more time: a sink may hang for longer than a process may. A panic
    /// becomes a failure, because a defect in one sink must not end the others.
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let interruption = Interruption(Some(&self.health));
        let result = tokio::select! {
            biased;
            () = self.hurry.cancelled() => return Err(unavailable("there is no more time").into()),
            result = AssertUnwindSafe(self.sink.deliver(batch)).catch_unwind() => result,
        };
        let Ok(result) = result else {
            return Err(unavailable(DEFECT).into());
        };
        interruption.did_not_happen();
        result
    }

    fn note_failure(&self, cause: &Error, delivered: usize, retry_at: Timestamp, now: Timestamp) {
        let sink = &self.health.sink;
        if let Error::Ledger(cause) = cause {
            warn!(%sink, cause = cause as &dyn std::error::Error, %retry_at, "sink waits for the ledger");
            self.live.ledger_failed(&chain(cause), now);
            return;
        }
        warn!(%sink, cause = cause as &dyn std::error::Error, %retry_at, "sink did not take a batch");
        telemetry::sink_failing(sink, true);
        self.live
            .sink_failing(sink, delivered as u64, &chain(cause), Some(retry_at), now);
    }

    /// Puts a sink back to the position that the ledger has, when an earlier acknowledgement could not be written.
    async fn resume_if_needed(&self) -> Result<(), Timestamp> {
        if !self.health.must_resume() {
            return Ok(());
        }
        let now = self.clock.now();
        let position = match self.ledger.position(&self.health.sink).await {
            Ok(position) => position,
            Err(cause) => {
                telemetry::ledger_failed(LedgerOperation::Read);
                warn!(sink = %self.health.sink, cause = &cause as &dyn std::error::Error, "the sink's position cannot be read, it waits");
                self.live.ledger_failed(&chain(&cause), now);
                return Err(self.health.waits_for_ledger(now));
            }
        };
        let resumed = AssertUnwindSafe(self.sink.resume(position.as_deref()))
            .catch_unwind()
            .await;
        match resumed.unwrap_or_else(|_| Err(unavailable(DEFECT))) {
            Ok(()) => {
                self.health.set_must_resume(false);
                Ok(())
            }
            Err(cause) => {
                let retry_at = match cause {
                    Error::Ledger(_) => self.health.waits_for_ledger(now),
                    _ => self.health.fails(now, None),
                };
                self.note_failure(&cause, 0, retry_at, now);
                Err(retry_at)
            }
        }
    }

    /// Writes down what the sink took, and gives the rest up.
    async fn acknowledge(&self, items: Vec<LaneItem>, brought: Brought) -> Vec<Settled> {
        let mut left = brought.record_count;
        let whole = items
            .iter()
            .take_while(|item| {
                let fits = item.part.record_count() <= left;
                left -= item.part.record_count().min(left);
                fits
            })
            .count();
        let (taken, rest) = items.split_at(whole);
        let retry_at = brought.retry_at.unwrap_or_else(|| self.clock.now());
        let mut settled = self.give_up(rest, retry_at);
        let parts = refusals_by_part(taken, &brought.refused);
        let (parts, mut waiting) = self.with_room(parts).await;
        settled.append(&mut waiting);
        if parts.is_empty() {
            return settled;
        }
        let taken: Vec<_> = parts.iter().map(|(item, _)| item.clone()).collect();
        let taken = taken.as_slice();
        let groups = group_by_blob(taken);
        let quarantined = self.quarantined(&parts);
        let mut acknowledged = Vec::with_capacity(taken.len());
        for (in_flight, parts) in &groups {
            let planned = in_flight.plan_acknowledgement(self.index, parts);
            acknowledged.extend(planned.into_iter().map(|part| (in_flight.key(), part)));
        }
        let commit = SinkCommit {
            sink: self.health.sink.clone(),
            position: brought.position,
            acknowledged,
            quarantined,
            remembered: None,
        };
        match self.commit(commit).await {
            Ok(proofs) => {
                let mut proofs = proofs.into_iter().peekable();
                for (in_flight, parts) in groups {
                    let proof = proofs.next_if(|proof| proof.key() == in_flight.key());
                    settled.extend(in_flight.acknowledged(self.index, parts.len(), proof));
                }
            }
            Err(retry_at) => settled.extend(self.give_up(taken, retry_at)),
        }
        settled
    }

    /// Writes a sink's yes to the ledger, trying for as long as there is time: the records are out, and forgetting
    /// that would repeat them. When that fails it is the ledger's failure: the sink waits, and is not said to fail.
    async fn commit(&self, commit: SinkCommit) -> Result<Vec<Acknowledgement>, Timestamp> {
        for tried in 1.. {
            let started = Instant::now();
            match self
                .ledger
                .acknowledge(commit.clone(), self.clock.now())
                .await
            {
                Ok(proofs) => {
                    telemetry::ledger_committed(LedgerOperation::Acknowledge, started.elapsed());
                    self.live.ledger_ok();
                    self.health.is_recorded();
                    return Ok(proofs);
                }
                Err(cause) => {
                    telemetry::ledger_failed(LedgerOperation::Acknowledge);
                    self.live.ledger_failed(&chain(&cause), self.clock.now());
                    let sink = &self.health.sink;
                    let cause = &cause as &dyn std::error::Error;
                    if tried >= TRIES || self.hurry.is_cancelled() {
                        error!(%sink, cause, "the ledger did not record an acknowledgement");
                        break;
                    }
                    warn!(%sink, cause, "the ledger did not record an acknowledgement, will retry");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(plan_pause(tried, (&self.health.sink, self.clock.now()))) => {}
                () = self.hurry.cancelled() => {}
            }
        }
        self.health.set_must_resume(true);
        Err(self.health.waits_for_ledger(self.clock.now()))
    }

    fn give_up(&self, items: &[LaneItem], retry_at: Timestamp) -> Vec<Settled> {
        let is_cut_off = self.hurry.is_cancelled();
        let groups = group_by_blob(items).into_iter();
        let settled = groups.filter_map(|(in_flight, parts)| match is_cut_off {
            true => in_flight.cut_off(self.index, parts.len()),
            false => in_flight.failed(self.index, parts.len(), retry_at),
        });
        settled.collect()
    }

    /// The parts whose refused records there is room for in quarantine, and what settling the others brings: they wait.
    async fn with_room(&self, parts: Vec<Refusals>) -> (Vec<Refusals>, Vec<Settled>) {
        let mut fitting = Vec::with_capacity(parts.len());
        let mut settled = Vec::new();
        for (item, refused) in parts {
            let records = refused
                .iter()
                .filter_map(|refused| item.part.records_from(refused.index_in_batch).next());
            let bytes: u64 = records.map(|record| record.text().len() as u64).sum();
            let now = self.clock.now();
            let room = match bytes {
                0 => Ok(()),
                bytes => self.quarantine.take(bytes, &*self.ledger, now).await,
            };
            match room {
                Ok(()) => fitting.push((item, refused)),
                Err(why) => {
                    let why = format!(
                        "sink {} refuses records, and {}",
                        self.health.sink,
                        chain(&why)
                    );
                    warn!(tenant = %item.part.blob().tenant, content_id = %item.part.blob().content_id, why, "a part waits");
                    self.health.withheld.remember(&item, refused);
                    let waits = item.in_flight.waits(self.index, 1, now + ROOM_AGAIN, why);
                    settled.extend(waits);
                }
            }
        }
        (fitting, settled)
    }

    /// Records that the sink can never take, to be set aside with their bytes.
    fn quarantined(&self, parts: &[Refusals]) -> Vec<QuarantinedRecord> {
        let mut quarantined = Vec::new();
        for (item, refused) in parts {
            for refused in refused {
                let Some(record) = item.part.records_from(refused.index_in_batch).next() else {
                    continue;
                };
                let tag = record.blob();
                error!(sink = %self.health.sink, tenant = %tag.tenant, content_id = %tag.content_id, index = record.index_in_blob(), reason = refused.reason, "record quarantined");
                item.in_flight.add_quarantined(1);
                self.settler.count_quarantined(&item.in_flight, 1);
                quarantined.push(QuarantinedRecord {
                    tenant: tag.tenant,
                    content_type: tag.content_type,
                    content_id: tag.content_id.clone(),
                    record_index: record.index_in_blob(),
                    sink: Some(self.health.sink.clone()),
                    reason: refused.reason.clone(),
                    bytes: record.text().to_vec(),
                });
            }
        }
        quarantined
    }
}

/// Makes the sink resume when a batch's way ends anywhere but at its end, because the pass was dropped or by a panic: what
/// the sink wrote may then be unknown to the ledger.
struct Interruption<'a>(Option<&'a Health>);

impl Interruption<'_> {
    fn did_not_happen(mut self) {
        self.0 = None;
    }
}

impl Drop for Interruption<'_> {
    fn drop(&mut self) {
        if let Some(health) = self.0 {
            health.set_must_resume(true);
        }
    }
}

/// How far a batch got.
struct Brought {
    /// Records at its head that are safe.
    record_count: usize,
    /// When the rest may be tried again, where there is a rest.
    retry_at: Option<Timestamp>,
    position: Option<String>,
    /// Indexes are the whole batch's.
    refused: Vec<Refused>,
}

impl Brought {
    /// All of a part was brought before, but for these.
    fn all(record_count: usize, refused: Vec<Refused>) -> Self {
        Self {
            record_count,
            retry_at: None,
            position: None,
            refused,
        }
    }

    fn add(&mut self, count: usize, refused: Vec<Refused>) {
        let before = self.record_count;
        self.refused
            .extend(refused.into_iter().map(|refused| Refused {
                index_in_batch: refused.index_in_batch + before,
                reason: refused.reason,
            }));
        self.record_count += count;
    }

    /// The rest is given up. An error when nothing came before it.
    fn up_to_here(mut self, retry_at: Timestamp) -> Result<Self, Timestamp> {
        self.retry_at = Some(retry_at);
        if self.record_count > 0 {
            Ok(self)
        } else {
            Err(retry_at)
        }
    }
}

/// What is said of a sink that panicked.
const DEFECT: &str = "the sink failed by a defect of this program";

fn unavailable(what: &str) -> Error {
    Error::Unavailable {
        what: what.to_owned(),
        retry_after: None,
    }
}

/// The next batch: parts of the tenant whose part has waited longest, in order, up to `bytes`, at least one.
fn take_batch(waiting: &mut VecDeque<LaneItem>, bytes: usize) -> Vec<LaneItem> {
    let mut batch: Vec<LaneItem> = Vec::new();
    let mut held = 0;
    let mut others = VecDeque::new();
    while let Some(item) = waiting.pop_front() {
        let fits = batch.is_empty() || held + item.part.text_bytes() <= bytes;
        if !fits {
            others.push_back(item);
            break;
        }
        if batch
            .first()
            .is_some_and(|first| first.part.blob().tenant != item.part.blob().tenant)
        {
            others.push_back(item);
            continue;
        }
        held += item.part.text_bytes();
        batch.push(item);
    }
    others.append(waiting);
    *waiting = others;
    batch
}

/// The parts of each blob, in the order in which the blobs first appear.
fn group_by_blob(items: &[LaneItem]) -> Vec<(Arc<InFlight>, Vec<ledger::PartKey>)> {
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
