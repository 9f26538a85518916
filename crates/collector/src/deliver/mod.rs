//! Blobs that are due → every sink → the ledger. One pass leases what is due, fetches it, hands each part to the lanes
//! of the sinks that lack it, and settles each blob when its last part has arrived everywhere.

mod doubts;
mod health;
mod in_flight;
mod lane;
mod pauses;
mod places;
mod settle;
#[cfg(test)]
mod tests;
mod unsettled;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use activity_api::{BlobReason, NextStep, TenantId};
use jiff::Timestamp;
use ledger::{Lease, LeaseRequest, Ledger, QuarantinedRecord};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock::Clock;
use crate::decode::{self, Undecodable};
use crate::fetch::{self, Outlet, fetch_blob};
use crate::memory::Memory;
use crate::microsoft::Microsoft;
use crate::record::BlobPart;
use crate::sinks::Sink;
use crate::status::Live;
use crate::telemetry;
use doubts::{Doubt, Judgement};
use in_flight::{Ending, InFlight};
use lane::{Lane, LaneItem};
use pauses::plan_pause;
use places::Carried;
use settle::Settler;

pub(crate) use doubts::Doubts;
pub(crate) use health::Health;
pub(crate) use pauses::Pauses;
pub use settle::PassCounts;
pub(crate) use unsettled::Unsettled;

/// How long a lease lasts before it must be renewed. Renewed at a third of it, so two renewals may fail. Too short and
/// a stall makes two workers deliver the same blob; too long and a dead worker's blobs wait.
const LEASE: Duration = Duration::from_secs(600);
/// How often a pass looks for what came due meanwhile, while it has nothing else to begin.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Everything that delivering needs, beyond one pass.
pub(crate) struct Deliverer {
    pub(crate) tenants: HashMap<TenantId, Arc<Microsoft>>,
    pub(crate) sinks: Vec<(Arc<dyn Sink>, Arc<Health>)>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) live: Live,
    pub(crate) memory: Memory,
    pub(crate) max_concurrent: usize,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) doubts: Doubts,
    pub(crate) unsettled: Arc<Unsettled>,
}

impl Deliverer {
    /// Delivers everything that is due, until nothing is, or `stop` says to begin nothing new. When `hurry` comes as
    /// well, what is under way is given up: its leases are released and nothing of it is lost.
    ///
    /// # Errors
    /// Only when the ledger cannot lease. What goes wrong with single blobs is settled with the blob.
    ///
    /// # If interrupted
    /// Leases run out, or are freed when the ledger is opened again; what sinks acknowledged stays acknowledged.
    pub(crate) async fn deliver_due(
        self: &Arc<Self>,
        stop: &CancellationToken,
        hurry: &CancellationToken,
    ) -> Result<PassCounts, ledger::Error> {
        let names = self
            .sinks
            .iter()
            .map(|(sink, _)| sink.name().clone())
            .collect();
        let settler = Arc::new(Settler::new(
            Arc::clone(&self.ledger),
            names,
            Arc::clone(&self.clock),
            self.live.clone(),
            Arc::clone(&self.unsettled),
        ));
        let (lanes, mut lane_tasks) = self.open_lanes(&settler, hurry);
        let pass = Pass {
            deliverer: Arc::clone(self),
            settler: Arc::clone(&settler),
            lanes,
        };
        let work = async {
            let result = pass.run(stop, hurry).await;
            drop(pass);
            // The lanes end when the last sender is gone and all that was handed to them has arrived or was given up.
            while let Some(ended) = lane_tasks.join_next().await {
                if let Err(cause) = ended {
                    error!(%cause, "a sink's lane ended by a defect, its blobs come again");
                }
            }
            settler.look_after_ledger().await;
            result
        };
        // No task of its own: it would go on renewing when this future is dropped, and keep blobs from everybody.
        let result = tokio::select! {
            result = work => result,
            never = settler.renew_now_and_then() => match never {},
        };
        telemetry::memory_in_flight(self.memory.held_bytes());
        result.map(|()| settler.counts())
    }

