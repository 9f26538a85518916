//! The pipeline as its hosts drive it: bounded steps ([`Pipeline::discover_once`], [`Pipeline::run_once`]) and the
//! loop of the long-running host ([`Pipeline::run_until`]), which calls nothing else.

mod compacting;
mod discovering;
mod foreseeing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use ledger::{BlobName, Ledger, SinkName};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use crate::deliver::{PassCounts, Turn};

use crate::clock::Clock;
use crate::config::{Config, FetchConfig, PollConfig, WebhookConfig};
use crate::deliver::{Choice, Deliverer, Doubts, Health, Pauses};
use crate::discover::notify::Feeds;
use crate::discover::poll::Progress;
use crate::expiry::Foresight;
use crate::http::Transport;
use crate::memory::Memory;
use crate::microsoft::Microsoft;
use crate::quarantine::Bound;
use crate::sinks::{self, Sink};
use crate::status::Live;
use crate::telemetry;

/// The longest that a blob which came due by time alone (a retry, a freed lease) waits to be noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long work under way may still take once the process is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// The whole way of a record, from Microsoft to every sink.
pub struct Pipeline {
    tenants: Vec<Tenant>,
    webhook: Option<WebhookConfig>,
    /// Not in a function app: there Master does, with an auth id of its own making that no configuration has at first.
    keeps_subscriptions: bool,
    poll: PollConfig,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    live: Live,
    deliverer: Arc<Deliverer>,
    quarantine: Arc<Bound>,
    pauses: Arc<Pauses>,
    foresight: Foresight,
    /// Somebody noted new blobs.
    news: Arc<Notify>,
    /// Held by the pass that delivers: of two, a sink with a position could not say where it is.
    passing: AsyncMutex<()>,
}

struct Tenant {
    microsoft: Arc<Microsoft>,
    content_types: Vec<ContentType>,
    progress: HashMap<ContentType, Progress>,
    /// When the subscriptions are to be looked after again.
    subscribe_at: Mutex<Option<Timestamp>>,
}

/// What one step brought about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Blobs that were not known before.
    pub new_blobs: u64,
    /// Content types that could not be listed.
    pub failed_listings: u64,
    /// What was delivered, and what was not.
    pub delivery: PassCounts,
    /// Blobs that the ledger still waits for: their next try is yet to come.
    pub waiting_blobs: u64,
}

impl Step {
    /// Whether all went as it should.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let PassCounts {
            quarantined,
            expired_blobs,
            ..
        } = self.delivery;
        self.failed_listings == 0
            && self.waiting_blobs == 0
            && quarantined == 0
            && expired_blobs == 0
    }
}

/// Why the pipeline cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger does not answer.
    #[error("the ledger does not answer")]
    Ledger(#[from] ledger::Error),
    /// A sink cannot work as configured.
    #[error("sink {sink} cannot start")]
    Sink {
        /// Which.
        sink: SinkName,
        /// Why, and what to do.
        #[source]
        source: sinks::Error,
    },
}

impl Pipeline {
    /// The pipeline of this configuration, with everything it needs from outside. Nothing is sent yet.
    #[must_use]
    pub fn new(
        config: &Config,
        sinks: Vec<Arc<dyn Sink>>,
        http: &Arc<dyn Transport>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        live: Live,
    ) -> Self {
        let FetchConfig {
            max_concurrent,
            max_memory_bytes,
            requests_per_minute,
            lease,
        } = config.fetch;
        let tenants: Vec<_> = config
            .tenants
            .iter()
            .map(|tenant| {
                live.add_tenant(tenant.id, &tenant.content_types);
                if let Some(ends_at) = tenant.credential.ends_at() {
                    live.credential_ends(tenant.id, ends_at);
                    telemetry::credential_ends(tenant.id, ends_at);
                }
                let microsoft = Microsoft::new(
                    tenant,
                    requests_per_minute,
                    Arc::clone(http),
                    Arc::clone(&clock),
                );
                Tenant {
                    microsoft: Arc::new(microsoft),
                    content_types: tenant.content_types.clone(),
                    progress: tenant
                        .content_types
                        .iter()
                        .map(|content_type| (*content_type, Progress::default()))
                        .collect(),
                    subscribe_at: Mutex::new(None),
                }
            })
            .collect();
        let pauses = Arc::new(Pauses::default());
        let doors: HashMap<TenantId, _> = tenants
            .iter()
            .map(|tenant| (tenant.microsoft.tenant(), Arc::clone(&tenant.microsoft)))
            .collect();
        let sinks = sinks
            .into_iter()
            .map(|sink| {
                live.add_sink(sink.name());
                let health = Arc::new(Health::new(sink.name().clone()));
                (sink, health)
            })
            .collect();
        let quarantine = Arc::new(Bound::new(config.quarantine.max_bytes, live.clone()));
        let news = Arc::new(Notify::new());
        let deliverer = Arc::new(Deliverer {
            tenants: doors,
            sinks,
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            live: live.clone(),
            memory: Memory::new(max_memory_bytes),
            quarantine: Arc::clone(&quarantine),
            max_concurrent,
            pauses: Arc::clone(&pauses),
            doubts: Doubts::default(),
            unsettled: Arc::default(),
            lease,
            wanted: Arc::default(),
            news: Arc::clone(&news),
            dedupe: config.dedupe.records,
        });
        Self {
            tenants,
            webhook: config.webhook.clone(),
            keeps_subscriptions: config.site.is_none(),
            poll: config.poll,
            ledger,
            clock,
            live,
            deliverer,
            quarantine,
            pauses,
            foresight: Foresight::default(),
            news,
            passing: AsyncMutex::default(),
        }
    }

