//! How the figures grow: over cores, tenants, the size of blobs and that of the ledger. Prints the tables that stand in
//! docs/performance.md, and judges them: nothing may grow faster than linearly, and start and lease not at all.

use std::time::Duration;

use benches::microsoft::Config;

use crate::args::{Common, Curve, Curves, Sink, folder};
use crate::collector::{Collector, Outcome, Setup};
use crate::goals::Goals;
use crate::idle::time_to_ready;
use crate::old_ledger::OldLedger;
use crate::simulator::{Options, Simulator};

/// What an exponent is measured too large by, on a machine with other work: two figures that differ by a fifth over a decade.
const NOISE: f64 = 0.1;
/// What counts as flat: milliseconds that the largest may take beyond those of the smallest.
const FLAT_MS: f64 = 10.0;
/// The most memory that a row may take, whatever grows.
const MOST_MIB: f64 = 64.0;

pub(crate) fn measure(common: &Common, curves: &Curves, goals: &mut Goals) -> anyhow::Result<()> {
    for curve in &curves.curve {
        match curve {
            Curve::Cores => cores(common, goals)?,
            Curve::Tenants => tenants(common, curves, goals)?,
            Curve::Blob => blob(common, curves, goals)?,
            Curve::Ledger => ledger(common, curves, goals)?,
        }
    }
    Ok(())
}

fn cores(common: &Common, goals: &mut Goals) -> anyhow::Result<()> {
    heading("cores");
    let options = options(common, 100, 1);
    let mut rows = Vec::new();
    for (count, cores) in [(1, "0"), (2, "0,1")] {
        let outcome = measure_one(common, &options, Some(cores))?;
        row(count, outcome);
        rows.push((count, outcome));
    }
    // The simulator has both cores in either row, and the collector's work is the same.
    let grown = exponent(&rows, cpu_per_record);
    goals.at_most("curve over cores: exponent of CPU", grown, NOISE, "");
    Ok(())
}

fn tenants(common: &Common, curves: &Curves, goals: &mut Goals) -> anyhow::Result<()> {
    heading("tenants");
    let mut rows = Vec::new();
    for &tenants in &curves.tenants {
        let outcome = measure_one(common, &options(common, 100, tenants), None)?;
        row(tenants, outcome);
        rows.push((tenants, outcome));
    }
    judge(goals, "tenants", 1.0, &rows);
    Ok(())
}

fn blob(common: &Common, curves: &Curves, goals: &mut Goals) -> anyhow::Result<()> {
    heading("records per blob");
    let mut rows = Vec::new();
    for &records_per_blob in &curves.blob {
        let mut options = options(common, records_per_blob, 1);
        // The largest of the five feeds has two fifths of the records.
        options.records = options.records.max(records_per_blob * 5 / 2);
        let outcome = measure_one(common, &options, None)?;
        row(records_per_blob, outcome);
        rows.push((records_per_blob, outcome));
    }
    // What a blob takes grows as its records do when what a record takes does not grow.
    judge(goals, "records per blob", 0.0, &rows);
    Ok(())
}

