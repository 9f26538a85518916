//! The simulator as a process of its own, and what it says of a collector.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use benches::microsoft::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::args::{Common, folder};
use crate::running::Running;

/// What is simulated.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) records: u64,
    pub(crate) records_per_blob: u64,
    pub(crate) tenants: u64,
    /// Whether every record that comes to a sink is checked.
    pub(crate) is_checked: bool,
    /// Whether the file that a collector wrote is checked in the end.
    pub(crate) checks_file: bool,
    /// More flags of `o365-collector simulate`.
    pub(crate) more: Vec<String>,
}

/// A simulator that runs.
pub(crate) struct Simulator {
    process: Running,
    dir: tempfile::TempDir,
    config: Config,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

/// What the simulator measured since it was last told to begin anew.
#[derive(Deserialize)]
pub(crate) struct Measured {
    /// When the first blob was asked for, in milliseconds since 1970.
    pub(crate) first_blob_ms: Option<i64>,
    /// Of each sink and blob: when the blob was to be had, and how many milliseconds later the sink had all of it.
    pub(crate) taken_ms: HashMap<String, Vec<(i64, i64)>>,
}

#[derive(Deserialize)]
struct About {
    splunk_hec: String,
    hec_token: String,
}

impl Simulator {
    pub(crate) fn start(common: &Common, options: &Options) -> anyhow::Result<Self> {
        let dir = folder()?;
        let mut command = Command::new(common.simulator()?);
        command.args(["simulate", "--prepare", "--requests-per-minute", "0"]);
        command.args(["--records", &options.records.to_string()]);
        command.args(["--records-per-blob", &options.records_per_blob.to_string()]);
        command.args(["--tenants", &options.tenants.to_string()]);
        command.arg("--dir").arg(dir.path());
        if let Some(corpus) = &common.corpus {
            command.arg("--corpus").arg(corpus);
        }
        if !options.is_checked {
            command.arg("--no-check");
        }
        if options.checks_file {
            command
                .arg("--check-file")
                .arg(dir.path().join("audit.ndjson"));
        }
        command.args(&options.more);
        let (process, _) = Running::start(&mut command, "now run")?;
        let config = Config::read(&dir.path().join("o365-collector.toml"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = config.client()?;
        Ok(Self {
            process,
            dir,
            config,
            runtime,
            client,
        })
    }

    /// The configuration that it wrote.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("o365-collector.toml")
    }

    /// The folder in which a collector's files lie that the simulator looks at in the end.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// CPU seconds that the simulator took so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.process.cpu_seconds()
    }

    /// Where Splunk is, and its token.
    pub(crate) fn splunk(&self) -> anyhow::Result<(String, String)> {
        let about: About = self.ask("about")?;
        Ok((about.splunk_hec, about.hec_token))
    }

    pub(crate) fn measured(&self) -> anyhow::Result<Measured> {
        self.ask("measured")
    }

    /// Begins anew with what is measured.
    pub(crate) fn clear_measured(&self) -> anyhow::Result<()> {
        // Made inside the runtime, whose timer it needs from the start.
        let clear = async { self.client.delete(self.address("measured")).send().await };
        self.runtime.block_on(clear)?.error_for_status()?;
        Ok(())
    }

    /// Ends it. Whether its verdict is clean, where it checked.
    pub(crate) fn end(self) -> anyhow::Result<bool> {
        self.process.interrupt()
    }

    fn ask<T: DeserializeOwned>(&self, what: &str) -> anyhow::Result<T> {
        let ask = async {
            let reply = self.client.get(self.address(what)).send().await?;
            reply.error_for_status()?.bytes().await
        };
        let text = self.runtime.block_on(ask)?;
        serde_json::from_slice(&text).with_context(|| format!("the simulator's answer to {what}"))
    }

    fn address(&self, what: &str) -> String {
        format!("{}/_simulator/{what}", self.config.origin())
    }
}
