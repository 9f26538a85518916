//! How the figures grow: over cores, tenants, the size of blobs and that of the ledger. Prints the tables that stand in
//! docs/performance.md.

use std::time::Duration;

use benches::microsoft::Config;

use crate::args::{Common, Curve, Curves, Sink, folder};
use crate::collector::{Collector, Outcome, Setup};
use crate::idle::time_to_ready;
use crate::old_ledger::OldLedger;
use crate::simulator::{Options, Simulator};

pub(crate) fn measure(common: &Common, curves: &Curves) -> anyhow::Result<()> {
    for curve in &curves.curve {
        match curve {
            Curve::Cores => cores(common)?,
            Curve::Tenants => tenants(common, curves)?,
            Curve::Blob => blob(common, curves)?,
            Curve::Ledger => ledger(common, curves)?,
        }
    }
    Ok(())
}

fn cores(common: &Common) -> anyhow::Result<()> {
    heading("cores");
    let options = options(common, 100, 1);
    for cores in ["0", "0,1"] {
        let count = cores.split(',').count();
        row(
            &count.to_string(),
            measure_one(common, &options, Some(cores))?,
        );
    }
    Ok(())
}

fn tenants(common: &Common, curves: &Curves) -> anyhow::Result<()> {
    heading("tenants");
    for &tenants in &curves.tenants {
        let options = options(common, 100, tenants);
        row(&tenants.to_string(), measure_one(common, &options, None)?);
    }
    Ok(())
}

fn blob(common: &Common, curves: &Curves) -> anyhow::Result<()> {
    heading("records per blob");
    for &records_per_blob in &curves.blob {
        let mut options = options(common, records_per_blob, 1);
        // The largest of the five feeds has two fifths of the records.
        options.records = options.records.max(records_per_blob * 5 / 2);
        row(
            &records_per_blob.to_string(),
            measure_one(common, &options, None)?,
        );
    }
    Ok(())
}

fn ledger(common: &Common, curves: &Curves) -> anyhow::Result<()> {
    println!("\n| blobs in the ledger | start to ready | noting 100 | leasing 100 |");
    println!("|---:|---:|---:|---:|");
    let simulator = Simulator::start(
        common,
        &Options {
            records_per_blob: 100,
            tenants: 1,
            ..Options::default()
        },
    )?;
    let config = Config::read(&simulator.config_file())?;
    let tenant = config
        .tenants
        .first()
        .map_or("", |tenant| tenant.id.as_str());
    for &blobs in &curves.ledger {
        let dir = folder()?;
        let path = dir.path().join("ledger.db");
        let mut ledger = OldLedger::create(&path, tenant)?;
        ledger.grow(blobs)?;
        let mut took = Vec::new();
        for _ in 0..21 {
            took.push(ledger.note_and_lease()?);
        }
        drop(ledger);
        let ready = time_to_ready(common, &simulator, &path)?;
        println!(
            "| {blobs} | {:.0} ms | {:.2} ms | {:.2} ms |",
            ready.as_secs_f64() * 1e3,
            median_ms(took.iter().map(|(noted, _)| *noted)),
            median_ms(took.iter().map(|(_, leased)| *leased)),
        );
    }
    Ok(())
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

fn row(what: &str, outcome: Outcome) {
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
