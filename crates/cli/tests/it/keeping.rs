//! `verify`, `quarantine` and `backfill` with real processes: proof, and what mends what is missing.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use serde_json::Value;

use crate::support::{PATIENCE, Running, Simulation, describe, program, sorted_lines};

fn ours(simulation: &Simulation, arguments: &[&str]) -> Output {
    program()
        .args(arguments)
        .arg("--config")
        .arg(simulation.config())
        .output()
        .unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", describe(output)))
}

/// Asks until the answer is the one that is waited for.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The items in quarantine.
fn items(simulation: &Simulation) -> Vec<Value> {
    let output = ours(simulation, &["quarantine", "list", "--format", "json"]);
    assert_eq!(code(&output), Some(0), "{}", describe(&output));
    let list = json(&output);
    let items = list["items"].as_array().unwrap().clone();
    assert_eq!(list["item_count"], items.len());
    items
}

#[test]
fn what_a_sink_refuses_is_named_shown_dropped_or_retried_beside_the_running_collector() {
    let simulation = Simulation::start(&["--records", "200", "--records-per-blob", "40"]);
    // As many refusals as it takes to find the first record of some batches to blame.
    simulation.tell(
        "faults",
        r#"{"faults":[{"kind":"logmsgs","count":40,"action":"status","status":400}]}"#,
    );
    let output = simulation.run_once();
    assert_eq!(code(&output), Some(1), "{}", describe(&output));
    // To its end, and with a beginning of the listing that is known.
    let output = ours(&simulation, &["backfill", "--from", &hours_ago(24)]);
    assert_eq!(code(&output), Some(1), "{}", describe(&output));
    let set_aside = items(&simulation);
    assert!(set_aside.len() >= 2, "{set_aside:#?}");

    // Named, and the answer is in the exit code. To the end of this hour, as some of the blobs are of it.
    let to = hours_ago(-1);
    let verify = ["verify", "--to", &to, "--format"];
    let ask = |format| ours(&simulation, &[verify.as_slice(), &[format]].concat());
    let output = ask("text");
    assert_eq!(code(&output), Some(1), "{}", describe(&output));
    assert!(
        text(&output).contains("refused by sink alertlogic"),
        "{}",
        text(&output)
    );
    let verified = json(&ask("json"));
    let named: usize = verified["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| stream["undelivered"].as_array().unwrap().len())
        .sum();
    assert_eq!(named, set_aside.len());

    // Shown: the bytes are those that the other sink has.
    let id = set_aside[0]["id"].to_string();
    let output = ours(&simulation, &["quarantine", "show", &id, "--raw"]);
    let lines = sorted_lines(&simulation.file());
    assert!(lines.contains(&text(&output)), "{}", describe(&output));
    let output = ours(&simulation, &["quarantine", "show", &id]);
    assert!(lines.contains(&text(&output)));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("refused by sink alertlogic"), "{said}");
    let output = ours(&simulation, &["quarantine", "show", "999999"]);
    assert_eq!(code(&output), Some(1), "{}", describe(&output));

    // Retried while a collector runs, which has the ledger to itself and takes the item up; all but one, which is dropped.
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("status page at");
    let output = ours(
        &simulation,
        &["quarantine", "drop", &id, "--reason", "known to be a test"],
    );
    assert_eq!(code(&output), Some(0), "{}", describe(&output));
    let output = ours(&simulation, &["quarantine", "retry", &id]);
    assert_eq!(
        code(&output),
        Some(1),
        "what is dropped is gone: {}",
        describe(&output)
    );
    let output = ours(&simulation, &["quarantine", "retry", "--all"]);
    assert_eq!(code(&output), Some(0), "{}", describe(&output));
    assert_eq!(text(&output).lines().count(), set_aside.len() - 1);
    until("the quarantine is empty", || items(&simulation).is_empty());
    collector.terminate();
    assert_eq!(collector.finish().1.code(), Some(0));

    // What was dropped stays on record.
    let output = ask("text");
    assert_eq!(code(&output), Some(1), "{}", describe(&output));
    let said = text(&output);
    assert!(said.contains("1 record dropped"), "{said}");
    assert!(said.contains("known to be a test"), "{said}");
    let verdict = simulation.verdict();
    let sinks = verdict["sinks"].as_array().unwrap();
    let alertlogic = sinks
        .iter()
        .find(|sink| sink["sink"] == "alertlogic")
        .unwrap();
    assert_eq!(
        alertlogic["missing"].as_array().unwrap().len(),
        1,
        "{alertlogic:#}"
    );
    assert_eq!(alertlogic["delivered_once"], 199, "{alertlogic:#}");
}