fn ledger(common: &Common, curves: &Curves, goals: &mut Goals) -> anyhow::Result<()> {
    println!("\n| blobs in the ledger | start to ready | noting 100 | leasing 100 |");
    println!("|---:|---:|---:|---:|");
    let options = Options {
        records_per_blob: 100,
        tenants: 1,
        ..Options::default()
    };
    let simulator = Simulator::start(common, &options)?;
    let config = Config::read(&simulator.config_file())?;
    let tenant = config
        .tenants
        .first()
        .map_or("", |tenant| tenant.id.as_str());
    let dir = folder()?;
    let path = dir.path().join("ledger.db");
    let mut sizes = curves.ledger.clone();
    sizes.sort_unstable();
    let (mut count, mut rows) = (0, Vec::new());
    // One ledger, which grows: to make ten million blobs takes longest of all here.
    for blobs in sizes {
        let mut ledger = OldLedger::open(&path, tenant, count)?;
        ledger.grow(blobs)?;
        let mut took = Vec::new();
        for _ in 0..21 {
            took.push(ledger.note_and_lease()?);
        }
        count = ledger.count();
        drop(ledger);
        let ready = time_to_ready(common, &simulator, &path)?.as_secs_f64() * 1e3;
        let noted = median_ms(took.iter().map(|(noted, _)| *noted));
        let leased = median_ms(took.iter().map(|(_, leased)| *leased));
        println!("| {blobs} | {ready:.0} ms | {noted:.2} ms | {leased:.2} ms |");
        rows.push([ready, noted, leased]);
    }
    for (what, index) in [("start to ready", 0), ("leasing", 2)] {
        let of = |row: Option<&[f64; 3]>| row.and_then(|row| row.get(index)).copied();
        if let (Some(first), Some(last)) = (of(rows.first()), of(rows.last())) {
            let what = format!("curve over the ledger: {what}, largest less smallest");
            goals.at_most(what, last - first, FLAT_MS, " ms");
        }
    }
    Ok(())
}

/// Holds the growth of what a record takes against `bound`, an exponent, and memory against its own.
fn judge(goals: &mut Goals, over: &str, bound: f64, rows: &[(u64, Outcome)]) {
    let cpu = exponent(rows, cpu_per_record);
    let time = exponent(rows, |outcome| outcome.seconds / outcome.records);
    let peak = rows.iter().map(|(_, outcome)| outcome.peak_mib);
    let bound = bound + NOISE;
    goals.at_most(
        format!("curve over {over}: exponent of CPU"),
        cpu,
        bound,
        "",
    );
    goals.at_most(
        format!("curve over {over}: exponent of time"),
        time,
        bound,
        "",
    );
    let what = format!("curve over {over}: peak memory");
    goals.at_most(what, peak.fold(0.0, f64::max), MOST_MIB, " MiB");
}

fn cpu_per_record(outcome: &Outcome) -> f64 {
    outcome.cpu_seconds / outcome.records
}

/// The exponent with which a figure grows from one row's size to a larger one's: the largest of all pairs. 1 is as the size
/// grows, 0 not at all.
fn exponent(rows: &[(u64, Outcome)], figure: impl Fn(&Outcome) -> f64) -> f64 {
    let mut largest = f64::NEG_INFINITY;
    for (index, (size, outcome)) in rows.iter().enumerate() {
        for (larger, of_larger) in rows.iter().skip(index + 1) {
            let grown = figure(of_larger) / figure(outcome);
            largest = largest.max(grown.ln() / (*larger as f64 / *size as f64).ln());
        }
    }
    largest
}

fn options(common: &Common, records_per_blob: u64, tenants: u64) -> Options {
    let default_records = if records_per_blob < 50 {
        200_000
    } else {
        500_000
    };
    Options {
        records: common.records.unwrap_or(default_records),
        records_per_blob,
        tenants,
        ..Options::default()
    }
}

fn measure_one(common: &Common, options: &Options, cores: Option<&str>) -> anyhow::Result<Outcome> {
    let simulator = Simulator::start(common, options)?;
    let mut setup = Setup::new(Sink::Alertlogic);
    setup.cores = cores.map(str::to_owned);
    let collector = Collector::start(common, &simulator, setup)?;
    let outcome = collector.wait(&simulator, options.records)?;
    collector.end()?;
    Ok(outcome)
}

fn heading(what: &str) {
    println!("\n| {what} | records/s | MB/s | CPU s per million records | peak MiB |");
    println!("|---:|---:|---:|---:|---:|");
}

fn row(what: u64, outcome: Outcome) {
    println!(
        "| {what} | {:.0} | {:.1} | {:.2} | {:.1} |",
        outcome.records / outcome.seconds,
        outcome.bytes / outcome.seconds / 1e6,
        outcome.cpu_seconds * 1e6 / outcome.records,
        outcome.peak_mib,
    );
}

fn median_ms(took: impl Iterator<Item = Duration>) -> f64 {
    let mut took: Vec<f64> = took.map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).copied().unwrap_or(f64::NAN)
}
