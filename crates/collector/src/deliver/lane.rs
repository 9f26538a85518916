//! The way to one sink. Each sink has a lane of its own, so that a slow or failing one holds up nobody else: parts wait
//! here (their memory is counted), leave in batches, and are acknowledged in the ledger under the sink's name.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use ledger::{Ledger, RecordKey};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::batches::{Allowance, Brought, LaneItem, UnderWay, Waiting, group_by_blob};
use super::health::{Health, Interruption, LONGEST_PAUSE, StallGuard};
use super::in_flight::Settled;
use super::kept::Kept;
use super::pauses::plan_pause;
use super::repeats::{Claim, Claims, Repeats, distinct_of, keys_of};
use super::settle::Settler;
use crate::clock::Clock;
use crate::memory::Encoding;
#[cfg(test)]
use crate::planted::{self, Bug};
use crate::quarantine::Bound;
use crate::record::Batch;
use crate::sinks::{Error, Failure, Receipt, Sink};
use crate::status::Live;
use crate::telemetry::chain;
use crate::telemetry::{self, LedgerOperation};

/// How often a batch is tried before its lane counts as down. With the pauses between, some fifteen seconds: a
/// restart of the other side passes unnoticed, and an outage frees the memory soon.
pub(super) const TRIES: u32 = 5;

/// After how long what was put back for a sink that stood still is looked at again.
const SHED_PAUSE: Duration = Duration::from_secs(5);

/// By how many batches at most the share of the memory is divided. More that are smaller would cost more requests and gain
/// nothing.
const SHARERS: usize = 6;

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
    /// How much text may be under way to the sink, if it is more than one batch.
    pub(super) share_bytes: usize,
    /// Where what the sink makes of the text is counted.
    pub(super) encoding: Encoding,
    /// For how long a record that the sink took is not given to it again. Nothing: records are not looked at singly.
    pub(super) dedupe: Option<Duration>,
    /// The ids under way, where records are looked at singly.
    pub(super) claims: Claims,
}

/// A batch that is not begun while another one with one of its ids is under way.
type HeldBack = (Vec<LaneItem>, Vec<Option<RecordKey>>);

impl Lane {
    /// Delivers what comes in until nothing more can come and everything has arrived or was given up.
    ///
    /// # If interrupted
    /// Batches under way are not acknowledged and come again; see [`Sink::deliver`].
    pub(super) async fn run(self: Arc<Self>, mut items: UnboundedReceiver<LaneItem>) {
        let mut waiting = Waiting::default();
        let mut held_back: Option<HeldBack> = None;
        let mut under_way = JoinSet::new();
        let texts = Arc::new(UnderWay::default());
        let mut is_open = true;
        let mut moved_at = Instant::now();
        // A lane that ends, also when its pass is dropped, says no longer that it stands still.
        let _stall = StallGuard(&self.health);
        loop {
            // All that is there by now, so that batches are as large as the sink is slow.
            while let Ok(item) = items.try_recv() {
                waiting.push(item);
            }
            while under_way.len() < self.most_under_way()
                && (under_way.is_empty() || self.has_room(&texts, &waiting))
                && (held_back.is_some() || !is_open || self.lingers_until(&waiting).is_none())
                && let Some((batch, claim)) = self.next_batch(&texts, &mut waiting, &mut held_back)
            {
                moved_at = Instant::now();
                let kept = Kept::new(&texts, &batch);
                under_way.spawn(Arc::clone(&self).carry(batch, kept, claim));
            }
            if self.health.is_stalled() || self.health.was_failing() && !under_way.is_empty() {
                let held_back = held_back.take().map(|(batch, _)| batch);
                let shed = held_back.into_iter().flatten().chain(waiting.take_all());
                self.shed(shed.collect()).await;
            }
            if !is_open && under_way.is_empty() {
                return;
            }
            let lingers_until = self.lingers_until(&waiting);
            crate::waiting::select! {
                item = items.recv(), if is_open => match item {
                    Some(item) => waiting.push(item),
                    None => is_open = false,
                },
                Some(ended) = under_way.join_next() => {
                    moved_at = Instant::now();
                    self.health.set_stalled(false);
                    if let Err(panic) = ended {
                        // The sink's own panics are caught in `carry`; this one is ours, and its blobs come again
                        // when their leases run out.
                        error!(sink = %self.health.sink, cause = %panic, "a batch was dropped by a defect");
                    }
                }
                () = texts.has_room(), if !under_way.is_empty() => {}
                () = tokio::time::sleep_until(moved_at + self.health.stalls_after()),
                    if !under_way.is_empty() && !self.health.is_stalled() => self.stall(),
                () = tokio::time::sleep_until(lingers_until.unwrap_or(moved_at)), if lingers_until.is_some() => {}
            }
        }
    }

