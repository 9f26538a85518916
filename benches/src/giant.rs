//! Memory while one blob, or one record, is larger than all of it: a blob of gigabytes that the simulator makes while it
//! sends it, and a record that Alert Logic is never given because it is too large, which goes to quarantine.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::args::{Common, Giant, Sink};
use crate::collector::{Collector, Setup};
use crate::goals::Goals;
use crate::simulator::{Options, Simulator};

/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What Alert Logic's sink may send at once, at the least: less than the giant record has, compressed.
const SMALLEST_PAYLOAD: i64 = 10_000;
/// What one run of a small blob may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a machine does at the least of a large one, the making of it included.
const LEAST_BYTES_PER_SECOND: u64 = 10_000_000;
/// Ordinary records beside the giant, in blobs of as many.
const ORDINARY_RECORDS: u64 = 100;

pub(crate) fn measure(common: &Common, giant: &Giant, goals: &mut Goals) -> anyhow::Result<()> {
    for &sink in &giant.sinks {
        let bytes = giant.gigabytes * 1_000_000_000;
        let storm = format!("[[fault]]\nwhat = 'huge_blob'\nbytes = {bytes}\n");
        // What is asked for is made up of whole records of a mean size.
        let wanted = bytes / 10 * 8;
        let setup = Setup::new(sink);
        let (took, peak, got) = run(common, setup, &storm, bytes, |collector| {
            Ok(collector.delivered()?.1 >= wanted)
        })?;
        println!(
            "one blob of {:.2} GB, {sink}: {:.0} s, {:.0} MB/s with the simulator making it meanwhile, {peak:.1} MiB at most",
            got as f64 / 1e9,
            took.as_secs_f64(),
            got as f64 / 1e6 / took.as_secs_f64(),
        );
        let what = format!("peak memory, a blob of {} GB, {sink}", giant.gigabytes);
        goals.at_most(what, peak, 64.0, " MiB");
    }
    if giant.record_megabytes > 0 {
        let bytes = giant.record_megabytes * 1_000_000;
        let storm = format!("[[fault]]\nwhat = 'large_record'\nbytes = {bytes}\nat_most = 1\n");
        // No request may be as large as this record is, compressed.
        let setup = Setup::new(Sink::Alertlogic).set("sink", "max_payload_bytes", SMALLEST_PAYLOAD);
        let (_, peak, _) = run(common, setup, &storm, bytes, |collector| {
            Ok(collector.quarantined_bytes()? >= bytes / 10 * 9)
        })?;
        println!(
            "one record of {} MB that Alert Logic cannot be given, set aside: {peak:.1} MiB at most",
            giant.record_megabytes
        );
        let what = format!(
            "peak memory, a record of {} MB to quarantine",
            giant.record_megabytes
        );
        goals.at_most(what, peak, 64.0, " MiB");
    }
    Ok(())
}

/// Runs a collector until `has_ended` and nothing waits: the time that took, MiB at most, and bytes that were delivered.
fn run(
    common: &Common,
    setup: Setup,
    storm: &str,
    bytes: u64,
    has_ended: impl Fn(&Collector) -> anyhow::Result<bool>,
) -> anyhow::Result<(Duration, f64, u64)> {
    let dir = crate::args::folder()?;
    let file = dir.path().join("storm.toml");
    std::fs::write(&file, storm)?;
    let options = Options {
        records: ORDINARY_RECORDS * 5,
        records_per_blob: ORDINARY_RECORDS,
        tenants: 1,
        more: vec![format!("--faults={}", file.display())],
        ..Options::default()
    };
    let simulator = Simulator::start(common, &options)?;
    let started = Instant::now();
    let collector = Collector::start(common, &simulator, setup)?;
    let patience = PATIENCE + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND);
    while !has_ended(&collector)? || collector.waits()? {
        std::thread::sleep(LOOK_EVERY);
        ensure!(started.elapsed() < patience, "no end after {patience:?}");
    }
    let took = started.elapsed();
    let peak = collector.process.peak_mib()?;
    let (_, delivered) = collector.delivered()?;
    collector.end()?;
    Ok((took, peak, delivered))
}