#[test]
fn backfill_collects_a_past_range_alone_and_beside_a_running_collector_and_verify_proves_it() {
    let simulation = Simulation::start(&["--records", "600", "--records-per-blob", "20"]);
    simulation.edit_config(|text| {
        text.replace(
            "interval_secs = 10",
            "interval_secs = 10\nlookback_hours = 1",
        )
    });
    assert_eq!(code(&simulation.run_once()), Some(0));
    let before = sorted_lines(&simulation.file()).len();
    assert!(before < 300, "{before} records are of the last hour");

    // Of what lies before, nothing was promised; but Microsoft has it, and looking finds out without collecting it.
    let day_ago = hours_ago(24);
    let ask = ["verify", "--again", "--format", "json", "--from", &day_ago];
    let output = ours(&simulation, &ask);
    assert_eq!(code(&output), Some(1), "{}", describe(&output));
    let unknown: u64 = json(&output)["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| stream["again"]["unknown_count"].as_u64().unwrap())
        .sum();
    assert!(unknown > 0);
    assert_eq!(sorted_lines(&simulation.file()).len(), before);

    // Alone, of the older half.
    let (from, to) = (hours_ago(24), hours_ago(6));
    let output = ours(&simulation, &["backfill", "--from", &from, "--to", &to]);
    assert_eq!(code(&output), Some(0), "{}", describe(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("collected here"), "{said}");
    assert!(
        text(&output).contains("verdict: complete"),
        "{}",
        describe(&output)
    );
    let after = sorted_lines(&simulation.file()).len();
    assert!(before < after && after < 600, "{before} {after}");

    // Beside a collector, of all of it and more than there is.
    let mut collector = Running::start(&mut simulation.run());
    collector.wait_for("status page at");
    let output = ours(&simulation, &["backfill", "--from", &hours_ago(200)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a collector runs"), "{said}");
    assert!(said.contains("seven days back"), "{said}");
    assert_eq!(sorted_lines(&simulation.file()).len(), 600, "{said}");
    collector.terminate();
    assert_eq!(collector.finish().1.code(), Some(0));

    let output = ours(
        &simulation,
        &["verify", "--again", "--from", &hours_ago(100)],
    );
    assert_eq!(code(&output), Some(0), "{}", describe(&output));
    simulation.assert_clean();
}

#[test]
fn times_and_ledgers_that_make_no_sense_are_refused_with_their_own_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("o365-collector.toml");
    let tenant = "[[tenant]]\nid = \"bf8d32d3-1c13-4487-af02-80dba2236485\"\nclient_id = \"a261478c-84fb-42f9-84c2-de050a4babe3\"\nclient_secret = \"s\"\n";
    fs::write(&config, format!("{tenant}[[sink]]\ntype = \"stdout\"\n")).unwrap();
    let run = |arguments: &[&str]| {
        let output = program()
            .args(arguments)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(run(&["verify", "--from", "2026-07-16T09:00:00"]), Some(64));
    assert_eq!(
        run(&["verify", "--from", "2026-07-17", "--to", "2026-07-16"]),
        Some(64)
    );
    assert_eq!(run(&["backfill"]), Some(64));
    assert_eq!(
        run(&["quarantine", "drop", "1"]),
        Some(64),
        "without a reason"
    );
    assert_eq!(run(&["quarantine", "retry"]), Some(64), "without an id");
    assert_eq!(run(&["verify"]), Some(1), "there is no ledger");
    fs::write(&config, "[nonsense]\n").unwrap();
    assert_eq!(run(&["verify"]), Some(78));
}

/// The beginning of an hour so long ago.
fn hours_ago(hours: i64) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator's blobs are of the hours before now"
    )]
    let now = Timestamp::now();
    let hour = now.round(
        jiff::TimestampRound::new()
            .smallest(Unit::Hour)
            .mode(jiff::RoundMode::Trunc),
    );
    (hour.unwrap() - jiff::SignedDuration::from_hours(hours)).to_string()
}