    /// One that was down tries one batch at a time, until it has shown that it works.
    fn most_under_way(&self) -> usize {
        match self.health.was_failing() {
            true => 1,
            false => self.sink.max_in_flight().max(1),
        }
    }

    /// Until when what waits is no batch yet.
    fn lingers_until(&self, waiting: &Waiting) -> Option<Instant> {
        waiting
            .lingers_until(self.batch_bytes())
            .filter(|until| *until > Instant::now() && !self.hurry.is_cancelled())
    }

    /// Whether one more batch fits the lane's share of the memory.
    fn has_room(&self, texts: &UnderWay, waiting: &Waiting) -> bool {
        let next = self.batch_bytes().min(waiting.bytes());
        texts.bytes() + next <= self.share_bytes
    }

    fn batch_bytes(&self) -> usize {
        // As many as may be under way at once fit the share: while one is on the wire, the next is made.
        let at_once = self.sink.max_in_flight().clamp(1, SHARERS);
        self.sink.batch_bytes().min(self.share_bytes / at_once)
    }

    /// The next batch to begin, and its claim of its ids.
    fn next_batch(
        &self,
        texts: &UnderWay,
        waiting: &mut Waiting,
        held_back: &mut Option<HeldBack>,
    ) -> Option<(Vec<LaneItem>, Option<Claim>)> {
        let mut allowance = Allowance::of(texts, self.share_bytes);
        let (batch, keys) = match held_back.take() {
            Some((batch, keys)) => {
                if !batch.iter().all(|item| allowance.takes(&item.part)) {
                    *held_back = Some((batch, keys));
                    return None;
                }
                (batch, keys)
            }
            None => {
                let batch = waiting.take_batch(
                    self.batch_bytes(),
                    self.sink.keeps_tenants_apart(),
                    &mut allowance,
                );
                let keys = self.dedupe.map(|_| keys_of(&batch));
                (batch, keys.unwrap_or_default())
            }
        };
        if batch.is_empty() {
            return None;
        }
        if self.dedupe.is_none() {
            return Some((batch, None));
        }
        match self.claims.claim(keys) {
            Ok(claim) => Some((batch, Some(claim))),
            Err(keys) => {
                *held_back = Some((batch, keys));
                None
            }
        }
    }

    /// The sink has not ended any batch for long. Its batches go on, and what waits behind them is put back: memory is for
    /// those sinks that take something.
    fn stall(&self) {
        let (sink, waited) = (&self.health.sink, self.health.stalls_after().as_secs());
        warn!(%sink, waited_secs = waited, "sink stands still, others go on without it");
        self.health.set_stalled(true);
        telemetry::sink_failing(sink, true);
        let what = format!("no answer for {waited} s; other sinks go on without it");
        self.live
            .sink_failing(sink, 0, &what, None, self.clock.now());
    }

    /// Puts back what waits for a sink that takes nothing at present.
    ///
    /// # If interrupted
    /// Its leases run out.
    async fn shed(&self, waiting: Vec<LaneItem>) {
        if waiting.is_empty() {
            return;
        }
        let now = self.clock.now();
        let retry_at = self.health.paused_until(now).unwrap_or(now + SHED_PAUSE);
        let settled = self.give_up(&waiting, retry_at);
        self.settler.settle(settled).await;
    }

