//! SIGKILL at random moments: nothing is missing, the file has nothing twice and nothing torn, and what Alert Logic sees
//! twice was under way at a kill.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Running, Simulation, describe, wait_until_all_is_listed_once};

const KILLS: u64 = 20;
/// So many that the kills end long before the work does, on a fast machine too.
const RECORDS: u64 = 200_000;

/// xorshift: the moments differ from kill to kill and are the same in every run of the test.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn delivered_records(simulation: &Simulation) -> u64 {
    let output = crate::support::program()
        .args(["status", "--format", "json", "--config"])
        .arg(simulation.config())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    view["totals"]["record_count"].as_u64().unwrap()
}

/// What Alert Logic's side has taken once nothing more of the dead collector can arrive: a body that was sent before the
/// kill may be read and counted after it.
fn acknowledged_after_kill(simulation: &Simulation) -> u64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let progress = simulation.ask("progress");
        if progress["ingest_connections"] == 0 {
            return progress["records_acknowledged"].as_u64().unwrap();
        }
        assert!(
            Instant::now() < end,
            "connections of a dead process stay open: {progress:#}"
        );
    }
}

#[test]
fn twenty_kills_lose_nothing_and_repeat_only_what_was_under_way() {
    // No quota: twenty starts in a few seconds begin with twenty fresh budgets.
    let records = RECORDS.to_string();
    let simulation = Simulation::start(&[
        "--records",
        &records,
        "--records-per-blob",
        "40",
        "--requests-per-minute",
        "0",
    ]);
    let mut random = 0x5eed_1234_5678_9abc;
    let mut under_way = 0;
    let mut kills_at_work = 0;
    for kill in 0..KILLS {
        let mut collector = Running::start(&mut simulation.run());
        collector.wait_for("status page at");
        if kill == 0 {
            wait_until_all_is_listed_once(&simulation.config());
        }
        // Not a wait for something to happen: the moment itself is what varies.
        std::thread::sleep(Duration::from_millis(next_random(&mut random) % 350));
        assert!(
            !collector.has_ended(),
            "the collector ended by itself before kill {kill}"
        );
        collector.kill();
        let acknowledged = acknowledged_after_kill(&simulation);
        let delivered = delivered_records(&simulation);
        under_way += acknowledged.saturating_sub(delivered);
        kills_at_work += u64::from(acknowledged < RECORDS);
    }
    let output = simulation.run_once();
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let verdict = simulation.verdict();
    let sink = |name: &str| {
        let sinks = verdict["sinks"].as_array().unwrap();
        sinks
            .iter()
            .find(|sink| sink["sink"] == name)
            .unwrap_or_else(|| panic!("{verdict:#}"))
            .clone()
    };
    let repeated = |name: &str| {
        sink(name)["repeated"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id["times"].as_u64().unwrap() - 1)
            .sum::<u64>()
    };
    for name in ["alertlogic", "ndjson"] {
        assert_eq!(sink(name)["missing"], serde_json::json!([]), "{name}");
        assert_eq!(sink(name)["altered"], serde_json::json!([]), "{name}");
        assert_eq!(sink(name)["unknown_count"], 0, "{name}");
    }
    assert_eq!(repeated("ndjson"), 0);
    assert_eq!(sink("ndjson")["torn_lines"], serde_json::json!([]));
    let repeats = repeated("alertlogic");
    println!(
        "{KILLS} kills, {kills_at_work} of them before the end; {repeats} of {RECORDS} records came to Alert Logic again, {under_way} were under way at the kills"
    );
    assert!(
        repeats <= under_way,
        "{repeats} repeats, but only {under_way} records were under way"
    );
    assert!(
        kills_at_work >= KILLS / 2,
        "only {kills_at_work} kills hit a collector at work"
    );
}
