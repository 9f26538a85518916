//! The real program with its ledger in PostgreSQL, and the simulator.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PATIENCE, Running, Simulation, describe, program, sorted_lines};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// So many that the collector is at work for a while.
const RECORDS: u64 = 40_000;

struct Stand {
    simulation: Simulation,
    /// Such as `postgres://postgres@127.0.0.1:5432`.
    server: String,
    database: String,
}

impl Stand {
    /// The simulator's configuration, with a ledger that an environment variable names.
    fn start(arguments: &[&str]) -> Self {
        let server = variable("O365_TEST_POSTGRES_URL");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("cli_{}_{number}", std::process::id());
        let there = format!("--maintenance-db={server}/postgres");
        // The server may have outlived an earlier run of the same process number.
        client_program("dropdb", &["--if-exists", &there, &database]);
        client_program("createdb", &[&there, &database]);
        let simulation = Simulation::start(arguments);
        simulation.edit_config(|text| {
            let mut config: toml::Table = text.parse().unwrap();
            let named = toml::Table::from_iter([("env".to_owned(), "TEST_LEDGER".into())]);
            config["ledger"]["url"] = named.into();
            // As short as it may be: what a killed collector held is anybody's after that.
            let lease = toml::Table::from_iter([("lease_secs".to_owned(), 30.into())]);
            config.insert("fetch".to_owned(), lease.into());
            config.to_string()
        });
        Self {
            simulation,
            server,
            database,
        }
    }

    /// As [`Stand::start`], with [`RECORDS`] in many blobs, and no quota, so that a start has not to wait for its budget.
    fn start_busy() -> Self {
        let records = RECORDS.to_string();
        Self::start(&[
            "--records",
            &records,
            "--records-per-blob",
            "40",
            "--requests-per-minute",
            "0",
        ])
    }

    /// With a password that the server does not ask for, so that it can be looked for.
    fn url(&self) -> String {
        let with_password = self.server.replace("postgres@", "postgres:canary@");
        assert_ne!(with_password, self.server);
        format!("{with_password}/{}", self.database)
    }

    fn run(&self) -> Command {
        self.with_ledger(self.simulation.run())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command
            .args(words)
            .arg("--config")
            .arg(self.simulation.config());
        self.with_ledger(command)
    }

    fn with_ledger(&self, mut command: Command) -> Command {
        command.env("TEST_LEDGER", self.url());
        command
    }

    fn status(&self) -> Value {
        let output = self
            .command(&["status", "--format", "json"])
            .output()
            .unwrap();
        serde_json::from_str(&told(&output)).unwrap()
    }

    /// Has the server close every connection to the ledger, whatever is under way on them.
    fn cut_connections(&self) {
        let there = format!("--dbname={}/postgres", self.server);
        let cut = format!(
            "--command=SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.database
        );
        client_program("psql", &["--quiet", &there, &cut]);
    }

    fn delivered_records(&self) -> u64 {
        self.status()["totals"]["record_count"].as_u64().unwrap()
    }
}

/// What a command that went well wrote to standard output.
fn told(output: &Output) -> String {
    let said = describe(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("canary"), "the password is shown: {said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn variable(name: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test script hands the server over this way"
    )]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test script"))
}

