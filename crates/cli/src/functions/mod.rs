//! `function`: the custom handler of Azure Functions. The platform's host starts it, asks until it answers, and then
//! posts each invocation; what it is asked for, the same bounded steps do that the long-running host calls.

mod app;
mod door;
mod limit;
pub(crate) mod local;
pub(crate) mod manifest;
pub(crate) mod statistics;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use collector::config::{self, Config};
use collector::env::{Lookup, ProcessEnv};
use collector::web::{self, Patience};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::app::App;
use self::limit::Deadlines;
use self::statistics::Statistics;

/// Where the host wants us to listen; the older name is still given.
const PORTS: [&str; 2] = ["FUNCTIONS_CUSTOMHANDLER_PORT", "FUNCTIONS_HTTPWORKER_PORT"];
/// The folder with host.json. Without it we were started in that folder.
const APP_ROOT: &str = "FUNCTIONS_APP_ROOT_PATH";

/// The host keeps connections for a minute or two and then closes them itself. If we were first, an invocation could
/// meet a connection that is just being closed. And one invocation may take as long as the host lets it.
const PATIENCE: Patience = Patience {
    head: Duration::from_secs(10 * 60),
    connection: None,
    drain: Duration::from_secs(5),
};
/// How often counts of invocations are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// How long invocations under way may still take at the end: longer than the pipeline takes to give up what it has.
const LAST_ANSWERS: Duration = Duration::from_secs(12);
/// How long the ledger may take for the last counts.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// The pauses between tries to begin.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the door needs, and what is behind it as soon as that is there.
pub(crate) struct Host {
    condition: watch::Sender<Condition>,
    deadlines: Deadlines,
    statistics: Arc<Statistics>,
    /// No invocation is begun any more, and those under way are to end.
    stop: CancellationToken,
    /// Invocations under way. They go on when the connection that brought them breaks.
    invocations: TaskTracker,
}

/// Whether there is anything to call.
#[derive(Clone)]
enum Condition {
    Starting,
    Ready(Arc<App>),
    /// Why not, a line for each reason.
    Broken(Arc<[String]>),
}

impl Host {
    /// What to call, once that is known, or all that is wrong.
    async fn app(&self) -> Result<Arc<App>, Arc<[String]>> {
        let mut condition = self.condition.subscribe();
        let known = condition.wait_for(|condition| !matches!(condition, Condition::Starting));
        match known.await.as_deref() {
            Ok(Condition::Ready(app)) => Ok(Arc::clone(app)),
            Ok(Condition::Broken(reasons)) => Err(Arc::clone(reasons)),
            Ok(Condition::Starting) | Err(_) => Err([ENDING.to_owned()].into()),
        }
    }
}

const ENDING: &str = "the process is ending";

/// Answers the Functions host until `stop`.
pub(crate) async fn serve(stop: &CancellationToken) -> anyhow::Result<ExitCode> {
    let env = ProcessEnv;
    let Some(port) = PORTS.into_iter().find_map(|name| env.get(name)) else {
        anyhow::bail!(
            "{} is not set: this command is started by the Azure Functions host; `o365-collector run` collects anywhere else",
            PORTS[0]
        );
    };
    let port: u16 = port
        .trim()
        .parse()
        .with_context(|| format!("{} is no port", PORTS[0]))?;
    // Bound before anything else: the host waits for nothing but an answer.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on"))?;
    let app_root = PathBuf::from(env.get(APP_ROOT).unwrap_or_else(|| ".".to_owned()));
    let host = Arc::new(Host {
        condition: watch::channel(Condition::Starting).0,
        deadlines: Deadlines::read(&app_root, &env),
        statistics: Arc::default(),
        stop: stop.clone(),
        invocations: TaskTracker::new(),
    });
    let closing = CancellationToken::new();
    let closed = closing.clone().cancelled_owned();
    let door = tokio::spawn(web::serve_with(
        PATIENCE,
        listener,
        door::router(Arc::clone(&host)),
        closed,
    ));
    // On a thread of its own: it reads files and roots of trust, and the host is to have its answer meanwhile.
    let configured =
        tokio::task::spawn_blocking(move || config::load_app_settings(&app_root, &env));
    match configured
        .await
        .context("the configuration cannot be read")?
    {
        Ok(config) => work(&host, &config, stop).await,
        Err(errors) => {
            // Not the end of the process: after three of those the host would stop altogether, and nobody would learn why.
            for error in errors.errors() {
                error!(%error, "the configuration cannot be used");
            }
            let reasons = errors
                .to_string()
                .lines()
                .map(|line| line.trim().to_owned())
                .collect();
            host.condition.send_replace(Condition::Broken(reasons));
            stop.cancelled().await;
        }
    }
    host.invocations.close();
    if timeout(LAST_ANSWERS, host.invocations.wait())
        .await
        .is_err()
    {
        warn!("some invocations were cut short");
    }
    let app = match &*host.condition.borrow() {
        Condition::Ready(app) => Some(Arc::clone(app)),
        _ => None,
    };
    if let Some(app) = app {
        let flush = host.statistics.flush(app.ledger());
        if timeout(LAST_FLUSH, flush).await.is_err() {
            warn!("the last invocations could not be counted");
        }
    }
    closing.cancel();
    if let Err(cause) = door.await {
        error!(%cause, "the door ended by a defect");
    }
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Puts the app together, as often as it takes, and works until `stop`.
async fn work(host: &Host, config: &Config, stop: &CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let app = loop {
        let began = tokio::select! {
            began = App::build(config, Arc::clone(&host.statistics)) => began,
            () = stop.cancelled() => {
                host.condition.send_replace(Condition::Broken([ENDING.to_owned()].into()));
                return;
            }
        };
        match began {
            Ok(app) => break Arc::new(app),
            Err(cause) => {
                let reason = format!("{cause:#}");
                error!(reason, retry_in = ?pause, "the collector cannot begin");
                host.condition
                    .send_replace(Condition::Broken([reason].into()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = stop.cancelled() => return,
        }
    };
    info!(
        tenants = config.tenants.len(),
        sinks = config.sinks.len(),
        has_webhook = config.webhook.is_some(),
        "ready for invocations"
    );
    host.condition
        .send_replace(Condition::Ready(Arc::clone(&app)));
    tokio::join!(app.deliver_until(stop), flush_until(host, &app, stop));
}

async fn flush_until(host: &Host, app: &App, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FLUSH_EVERY) => host.statistics.flush(app.ledger()).await,
            () = stop.cancelled() => return,
        }
    }
}
