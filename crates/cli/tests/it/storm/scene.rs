//! A simulated world in this process, a collector beside it, and what its ledger says.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::{Impossible, Options, SimulatedTenant, Simulator, SinkVerdict, Storm};

use crate::support::{Running, describe, program};

/// The content of three days, so that one record can be in two blobs a day apart.
const BACKLOG: Duration = Duration::from_secs(72 * 3600);

pub(super) struct Scene {
    pub(super) simulator: Simulator,
    dir: tempfile::TempDir,
    address: String,
    started_at: Timestamp,
}

/// What `verify` calls undelivered, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) expired: BTreeSet<String>,
    pub(super) pending: BTreeSet<String>,
    /// Blob and place.
    pub(super) undecodable: BTreeSet<(String, u64)>,
    /// Records that a sink refused.
    pub(super) refused: usize,
    /// Stretches of the past that were not listed to the last page.
    pub(super) not_listed: Vec<String>,
    /// All of it, for a person.
    pub(super) told: Vec<String>,
}

impl Scene {
    pub(super) fn start(storm: Storm, seed: u64, records: u64, records_per_blob: usize) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let simulator = runtime.block_on(Simulator::start(Options {
            seed,
            records,
            records_per_blob,
            backlog: BACKLOG,
            tls: true,
            requests_per_minute: None,
            allow_http_webhook: true,
            // A webhook whose collector is dead is tried again soon, and never given up.
            webhook_retry: Duration::from_millis(100),
            webhook_max_failures: u32::MAX,
            storm: Some(storm.with_seed(seed)),
            ..Options::default()
        }));
        let simulator = simulator.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), simulator.ca_pem().unwrap()).unwrap();
        // The same for every collector, as Microsoft knows it. Nobody else on this machine is given it meanwhile, or the
        // collector says so.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .to_string();
        let scene = Self {
            started_at: simulator.clock().now(),
            simulator,
            dir,
            address,
        };
        std::fs::write(scene.config(), scene.config_text()).unwrap();
        scene
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.path().join("o365-collector.toml")
    }

    fn config_text(&self) -> String {
        let SimulatedTenant {
            tenant_id,
            client_id,
            client_secret,
        } = self.tenant();
        let simulator = &self.simulator;
        let (microsoft, alertlogic) = (simulator.microsoft_origin(), simulator.alertlogic_origin());
        let (hec, address) = (simulator.hec_origin(), &self.address);
        let key = &simulator.options().alertlogic;
        let (id, secret) = (&key.access_key_id, &key.secret_key);
        let token = &simulator.options().hec.token;
        format!(
            r#"
            [[tenant]]
            id = "{tenant_id}"
            client_id = "{client_id}"
            client_secret = "{client_secret}"
            [microsoft]
            login = "{microsoft}"
            activity = "{microsoft}"
            [tls]
            ca_file = "ca.pem"
            [listen]
            address = "{address}"
            [webhook]
            public_url = "http://{address}/api/o365/webhook"
            auth_id = "known-to-both"
            [ledger]
            url = "sqlite:ledger.db"
            [poll]
            interval_secs = 10
            lookback_hours = 80
            # Thirty starts in half a minute begin with thirty fresh budgets.
            [fetch]
            requests_per_minute = 1000000
            [[sink]]
            type = "alertlogic"
            api = "{alertlogic}"
            access_key_id = "{id}"
            secret_key = "{secret}"
            [[sink]]
            type = "file"
            path = "audit.ndjson"
            [[sink]]
            type = "splunk_hec"
            url = "{hec}"
            token = "{token}"
            # An answer that the storm swallows is not given twice.
            acknowledge_within_secs = 3
            "#
        )
    }

    fn tenant(&self) -> &SimulatedTenant {
        self.simulator.tenants().first().unwrap()
    }

    /// The collector, started.
    pub(super) fn run(&self) -> Running {
        Running::start(program().arg("run").arg("--config").arg(self.config()))
    }

    /// What the two services had taken and the ledger not called delivered when the collector died: once nothing more of
    /// it can arrive.
    pub(super) fn under_way(&self) -> [u64; 2] {
        let end = Instant::now() + Duration::from_secs(30);
        let progress = loop {
            let progress = self.simulator.progress();
            if progress.ingest_connections + progress.hec_connections == 0 {
                break progress;
            }
            assert!(
                Instant::now() < end,
                "a dead process has connections: {progress:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        let delivered = self.delivered_records();
        [progress.records_acknowledged, progress.records_at_hec]
            .map(|taken| taken.saturating_sub(delivered))
    }

    fn delivered_records(&self) -> u64 {
        if !self.dir.path().join("ledger.db").exists() {
            return 0;
        }
        self.status()["totals"]["record_count"].as_u64().unwrap()
    }

    fn status(&self) -> Value {
        let output = program()
            .args(["status", "--format", "json", "--config"])
            .arg(self.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How many records the ledger may count as delivered more than a service distinguishes: what is in a second blob,
    /// what is none, what was refused.
    pub(super) fn slack(&self, impossible: &Impossible, file: &SinkVerdict) -> u64 {
        file.as_often_as_served + impossible.undecodable_records.len() as u64 + 100
    }

    /// Waits until the file has all that there is, by its length.
    pub(super) fn wait_until_the_file_has_all(&self, patience: Duration) {
        let bytes = self.simulator.record_bytes_total() + self.simulator.progress().records_total;
        let end = Instant::now() + patience;
        while std::fs::metadata(self.file()).map_or(0, |file| file.len()) < bytes {
            assert!(Instant::now() < end, "{}", self.status());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("audit.ndjson")
    }

    /// Waits until the latest of the late blobs is there to be found.
    pub(super) fn wait_for_the_late(&self) {
        let last = self.started_at + SignedDuration::from_secs(26);
        while self.simulator.clock().now() < last {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the ledger waits for nothing but the blobs that never decode, and both services have all else.
    pub(super) fn wait_until_all_is_there(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let verdict = self.simulator.verdict();
            let hopeless = verdict.impossible.undecodable_blobs.len() as u64;
            let missing: usize = verdict.sinks.iter().map(|sink| sink.missing.len()).sum();
            let totals = self.status()["totals"].clone();
            let waiting = totals["pending_count"].as_u64().unwrap()
                + totals["leased_count"].as_u64().unwrap();
            if missing == 0 && waiting <= hopeless {
                return;
            }
            assert!(
                Instant::now() < end,
                "{waiting} blobs wait, {hopeless} of them without hope; {verdict}\n{totals:#}\nnot listed: {:#?}\n{}",
                self.known().not_listed,
                self.known().told.join("\n")
            );
        }
    }

    pub(super) fn file_verdict(&self) -> SinkVerdict {
        let file = File::open(self.file()).unwrap();
        self.simulator.check_ndjson(BufReader::new(file)).unwrap()
    }

    /// Lists all of it once more beside the running collector, which finds late blobs that no notification told of. Whether
    /// every hour was listed, and what was said. Pages that the storm spoils are whole the next time.
    pub(super) fn backfill(&self) -> (bool, String) {
        let mut command = program();
        command.args(["backfill", "--from", &self.from().to_string()]);
        let mut backfill = Running::start(command.arg("--config").arg(self.config()));
        // It says that once nothing is left to be listed.
        backfill.wait_for("blobs delivered: ");
        let all_hours = 5 * (BACKLOG.as_secs() / 3600 + 2);
        let is_complete = backfill
            .said()
            .contains(&format!("listed {all_hours} of {all_hours} hours"));
        // It would wait for the blobs that never decode.
        backfill.interrupt();
        if !is_complete {
            backfill.wait_for("was not listed to the end");
        }
        let said = backfill.said();
        let (_, status) = backfill.finish();
        assert_eq!(status.code(), Some(1));
        (is_complete, said)
    }

    /// The hour in which the oldest blob was created.
    fn from(&self) -> Timestamp {
        let oldest = self.started_at - SignedDuration::try_from(BACKLOG).unwrap();
        let past_hour = oldest.as_second().rem_euclid(3600);
        oldest - SignedDuration::from_secs(past_hour + 3600)
    }

    /// What is not delivered, as `verify` has it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the program that is asked goes by the machine's clock"
    )]
    pub(super) fn known(&self) -> Known {
        let output = program()
            .args(["verify", "--format", "json", "--from"])
            .arg(self.from().to_string())
            .arg("--to")
            .arg(Timestamp::now().to_string())
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut known = Known::default();
        for stream in answer["streams"].as_array().unwrap() {
            for gap in stream["not_listed"].as_array().unwrap() {
                // The running hour is nobody's fault.
                if gap["why"] != "too_recent" {
                    known
                        .not_listed
                        .push(format!("{}: {gap}", stream["content_type"]));
                }
            }
            for blob in stream["undelivered"].as_array().unwrap() {
                known.told.push(blob.to_string());
                assert!(blob["reason"].is_string(), "no reason: {blob}");
                let id = blob["content_id"].as_str().unwrap().to_owned();
                match (blob["record_index"].as_u64(), &blob["sink"]) {
                    (Some(_), Value::String(_)) => known.refused += 1,
                    (Some(index), _) => drop(known.undecodable.insert((id, index))),
                    (None, _) if blob["state"] == "expired" => drop(known.expired.insert(id)),
                    (None, _) => drop(known.pending.insert(id)),
                }
            }
        }
        known
    }
}