    /// When something can be delivered again, when every sink is down at present.
    pub(crate) fn all_sinks_paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.sinks
            .iter()
            .map(|(_, health)| health.paused_until(now))
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .min()
    }

    fn open_lanes(
        &self,
        settler: &Arc<Settler>,
        hurry: &CancellationToken,
    ) -> (Vec<UnboundedSender<LaneItem>>, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let mut senders = Vec::with_capacity(self.sinks.len());
        for (index, (sink, health)) in self.sinks.iter().enumerate() {
            let lane = Arc::new(Lane {
                index,
                sink: Arc::clone(sink),
                health: Arc::clone(health),
                ledger: Arc::clone(&self.ledger),
                settler: Arc::clone(settler),
                clock: Arc::clone(&self.clock),
                live: self.live.clone(),
                hurry: hurry.clone(),
            });
            // Unbounded in number, bounded in bytes: every part holds its share of `Memory`.
            let (sender, items) = mpsc::unbounded_channel();
            tasks.spawn(lane.run(items));
            senders.push(sender);
        }
        (senders, tasks)
    }

    /// What to lease at `now`, leaving out `busy` tenants. Nothing while every sink is down.
    fn lease_request(
        &self,
        max_count: usize,
        busy: Vec<TenantId>,
        now: Timestamp,
    ) -> Option<LeaseRequest> {
        let (up, down): (Vec<_>, Vec<_>) = self
            .sinks
            .iter()
            .partition(|(_, health)| health.paused_until(now).is_none());
        // Fetching for sinks that are all down would be in vain.
        if up.is_empty() {
            return None;
        }
        let for_sinks = if down.is_empty() {
            Vec::new()
        } else {
            up.iter().map(|(sink, _)| sink.name().clone()).collect()
        };
        let mut except_tenants = self.pauses.paused(now);
        except_tenants.extend(busy);
        // Whose budget is used up for longer could not be fetched, and would only hold what others can use.
        let throttled = self
            .tenants
            .iter()
            .filter(|(_, door)| door.budget().paused_for().is_some());
        except_tenants.extend(throttled.map(|(tenant, _)| *tenant));
        Some(LeaseRequest {
            max_count,
            duration: LEASE,
            except_tenants,
            for_sinks,
            only: Vec::new(),
        })
    }
}

/// One pass over what is due.
struct Pass {
    deliverer: Arc<Deliverer>,
    settler: Arc<Settler>,
    lanes: Vec<UnboundedSender<LaneItem>>,
}

impl Pass {
    async fn run(
        &self,
        stop: &CancellationToken,
        hurry: &CancellationToken,
    ) -> Result<(), ledger::Error> {
        let concurrent = self
            .deliverer
            .memory
            .concurrent_reads(self.deliverer.max_concurrent);
        let mut leased: VecDeque<Lease> = VecDeque::new();
        let mut fetching = JoinSet::new();
        let mut carried = Carried::new(self.deliverer.tenants.len(), concurrent);
        let mut nothing_due = false;
        let result = loop {
            while fetching.len() < concurrent && !stop.is_cancelled() {
                let Some(at) = leased
                    .iter()
                    .position(|lease| carried.has_place(lease.tenant()))
                else {
                    break;
                };
                let Some(lease) = leased.remove(at) else {
                    break;
                };
                self.begin(lease, hurry, &mut fetching, &mut carried).await;
            }
            // Leased ahead by one round, so that fetching does not wait for the ledger.
            let is_short = leased.len() < concurrent;
            // And beyond that, of other tenants, when there are places that none of what is leased may have.
            let is_blocked = fetching.len() < concurrent && !leased.is_empty();
            if (is_short || is_blocked) && !nothing_due && !stop.is_cancelled() {
                let busy = if is_blocked {
                    carried.full_tenants()
                } else {
                    Vec::new()
                };
                match self.lease(2 * concurrent, busy).await {
                    Ok(more) => {
                        nothing_due = more.is_empty();
                        leased.extend(more);
                    }
                    Err(error) => break Err(error),
                }
                continue;
            }
            // Nothing to fetch is not yet the end: while a sink is slow, the others can be given what comes due meanwhile.
            if fetching.is_empty() && (stop.is_cancelled() || self.settler.holds_none()) {
                break Ok(());
            }
            telemetry::memory_in_flight(self.deliverer.memory.held_bytes());
            tokio::select! {
                Some(ended) = fetching.join_next_with_id() => {
                    self.note_end(ended, &mut carried).await;
                    // Something may have come due meanwhile, or been put back.
                    nothing_due = false;
                }
                () = self.settler.settled() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => nothing_due = false,
                // Every carrier sees it as well, and ends.
                () = hurry.cancelled() => break Ok(()),
            }
        };
        if !leased.is_empty() {
            self.settler.release(leased.into()).await;
        }
        while let Some(ended) = fetching.join_next_with_id().await {
            self.note_end(ended, &mut carried).await;
        }
        result
    }

    async fn lease(
        &self,
        max_count: usize,
        busy: Vec<TenantId>,
    ) -> Result<Vec<Lease>, ledger::Error> {
        self.settler.renew_after_a_jump().await;
        self.settler.look_after_ledger().await;
        let now = self.deliverer.clock.now();
        let Some(request) = self.deliverer.lease_request(max_count, busy, now) else {
            return Ok(Vec::new());
        };
        let leases = self.settler.lease(&request, now).await?;
        for lease in &leases {
            self.settler.hold(lease.key());
        }
        Ok(leases)
    }

