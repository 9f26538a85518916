//! Two runs about latency. *Far away*: the whole path with every answer kept back as the Internet would, where only
//! concurrency helps. *Steady*: blobs appear all the time and are notified, and the simulator measures how long each took
//! from the moment it was to be had until the sink had all of it.

use std::time::Duration;

use crate::args::{Common, Latency, Sink};
use crate::collector::{Collector, Setup};
use crate::goals::Goals;
use crate::limit::Work;
use crate::simulator::{Options, Simulator};
use crate::table::{self, Run};

/// What the limit may have under way at once when answers are slow. More than the collector begins with, which is to find
/// out by itself what helps.
const FAR_CONNECTIONS: usize = 64;

/// Blobs of the first seconds are left out of the steady run.
const WARM_UP_MS: i64 = 3_000;

pub(crate) fn measure(common: &Common, latency: &Latency, goals: &mut Goals) -> anyhow::Result<()> {
    println!(
        "\nfar away: {} ms on every answer of Microsoft's, {} ms on the sink's; the limit has {FAR_CONNECTIONS} connections",
        latency.microsoft_ms, latency.sink_ms
    );
    table::print_heading();
    for &records_per_blob in &latency.blob {
        let options = Options {
            records: common.records.unwrap_or(match records_per_blob {
                0..50 => 30_000,
                50..500 => 200_000,
                _ => 1_000_000,
            }),
            records_per_blob,
            tenants: 1,
            more: vec![
                format!("--latency-ms={}", latency.microsoft_ms),
                format!("--sink-latency-ms={}", latency.sink_ms),
            ],
            ..Options::default()
        };
        let runs = [Run::Limit(Work::Libdeflate), Run::Ours(Sink::Alertlogic)];
        let rows = table::measure(common, &runs, &options, 1, FAR_CONNECTIONS)?;
        table::print_rows(&options, &rows);
        if let Some((_, speed)) = table::ratios(&rows, Run::Ours(Sink::Alertlogic)) {
            let what = format!("far away, {records_per_blob} records a blob: speed ÷ limit");
            goals.at_least(what, speed, 0.5, "");
        }
    }
    for sink in [Sink::Alertlogic, Sink::SplunkHec] {
        steady(common, latency, sink)?;
    }
    Ok(())
}

/// Blobs of 100 records appear at a steady rate.
fn steady(common: &Common, latency: &Latency, sink: Sink) -> anyhow::Result<()> {
    const RECORDS_PER_BLOB: u64 = 100;
    let per_second = latency.blobs_per_second * RECORDS_PER_BLOB;
    let options = Options {
        records: per_second * latency.seconds,
        records_per_blob: RECORDS_PER_BLOB,
        tenants: 1,
        // Only a sink that looks knows whose record it has.
        is_checked: true,
        more: vec![format!("--live={per_second}")],
        ..Options::default()
    };
    let simulator = Simulator::start(common, &options)?;
    // Its own port, because the address is told before the door is open.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let url = format!("http://127.0.0.1:{port}/api/o365/webhook");
    let setup = Setup::new(sink)
        .set("listen", "address", format!("127.0.0.1:{port}"))
        .set("webhook", "public_url", url)
        .set("webhook", "auth_id", "a-bench-of-the-collector");
    let collector = Collector::start(common, &simulator, setup)?;
    std::thread::sleep(Duration::from_secs(latency.seconds));
    let outcome = collector.wait(&simulator, options.records)?;
    let measured = simulator.measured()?;
    collector.end()?;
    anyhow::ensure!(simulator.end()?, "the verdict is not clean");
    let taken = measured
        .taken_ms
        .get(sink.name())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let first_ms = taken.iter().map(|(available_ms, _)| *available_ms).min();
    // Those before wait for the collector to start and to subscribe.
    let from_ms = first_ms.unwrap_or_default() + WARM_UP_MS;
    let taken = taken
        .iter()
        .filter(|(available_ms, _)| *available_ms >= from_ms);
    let mut took: Vec<i64> = taken.map(|(_, took_ms)| *took_ms).collect();
    took.sort_unstable();
    let at = |part: f64| percentile(&took, part);
    println!(
        "\nsteady: {} blobs/s of {RECORDS_PER_BLOB} records for {} s, notified, {sink}: availability to acknowledgement of {} blobs: \
         p50 {} ms, p99 {} ms, longest {} ms; {:.1} % of a core, peak {:.1} MiB",
        latency.blobs_per_second,
        latency.seconds,
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        outcome.cpu_seconds / latency.seconds as f64 * 100.0,
        outcome.peak_mib,
    );
    Ok(())
}

/// The value that this part of the sorted ones does not exceed; -1 where there are none.
fn percentile(sorted: &[i64], part: f64) -> i64 {
    let index = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(-1)
}
