//! The whole path, measured from outside: the real program collects from the real simulator process over HTTPS and
//! delivers to Alert Logic and to a file. Prints records and megabytes per second, the collector's own CPU seconds per
//! million records, and its peak memory. `cargo bench -p cli`; see "Measuring" in CONTRIBUTING.md for what the
//! figures mean.
//!
//! `O365_BENCH_RECORDS` sets the number of records for each row, `O365_BENCH_CORPUS` an NDJSON file to take them from.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on should say where"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench is told what to do by the environment"
)]
#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::{Ledger as _, SqliteLedger};

/// Kernel ticks per second in /proc; fixed at 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the end is looked for. Small beside the seconds that a row takes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() {
    let records: u64 = std::env::var("O365_BENCH_RECORDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(300_000);
    let corpus = std::env::var("O365_BENCH_CORPUS").ok();
    println!(
        "whole path, {records} records a row, {}, collector and simulator on one machine",
        corpus.as_deref().map_or("generated", |_| "from a corpus")
    );
    println!(
        "{:>16} {:>12} {:>12} {:>10} {:>16} {:>10}",
        "sinks", "records/blob", "records/s", "MB/s", "CPU s/million", "peak MiB"
    );
    for (sinks, keep) in [
        ("both", "alertlogic file"),
        ("alertlogic", "alertlogic"),
        ("file", "file"),
    ] {
        for records_per_blob in [10, 100, 1_000] {
            measure(sinks, keep, records, records_per_blob, corpus.as_deref());
        }
    }
}

fn measure(sinks: &str, keep: &str, records: u64, records_per_blob: u64, corpus: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let mut simulate = program();
    simulate.args([
        "simulate",
        "--prepare",
        "--requests-per-minute",
        "0",
        "--listen",
        "127.0.0.1:0",
    ]);
    simulate.args([
        "--records",
        &records.to_string(),
        "--records-per-blob",
        &records_per_blob.to_string(),
    ]);
    simulate.arg("--dir").arg(dir.path());
    if keep.contains("file") {
        simulate
            .arg("--check-file")
            .arg(dir.path().join("audit.ndjson"));
    }
    if let Some(corpus) = corpus {
        simulate.args(["--corpus", corpus]);
    }
    let simulator = start(&mut simulate, "now run");
    let config = dir.path().join("o365-collector.toml");
    choose_sinks(&config, keep);

    let started = Instant::now();
    let mut run = program();
    run.args([
        "run",
        "--log",
        "warn,cli=info,o365_collector=info",
        "--config",
    ])
    .arg(&config);
    let collector = start(&mut run, "status page at");
    let ledger = SqliteLedger::open_read_only(dir.path().join("ledger.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let bytes = loop {
        std::thread::sleep(LOOK_EVERY);
        let (count, bytes) = runtime.block_on(delivered(&ledger));
        if count >= records {
            break bytes as f64;
        }
    };
    let took = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(collector.id());
    let peak = peak_mib(collector.id());
    interrupt(collector);
    println!(
        "{sinks:>16} {records_per_blob:>12} {:>12.0} {:>10.1} {:>16.2} {:>10.1}",
        records as f64 / took,
        bytes / took / 1e6,
        cpu * 1e6 / records as f64,
        peak,
    );
    let clean = interrupt(simulator);
    // Without the Alert Logic sink its side of the verdict has nothing to say.
    assert!(
        clean || !keep.contains("alertlogic"),
        "the verdict is not clean"
    );
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_o365-collector"))
}

/// Starts a process and waits until it says `ready` on standard error.
fn start(command: &mut Command, ready: &str) -> Child {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let is_ready = lines.by_ref().any(|line| {
        said.push(line.unwrap());
        said.last().is_some_and(|line| line.contains(ready))
    });
    if !is_ready {
        let status = child.wait().unwrap();
        panic!(
            "the program ended ({status}) before it said {ready:?}; it said:\n{}",
            said.join("\n")
        );
    }
    // The rest is read so that the program never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn choose_sinks(config: &Path, keep: &str) {
    let mut table: toml::Table = fs::read_to_string(config).unwrap().parse().unwrap();
    let sinks = table["sink"].as_array_mut().unwrap();
    sinks.retain(|sink| keep.contains(sink["type"].as_str().unwrap()));
    table["listen"]["address"] = toml::Value::String("127.0.0.1:0".to_owned());
    fs::write(config, table.to_string()).unwrap();
}

/// Records and bytes that the ledger calls delivered. Read straight from its file: starting a process to ask would cost
/// the machine more than the collector does.
async fn delivered(ledger: &SqliteLedger) -> (u64, u64) {
    let summary = ledger.summary(Timestamp::UNIX_EPOCH).await.unwrap();
    let streams = summary.streams.iter();
    streams.fold((0, 0), |(records, bytes), stream| {
        (
            records + stream.delivered_record_count,
            bytes + stream.delivered_byte_count,
        )
    })
}

/// User and system time of the process, its threads included.
fn cpu_seconds(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}

fn peak_mib(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// Ends a process in good order. Whether it was content.
fn interrupt(mut child: Child) -> bool {
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    child.wait().unwrap().success()
}
