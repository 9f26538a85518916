//! The real program, `o365-collector run`, with a configuration and a ledger of its own, and what it took.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use ledger::{Ledger as _, SqliteLedger};

use crate::args::{Common, Sink, folder};
use crate::running::Running;
use crate::simulator::Simulator;

/// How often the end is looked for when it is near. Small beside the seconds that a row takes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often at least. Each look counts the blobs that wait, and takes part of the machine that is measured: with some ten
/// thousand of them a sixth of a core, if it were every ten milliseconds from the beginning.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(250);
/// A collector that stands still for so long is given up.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a row is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Records and bytes of their text.
    pub(crate) records: f64,
    pub(crate) bytes: f64,
    /// From the first request for a blob to the last blob's delivery.
    pub(crate) seconds: f64,
    /// Of the process, from its start on.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: f64,
    /// What the simulator took of the machine meanwhile.
    pub(crate) simulator_cpu_seconds: f64,
}

/// A collector that runs.
pub(crate) struct Collector {
    pub(crate) process: Running,
    /// Where its status page is, `host:port`.
    pub(crate) address: String,
    started: Instant,
    ledger: SqliteLedger,
    runtime: tokio::runtime::Runtime,
    /// Its files lie here.
    _dir: tempfile::TempDir,
}

/// How it is set up.
pub(crate) struct Setup {
    pub(crate) sink: Sink,
    /// Keys that are not as in the simulator's configuration: section, key, value.
    pub(crate) keys: Vec<(&'static str, &'static str, toml::Value)>,
    /// The cores that it may use, as `taskset` takes them.
    pub(crate) cores: Option<String>,
    /// A ledger that is there already.
    pub(crate) ledger: Option<PathBuf>,
}

impl Setup {
    pub(crate) fn new(sink: Sink) -> Self {
        Self {
            sink,
            keys: vec![
                ("listen", "address", "127.0.0.1:0".into()),
                ("poll", "interval_secs", 60.into()),
            ],
            cores: None,
            ledger: None,
        }
    }

    pub(crate) fn set(
        mut self,
        section: &'static str,
        key: &'static str,
        value: impl Into<toml::Value>,
    ) -> Self {
        self.keys.push((section, key, value.into()));
        self
    }
}

