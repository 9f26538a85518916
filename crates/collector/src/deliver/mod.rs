//! Blobs that are due → every sink → the ledger. One pass leases what is due, fetches it, hands each part to the lanes
//! of the sinks that lack it, and settles each blob when its last part has arrived everywhere.

mod batches;
mod carrier;
mod doubts;
mod health;
mod in_flight;
mod lane;
mod pauses;
mod places;
mod repeats;
mod settle;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unsent;
mod unsettled;
mod wanted;
mod withheld;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use activity_api::TenantId;
use jiff::Timestamp;
use ledger::{Lease, LeaseRequest, Ledger, SinkName};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::Clock;
use crate::memory::Memory;
use crate::microsoft::Microsoft;
use crate::quarantine::Bound;
use crate::sinks::Sink;
use crate::status::Live;
use crate::telemetry;
use batches::LaneItem;
use carrier::{Carrier, Hurry};
use in_flight::{Ending, InFlight};
use lane::Lane;
use places::Carried;
use repeats::Claims;
use settle::Settler;

pub(crate) use doubts::Doubts;
pub(crate) use health::Health;
use health::Readiness;
pub(crate) use pauses::Pauses;
pub use settle::PassCounts;
pub(crate) use unsettled::Unsettled;
pub use wanted::Turn;
pub(crate) use wanted::Wanted;

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
    pub(crate) quarantine: Arc<Bound>,
    pub(crate) max_concurrent: usize,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) doubts: Doubts,
    pub(crate) unsettled: Arc<Unsettled>,
    /// How long a lease lasts before it must be renewed. Renewed at a third of it, so two renewals may fail. Too short
    /// and a stall makes two workers deliver the same blob; too long and a dead worker's blobs wait.
    pub(crate) lease: Duration,
    pub(crate) wanted: Arc<Wanted>,
    /// For how long a record that a sink took is not given to it again; nothing for records that may come again.
    pub(crate) dedupe: Option<Duration>,
}

/// Which of the blobs that are due a pass delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// All of them.
    Due,
    /// Those that were asked for, until nobody asks any more.
    Wanted,
}

impl Deliverer {
    /// Delivers everything that is due and of `choice`, until nothing is, or `stop` says to begin nothing new. When
    /// `hurry` comes as well, what is under way is given up: its leases are released and nothing of it is lost.
    ///
    /// # Errors
    /// Only when the ledger cannot lease. What goes wrong with single blobs is settled with the blob.
    ///
    /// # If interrupted
    /// Leases run out, or are freed when the ledger is opened again; what sinks acknowledged stays acknowledged.
    pub(crate) async fn deliver(
        self: &Arc<Self>,
        choice: Choice,
        stop: &CancellationToken,
        hurry: &CancellationToken,
    ) -> Result<PassCounts, ledger::Error> {
        self.wanted.begin_pass();
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
            Arc::clone(&self.quarantine),
            self.lease,
            Arc::clone(&self.wanted),
        ));
        let (lanes, mut lane_tasks) = self.open_lanes(&settler, hurry);
        let pass = Pass {
            deliverer: Arc::clone(self),
            settler: Arc::clone(&settler),
            lanes,
            choice,
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
        let result = crate::waiting::select! {
            result = work => result,
            never = settler.renew_now_and_then() => match never {},
        };
        telemetry::memory_in_flight(self.memory.held_bytes());
        self.memory.rest();
        result.map(|()| settler.counts())
    }

    /// [`Deliverer::deliver`] of all that is due.
    #[cfg(test)]
    async fn deliver_due(
        self: &Arc<Self>,
        stop: &CancellationToken,
        hurry: &CancellationToken,
    ) -> Result<PassCounts, ledger::Error> {
        self.deliver(Choice::Due, stop, hurry).await
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
                quarantine: Arc::clone(&self.quarantine),
                settler: Arc::clone(settler),
                clock: Arc::clone(&self.clock),
                live: self.live.clone(),
                hurry: hurry.clone(),
                share_bytes: self.memory.share(self.sinks.len()),
                encoding: self.memory.encoding(self.sinks.len()),
                dedupe: self.dedupe,
                claims: Claims::default(),
            });
            // Unbounded in number, bounded in bytes: every part holds its share of `Memory`.
            let (sender, items) = mpsc::unbounded_channel();
            tasks.spawn(lane.run(items));
            senders.push(sender);
        }
        (senders, tasks)
    }

    /// One blob for each sink that has to show that it works, to be leased before anything else. Nothing when there is
    /// no such sink.
    fn trial_request(&self, busy: &[TenantId], now: Timestamp) -> Option<LeaseRequest> {
        let on_trial = |health: &Health| health.readiness(now) == Readiness::Trial;
        let for_sinks: Vec<_> = self
            .sinks
            .iter()
            .filter(|(_, health)| on_trial(health))
            .map(|(sink, _)| sink.name().clone())
            .collect();
        let request = self.request_for(1, busy.to_vec(), for_sinks, now);
        (!request.for_sinks.is_empty()).then_some(request)
    }

    fn trial_begins(&self, on_trial: &[SinkName], now: Timestamp) {
        for (sink, health) in &self.sinks {
            if on_trial.contains(sink.name()) {
                health.trial_begins(now);
            }
        }
    }

    /// What to lease at `now`, leaving out `busy` tenants. Nothing while every sink is down.
    fn lease_request(
        &self,
        max_count: usize,
        busy: Vec<TenantId>,
        choice: Choice,
        now: Timestamp,
    ) -> Option<LeaseRequest> {
        // What was asked for by name is not more than a trial.
        let is_up = |health: &Health| match health.readiness(now) {
            Readiness::Up => true,
            Readiness::Trial => choice == Choice::Wanted,
            Readiness::Down => false,
        };
        let (up, down): (Vec<_>, Vec<_>) = self.sinks.iter().partition(|(_, health)| is_up(health));
        // Fetching for sinks that are all down would be in vain.
        if up.is_empty() {
            return None;
        }
        let for_sinks = if down.is_empty() {
            Vec::new()
        } else {
            up.iter().map(|(sink, _)| sink.name().clone()).collect()
        };
        Some(self.request_for(max_count, busy, for_sinks, now))
    }

    fn request_for(
        &self,
        max_count: usize,
        busy: Vec<TenantId>,
        for_sinks: Vec<SinkName>,
        now: Timestamp,
    ) -> LeaseRequest {
        let mut except_tenants = self.pauses.paused(now);
        except_tenants.extend(busy);
        // Whose budget is used up for longer could not be fetched, and would only hold what others can use.
        let throttled = self
            .tenants
            .iter()
            .filter(|(_, door)| door.budget().paused_for().is_some());
        except_tenants.extend(throttled.map(|(tenant, _)| *tenant));
        LeaseRequest {
            max_count,
            duration: self.lease,
            except_tenants,
            for_sinks,
            only: Vec::new(),
        }
    }
}