    async fn begin(
        &self,
        lease: Lease,
        hurry: &CancellationToken,
        fetching: &mut JoinSet<()>,
        carried: &mut Carried,
    ) {
        let names: Vec<_> = self
            .deliverer
            .sinks
            .iter()
            .map(|(sink, _)| sink.name().clone())
            .collect();
        let tenant = lease.tenant();
        let in_flight = InFlight::new(lease, &names);
        let Some(microsoft) = self.deliverer.tenants.get(&tenant) else {
            // Left over from a configuration that had this tenant. It may come back.
            let not_before = self.deliverer.clock.now() + Duration::from_secs(3600);
            let reason = "its tenant is not configured any more".to_owned();
            let settled = in_flight.ended(Ending::RetryLater { not_before, reason });
            self.settler.settle(settled.into_iter().collect()).await;
            return;
        };
        let carrier = Carrier {
            deliverer: Arc::clone(&self.deliverer),
            settler: Arc::clone(&self.settler),
            microsoft: Arc::clone(microsoft),
            in_flight: Arc::clone(&in_flight),
            lanes: self.lanes.clone(),
            hurry: hurry.clone(),
        };
        let task = fetching.spawn(carrier.carry());
        carried.insert(task.id(), in_flight);
    }

    /// A panic in one blob's task is that blob's end, not the program's.
    async fn note_end(
        &self,
        ended: Result<(tokio::task::Id, ()), JoinError>,
        carried: &mut Carried,
    ) {
        let error = match ended {
            Ok((id, ())) => {
                carried.remove(id);
                return;
            }
            Err(error) => error,
        };
        let Some(in_flight) = carried.remove(error.id()) else {
            return;
        };
        error!(cause = %error, "a blob's task ended by a defect");
        let reason = "its processing ended by a defect of this program".to_owned();
        let settled = in_flight.ended(Ending::Quarantine {
            reason,
            bytes: Vec::new(),
        });
        self.settler.settle(settled.into_iter().collect()).await;
    }
}

/// Carries one blob from Microsoft to the lanes.
struct Carrier {
    deliverer: Arc<Deliverer>,
    settler: Arc<Settler>,
    microsoft: Arc<Microsoft>,
    in_flight: Arc<InFlight>,
    lanes: Vec<UnboundedSender<LaneItem>>,
    hurry: CancellationToken,
}

impl Carrier {
    async fn carry(mut self) {
        let started = Instant::now();
        let in_flight = Arc::clone(&self.in_flight);
        let microsoft = Arc::clone(&self.microsoft);
        let memory = self.deliverer.memory.clone();
        let hurry = self.hurry.clone();
        let fetched = tokio::select! {
            biased;
            () = hurry.cancelled() => None,
            fetched = fetch_blob(&microsoft, in_flight.uri(), in_flight.tag(), &memory, &mut self) => Some(fetched),
        };
        let settled = match fetched {
            None => in_flight.ended(Ending::Release),
            Some(Ok(fetched)) => {
                let tag = in_flight.tag();
                telemetry::fetched(tag.tenant, tag.content_type, started.elapsed());
                self.deliverer.pauses.clear(tag.tenant);
                self.deliverer.live.tenant_ok(tag.tenant);
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
            Some(Err(error)) => in_flight.ended(self.plan_failed(&error)),
        };
        self.settler.settle(settled.into_iter().collect()).await;
    }

    fn send(&self, part: &Arc<BlobPart>, needed: &[usize]) {
        for index in needed {
            let Some(lane) = self.lanes.get(*index) else {
                continue;
            };
            let item = LaneItem {
                in_flight: Arc::clone(&self.in_flight),
                part: Arc::clone(part),
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
        match self.judge(doubt) {
            Judgement::AskAgain(pause) => self.plan_retry(pause, reason),
            Judgement::Believe => Ending::Quarantine { reason, bytes },
        }
    }

    /// What becomes of a blob that could not be fetched.
    fn plan_failed(&self, error: &fetch::Error) -> Ending {
        let tenant = self.in_flight.tag().tenant;
        let text = chain(error);
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
        let pause = plan_pause(self.in_flight.attempts(), &tag.content_id).max(at_least);
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

    async fn undecodable(&mut self, stretches: Vec<Undecodable>) -> Result<(), ledger::Error> {
        let tag = self.in_flight.tag();
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
                    bytes: stretch.bytes,
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

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent variants repeat their cause's text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
