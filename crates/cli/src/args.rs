//! The command line, exactly as the outward contract has it.

mod access_key;
mod keeping;
mod release;

use std::net::SocketAddr;
use std::path::PathBuf;

use activity_api::{ContentType, TenantId};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use collector::env;

pub(crate) use self::access_key::{AccessKeyAction, AccountArg};
pub(crate) use self::keeping::{BackfillArgs, ChosenArgs, QuarantineAction, VerifyArgs};
pub(crate) use self::release::ReleaseAction;

/// Collects the audit logs of Microsoft 365 and misses nothing.
#[derive(Debug, Parser)]
#[command(
    name = "o365-collector",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How much to tell on standard error: error, warn, info, debug, or a filter per module. Without it `info`, and
    /// `warn` for `demo` and `check`, whose answers it would disturb.
    #[arg(long, global = true, env = env::LOG, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// The form of log lines.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the configuration is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArg {
    /// The configuration file. Without it the one that the variable O365_COLLECTOR_CONFIG names, or else
    /// ./o365-collector.toml.
    // Not clap's `env`: to it a variable that is set to nothing is a mistake. collector::config reads the variable.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Where the app settings are, for a function that is run once on this machine.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SettingsArg {
    /// The app settings: a local.settings.json. Without it ./local.settings.json, where there is one. Environment
    /// variables go over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collect until stopped.
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// One pass: list, fetch and deliver all that is due, then exit.
        #[arg(long)]
        once: bool,
    },
    /// A simulated tenant and backend, the real pipeline, the status page: no account, no configuration.
    Demo(DemoArgs),
    /// Only the simulator, to point any collector at.
    Simulate(SimulateArgs),
    /// Is all there that collecting needs? Each prerequisite tested, what is wrong and how to mend it; starts and delivers nothing.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// What has been collected, and what is pending.
    Status {
        #[command(flatten)]
        config: ConfigArg,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Is anything missing? Which hours were listed, and what of them is not delivered; exit code 0 when nothing is missing.
    Verify(VerifyArgs),
    /// Fetch a past stretch of time now, with progress, and verify it.
    Backfill(BackfillArgs),
    /// What is set aside because it could not be read or a sink refused it for ever.
    Quarantine {
        #[command(flatten)]
        config: ConfigArg,
        #[command(subcommand)]
        action: QuarantineAction,
    },
    /// The tenants' subscriptions at Microsoft.
    Subscriptions {
        #[command(flatten)]
        config: ConfigArg,
        #[command(subcommand)]
        action: SubscriptionsAction,
    },
    /// Alert Logic's log sources, by hand: what a running collector does by itself.
    Alertlogic {
        #[command(flatten)]
        config: ConfigArg,
        #[command(subcommand)]
        action: AlertlogicAction,
    },
    /// The configuration: its defaults, its present values, its schema.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// The custom handler of an Azure function app. The Functions host starts it.
    Function,
    /// Run the function Master once: register, look after subscriptions and health, check in.
    Master {
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// Run the function Updater once: look for a newer version and put it in the place of the app's.
    Updater {
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// Take one notification as the function O365WebHook does, and deliver what it names.
    Webhook {
        #[command(flatten)]
        settings: SettingsArg,
        /// The notification's body: a file of JSON, or - for standard input.
        #[arg(default_value = "-", value_name = "FILE")]
        notification: PathBuf,
    },
    /// The function app as one zip to deploy. Its SHA-256 goes to standard output.
    Package {
        /// The zip to write.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// The program to put in: this collector, built for Linux on x86-64. Without it, the one that is running.
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Release keys and signed release manifests, for whoever makes releases.
    Release {
        #[command(subcommand)]
        action: ReleaseAction,
    },
    /// A completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page, in roff.
    Man,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// End once this many records are delivered. Without it, the demo goes on until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) records: Option<u64>,
    /// Records to collect in place of generated ones: an NDJSON file, taken byte for byte.
    #[arg(long, value_name = "FILE")]
    pub(crate) corpus: Option<PathBuf>,
    /// Where the collected file and the ledger go; a fresh temporary folder where none is named.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Where the status page listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Makes the simulated records; the same number makes the same ones.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// Records to serve, over all tenants; with a corpus, each of its lines once where no number is given.
    #[arg(long, value_name = "N")]
    pub(crate) records: Option<u64>,
    /// Records to serve in place of generated ones: an NDJSON file, taken byte for byte.
    #[arg(long, value_name = "FILE")]
    pub(crate) corpus: Option<PathBuf>,
    /// Tenants to simulate.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) tenants: u64,
    /// The mean number of records in a blob.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) records_per_blob: u64,
    /// A certificate (PEM) that the application of each tenant is known by, besides its secret.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The first of six ports in a row: Microsoft, Alert Logic, Splunk HEC, a host that no token may reach, Azure Resource
    /// Manager, managed identities.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Plain HTTP, without certificates.
    #[arg(long)]
    pub(crate) http: bool,
    /// Makes the records, ids and secrets; the same number makes the same ones.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What goes wrong on purpose: a storm's file, as docs/simulator.md describes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Requests a minute that a tenant may send; 0 for any number.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub(crate) requests_per_minute: u32,
    /// Blobs appear at this many records per second, in place of all being there from the start.
    #[arg(long, value_name = "N")]
    pub(crate) live: Option<f64>,
    /// Where the certificate and a configuration that fits go (ca.pem, o365-collector.toml); a fresh temporary folder
    /// where none is named.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the bodies and headers of the first accepted ingest posts in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) capture: Option<PathBuf>,
    /// At the end, hold this NDJSON file against the records that were served as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) check_file: Option<PathBuf>,
    /// Make and compress every blob before the start, so that serving costs next to nothing. For measuring.
    #[arg(long)]
    pub(crate) prepare: bool,
    /// Sinks take what they are given without a look at it, and there is no verdict. For measuring.
    #[arg(long, conflicts_with_all = ["check_file", "until_delivered"])]
    pub(crate) no_check: bool,
    /// Keep every answer back for so many milliseconds.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) latency_ms: u64,
    /// Keep the answers of Alert Logic and Splunk back for so many milliseconds, in place of --latency-ms.
    #[arg(long, value_name = "N")]
    pub(crate) sink_latency_ms: Option<u64>,
    /// The form of the verdict.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// End once every record was acknowledged by Alert Logic's side.
    #[arg(long)]
    pub(crate) until_delivered: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionsAction {
    /// What is subscribed to, and the state of each webhook.
    List,
    /// Start subscriptions: the content types named, or all that are configured.
    Start {
        /// Microsoft's names.
        #[arg(value_parser = content_type_parser(), ignore_case = true)]
        content_types: Vec<ContentType>,
    },
    /// Stop subscriptions. What becomes available while one is stopped can never be collected.
    Stop {
        /// Microsoft's names.
        #[arg(required = true, value_parser = content_type_parser(), ignore_case = true)]
        content_types: Vec<ContentType>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertlogicAction {
    /// Register each tenant's log source, or tell of changes: the same place gets the same ids.
    Register(TenantArg),
    /// Deregister each tenant's log source and forget its ids.
    Deregister(TenantArg),
    /// Check health, look after the subscriptions, and check in.
    Checkin(TenantArg),
    /// A user's access keys: what an administrator makes for a collector, once.
    AccessKey {
        #[command(subcommand)]
        action: AccessKeyAction,
    },
}

/// Which tenants.
#[derive(Debug, clap::Args)]
pub(crate) struct TenantArg {
    /// Only this tenant; without it, every tenant that is configured.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// The commented file that holds every setting and its default.
    Default,
    /// Every setting as it is in force, and where it came from. Secrets are not shown.
    Print {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// A JSON Schema of the file, for editors.
    Schema,
}

/// Takes a content type by Microsoft's name, in any case, and lists the names to whoever types another.
fn content_type_parser() -> impl TypedValueParser<Value = ContentType> {
    PossibleValuesParser::new(ContentType::ALL.map(ContentType::as_str))
        .try_map(|name| ContentType::parse(&name))
}
