//! One blob's way from Microsoft to the lanes, and what becomes of it when that way ends early.

use std::sync::Arc;
use std::time::Duration;

use activity_api::{BlobReason, NextStep};
use ledger::QuarantinedRecord;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Deliverer;
use super::batches::LaneItem;
use super::doubts::{Doubt, Judgement};
use super::in_flight::{Ending, InFlight};
use super::pauses::plan_pause;
use super::settle::Settler;
use crate::fetch::{self, Outlet, fetch_blob};
use crate::microsoft::Microsoft;
use crate::record::BlobPart;
use crate::telemetry::chain;
use decode::Undecodable;

/// Carries one blob from Microsoft to the lanes.
pub(super) struct Carrier {
    pub(super) deliverer: Arc<Deliverer>,
    pub(super) settler: Arc<Settler>,
    pub(super) microsoft: Arc<Microsoft>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) lanes: Arc<[UnboundedSender<LaneItem>]>,
    pub(super) hurry: Hurry,
}

/// When a blob's fetch is given up.
#[derive(Clone)]
pub(super) enum Hurry {
    /// With all that is under way.
    All(CancellationToken),
    /// Before that, when those who asked for it have no more time.
    OneOrAll(CancellationToken, CancellationToken),
}

impl Hurry {
    async fn cancelled(&self) {
        match self {
            Self::All(all) => all.cancelled().await,
            Self::OneOrAll(one, all) => crate::waiting::select! {
                () = one.cancelled() => {}
                () = all.cancelled() => {}
            },
        }
    }
}

impl Carrier {
    pub(super) async fn carry(mut self) {
        let started = Instant::now();
        let in_flight = Arc::clone(&self.in_flight);
        let microsoft = Arc::clone(&self.microsoft);
        let memory = self.deliverer.memory.clone();
        let ledger = Arc::clone(&self.deliverer.ledger);
        let hurry = self.hurry.clone();
        let fetched = crate::waiting::select! {
            biased;
            () = hurry.cancelled() => None,
            fetched = fetch_blob(&microsoft, &*ledger, in_flight.uri(), in_flight.tag(), &memory, &mut self) => Some(fetched),
        };
        let settled = match fetched {
            None => in_flight.ended(Ending::Release),
            Some(Ok(fetched)) => {
                let tag = in_flight.tag();
                // What comes from the ledger says nothing of Microsoft.
                if !in_flight.is_stored() {
                    let fetches = microsoft.fetches();
                    fetches.fetched(tag.tenant, tag.content_type, started.elapsed());
                    self.deliverer.pauses.clear(tag.tenant);
                    self.deliverer.live.tenant_ok(tag.tenant);
                }
                if fetched.broken.is_none() {
                    self.deliverer.doubts.clear(tag);
                }
                let ending = fetched
                    .broken
                    .map(|(error, bytes)| self.plan_broken(&error, bytes));
                let last = match ending {
                    // The damage cut this part short. Its records come again in a longer one, under another key, and
                    // sinks that had taken them from here would have them twice.
                    Some(Ending::RetryLater { .. }) => None,
                    _ => fetched.last_part.map(Arc::new),
                };
                let needed = last
                    .as_ref()
                    .map(|part| in_flight.hand_out(part.key()))
                    .unwrap_or_default();
                // Said before the last part leaves: a sink that takes it can then be recorded as having the whole blob.
                let settled = match ending {
                    None => in_flight.fetched(fetched.totals),
                    Some(ending) => in_flight.ended(ending),
                };
                if let Some(part) = last {
                    self.send(&part, &needed);
                }
                settled
            }
            Some(Err(error)) => {
                let ending = self.plan_failed(&error);
                if matches!(ending, Ending::Expire { .. } | Ending::Quarantine { .. }) {
                    self.deliverer.doubts.clear(in_flight.tag());
                }
                in_flight.ended(ending)
            }
        };
        self.settler.settle(settled.into_iter().collect()).await;
    }

    fn send(&self, part: &Arc<BlobPart>, needed: &[usize]) {
        let since = Instant::now();
        for index in needed {
            let Some(lane) = self.lanes.get(*index) else {
                continue;
            };
            let item = LaneItem {
                in_flight: Arc::clone(&self.in_flight),
                part: Arc::clone(part),
                since,
            };
            if lane.send(item).is_err() {
                // The lane's task is gone, by a defect. Nothing is acknowledged, so the blob comes again.
                error!(sink = index, "a sink's lane is closed");
            }
        }
    }