    /// What bounds the text in flight.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Memory {
        &self.deliverer.memory
    }

    /// Each tenant's door to Microsoft, for whoever else works for the tenants: they share its token and its budget.
    #[must_use]
    pub fn doors(&self) -> Vec<(Arc<Microsoft>, Vec<ContentType>)> {
        self.tenants
            .iter()
            .map(|tenant| (Arc::clone(&tenant.microsoft), tenant.content_types.clone()))
            .collect()
    }

    /// Which notifications are for us.
    #[must_use]
    pub fn feeds(&self) -> Feeds {
        self.tenants
            .iter()
            .map(|tenant| {
                (
                    tenant.microsoft.feed().clone(),
                    tenant.content_types.clone(),
                )
            })
            .collect()
    }

    /// To be told when a notification has brought new blobs, so that they need not wait for the next look.
    #[must_use]
    pub fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Puts every sink where the ledger saw it last.
    ///
    /// # Errors
    /// When a sink cannot work as configured.
    ///
    /// # If interrupted
    /// Sinks are put back again at the next start.
    pub async fn start(&self) -> Result<(), StartError> {
        for (sink, _) in &self.deliverer.sinks {
            let position = self.ledger.position(sink.name()).await?;
            let resumed = sink.resume(position.as_deref()).await;
            resumed.map_err(|source| StartError::Sink {
                sink: sink.name().clone(),
                source,
            })?;
        }
        // What was delivered since would be missing in what is remembered, and to remember it costs room.
        if self.deliverer.dedupe.is_none()
            && let Err(cause) = self.ledger.forget_records(self.clock.now()).await
        {
            warn!(
                cause = &cause as &dyn std::error::Error,
                "the ledger does not forget records that need not be remembered"
            );
        }
        self.live.running();
        Ok(())
    }

    /// One bounded pass: list what became available, then deliver all that is due. Begins nothing new once `stop` is
    /// set, and gives up what is under way ten seconds later.
    ///
    /// # Errors
    /// Only when the ledger cannot lease.
    ///
    /// # If interrupted
    /// See the stages: nothing is lost, the next pass goes on where this one was.
    pub async fn run_once(&self, stop: &CancellationToken) -> Result<Step, ledger::Error> {
        let mut step = Step::default();
        crate::waiting::select! {
            (new_blobs, failed) = self.discover_once() => {
                step.new_blobs = new_blobs;
                step.failed_listings = failed;
            }
            () = stop.cancelled() => {}
        }
        step.delivery = self.deliver_once(Choice::Due, stop).await?;
        let look = self.quarantine.look();
        let summary = self.ledger.summary(self.clock.now()).await?;
        self.quarantine.measured(look, &summary, self.clock.now());
        step.waiting_blobs = summary
            .streams
            .iter()
            .map(|stream| stream.pending_count + stream.leased_count)
            .sum();
        Ok(step)
    }

    /// Works until `stop` is set, then ends what is under way within ten seconds or gives it back.
    ///
    /// # If interrupted
    /// As [`Pipeline::run_once`].
    pub async fn run_until(&self, stop: &CancellationToken) {
        tokio::join!(
            self.discover_until(stop),
            self.deliver_until(stop),
            self.compact_until(stop)
        );
        self.live.stopping();
    }

    /// Keeps the metrics of the ledger's state, and looks ahead.
    async fn count_until(&self, stop: &CancellationToken) {
        let mut ticks = self.ticks();
        loop {
            crate::waiting::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            self.look_ahead().await;
        }
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = tokio::time::interval(self.poll.interval);
        // A listing that took longer than the interval is followed by one, not by all that were missed.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    }

    async fn deliver_until(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.deliver_or_tell(Choice::Due, stop).await;
            let wait = self
                .deliverer
                .all_sinks_paused_until(self.clock.now())
                .map_or(LOOK_AGAIN, |until| {
                    until
                        .duration_since(self.clock.now())
                        .try_into()
                        .unwrap_or(LOOK_AGAIN)
                });
            crate::waiting::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Delivers all that is due, without looking for more.
    ///
    /// # Errors
    /// Only when the ledger cannot lease.
    ///
    /// # If interrupted
    /// As [`Pipeline::run_once`].
    pub async fn deliver_due_once(
        &self,
        stop: &CancellationToken,
    ) -> Result<PassCounts, ledger::Error> {
        self.deliver_once(Choice::Due, stop).await
    }

    /// Delivers the blobs that [`Pipeline::deliver_blob`] asks for, until `stop` is set; then ends what is under way
    /// within ten seconds or gives it back.
    ///
    /// # If interrupted
    /// As [`Pipeline::run_once`].
    pub async fn deliver_wanted_until(&self, stop: &CancellationToken) {
        let wanted = &self.deliverer.wanted;
        loop {
            crate::waiting::select! {
                biased;
                () = stop.cancelled() => break,
                () = wanted.wait() => self.deliver_or_tell(Choice::Wanted, stop).await,
            }
        }
        wanted.close();
        self.live.stopping();
    }

    /// Has one blob delivered, if it is due and nobody else has it, by [`Pipeline::deliver_wanted_until`], which must be
    /// running. Many may be asked for at once. When `give_up` comes, the blob is given back, and the answer comes within
    /// ten seconds.
    ///
    /// # If interrupted
    /// The blob goes on its way without anybody waiting for it.
    pub async fn deliver_blob(&self, name: BlobName, give_up: impl Future<Output = ()>) -> Turn {
        let wanted = &self.deliverer.wanted;
        let mut turn = wanted.ask(name.clone());
        crate::waiting::select! {
            biased;
            turn = &mut turn => return turn.unwrap_or(Turn::NotTried),
            () = give_up => wanted.give_up(&name),
        }
        // What is in a sink's hands may still be taken.
        match timeout(GRACE, turn).await {
            Ok(turn) => turn.unwrap_or(Turn::NotTried),
            Err(_elapsed) => Turn::Ended,
        }
    }

    async fn deliver_or_tell(&self, choice: Choice, stop: &CancellationToken) {
        if let Err(cause) = self.deliver_once(choice, stop).await {
            error!(
                cause = &cause as &dyn std::error::Error,
                "the ledger leases nothing"
            );
        }
    }

    /// One pass of delivering, and the upkeep of the sinks behind it; see [`Deliverer::deliver`].
    async fn deliver_once(
        &self,
        choice: Choice,
        stop: &CancellationToken,
    ) -> Result<PassCounts, ledger::Error> {
        let passing = self.passing.lock().await;
        let hurry = CancellationToken::new();
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
            hurry.cancel();
            std::future::pending::<()>().await;
        };
        let result = crate::waiting::select! {
            result = self.deliverer.deliver(choice, stop, &hurry) => result,
            () = deadline => unreachable!("it waits for ever"),
        };
        self.tick_sinks().await;
        drop(passing);
        result
    }

    /// Between passes no sink has anything under way, so one with a position may rotate. Not while the ledger does not
    /// know what the sink wrote last: it would rotate what it must take back.
    async fn tick_sinks(&self) {
        for (sink, _) in self
            .deliverer
            .sinks
            .iter()
            .filter(|(_, health)| !health.must_resume())
        {
            if let Err(cause) = sink.tick().await {
                warn!(sink = %sink.name(), cause = &cause as &dyn std::error::Error, "sink upkeep failed");
            }
        }
    }
}

impl Tenant {
    fn subscribe_at(&self) -> Option<Timestamp> {
        *self
            .subscribe_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_subscribe_at(&self, at: Timestamp) {
        *self
            .subscribe_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn clear_subscribe_at(&self) {
        *self
            .subscribe_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }
}
