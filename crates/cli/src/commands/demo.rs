//! `demo`: the whole thing on one machine. A simulated tenant and backend, the real pipeline between them over HTTPS, the
//! status page, and at the end a verdict by the simulator, which knows what it served.

mod progress;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use simulator::{Options, Simulator};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::progress::Show;
use super::run::run_with_door;
use super::simulate::{config_text, folder, judge, read_corpus};
use crate::args::DemoArgs;
use crate::assembly::Assembly;
use crate::{exit, output};

/// Without a number of records the demo's tenant goes on making some, this many at most: hours of them.
const ENDLESS_RECORDS: u64 = 5_000_000;
/// How many of those lie there at the start.
const BACKLOG_RECORDS: u64 = 20_000;
/// How many appear each second after that.
const LIVE_RECORDS_PER_SEC: f64 = 400.0;
/// How often the display is renewed and the end looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what was published may take to arrive once the demo is to end.
const DRAIN: Duration = Duration::from_secs(60);

pub(super) async fn demo(args: DemoArgs, stop: &CancellationToken) -> anyhow::Result<ExitCode> {
    let corpus = args.corpus.as_deref().map(read_corpus).transpose()?;
    let is_endless = args.records.is_none() && corpus.is_none();
    let simulator = Simulator::start(Options {
        seed: args.seed,
        // 0 with a corpus: each of its lines once.
        records: args
            .records
            .unwrap_or(if is_endless { ENDLESS_RECORDS } else { 0 }),
        corpus,
        backlog_records: is_endless.then_some(BACKLOG_RECORDS),
        live_records_per_sec: is_endless.then_some(LIVE_RECORDS_PER_SEC),
        tls: true,
        allow_http_webhook: true,
        requests_per_minute: None,
        ..Options::default()
    })
    .await?;
    let shown = show(args, &simulator, is_endless, stop).await;
    simulator.stop().await;
    shown
}

/// Everything between the simulator's start and its end.
async fn show(
    args: DemoArgs,
    simulator: &Simulator,
    is_endless: bool,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let (dir, temporary) = folder(args.dir, "o365-demo-")?;
    // Kept, so that what was collected can be looked at afterwards.
    let dir = temporary.map_or(dir, tempfile::TempDir::keep);
    let file = dir.join("audit.ndjson");
    if let Some(pem) = simulator.ca_pem() {
        std::fs::write(dir.join("ca.pem"), pem)?;
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen: {} cannot be listened on", args.listen))?;
    let address = listener.local_addr()?;
    let webhook = format!("http://{address}/api/o365/webhook");
    let auth_id = uuid::Uuid::new_v4().to_string();
    let text = config_text(
        simulator,
        &dir,
        &address.to_string(),
        Some((&webhook, &auth_id)),
    );
    let config =
        collector::config::from_text(&text, "demo", &dir, &std::collections::BTreeMap::new())?;

    output::write(format!(
        "simulated tenant and Alert Logic   {}\n\
         status page                        http://{address}/\n\
         collected records                  {}\n\
         end                                {}\n",
        simulator.microsoft_origin(),
        file.display(),
        end_text(simulator, is_endless),
    ))?;

    let assembly = Assembly::build(&config)?;
    assembly.pipeline.start().await?;
    let ended = CancellationToken::new();
    let watching = watch(simulator, &assembly, &file, stop, is_endless);
    let collecting = run_with_door(&assembly, listener, &ended);
    let watched = async {
        let result = watching.await;
        ended.cancel();
        result
    };
    let (arrived, ()) = tokio::join!(watched, collecting);
    let arrived = arrived?;

    let verdict = judge(simulator, Some(&file))?;
    let is_clean = verdict.is_clean() && arrived;
    let mut told = format!("{verdict}\n");
    if !arrived {
        told.push_str("not everything that was published had arrived when the demo ended\n");
    }
    output::or_closed(output::write(told))?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        exit::FAILING.into()
    })
}

fn end_text(simulator: &Simulator, is_endless: bool) -> String {
    if is_endless {
        "Ctrl-C, then a verdict".to_owned()
    } else {
        format!(
            "after {} records, then a verdict",
            simulator.progress().records_total
        )
    }
}

/// Shows what happens until all records are delivered, or until `stop` and everything published by then has arrived.
/// Whether it all arrived. A closed standard output ends it too, as an error: an endless demo that nobody watches would
/// go on for hours.
async fn watch(
    simulator: &Simulator,
    assembly: &Assembly,
    file: &Path,
    stop: &CancellationToken,
    is_endless: bool,
) -> anyhow::Result<bool> {
    let mut show = Show::begin(is_endless, simulator.progress().records_total);
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        if stop.is_cancelled() && deadline.is_none() {
            // Nothing new appears from here on; what is there is still collected, so that the verdict is about all of it.
            simulator.clock().set_speed(0.0);
            deadline = Some(tokio::time::Instant::now() + DRAIN);
            show.say("ending: collecting what is there")?;
        }
        let progress = simulator.progress();
        show.update(&progress, file_bytes(file))?;
        let wanted = if is_endless {
            progress.records_published
        } else {
            progress.records_total
        };
        let is_over = deadline.is_some() || !is_endless;
        if is_over && progress.records_acknowledged >= wanted && is_drained(assembly).await? {
            show.finish()?;
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() > deadline) {
            show.finish()?;
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the ledger has nothing pending: every sink has everything that was noted.
async fn is_drained(assembly: &Assembly) -> anyhow::Result<bool> {
    let summary = assembly.ledger.summary(assembly.clock.now()).await?;
    Ok(summary
        .streams
        .iter()
        .all(|stream| stream.pending_count + stream.leased_count == 0))
}

fn file_bytes(path: &Path) -> u64 {
    // Not there yet is as good as empty.
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
