//! What it costs to have nothing to do: CPU and memory of a collector that polls and finds nothing, the same with very many
//! tenants, and how soon it is ready when its ledger is old.

use std::time::{Duration, Instant};

use benches::microsoft::{CONTENT_TYPES, Config};

use crate::args::{Common, Idle, Sink, folder};
use crate::collector::{Collector, Setup};
use crate::goals::Goals;
use crate::old_ledger::OldLedger;
use crate::simulator::{Options, Simulator};

/// How often each content type of each tenant is to be listed, in seconds.
const INTERVAL: f64 = 60.0;
/// What a listing may come late: its own time and that of those which are due at the same moment.
const LATE: f64 = 5.0;
/// How long very many tenants may take until each of their content types was listed within the last interval.
const SETTLING: Duration = Duration::from_secs(300);
/// Until the first listings, registration and the like are over.
const SETTLED: Duration = Duration::from_secs(10);

pub(crate) fn measure(common: &Common, idle: &Idle, goals: &mut Goals) -> anyhow::Result<()> {
    few(common, idle, goals)?;
    if idle.tenants > 0 {
        many(common, idle, goals)?;
    }
    if idle.blobs > 0 {
        old(common, idle, goals)?;
    }
    Ok(())
}

fn simulator(common: &Common, tenants: u64) -> anyhow::Result<Simulator> {
    let options = Options {
        records: 0,
        records_per_blob: 100,
        tenants,
        ..Options::default()
    };
    Simulator::start(common, &options)
}

/// What a collector with nothing to do takes over so many seconds: per cent of a core, MiB resident, MiB at most.
fn watch(collector: &Collector, seconds: u64) -> anyhow::Result<(f64, f64, f64)> {
    std::thread::sleep(SETTLED);
    let process = &collector.process;
    let (before, started) = (process.cpu_seconds()?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = process.cpu_seconds()? - before;
    let percent = cpu / started.elapsed().as_secs_f64() * 100.0;
    Ok((percent, process.resident_mib()?, process.peak_mib()?))
}

fn few(common: &Common, idle: &Idle, goals: &mut Goals) -> anyhow::Result<()> {
    let simulator = simulator(common, 1)?;
    let collector = Collector::start(common, &simulator, Setup::new(Sink::Alertlogic))?;
    let (percent, resident, peak) = watch(&collector, idle.seconds)?;
    println!(
        "\nidle: one tenant, five content types polled each minute: {percent:.3} % of a core over {} s, \
         {resident:.1} MiB resident, {peak:.1} MiB at most",
        idle.seconds
    );
    goals.at_most("idle: part of a core", percent, 0.1, " %");
    goals.at_most("idle: resident memory", resident, 25.0, " MiB");
    collector.end()
}

fn many(common: &Common, idle: &Idle, goals: &mut Goals) -> anyhow::Result<()> {
    let simulator = simulator(common, idle.tenants)?;
    // One hour back: the first listing of a day would be what is measured.
    let setup = Setup::new(Sink::Alertlogic).set("poll", "lookback_hours", 1);
    let collector = Collector::start(common, &simulator, setup)?;
    let count = idle.tenants as usize * CONTENT_TYPES.len();
    let started = Instant::now();
    let settled = loop {
        std::thread::sleep(Duration::from_secs(2));
        let ages = collector.listing_ages()?;
        let in_time = ages.iter().filter(|age| **age <= INTERVAL + LATE).count();
        if in_time == count || started.elapsed() > SETTLING {
            println!(
                "idle: {} tenants: after {:.0} s, {in_time} of {count} listings are of the last {INTERVAL:.0} s",
                idle.tenants,
                started.elapsed().as_secs_f64()
            );
            break in_time == count;
        }
    };
    let (percent, resident, peak) = watch(&collector, idle.seconds)?;
    let ages = collector.listing_ages()?;
    let in_time = ages.iter().filter(|age| **age <= INTERVAL + LATE).count();
    let oldest = ages.iter().copied().fold(0.0, f64::max);
    println!(
        "idle: {} tenants, {in_time} of {count} listings of the last {INTERVAL:.0} s, the oldest of them {oldest:.0} s ago: \
         {percent:.1} % of a core over {} s, {:.2} ms for a listing, {resident:.1} MiB resident, {peak:.1} MiB at most",
        idle.tenants,
        idle.seconds,
        percent / 100.0 * INTERVAL / in_time as f64 * 1e3,
    );
    let tenants = idle.tenants;
    goals.at_least(
        format!("idle: {tenants} tenants, listings within their interval"),
        if settled { in_time as f64 } else { 0.0 },
        count as f64,
        "",
    );
    let what = format!("idle: peak memory with {tenants} tenants");
    goals.at_most(what, peak, 200.0, " MiB");
    collector.end()
}

fn old(common: &Common, idle: &Idle, goals: &mut Goals) -> anyhow::Result<()> {
    let simulator = simulator(common, 1)?;
    let config = Config::read(&simulator.config_file())?;
    let tenant = config
        .tenants
        .first()
        .map_or("", |tenant| tenant.id.as_str());
    let dir = folder()?;
    let path = dir.path().join("ledger.db");
    let mut ledger = OldLedger::open(&path, tenant, 0)?;
    ledger.grow(idle.blobs)?;
    drop(ledger);
    let ready = time_to_ready(common, &simulator, &path)?;
    println!(
        "start: with {} delivered blobs in the ledger, ready after {:.0} ms (the median of five)",
        idle.blobs,
        ready.as_secs_f64() * 1e3
    );
    let what = format!("start to ready with {} blobs in the ledger", idle.blobs);
    goals.at_most(what, ready.as_secs_f64() * 1e3, 100.0, " ms");
    Ok(())
}

/// From the start of the process to the first 200 of `/readyz`, the median of five.
pub(crate) fn time_to_ready(
    common: &Common,
    simulator: &Simulator,
    ledger: &std::path::Path,
) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut setup = Setup::new(Sink::Alertlogic);
        setup.ledger = Some(ledger.to_owned());
        let collector = Collector::start(common, simulator, setup)?;
        took.push(collector.wait_ready()?);
        collector.end()?;
    }
    took.sort();
    Ok(took.get(took.len() / 2).copied().unwrap_or_default())
}