    /// What becomes of a blob whose body is no whole array.
    fn plan_broken(&self, error: &decode::Error, bytes: Vec<u8>) -> Ending {
        let doubt = match error {
            decode::Error::NotAnArray => Doubt::Absent,
            decode::Error::Truncated | decode::Error::TrailingBytes => Doubt::Damaged,
        };
        let reason = error.to_string();
        // The same bytes would come again.
        if self.in_flight.is_stored() {
            return Ending::Quarantine { reason, bytes };
        }
        match self.judge(doubt) {
            Judgement::AskAgain(pause) => self.plan_retry(pause, reason),
            Judgement::Believe => Ending::Quarantine { reason, bytes },
        }
    }

    /// What becomes of a blob that could not be fetched.
    fn plan_failed(&self, error: &fetch::Error) -> Ending {
        let tenant = self.in_flight.tag().tenant;
        let text = chain(error);
        if matches!(error, fetch::Error::NotInQuarantine { .. }) {
            return Ending::Quarantine {
                reason: text,
                bytes: Vec::new(),
            };
        }
        match error.next_step() {
            NextStep::GiveUpOnBlob(BlobReason::Expired) => Ending::Expire {
                reason: BlobReason::Expired.to_string(),
            },
            NextStep::GiveUpOnBlob(reason) if reason.is_final() => Ending::Quarantine {
                reason: reason.to_string(),
                bytes: Vec::new(),
            },
            NextStep::GiveUpOnBlob(reason) => {
                let reason = reason.to_string();
                match self.judge(Doubt::Absent) {
                    Judgement::AskAgain(pause) => self.plan_retry(pause, reason),
                    Judgement::Believe => Ending::Expire { reason },
                }
            }
            NextStep::StopTenant(reason) => {
                let now = self.deliverer.clock.now();
                let retry_at = self.deliverer.pauses.pause(tenant, now);
                error!(%tenant, %retry_at, reason = %reason, "tenant cannot be collected");
                self.deliverer.live.tenant_stopped(
                    tenant,
                    &reason.to_string(),
                    Some(retry_at),
                    now,
                );
                self.settler.count_stopped();
                Ending::Release
            }
            NextStep::RetryAfter(wait) => self.plan_retry(wait.unwrap_or_default(), text),
            NextStep::Reauthenticate
            | NextStep::StartSubscription
            | NextStep::GoWithoutWebhook
            | NextStep::ListWindowAgain => self.plan_retry(Duration::ZERO, text),
        }
    }

    /// What to make of one more answer that proves nothing by itself.
    fn judge(&self, doubt: Doubt) -> Judgement {
        let blob = &self.in_flight;
        let now = self.deliverer.clock.now();
        let doubts = &self.deliverer.doubts;
        doubts.judge(blob.tag(), doubt, blob.attempts(), blob.expires_at(), now)
    }

    /// Later again, not before `at_least`.
    fn plan_retry(&self, at_least: Duration, reason: String) -> Ending {
        let tag = self.in_flight.tag();
        let failures = self.deliverer.doubts.failed(tag, self.in_flight.attempts());
        let pause = plan_pause(failures, &tag.content_id).max(at_least);
        warn!(tenant = %tag.tenant, content_id = %tag.content_id, retry_in = ?pause, reason, "blob not fetched, will retry");
        Ending::RetryLater {
            not_before: self.deliverer.clock.now() + pause,
            reason,
        }
    }
}

impl Outlet for Carrier {
    fn part(&mut self, part: BlobPart) {
        let part = Arc::new(part);
        let needed = self.in_flight.hand_out(part.key());
        self.send(&part, &needed);
    }

    async fn undecodable(&mut self, stretches: Vec<Undecodable>) -> Result<(), fetch::Error> {
        let tag = self.in_flight.tag();
        let bytes = stretches.iter().map(|stretch| stretch.bytes.len() as u64);
        let (ledger, now) = (&*self.deliverer.ledger, self.deliverer.clock.now());
        let room = self.deliverer.quarantine.take(bytes.sum(), ledger, now);
        room.await?;
        let count = stretches.len() as u64;
        let records = stretches
            .into_iter()
            .map(|stretch| {
                error!(tenant = %tag.tenant, content_id = %tag.content_id, index = stretch.index_in_array, reason = stretch.reason, "record cannot be decoded, quarantined");
                QuarantinedRecord {
                    tenant: tag.tenant,
                    content_type: tag.content_type,
                    content_id: tag.content_id.clone(),
                    record_index: stretch.index_in_array,
                    sink: None,
                    reason: stretch.reason,
                    bytes: stretch.bytes.into(),
                }
            })
            .collect();
        self.deliverer
            .ledger
            .quarantine_records(records, self.deliverer.clock.now())
            .await?;
        self.in_flight.add_quarantined(count);
        self.settler.count_quarantined(&self.in_flight, count);
        Ok(())
    }
}