/// One pass over what is due.
struct Pass {
    deliverer: Arc<Deliverer>,
    settler: Arc<Settler>,
    lanes: Vec<UnboundedSender<LaneItem>>,
    choice: Choice,
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
        let mut carried = Carried::new(&self.deliverer.tenants, concurrent);
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
            crate::waiting::select! {
                Some(ended) = fetching.join_next_with_id() => {
                    self.note_end(ended, &mut carried).await;
                    // Something may have come due meanwhile, or been put back.
                    nothing_due = false;
                }
                () = self.settler.settled() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => nothing_due = false,
                () = self.deliverer.wanted.one_more(), if self.choice == Choice::Wanted => nothing_due = false,
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
        let wanted = &self.deliverer.wanted;
        let tried = match self.choice {
            Choice::Due => Vec::new(),
            Choice::Wanted => wanted.next(max_count, &busy),
        };
        if self.choice == Choice::Wanted && tried.is_empty() {
            return Ok(Vec::new());
        }
        let trial = match self.choice {
            Choice::Due => self.deliverer.trial_request(&busy, now),
            Choice::Wanted => None,
        };
        if let Some(request) = trial {
            let leases = self.settler.lease(&request, now).await?;
            for lease in &leases {
                self.settler.hold(lease.key());
            }
            if !leases.is_empty() {
                self.deliverer.trial_begins(&request.for_sinks, now);
                return Ok(leases);
            }
        }
        let request = self
            .deliverer
            .lease_request(max_count, busy, self.choice, now);
        let Some(request) = request else {
            // They stay due, and whoever asked need not wait for a sink that is down.
            wanted.leased(&tried, Vec::new());
            return Ok(Vec::new());
        };
        let request = LeaseRequest {
            only: tried.clone(),
            ..request
        };
        let leases = match self.settler.lease(&request, now).await {
            Ok(leases) => leases,
            Err(error) => {
                wanted.failed(&tried);
                return Err(error);
            }
        };
        for lease in &leases {
            self.settler.hold(lease.key());
        }
        self.settler.renew_after_a_stall(now).await;
        if self.choice == Choice::Wanted {
            let leased = leases.iter().map(|lease| (lease.key(), lease.name()));
            wanted.leased(&tried, leased.collect());
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
        let hurry = match self.deliverer.wanted.give_up_of(in_flight.key()) {
            Some(give_up) => Hurry::OneOrAll(give_up, hurry.clone()),
            None => Hurry::All(hurry.clone()),
        };
        let carrier = Carrier {
            deliverer: Arc::clone(&self.deliverer),
            settler: Arc::clone(&self.settler),
            microsoft: Arc::clone(microsoft),
            in_flight: Arc::clone(&in_flight),
            lanes: self.lanes.clone(),
            hurry,
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