fn client_program(name: &str, arguments: &[&str]) {
    let path = PathBuf::from(variable("O365_TEST_POSTGRES_BIN")).join(name);
    let output = Command::new(path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
}

/// Asks until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn every_record_is_delivered_once_with_a_ledger_in_postgresql() {
    let stand = Stand::start(&["--records", "3000", "--records-per-blob", "60"]);
    let printed = told(&stand.command(&["config", "print"]).output().unwrap());
    assert!(printed.contains("postgres:<redacted>"), "{printed}");
    let looked = told(&stand.command(&["check"]).output().unwrap());
    let place = format!("{} on 127.0.0.1", stand.database);
    let fine = format!("fine     ledger: {place}: it is made at the first start\n");
    assert!(looked.contains(&fine), "{looked}");
    let early = stand.command(&["status"]).output().unwrap();
    assert!(
        describe(&early).contains("the database holds no ledger"),
        "{early:?}"
    );

    told(&stand.run().arg("--once").output().unwrap());
    // A ledger that forgot anything between two processes would have it delivered again.
    told(&stand.run().arg("--once").output().unwrap());
    assert_eq!(sorted_lines(&stand.simulation.file()).len(), 3_000);
    assert_eq!(stand.delivered_records(), 3_000);
    let looked = told(&stand.command(&["check"]).output().unwrap());
    assert!(
        looked.contains("fine     ledger: it can be read; "),
        "{looked}"
    );
    stand.simulation.assert_clean();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_server_that_cannot_be_used_is_told_of_with_its_mend_and_without_its_password() {
    let mut stand = Stand::start(&["--records", "60"]);
    stand.database = "no_such_ledger".into();
    for words in [["check"], ["run"]] {
        let output = stand.command(&words).output().unwrap();
        let said = describe(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("no_such_ledger on 127.0.0.1: PostgreSQL says: "),
            "{said}"
        );
        assert!(said.contains("does not exist (3D000)"), "{said}");
        assert!(!said.contains("canary"), "the password is shown: {said}");
    }
    let looked = stand.command(&["check"]).output().unwrap();
    assert!(describe(&looked).contains("ledger.url must name a server that runs"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_killed_collector_is_followed_by_another_that_loses_and_repeats_nothing() {
    let stand = Stand::start_busy();
    let mut collector = Running::start(&mut stand.run());
    collector.wait_for("status page at");
    wait_until("all content types are listed", || {
        let status = stand.status();
        let tenants = status["tenants"].as_array().unwrap().iter();
        let streams = tenants.flat_map(|tenant| tenant["streams"].as_array().unwrap());
        streams
            .filter(|stream| stream["listed_until"].is_string())
            .count()
            == 5
    });
    wait_until("something is delivered", || {
        assert!(!collector.has_ended(), "{}", collector.said());
        stand.delivered_records() > 0
    });
    collector.kill();
    let delivered = stand.delivered_records();
    assert!(delivered < RECORDS, "it was killed too late: {delivered}");

    let mut collector = Running::start(&mut stand.run());
    wait_until("everything is delivered", || {
        assert!(!collector.has_ended(), "{}", collector.said());
        stand.delivered_records() == RECORDS
    });
    collector.terminate();
    collector.finish();
    let lines = sorted_lines(&stand.simulation.file());
    assert_eq!(lines.len() as u64, RECORDS);

    let verdict = stand.simulation.verdict();
    for sink in verdict["sinks"].as_array().unwrap() {
        assert_eq!(sink["missing"], serde_json::json!([]), "{sink:#}");
        assert_eq!(sink["altered"], serde_json::json!([]), "{sink:#}");
        assert_eq!(sink["unknown_count"], 0, "{sink:#}");
        // A sink on the network may have had what was under way at the kill; a file has nothing twice.
        if sink["sink"] == "ndjson" {
            assert_eq!(sink["repeated"], serde_json::json!([]), "{sink:#}");
            assert_eq!(sink["torn_lines"], serde_json::json!([]), "{sink:#}");
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn connections_that_are_cut_while_it_runs_lose_and_repeat_nothing() {
    const CUTS: u32 = 6;
    let stand = Stand::start_busy();
    let mut collector = Running::start(&mut stand.run());
    collector.wait_for("status page at");
    let (mut cuts, mut delivered) = (0, 0);
    wait_until("everything is delivered", || {
        assert!(!collector.has_ended(), "{}", collector.said());
        let before = delivered;
        delivered = stand.delivered_records();
        // Only after some more work, so that it is at work when it is cut.
        if cuts < CUTS && delivered > before {
            stand.cut_connections();
            cuts += u32::from(delivered < RECORDS);
        }
        delivered == RECORDS
    });
    assert!(cuts > CUTS / 2, "it was at work for {cuts} cuts only");
    collector.terminate();
    collector.finish();
    let lines = sorted_lines(&stand.simulation.file());
    assert_eq!(lines.len() as u64, RECORDS);
    let verdict = stand.simulation.verdict();
    for sink in verdict["sinks"].as_array().unwrap() {
        assert_eq!(sink["missing"], serde_json::json!([]), "{sink:#}");
        assert_eq!(sink["unknown_count"], 0, "{sink:#}");
    }
}
