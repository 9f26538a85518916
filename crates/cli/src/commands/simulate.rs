//! `simulate`: a Microsoft tenant, an Alert Logic and a Splunk to point any collector at.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use simulator::{AlertLogicOptions, Corpus, Options, Simulator, Storm, Verdict};
use tokio_util::sync::CancellationToken;

use crate::args::{Format, SimulateArgs};
use crate::{exit, output};

/// How often `--until-delivered` looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn simulate(
    args: SimulateArgs,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let corpus = args.corpus.as_deref().map(read_corpus).transpose()?;
    let storm = args.faults.as_deref().map(read_storm).transpose()?;
    let certificate_pem = args.certificate.as_deref().map(read_text).transpose()?;
    let capture = args.capture.map(make_folder).transpose()?;
    let records = args
        .records
        .unwrap_or(if corpus.is_some() { 0 } else { 10_000 });
    let simulator = Simulator::start(Options {
        seed: args.seed,
        tenants: usize::try_from(args.tenants)?,
        records,
        records_per_blob: usize::try_from(args.records_per_blob)?,
        corpus,
        certificate_pem,
        backlog_records: args.live.map(|_| 0),
        live_records_per_sec: args.live,
        listen: args.listen,
        tls: !args.http,
        requests_per_minute: (args.requests_per_minute > 0).then_some(args.requests_per_minute),
        allow_http_webhook: true,
        capture_ingest: capture,
        prepare_blobs: args.prepare,
        check_sinks: !args.no_check,
        latency: (args.latency_ms > 0).then(|| Duration::from_millis(args.latency_ms)),
        sink_latency: args.sink_latency_ms.map(Duration::from_millis),
        storm,
        ..Options::default()
    })
    .await?;
    let (dir, _temporary) = folder(args.dir, "o365-simulator-")?;
    let config = write_config(&simulator, &dir)?;
    output::say(format_args!(
        "microsoft    {}",
        simulator.microsoft_origin()
    ));
    output::say(format_args!(
        "alert logic  {}",
        simulator.alertlogic_origin()
    ));
    output::say(format_args!("splunk hec   {}", simulator.hec_origin()));
    output::say(format_args!(
        "azure        {}",
        simulator.resource_manager_origin()
    ));
    output::say(format_args!(
        "identity     {}",
        simulator.identity_endpoint()
    ));
    output::say(format_args!(
        "records      {}",
        simulator.progress().records_total
    ));
    output::say(format_args!(
        "now run      o365-collector run --config {}",
        config.display()
    ));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY), if args.until_delivered => {
                let progress = simulator.progress();
                if progress.records_acknowledged + progress.records_impossible >= progress.records_total {
                    break;
                }
            }
        }
    }
    if args.no_check {
        output::say(format_args!("not checked: no verdict"));
        simulator.stop().await;
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = judge(&simulator, args.check_file.as_deref())?;
    let is_clean = verdict.is_clean();
    let written = match args.format {
        Format::Text => output::write_line(&verdict),
        Format::Json => output::write_line(format_args!(
            "{:#}",
            serde_json::json!({
                "is_clean": is_clean, "sinks": verdict.sinks, "impossible": verdict.impossible,
            })
        )),
    };
    simulator.stop().await;
    output::or_closed(written)?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        exit::FAILING.into()
    })
}

/// Every service's verdict, and that on a file where one is given.
pub(super) fn judge(simulator: &Simulator, file: Option<&Path>) -> anyhow::Result<Verdict> {
    let mut verdict = simulator.verdict();
    if let Some(path) = file {
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        verdict
            .sinks
            .push(simulator.check_ndjson(BufReader::new(file))?);
    }
    Ok(verdict)
}

pub(super) fn read_corpus(path: &Path) -> anyhow::Result<Corpus> {
    Corpus::from_file(path).with_context(|| format!("the corpus {} cannot be used", path.display()))
}

pub(super) fn read_storm(path: &Path) -> anyhow::Result<Storm> {
    Storm::from_file(path).with_context(|| format!("--faults {}", path.display()))
}

/// The folder that was named, made if need be, or a fresh one that is kept until the process ends.
pub(super) fn folder(
    named: Option<PathBuf>,
    prefix: &str,
) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match named {
        Some(dir) => Ok((make_folder(dir)?, None)),
        None => {
            let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

/// The folder, made if need be. Absolute, because it goes into a configuration, where a relative path begins at the
/// file's own folder.
fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn make_folder(dir: PathBuf) -> anyhow::Result<PathBuf> {
    let dir =
        std::path::absolute(&dir).with_context(|| format!("{:?} is no folder's name", dir))?;
    std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    Ok(dir)
}

/// `ca.pem` and an `o365-collector.toml` that fits the simulator. The file's path.
fn write_config(simulator: &Simulator, dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("o365-collector.toml");
    if let Some(pem) = simulator.ca_pem() {
        std::fs::write(dir.join("ca.pem"), pem)?;
    }
    // Renamed into place, so that whoever waits for the file finds the whole of it.
    let part = dir.join("o365-collector.toml.part");
    std::fs::write(&part, config_text(simulator, dir, "127.0.0.1:8365", None))?;
    std::fs::rename(&part, &path)?;
    Ok(path)
}

/// The configuration of a collector that collects from `simulator` and delivers to its Alert Logic and to a file.
pub(super) fn config_text(
    simulator: &Simulator,
    dir: &Path,
    listen: &str,
    webhook: Option<(&str, &str)>,
) -> String {
    use toml::Value;
    use toml::map::Map;

    let text = |text: &str| Value::String(text.to_owned());
    let path = |name: &str| Value::String(dir.join(name).display().to_string());
    let table = |pairs: &[(&str, Value)]| {
        Value::Table(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        )
    };
    let tenants = simulator.tenants().iter().map(|tenant| {
        table(&[
            ("id", text(&tenant.tenant_id)),
            ("client_id", text(&tenant.client_id)),
            ("client_secret", text(&tenant.client_secret)),
        ])
    });
    let microsoft = simulator.microsoft_origin();
    let key = AlertLogicOptions::default();
    let mut root = Map::new();
    let mut add = |key: &str, value: Value| drop(root.insert(key.to_owned(), value));
    add("tenant", Value::Array(tenants.collect()));
    add(
        "microsoft",
        table(&[
            ("login", text(&microsoft)),
            ("activity", text(&microsoft)),
            (
                "resource_manager",
                text(&simulator.resource_manager_origin()),
            ),
        ]),
    );
    if simulator.ca_pem().is_some() {
        add("tls", table(&[("ca_file", path("ca.pem"))]));
    }
    add("listen", table(&[("address", text(listen))]));
    if let Some((public_url, auth_id)) = webhook {
        add(
            "webhook",
            table(&[("public_url", text(public_url)), ("auth_id", text(auth_id))]),
        );
    }
    let ledger = format!("sqlite:{}", dir.join("ledger.db").display());
    add("ledger", table(&[("url", text(&ledger))]));
    add("poll", table(&[("interval_secs", Value::Integer(10))]));
    add(
        "fetch",
        table(&[("requests_per_minute", Value::Integer(1_000_000))]),
    );
    let alertlogic = table(&[
        ("type", text("alertlogic")),
        ("api", text(&simulator.alertlogic_origin())),
        ("access_key_id", text(&key.access_key_id)),
        ("secret_key", text(&key.secret_key)),
    ]);
    let file = table(&[("type", text("file")), ("path", path("audit.ndjson"))]);
    add("sink", Value::Array(vec![alertlogic, file]));
    root.to_string()
}
