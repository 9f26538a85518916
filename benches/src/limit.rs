//! The limit as a process of its own, so that its CPU time is measured as the collector's is.

use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use crate::args::beside;
use crate::collector::Outcome;
use crate::simulator::Simulator;

/// What the limit does with what it fetches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Inflates it.
    Fetch,
    /// And deflates it with libdeflate at level 1.
    Libdeflate,
    /// And deflates it with the project's own engine.
    Own,
}

#[derive(Deserialize)]
struct Result {
    bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

impl Work {
    fn flag(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Libdeflate => "libdeflate",
            Self::Own => "own",
        }
    }
}

/// Runs it once. It does not know how many records it had.
pub(crate) fn run(
    simulator: &Simulator,
    work: Work,
    connections: usize,
    records: u64,
) -> anyhow::Result<Outcome> {
    let output = Command::new(beside("limit")?)
        .arg(simulator.config_file())
        .args([
            "--work",
            work.flag(),
            "--connections",
            &connections.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "the limit ended with {}",
        output.status
    );
    let result: Result = serde_json::from_slice(&output.stdout).context("the limit's line")?;
    Ok(Outcome {
        records: records as f64,
        bytes: result.bytes as f64,
        seconds: result.seconds,
        cpu_seconds: result.cpu_seconds,
        peak_mib: result.peak_mib,
        simulator_cpu_seconds: 0.0,
    })
}