    /// Brings one batch to the sink, writes down its yes, and settles the blobs that this completes.
    ///
    /// # If interrupted
    /// Before the sink's yes: nothing is known, the records come again. Between its yes and the ledger's: the same,
    /// which a sink with a position undoes and any other sees as a repeat.
    async fn carry(self: Arc<Self>, items: Vec<LaneItem>, mut kept: Kept, claim: Option<Claim>) {
        let interruption = Interruption(Some(&self.health));
        let mut settled = Vec::new();
        let (known, items) = self.health.withheld.split(items);
        let keys = claim.as_ref().map(|claim| match known.is_empty() {
            true => claim.keys().to_vec(),
            false => keys_of(&items),
        });
        if !known.is_empty() {
            kept = kept.only(&items);
        }
        for (item, refused) in known {
            let brought = Brought::all(&item, refused);
            settled.append(&mut self.acknowledge(vec![item], brought).await);
        }
        if !items.is_empty() {
            // What comes again may come because it was let go of in vain. With its text the sink can look for the record that it
            // does not take, whatever else it takes meanwhile.
            let is_first = |item: &LaneItem| item.in_flight.attempts() <= 1;
            let may_go = self.sink.may_let_go() && items.iter().all(is_first);
            let items: Vec<_> = match may_go {
                true => items.into_iter().map(LaneItem::bare).collect(),
                false => items,
            };
            let kept = Arc::new(kept.may_go(may_go));
            settled.append(&mut match self.bring(&items, &kept, keys).await {
                Ok(brought) => match kept.return_to(items, &brought) {
                    Ok(items) => self.acknowledge(items, brought).await,
                    Err(items) => {
                        error!(sink = %self.health.sink, "the sink refused records whose text it had let go of, by a defect");
                        self.give_up(&items, self.clock.now())
                    }
                },
                Err(retry_at) => self.give_up(&items, retry_at),
            });
        }
        interruption.did_not_happen();
        // The ledger knows by now what it will know of them.
        drop(claim);
        if !settled.is_empty() {
            self.settler.settle(settled).await;
        }
    }