impl Collector {
    pub(crate) fn start(
        common: &Common,
        simulator: &Simulator,
        setup: Setup,
    ) -> anyhow::Result<Self> {
        let dir = folder()?;
        let config = dir.path().join("o365-collector.toml");
        let ledger = setup.ledger.unwrap_or_else(|| dir.path().join("ledger.db"));
        let mut table: toml::Table = std::fs::read_to_string(simulator.config_file())?.parse()?;
        choose_sink(&mut table, simulator, setup.sink)?;
        let url = format!("sqlite:{}", ledger.display());
        let keys = setup
            .keys
            .into_iter()
            .chain([("ledger", "url", url.into())]);
        for (section, key, value) in keys {
            set(&mut table, section, key, value);
        }
        std::fs::write(&config, table.to_string())?;
        simulator.clear_measured()?;
        // What an earlier collector left would make this one's file another.
        drop(std::fs::remove_file(
            simulator.folder().join("audit.ndjson"),
        ));

        let program = common.program()?;
        let mut run = match setup.cores {
            None => Command::new(program),
            Some(cores) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["--cpu-list", &cores]).arg(program);
                taskset
            }
        };
        run.args([
            "run",
            "--log",
            "warn,cli=info,o365_collector=info",
            "--config",
        ]);
        let started = Instant::now();
        let (process, line) = Running::start(run.arg(&config), "status page at")?;
        let (_, address) = line
            .rsplit_once("http://")
            .context("no address of the status page")?;
        Ok(Self {
            process,
            address: address.split('/').next().unwrap_or_default().to_owned(),
            started,
            ledger: SqliteLedger::open_read_only(ledger)?,
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            _dir: dir,
        })
    }

    /// Waits until so many records are delivered, and gives what that took.
    pub(crate) fn wait(&self, simulator: &Simulator, records: u64) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let (mut moved, mut before) = (began, 0);
        let (ended, bytes) = loop {
            std::thread::sleep(until_next_look(began.elapsed(), before, records));
            let (delivered, bytes) = self.delivered()?;
            if delivered >= records {
                break (now()?, bytes);
            }
            if delivered > before {
                (moved, before) = (Instant::now(), delivered);
            }
            anyhow::ensure!(
                moved.elapsed() < PATIENCE,
                "{delivered} of {records} records are delivered, and no more for {PATIENCE:?}"
            );
        };
        let (cpu_seconds, peak_mib) = (self.process.cpu_seconds()?, self.process.peak_mib()?);
        let began = simulator
            .measured()?
            .first_blob_ms
            .context("no blob was asked for")?;
        Ok(Outcome {
            records: records as f64,
            bytes: bytes as f64,
            seconds: (ended - began) as f64 / 1e3,
            cpu_seconds,
            peak_mib,
            simulator_cpu_seconds: 0.0,
        })
    }

    /// Waits until it says that it is ready, and gives how long that took from its start.
    pub(crate) fn wait_ready(&self) -> anyhow::Result<Duration> {
        let request = format!(
            "GET /readyz HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n",
            self.address
        );
        while self.started.elapsed() < PATIENCE {
            let mut reply = String::new();
            let mut stream = TcpStream::connect(&self.address)?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut reply)?;
            if reply.starts_with("HTTP/1.1 200 ") {
                return Ok(self.started.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("the collector does not become ready")
    }

    /// Records and bytes that the ledger calls delivered. Read straight from its file: asking the program would cost it
    /// time, and a process to ask with would cost the machine more than the collector does.
    pub(crate) fn delivered(&self) -> anyhow::Result<(u64, u64)> {
        let of_stream = |(records, bytes), stream: &ledger::StreamSummary| {
            (
                records + stream.delivered_record_count,
                bytes + stream.delivered_byte_count,
            )
        };
        Ok(self.streams()?.iter().fold((0, 0), of_stream))
    }

    /// Bytes that are set aside.
    pub(crate) fn quarantined_bytes(&self) -> anyhow::Result<u64> {
        let streams = self.streams()?;
        Ok(streams
            .iter()
            .map(|stream| stream.quarantined_byte_count)
            .sum())
    }

    /// Whether a blob waits or is under way.
    pub(crate) fn waits(&self) -> anyhow::Result<bool> {
        let waits = |stream: &ledger::StreamSummary| stream.pending_count + stream.leased_count > 0;
        Ok(self.streams()?.iter().any(waits))
    }

    /// For each content type of each tenant that was listed, how long ago the last listing was, in seconds.
    pub(crate) fn listing_ages(&self) -> anyhow::Result<Vec<f64>> {
        let streams = self.streams()?;
        let now_ms = now()?;
        let listed = streams.iter().filter_map(|stream| stream.listed_until);
        Ok(listed
            .map(|until| (now_ms - until.as_millisecond()) as f64 / 1e3)
            .collect())
    }

    fn streams(&self) -> anyhow::Result<Vec<ledger::StreamSummary>> {
        let summary = self.ledger.summary(Timestamp::UNIX_EPOCH);
        Ok(self.runtime.block_on(summary)?.streams)
    }

    /// Ends it in good order.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.interrupt()?, "the collector did not end well");
        Ok(())
    }
}

/// How long to wait before the next look: a quarter of the time that the rest will take at the rate so far.
fn until_next_look(elapsed: Duration, delivered: u64, records: u64) -> Duration {
    if delivered == 0 {
        return LOOK_EVERY;
    }
    let rest = records.saturating_sub(delivered) as f64 / delivered as f64;
    let rest = elapsed.mul_f64(rest.min(1e6));
    (rest / 4).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
}

/// Sets `[section] key`, or `key` of the one sink.
fn set(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Table::new().into());
    let section = match section {
        toml::Value::Array(sinks) => sinks.first_mut().and_then(toml::Value::as_table_mut),
        section => section.as_table_mut(),
    };
    if let Some(section) = section {
        section.insert(key.to_owned(), value);
    }
}

fn choose_sink(table: &mut toml::Table, simulator: &Simulator, sink: Sink) -> anyhow::Result<()> {
    let sinks = table.get_mut("sink").and_then(toml::Value::as_array_mut);
    let sinks = sinks.context("the simulator's configuration has sinks")?;
    if sink == Sink::SplunkHec {
        let (url, token) = simulator.splunk()?;
        let splunk: toml::Table = toml::toml! { type = "splunk_hec" };
        sinks.push(splunk.into());
        let splunk = sinks.last_mut().and_then(toml::Value::as_table_mut);
        let splunk = splunk.context("it was just put there")?;
        splunk.insert("url".to_owned(), url.into());
        splunk.insert("token".to_owned(), token.into());
    }
    sinks.retain(|other| other.get("type").and_then(toml::Value::as_str) == Some(sink.name()));
    Ok(())
}

/// The simulator's clock is this machine's.
fn now() -> anyhow::Result<i64> {
    let since = std::time::UNIX_EPOCH.elapsed()?;
    Ok(i64::try_from(since.as_millis())?)
}
