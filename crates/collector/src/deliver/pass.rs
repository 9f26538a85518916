//! One pass over what is due: leases blobs ahead of need, and has as many of them fetched at once as there are places for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use activity_api::TenantId;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ledger::{Lease, LeaseRequest};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::batches::LaneItem;
use super::breadth::Breadth;
use super::carrier::{Carrier, Hurry};
use super::in_flight::{Ending, InFlight};
use super::places::Carried;
use super::settle::Settler;
use super::{Choice, Deliverer};
use crate::telemetry;

/// How often a pass looks for what came due meanwhile, while it has nothing else to begin.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Leases are asked for by as many at once as are begun in such a time: each question is a commit of the ledger's.
const AHEAD: Duration = Duration::from_millis(100);
/// But by no more: what is leased here is leased to nobody else.
const MOST_AHEAD: usize = 256;

/// How many blobs to lease at a time, by how many were begun since that was decided last.
struct Ahead {
    since: Instant,
    begun: usize,
    count: usize,
}

impl Ahead {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            begun: 0,
            count: 0,
        }
    }

    /// At least two rounds of `concurrent` fetches.
    fn count(&mut self, concurrent: usize) -> usize {
        let took = self.since.elapsed();
        if took >= AHEAD {
            let rounds = took.as_secs_f64() / AHEAD.as_secs_f64();
            self.count = (self.begun as f64 / rounds) as usize;
            (self.since, self.begun) = (Instant::now(), 0);
        }
        self.count.min(MOST_AHEAD).max(2 * concurrent)
    }
}

/// What a pass knows of what is due beyond what it has leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nothing: the ledger is to be asked.
    Unknown,
    /// The ledger was asked, and nothing has happened since that its answer may not know of.
    Asked,
    /// There was nothing.
    Nothing,
}

/// One pass over what is due.
pub(super) struct Pass {
    pub(super) deliverer: Arc<Deliverer>,
    pub(super) settler: Arc<Settler>,
    pub(super) lanes: Arc<[UnboundedSender<LaneItem>]>,
    pub(super) choice: Choice,
}

impl Pass {
    /// Leases, and begins what is leased, until nothing is due and nothing under way, or `stop` says to begin nothing new.
    ///
    /// # Errors
    /// When the ledger cannot lease.
    ///
    /// # If interrupted
    /// What is leased comes again when the leases run out.
    pub(super) async fn run(
        &self,
        stop: &CancellationToken,
        hurry: &CancellationToken,
    ) -> Result<(), ledger::Error> {
        let most = self
            .deliverer
            .memory
            .concurrent_reads(self.deliverer.max_concurrent);
        let mut breadth = Breadth::new(most);
        let mut leased: VecDeque<Lease> = VecDeque::new();
        let mut fetching = JoinSet::new();
        let mut carried = Carried::new(&self.deliverer.tenants, breadth.now());
        let mut due = Due::Unknown;
        let mut ahead = Ahead::new();
        let memory_gauge = telemetry::memory_gauge();
        // The ledger is asked while blobs are fetched, and one question at a time.
        let mut asking: Option<BoxFuture<'_, Result<Vec<Lease>, ledger::Error>>> = None;
        let result = loop {
            let concurrent = breadth.now();
            carried.set_places(concurrent);
            self.give_back_paused(&mut leased).await;
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
                ahead.begun += 1;
            }
            if fetching.len() >= concurrent {
                breadth.is_full();
            }
            // Leased ahead by a round or two, so that fetching does not wait for the ledger.
            let ahead_count = ahead.count(concurrent);
            let is_short = leased.len() < ahead_count / 2;
            // And beyond that, of other tenants, when there are places that none of what is leased may have.
            let is_blocked = fetching.len() < concurrent && !leased.is_empty();
            let is_worth_asking = (is_short || is_blocked) && due != Due::Nothing;
            if is_worth_asking && asking.is_none() && !stop.is_cancelled() {
                let busy = if is_blocked {
                    carried.full_tenants()
                } else {
                    Vec::new()
                };
                due = Due::Asked;
                asking = Some(self.lease(ahead_count, busy).boxed());
            }
            // Nothing to fetch is not yet the end: while a sink is slow, the others can be given what comes due meanwhile.
            let is_idle = fetching.is_empty() && asking.is_none();
            if is_idle && (stop.is_cancelled() || self.settler.holds_none()) {
                break Ok(());
            }
            memory_gauge.set(self.deliverer.memory.held_bytes() as f64);
            crate::waiting::select! {
                Some(ended) = fetching.join_next_with_id() => {
                    self.note_end(ended, &mut carried, &mut breadth).await;
                    // All that have ended by now: to be woken for each costs more than to begin the next.
                    while let Some(ended) = fetching.try_join_next_with_id() {
                        self.note_end(ended, &mut carried, &mut breadth).await;
                    }
                    // Something may have come due meanwhile, or been put back.
                    due = Due::Unknown;
                }
                answer = answer_of(&mut asking), if asking.is_some() => {
                    asking = None;
                    match answer {
                        Ok(more) => {
                            // What happened since it was asked may not be in the answer.
                            if more.is_empty() && due == Due::Asked {
                                due = Due::Nothing;
                            } else {
                                due = Due::Unknown;
                            }
                            leased.extend(more);
                        }
                        Err(error) => break Err(error),
                    }
                }
                () = self.settler.settled() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => due = Due::Unknown,
                () = self.deliverer.news.notified(), if self.choice == Choice::Due => due = Due::Unknown,
                () = self.deliverer.wanted.one_more(), if self.choice == Choice::Wanted => due = Due::Unknown,
                // Every carrier sees it as well, and ends.
                () = hurry.cancelled() => break Ok(()),
            }
        };
        // What the ledger gives all the same is given back.
        if let Some(Ok(more)) = match asking {
            Some(asking) => Some(asking.await),
            None => None,
        } {
            leased.extend(more);
        }
        if !leased.is_empty() {
            self.settler.release(leased.into()).await;
        }
        while let Some(ended) = fetching.join_next_with_id().await {
            self.note_end(ended, &mut carried, &mut breadth).await;
        }
        result
    }

    /// Lets go of blobs whose tenant was paused after they were leased, or while they were.
    ///
    /// # If interrupted
    /// The leases run out by themselves.
    async fn give_back_paused(&self, leased: &mut VecDeque<Lease>) {
        if leased.is_empty() {
            return;
        }
        let paused = self.deliverer.pauses.paused(self.deliverer.clock.now());
        if paused.is_empty() {
            return;
        }
        let (back, rest): (Vec<_>, Vec<_>) = leased
            .drain(..)
            .partition(|lease| paused.contains(&lease.tenant()));
        leased.extend(rest);
        if !back.is_empty() {
            self.settler.release(back).await;
        }
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
        let tenant = lease.tenant();
        let in_flight = InFlight::new(lease, self.settler.required());
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
            lanes: Arc::clone(&self.lanes),
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
        breadth: &mut Breadth,
    ) {
        let error = match ended {
            Ok((id, ())) => {
                if let Some((blob, took_whole)) = carried.remove(id)
                    && let Some(door) = self.deliverer.tenants.get(&blob.tag().tenant)
                {
                    let (count, took, needed) = door.answers().take();
                    breadth.note(count, took, needed, took_whole);
                }
                return;
            }
            Err(error) => error,
        };
        let Some((in_flight, _)) = carried.remove(error.id()) else {
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

/// The ledger's answer, when it was asked.
async fn answer_of<T>(asking: &mut Option<BoxFuture<'_, T>>) -> T {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}