    /// How far the sink took the batch. An error when it took none of its parts.
    async fn bring(
        &self,
        items: &[LaneItem],
        kept: &Arc<Kept>,
        keys: Option<Vec<Option<RecordKey>>>,
    ) -> Result<Brought, Timestamp> {
        let now = self.clock.now();
        if let Some(until) = self.health.paused_until(now) {
            return Err(until);
        }
        let parts = items.iter().map(|item| Arc::clone(&item.part)).collect();
        #[cfg(test)]
        if planted::has(Bug::AcknowledgesBeforeSending) {
            self.acknowledge_unsent(items).await;
        }
        let batch = Batch::new(parts).counted_in(&self.encoding);
        let all_count = batch.record_count();
        let repeats = match keys {
            Some(keys) => self.repeats(keys, now).await?,
            None => Repeats::default(),
        };
        let batch = repeats.leave_out_of(batch);
        let total = batch.record_count();
        let mut brought = Brought::new(batch.clone(), all_count, repeats);
        if total == 0 && all_count > 0 {
            return Ok(brought);
        }
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
            let Some(parts) = kept.parts() else {
                return brought.up_to_here(self.clock.now());
            };
            let rest = batch.clone().of_parts(parts).skip(brought.record_count);
            let rest_count = rest.record_count();
            let started = Instant::now();
            // A part of which some has arrived goes on from there, and does not come again.
            let rest = match brought.record_count {
                0 => kept.hand_out(rest),
                _ => rest,
            };
            let result = self.deliver(rest).await;
            let took = started.elapsed();
            match result {
                Ok(receipt) => {
                    brought.add(rest_count, receipt.refused);
                    brought.position = receipt.position;
                    telemetry::sink_batch(&self.health.sink, true, rest_count as u64, took);
                    self.live
                        .sink_ok(&self.health.sink, rest_count as u64, self.clock.now());
                    telemetry::sink_failing(&self.health.sink, false);
                    self.health.works(took);
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
                    let hung = took >= self.sink.answers_within();
                    let gives_up = is_final || hung || tried >= tries || pause > LONGEST_PAUSE;
                    let retry_at = match &failure.error {
                        // Also what is fetched again because its text is gone: that shows nothing of the sink.
                        _ if !gives_up => now + pause,
                        Error::Ledger(_) => self.health.waits_for_ledger(now),
                        _ => self.health.fails(now, asked),
                    };
                    self.note_failure(&failure.error, delivered, retry_at, now);
                    if gives_up || kept.is_gone() {
                        return brought.up_to_here(retry_at);
                    }
                    crate::waiting::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.hurry.cancelled() => {}
                    }
                }
            }
        }
        unreachable!("the loop above ends by returning")
    }

    /// The sink's delivery, given up when there is no more time: a sink may hang for longer than a process may. A panic
    /// becomes a failure, because a defect in one sink must not end the others, and so does what [`Receipt`] rules out.
    async fn deliver(&self, batch: Batch) -> Result<Receipt, Failure> {
        let interruption = Interruption(Some(&self.health));
        let result = crate::waiting::select! {
            biased;
            () = self.hurry.cancelled() => return Err(unavailable("there is no more time").into()),
            result = AssertUnwindSafe(self.sink.deliver_and_let_go(batch)).catch_unwind() => result,
            () = tokio::time::sleep(self.sink.answers_within()) => return Err(unavailable(HANGS).into()),
        };
        let Ok(result) = result else {
            return Err(unavailable(DEFECT).into());
        };
        let breaks_contract =
            |receipt: &Receipt| receipt.position.is_some() && !receipt.refused.is_empty();
        if result.as_ref().is_ok_and(breaks_contract) {
            return Err(unavailable(DEFECT).into());
        }
        interruption.did_not_happen();
        result
    }

    /// What the sink is not given of a batch, because it has it.
    async fn repeats(
        &self,
        keys: Vec<Option<RecordKey>>,
        now: Timestamp,
    ) -> Result<Repeats, Timestamp> {
        let since = now - self.dedupe.unwrap_or_default();
        let (sink, distinct) = (&self.health.sink, distinct_of(&keys));
        match self
            .ledger
            .known_records(sink, distinct.clone(), since)
            .await
        {
            Ok(known) => Ok(Repeats::plan(keys, &distinct, &known)),
            Err(cause) => {
                telemetry::ledger_failed(LedgerOperation::Read);
                warn!(%sink, cause = &cause as &dyn std::error::Error, "the ledger does not say which records the sink has, it waits");
                self.live.ledger_failed(&chain(&cause), now);
                Err(self.health.waits_for_ledger(now))
            }
        }
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
        let resumed = AssertUnwindSafe(self.sink.resume(position.as_deref())).catch_unwind();
        let resumed = match tokio::time::timeout(self.sink.answers_within(), resumed).await {
            Ok(resumed) => resumed.unwrap_or_else(|_| Err(unavailable(DEFECT))),
            Err(_elapsed) => Err(unavailable(HANGS)),
        };
        match resumed {
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

    pub(super) fn give_up(&self, items: &[LaneItem], retry_at: Timestamp) -> Vec<Settled> {
        let is_cut_off = self.hurry.is_cancelled();
        let groups = group_by_blob(items).into_iter();
        let settled = groups.filter_map(|(in_flight, parts)| match is_cut_off {
            true => in_flight.cut_off(self.index, parts.len()),
            false => in_flight.failed(self.index, parts.len(), retry_at),
        });
        settled.collect()
    }
}

/// What is said of a sink that never answered.
const HANGS: &str = "the sink did not answer";

/// What is said of a sink that panicked.
const DEFECT: &str = "the sink failed by a defect of this program";

fn unavailable(what: &str) -> Error {
    Error::Unavailable {
        what: what.to_owned(),
        retry_after: None,
    }
}
