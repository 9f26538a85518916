//! What is measured, and with which programs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures the collector. benches/README.md says what each figure means.
#[derive(Parser)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// What holds for all parts.
#[derive(Args)]
pub(crate) struct Common {
    /// The collector that is measured. Without it, the one beside this program.
    #[arg(long, global = true, env = "O365_BENCH_PROGRAM", value_name = "FILE")]
    program: Option<PathBuf>,
    /// The program that simulates the services. Without it, the one beside this program.
    #[arg(long, global = true, env = "O365_BENCH_SIMULATOR", value_name = "FILE")]
    simulator: Option<PathBuf>,
    /// Records of a row, in place of each part's own numbers.
    #[arg(long, global = true, env = "O365_BENCH_RECORDS", value_name = "N")]
    pub(crate) records: Option<u64>,
    /// An NDJSON file to take the records from. Without it they are made up.
    #[arg(long, global = true, env = "O365_BENCH_CORPUS", value_name = "FILE")]
    pub(crate) corpus: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Part {
    /// The whole path beside the limit: records/s, CPU, memory, and whether the goals are kept.
    Whole(Whole),
    /// With slow answers beside the limit; and from a blob's availability to its acknowledgement.
    Latency(Latency),
    /// The webhook's door: from a notification to the durable 200.
    Door(Door),
    /// The cost of having nothing to do, and of a start with an old ledger.
    Idle(Idle),
    /// Memory, with one blob or one record that is larger than all of it.
    Giant(Giant),
    /// How the figures grow, as the tables of docs/performance.md. Not in what runs without a choice: it takes long.
    Curves(Curves),
}

impl Part {
    /// Everything, as it is measured without a choice.
    pub(crate) fn all() -> Vec<Self> {
        ["whole", "latency", "door", "idle", "giant"]
            .into_iter()
            .filter_map(|part| Cli::parse_from(["suite", part]).part)
            .collect()
    }
}

#[derive(Args)]
pub(crate) struct Door {
    /// Notifications in a second.
    #[arg(long, default_value_t = 500)]
    pub(crate) per_second: u64,
    /// Seconds of it.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
}

#[derive(Args)]
pub(crate) struct Idle {
    /// Seconds to look at an idle collector, after it has settled.
    #[arg(long, default_value_t = 120)]
    pub(crate) seconds: u64,
    /// Tenants of the second one, at most 10,000; 0 for none.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) tenants: u64,
    /// Delivered blobs in the ledger of the start; 0 for none.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) blobs: u64,
}

#[derive(Args)]
pub(crate) struct Giant {
    /// Gigabytes of the one blob.
    #[arg(
        long,
        default_value_t = 1,
        env = "O365_BENCH_GIGABYTES",
        value_name = "N"
    )]
    pub(crate) gigabytes: u64,
    /// Megabytes of the one record that Alert Logic refuses; 0 for none.
    #[arg(long, default_value_t = 20)]
    pub(crate) record_megabytes: u64,
    /// Sinks, one at a time.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Sink::Alertlogic, Sink::File])]
    pub(crate) sinks: Vec<Sink>,
}

#[derive(Args)]
pub(crate) struct Curves {
    /// Which curves.
    #[arg(value_enum, default_values_t = [Curve::Cores, Curve::Tenants, Curve::Blob, Curve::Ledger])]
    pub(crate) curve: Vec<Curve>,
    /// Numbers of tenants.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    pub(crate) tenants: Vec<u64>,
    /// Records in a blob. A million is more than a gigabyte.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000, 100_000, 1_000_000])]
    pub(crate) blob: Vec<u64>,
    /// Blobs in the ledger.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000, 10_000_000])]
    pub(crate) ledger: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Curve {
    Cores,
    Tenants,
    Blob,
    Ledger,
}

#[derive(Args)]
pub(crate) struct Latency {
    /// Mean numbers of records in a blob, far away.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100, 10])]
    pub(crate) blob: Vec<u64>,
    /// Milliseconds on every answer of Microsoft's.
    #[arg(long, default_value_t = 150)]
    pub(crate) microsoft_ms: u64,
    /// Milliseconds on every answer of the sink's.
    #[arg(long, default_value_t = 80)]
    pub(crate) sink_ms: u64,
    /// Blobs that appear in a second of the steady run.
    #[arg(long, default_value_t = 100)]
    pub(crate) blobs_per_second: u64,
    /// Seconds of the steady run.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
}

#[derive(Args)]
pub(crate) struct Whole {
    /// Mean numbers of records in a blob.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100, 10])]
    pub(crate) blob: Vec<u64>,
    /// Numbers of tenants.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50])]
    pub(crate) tenants: Vec<u64>,
    /// Sinks, one at a time.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Sink::Alertlogic, Sink::File, Sink::SplunkHec])]
    pub(crate) sinks: Vec<Sink>,
    /// How often everything is measured in turn. Of each figure the median counts.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Let the simulator check every record that comes. It takes more of the machine than the collector then, so that
    /// what it leaves is no measure of speed.
    #[arg(long)]
    pub(crate) checked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sink {
    Alertlogic,
    File,
    #[value(name = "splunk_hec")]
    SplunkHec,
}

impl Sink {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alertlogic => "alertlogic",
            Self::File => "file",
            Self::SplunkHec => "splunk_hec",
        }
    }
}

impl std::fmt::Display for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Common {
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        self.program
            .clone()
            .map_or_else(|| beside("o365-collector"), Ok)
    }

    pub(crate) fn simulator(&self) -> anyhow::Result<PathBuf> {
        self.simulator
            .clone()
            .map_or_else(|| beside("o365-collector"), Ok)
    }
}

/// A program that was built along with this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        program.exists(),
        "{} is not there: build it, or run scripts/bench",
        program.display()
    );
    Ok(program)
}

/// A folder on the disk that the build is on. Not the system's temporary folder: that may be memory, and then a synced
/// write costs nothing.
pub(crate) fn folder() -> anyhow::Result<tempfile::TempDir> {
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .nth(2)
        .context("a program in a folder in target")?;
    let folders = target.join("bench");
    std::fs::create_dir_all(&folders)?;
    Ok(tempfile::tempdir_in(folders)?)
}
