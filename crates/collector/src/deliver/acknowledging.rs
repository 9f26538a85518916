//! A sink's yes → the ledger: what a lane's batch brought is written down, and what the sink refuses is set aside.

use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Acknowledgement, Completion, LeaseKey, QuarantinedRecord, RememberedRecords,
    SinkCommit,
};
use tokio::time::Instant;
use tracing::{error, warn};

use super::batches::{Brought, LaneItem, group_by_blob};
use super::in_flight::Settled;
use super::lane::{Lane, TRIES};
use super::pauses::plan_pause;
use super::withheld::{Refusals, refusals_by_part};
use crate::quarantine::ROOM_AGAIN;
use crate::telemetry::{self, LedgerOperation, chain};

impl Lane {
    /// Writes down what the sink took, and gives the rest up.
    pub(super) async fn acknowledge(&self, items: Vec<LaneItem>, brought: Brought) -> Vec<Settled> {
        let now = self.clock.now();
        let (head, refused) = (brought.head(), brought.refused());
        let mut left = head;
        let whole = items
            .iter()
            .take_while(|item| {
                let fits = item.part.record_count() <= left;
                left -= item.part.record_count().min(left);
                fits
            })
            .count();
        let (taken, rest) = items.split_at(whole);
        let retry_at = brought.retry_at.unwrap_or(now);
        let mut settled = self.give_up(rest, retry_at);
        let taken_count = taken.iter().map(|item| item.part.record_count()).sum();
        let remembered = self.dedupe.map(|keep| RememberedRecords {
            // Also those in front of where the sink failed, and those of parts that wait for room in quarantine: they come
            // again, and need not be given again.
            keys: brought.repeats.taken(head, &refused),
            duplicate_count: brought.repeats.duplicate_count(taken_count, &refused),
            forget_before: now - keep,
        });
        let (parts, mut waiting) = self.with_room(refusals_by_part(taken, &refused)).await;
        settled.append(&mut waiting);
        let is_nothing = |taken: &RememberedRecords| taken.keys.is_empty();
        if parts.is_empty() && remembered.as_ref().is_none_or(is_nothing) {
            return settled;
        }
        let duplicate_count = remembered.as_ref().map_or(0, |taken| taken.duplicate_count);
        let taken: Vec<_> = parts.iter().map(|(item, _)| item.clone()).collect();
        let taken = taken.as_slice();
        let groups = group_by_blob(taken);
        let quarantined = self.quarantined(&parts);
        let mut acknowledged = Vec::with_capacity(taken.len());
        let mut completions = Vec::with_capacity(groups.len());
        let mut numbers = Vec::with_capacity(groups.len());
        for (in_flight, parts) in &groups {
            let planned = in_flight.plan_acknowledgement(self.index, parts);
            let completion = match planned[..] {
                [AcknowledgedPart::Whole] => in_flight.plan_completion(self.index, parts.len()),
                _ => None,
            };
            let (completion, of_blob) = completion.unzip();
            completions.extend(completion);
            numbers.push(of_blob);
            acknowledged.extend(planned.into_iter().map(|part| (in_flight.key(), part)));
        }
        let commit = SinkCommit {
            sink: self.health.sink.clone(),
            position: brought.position,
            acknowledged,
            quarantined,
            remembered,
        };
        match self.commit(commit, completions).await {
            Ok((proofs, delivered)) => {
                if duplicate_count > 0 {
                    telemetry::records_left_out(&self.health.sink, duplicate_count);
                    self.live.left_out(&self.health.sink, duplicate_count);
                }
                let mut proofs = proofs.into_iter().peekable();
                let mut delivered = delivered.into_iter().peekable();
                let mut were_delivered = Vec::with_capacity(delivered.len());
                for ((in_flight, parts), numbers) in groups.into_iter().zip(numbers) {
                    let proof = proofs.next_if(|proof| proof.key() == in_flight.key());
                    let is_delivered = delivered.next_if_eq(&in_flight.key()).is_some();
                    if let Some(numbers) = numbers.filter(|_| is_delivered) {
                        in_flight.delivered(self.index, parts.len());
                        were_delivered.push((in_flight, numbers));
                    } else {
                        settled.extend(in_flight.acknowledged(self.index, parts.len(), proof));
                    }
                }
                self.settler.were_delivered(&were_delivered, now);
            }
            Err(retry_at) => settled.extend(self.give_up(taken, retry_at)),
        }
        settled
    }

    /// Writes a sink's yes to the ledger, trying for as long as there is time: the records are out, and forgetting
    /// that would repeat them. When that fails it is the ledger's failure: the sink waits, and is not said to fail.
    ///
    /// In the same commit, those blobs are delivered that are claimed to be complete by it.
    async fn commit(
        &self,
        commit: SinkCommit,
        completions: Vec<Completion>,
    ) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Timestamp> {
        for tried in 1.. {
            let started = Instant::now();
            let recorded = self.ledger.acknowledge_and_deliver(
                commit.clone(),
                completions.clone(),
                self.settler.required(),
                self.clock.now(),
            );
            match recorded.await {
                Ok(recorded) => {
                    telemetry::ledger_committed(LedgerOperation::Acknowledge, started.elapsed());
                    self.live.ledger_ok();
                    self.health.is_recorded();
                    return Ok(recorded);
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
            crate::waiting::select! {
                () = tokio::time::sleep(plan_pause(tried, (&self.health.sink, self.clock.now()))) => {}
                () = self.hurry.cancelled() => {}
            }
        }
        self.health.set_must_resume(true);
        Err(self.health.waits_for_ledger(self.clock.now()))
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
                    bytes: item.part.shared_text(&record),
                });
            }
        }
        quarantined
    }
}
