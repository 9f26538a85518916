//! One life of the process: a runtime with paused time, the pipeline in it, and a host that drives it until the life ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ledger::{BlobName, SqliteLedger};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ledger::SimulatedLedger;
use super::microsoft::SimulatedMicrosoft;
use super::notifier::notify;
use super::plan::{Host, Plan, PlannedLife};
use super::sink::SimulatedSink;
use super::world::{LifeClock, World};
use crate::clock::Clock;
use crate::config::{Config, FetchConfig, PollConfig};
use crate::http::Transport;
use crate::run::Pipeline;
use crate::sinks::Sink;
use crate::status::Live;
use crate::testing::tenant_config;

/// A pass that takes longer than this does not end at all: nothing in a calm world takes so long.
const LONGEST_PASS: Duration = Duration::from_secs(2 * 3_600);

/// Lives one life that begins at `at`. When it ended.
pub(crate) fn live(
    world: &Arc<World>,
    ledger: SqliteLedger,
    at: Timestamp,
    life: &PlannedLife,
) -> (SqliteLedger, Timestamp) {
    run(
        world,
        ledger,
        at,
        life.dies_in,
        async |pipeline, ledger, clock| {
            if let Err(cause) = pipeline.start().await {
                world.note(|| format!("it cannot start: {cause}"));
                return;
            }
            let stop = CancellationToken::new();
            let host = async {
                match life.host {
                    Host::Loop => pipeline.run_until(&stop).await,
                    Host::Passes(pause) => pass_until(world, &pipeline, pause, &stop).await,
                    Host::Wanted => wanted_until(world, &pipeline, &stop).await,
                }
            };
            let stopping = async {
                sleep(life.stops_after).await;
                world.note(|| "it is told to stop".to_owned());
                stop.cancel();
                // It ends what is under way within ten seconds; what a slow step adds is ours.
                sleep(LONGEST_PASS).await;
                world.violate("it was told to stop and does not");
            };
            tokio::select! {
                biased;
                () = host => {}
                () = stopping => {}
                () = notify(world, &pipeline, &ledger, &clock) => {}
            }
        },
    )
}

/// A life in which nothing goes wrong any more: passes until everything has ended.
pub(crate) fn recover(
    world: &Arc<World>,
    ledger: SqliteLedger,
    at: Timestamp,
) -> (SqliteLedger, Timestamp) {
    run(world, ledger, at, None, async |pipeline, ledger, clock| {
        if let Err(cause) = pipeline.start().await {
            world.violate(format!("it cannot start in calm weather: {cause}"));
            return;
        }
        let passes = async {
            let until = clock.now() + world.plan.patience;
            let mut extra_passes = 2;
            while clock.now() < until && extra_passes > 0 {
                let stop = CancellationToken::new();
                match timeout(LONGEST_PASS, pipeline.run_once(&stop)).await {
                    Ok(Ok(step)) => world.note(|| format!("{step:?}")),
                    Ok(Err(cause)) => world.violate(format!("a pass in calm weather: {cause}")),
                    Err(_elapsed) => {
                        world.violate("a pass does not end");
                        return;
                    }
                }
                if world.state().unfinished(&world.plan).is_empty() {
                    extra_passes -= 1;
                }
                sleep(Duration::from_secs(600)).await;
            }
        };
        tokio::select! {
            biased;
            () = passes => {}
            () = notify(world, &pipeline, &ledger, &clock) => {}
        }
    })
}

/// Sets up a process, lets `host` drive it until it ends or dies, and takes it down. The ledger, as the next process
/// finds it, and the time.
fn run(
    world: &Arc<World>,
    ledger: SqliteLedger,
    at: Timestamp,
    dies_in: Option<usize>,
    host: impl AsyncFnOnce(Arc<Pipeline>, Arc<SimulatedLedger>, Arc<dyn Clock>),
) -> (SqliteLedger, Timestamp) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (ledger, ended_at) = runtime.block_on(async {
        world.begin_life(at, dies_in);
        let clock: Arc<dyn Clock> = Arc::new(LifeClock {
            start: at,
            started: Instant::now(),
        });
        let ledger = Arc::new(SimulatedLedger::new(world, ledger));
        let live = Live::new(clock.now());
        let pipeline = Arc::new(pipeline(world, &ledger, &clock, live.clone()));
        world.watch(pipeline.memory().clone(), live);
        tokio::select! {
            biased;
            () = world.death() => {}
            () = host(Arc::clone(&pipeline), Arc::clone(&ledger), Arc::clone(&clock)) => {}
        }
        (ledger, clock.now())
    });
    // Whatever still runs ends here, wherever it stands.
    drop(runtime);
    world.end_life(ended_at);
    let ledger = Arc::into_inner(ledger).expect("nobody is left who has it");
    let reopened = ledger.into_inner().reopened_in_memory();
    (reopened.expect("it is in memory").unwrap(), ended_at)
}

fn pipeline(
    world: &Arc<World>,
    ledger: &Arc<SimulatedLedger>,
    clock: &Arc<dyn Clock>,
    live: Live,
) -> Pipeline {
    let sinks = (0..world.plan.sinks.len())
        .map(|index| Arc::new(SimulatedSink::new(world, index)) as Arc<dyn Sink>)
        .collect();
    let http: Arc<dyn Transport> = Arc::new(SimulatedMicrosoft(Arc::clone(world)));
    Pipeline::new(
        &config(&world.plan),
        sinks,
        &http,
        Arc::<SimulatedLedger>::clone(ledger),
        Arc::clone(clock),
        live,
    )
}

fn config(plan: &Plan) -> Config {
    let tenants = plan.tenants.iter();
    let tenants = tenants.map(|id| tenant_config(*id, &plan.content_types));
    Config {
        poll: PollConfig {
            interval: plan.poll_interval,
            first_lookback: plan.first_lookback,
        },
        fetch: FetchConfig {
            max_concurrent: plan.max_concurrent,
            max_memory_bytes: plan.max_memory_bytes,
            requests_per_minute: plan.requests_per_minute,
            lease: plan.lease,
        },
        ..crate::testing::config(tenants.collect())
    }
}

/// One pass after the other, as a timer drives them.
async fn pass_until(world: &World, pipeline: &Pipeline, pause: Duration, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(cause) = pipeline.run_once(stop).await {
            world.note(|| format!("a pass failed: {cause}"));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Lists, and asks for what is known by name, as the triggers of a function app do.
async fn wanted_until(world: &World, pipeline: &Pipeline, stop: &CancellationToken) {
    let asking = async {
        loop {
            pipeline.discover_once().await;
            let names: Vec<_> = world.state().waiting(&world.plan);
            let turns = names
                .into_iter()
                .map(|name: BlobName| pipeline.deliver_blob(name, sleep(Duration::from_secs(40))));
            for turn in futures::future::join_all(turns).await {
                world.note(|| format!("{turn:?}"));
            }
            sleep(Duration::from_secs(15)).await;
        }
    };
    tokio::select! {
        biased;
        () = pipeline.deliver_wanted_until(stop) => {}
        () = asking => {}
    }
}
