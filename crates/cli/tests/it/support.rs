//! Real processes of the program: a simulator, and collectors that are pointed at it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a slow machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o365-collector"));
    #[expect(
        clippy::disallowed_methods,
        reason = "so that no setting of whoever runs the tests leaks into them"
    )]
    let variables = std::env::vars();
    for (name, _) in variables.filter(|(name, _)| name.starts_with("O365_COLLECTOR_")) {
        command.env_remove(name);
    }
    command
}

/// Waits until the ledger of this configuration says of all five content types that they were listed. From then on they are
/// subscribed to. A process that dies around its first start of a subscription leaves it to the next to find out, and that
/// one tries again only a quarter of an hour later, which no test has.
pub(crate) fn wait_until_all_is_listed_once(config: &Path) {
    let end = Instant::now() + PATIENCE;
    loop {
        let output = program()
            .args(["status", "--format", "json", "--config"])
            .arg(config)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        let tenants = view["tenants"].as_array().unwrap().iter();
        let streams = tenants.flat_map(|tenant| tenant["streams"].as_array().unwrap());
        if streams
            .filter(|stream| stream["listed_until"].is_string())
            .count()
            == 5
        {
            return;
        }
        assert!(Instant::now() < end, "never listed: {view:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program that runs beside the test and ends with it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The first line on standard error that holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!(
                    "the program never said {text:?}; it said:\n{}",
                    self.seen.join("\n")
                )
            });
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The lines on standard error that were waited through.
    pub(crate) fn said(&self) -> String {
        self.seen.join("\n")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// As the kernel counts it, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end. What it wrote to standard output, and how it ended.
    pub(crate) fn finish(mut self) -> (String, ExitStatus) {
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        let status = self.child.wait().unwrap();
        (stdout, status)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed already, or ended by itself: both are fine here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A file that the tests of `activity-api` have.
pub(crate) fn certificate(name: &str) -> String {
    format!(
        "{}/../activity-api/test-data/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// A secret that lies in this file, as a configuration says it.
pub(crate) fn secret_in(path: String) -> toml::Value {
    toml::Table::from_iter([("file".to_owned(), path.into())]).into()
}

/// A simulator in a process of its own, with a folder that holds its certificate and a fitting configuration.
pub(crate) struct Simulation {
    running: Option<Running>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) microsoft: String,
}

impl Simulation {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = program();
        command
            .args(["simulate", "--format", "json", "--dir"])
            .arg(dir.path())
            .args(arguments);
        command
            .arg("--check-file")
            .arg(dir.path().join("audit.ndjson"));
        let mut running = Running::start(&mut command);
        let line = running.wait_for("microsoft ");
        running.wait_for("now run");
        let microsoft = line.split_whitespace().last().unwrap().to_owned();
        let simulation = Self {
            running: Some(running),
            dir,
            microsoft,
        };
        // Any port: several collectors may run on this machine.
        simulation.edit_config(|text| text.replace("127.0.0.1:8365", "127.0.0.1:0"));
        simulation
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("o365-collector.toml")
    }

    /// What the simulation's own configuration has under a key, in whichever table that is. The first one's.
    pub(crate) fn configured(&self, key: &str) -> String {
        let text = fs::read_to_string(self.config()).unwrap();
        let assigned = |line: &str| {
            let (name, value) = line.split_once(" = ")?;
            (name == key).then(|| value.trim_matches('"').to_owned())
        };
        let value = text.lines().find_map(assigned);
        value.unwrap_or_else(|| panic!("{key} is not in the simulation's configuration"))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("audit.ndjson")
    }

    pub(crate) fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), edit(text)).unwrap();
    }

    /// Gives the tenant this in place of its secret.
    pub(crate) fn sign_in_with(&self, key: &str, value: toml::Value) {
        self.edit_config(|text| {
            let mut config: toml::Table = text.parse().unwrap();
            let tenant = config["tenant"][0].as_table_mut().unwrap();
            tenant.remove("client_secret");
            tenant.insert(key.to_owned(), value);
            config.to_string()
        });
    }

    /// `run` in the simulation's configuration, not started yet.
    pub(crate) fn run(&self) -> Command {
        let mut command = program();
        command.arg("run").arg("--config").arg(self.config());
        command
    }

    /// One pass to its end.
    pub(crate) fn run_once(&self) -> Output {
        self.run().arg("--once").output().unwrap()
    }

    /// Ends the simulator. Its verdict on Alert Logic's side and on the file.
    pub(crate) fn verdict(mut self) -> Value {
        let running = self.running.take().unwrap();
        running.interrupt();
        let (stdout, status) = running.finish();
        let verdict: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
        assert_eq!(verdict["is_clean"], status.success());
        verdict
    }

    /// Ends the simulator, which must be content.
    pub(crate) fn assert_clean(self) {
        let verdict = self.verdict();
        assert_eq!(verdict["is_clean"], true, "{verdict:#}");
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        let ca = fs::read(self.dir.path().join("ca.pem")).unwrap();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::builder()
            .tls_certs_merge([ca])
            .timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// What the simulator says under `/_simulator/{what}`.
    pub(crate) fn ask(&self, what: &str) -> Value {
        self.send(|client, uri| client.get(uri), what)
    }

    /// Posts `body` to `/_simulator/{what}`.
    pub(crate) fn tell(&self, what: &str, body: &'static str) {
        self.send(|client, uri| client.post(uri).body(body), what);
    }

    /// How many requests of a kind were answered with this status so far.
    pub(crate) fn count(&self, kind: &str, status: u64) -> u64 {
        let requests = self.ask("requests");
        let rows = requests["counts"].as_array().unwrap().iter();
        rows.filter(|row| row["kind"] == kind && row["status"] == status)
            .map(|row| row["count"].as_u64().unwrap())
            .sum()
    }

    fn send(
        &self,
        build: impl FnOnce(reqwest::Client, String) -> reqwest::RequestBuilder,
        what: &str,
    ) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let uri = format!("{}/_simulator/{what}", self.microsoft);
            let reply = build(self.client(), uri).send().await.unwrap();
            assert!(reply.status().is_success(), "{}", reply.status());
            let text = reply.text().await.unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        })
    }
}

/// The lines of an NDJSON file, in any order: sorted.
pub(crate) fn sorted_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is torn"
    );
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub(crate) fn describe(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
