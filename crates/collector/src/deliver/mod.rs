//! Blobs that are due → every sink → the ledger. One pass leases what is due, fetches it, hands each part to the lanes
//! of the sinks that lack it, and settles each blob when its last part has arrived everywhere.

mod acknowledging;
mod batches;
mod breadth;
mod carrier;
mod doubts;
mod health;
mod in_flight;
mod kept;
mod lane;
mod pass;
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

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use activity_api::TenantId;
use jiff::Timestamp;
use ledger::{LeaseRequest, Ledger, SinkName};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;
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
use lane::Lane;
use pass::Pass;
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
    /// Told when somebody noted new blobs.
    pub(crate) news: Arc<Notify>,
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
            lanes: lanes.into(),
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
        (!for_sinks.is_empty()).then(|| self.request_for(1, busy.to_vec(), for_sinks, now))
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
