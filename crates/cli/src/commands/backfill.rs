//! `backfill`: lists a past stretch of time now, has it collected, and ends with its proof. Beside a collector that has the
//! ledger it only notes what it finds, which that collector fetches; without one it collects by itself.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use activity_api::{ContentType, TenantId, Window};
use collector::backfill::{self, Progress};
use collector::clock::{Clock, SystemClock};
use collector::config::{Config, LedgerConfig};
use collector::web;
use ledger::Ledger;
use tokio_util::sync::CancellationToken;

use super::{opening, verify};
use crate::args::{BackfillArgs, Format};
use crate::assembly::Assembly;
use crate::{exit, output};

/// How often progress is told while it goes on.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// The pause between two looks for what is due.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn backfill(
    config: &Config,
    args: &BackfillArgs,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let to = args.to.unwrap_or(now);
    if !verify::is_in_order(Some(args.from), Some(to)) {
        return Ok(exit::BAD_COMMAND_LINE.into());
    }
    let range = backfill::plan_range(args.from, to, now);
    if range.is_none_or(|range| range.start() > args.from) {
        output::say(format_args!(
            "microsoft lists seven days back and no further: {}",
            match range {
                Some(range) => format!("listing begins at {}", range.start()),
                None => "nothing of this can be listed any more".to_owned(),
            }
        ));
    }
    let streams: Vec<_> = config
        .tenants
        .iter()
        .flat_map(|tenant| {
            let content_types = tenant.content_types.iter();
            content_types.map(|content_type| (tenant.id, *content_type))
        })
        .collect();
    let collecting = Collecting::begin(config).await?;
    let ledger = collecting.ledger();
    let mut failures = Vec::new();
    if let Some(range) = range {
        let listed = list(config, &streams, range, ledger, stop).await?;
        failures = listed.failures;
        collecting.until_done(&streams, range, stop).await?;
    }
    for failure in &failures {
        output::say(failure);
    }
    // The stretch that is out of reach may have been collected long ago: the proof says so, or not.
    let asked = (Some(args.from), Some(to.min(now)));
    let verdict = verify::answer(config, ledger, None, asked, Format::Text).await?;
    Ok(match failures.is_empty() {
        true => verify::code(&verdict),
        false => exit::FAILING.into(),
    })
}

/// Who fetches what is found.
enum Collecting {
    /// We do: nobody else has the ledger.
    Here(Box<Assembly>),
    /// A collector that runs.
    Elsewhere(Box<dyn Ledger>),
}

impl Collecting {
    async fn begin(config: &Config) -> anyhow::Result<Self> {
        // A ledger on a server is anybody's, and two collectors on one machine may share a file that they deliver to.
        let is_shared = !matches!(config.ledger, LedgerConfig::Sqlite { .. });
        if is_shared && web::ask_status(config.listen.address).await.is_ok() {
            return Self::elsewhere(config);
        }
        match Assembly::build(config) {
            Ok(assembly) => {
                assembly.pipeline.start().await?;
                output::say("no collector has the ledger: what is found is collected here");
                Ok(Self::Here(Box::new(assembly)))
            }
            Err(error)
                if matches!(
                    error.downcast_ref(),
                    Some(ledger::Error::AlreadyOpen { .. })
                ) =>
            {
                Self::elsewhere(config)
            }
            Err(error) => Err(error),
        }
    }

    fn elsewhere(config: &Config) -> anyhow::Result<Self> {
        output::say("a collector runs: it fetches what is found here");
        Ok(Self::Elsewhere(opening::beside_a_collector(config)?))
    }

    fn ledger(&self) -> &dyn Ledger {
        match self {
            Self::Here(assembly) => &*assembly.ledger,
            Self::Elsewhere(ledger) => &**ledger,
        }
    }

    /// Until nothing of the range is pending, or `stop`.
    async fn until_done(
        &self,
        streams: &[(TenantId, ContentType)],
        range: Window,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let done = stop.child_token();
        let watch = async {
            let watched = watch(self.ledger(), streams, range, &done).await;
            done.cancel();
            watched
        };
        let deliver = async {
            let Self::Here(assembly) = self else {
                return Ok(());
            };
            while !done.is_cancelled() {
                assembly.pipeline.deliver_due_once(&done).await?;
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = done.cancelled() => {}
                }
            }
            anyhow::Ok(())
        };
        let (watched, delivered) = tokio::join!(watch, deliver);
        watched.and(delivered)
    }
}

async fn list(
    config: &Config,
    streams: &[(TenantId, ContentType)],
    range: Window,
    ledger: &dyn Ledger,
    stop: &CancellationToken,
) -> anyhow::Result<Progress> {
    let doors = verify::doors(config)?;
    let told_at = Mutex::new(Instant::now());
    let tell = |progress: &Progress| {
        let Ok(mut told_at) = told_at.lock() else {
            return;
        };
        let is_last = progress.listed_hours == progress.all_hours;
        if is_last || told_at.elapsed() >= TELL_EVERY {
            *told_at = Instant::now();
            output::say(format_args!(
                "listed {} of {} hours; blobs found: {}, new: {}",
                progress.listed_hours, progress.all_hours, progress.found_blobs, progress.new_blobs
            ));
        }
    };
    let listing = backfill::list_range(&doors, streams, range, ledger, &SystemClock, stop, &tell);
    Ok(listing.await)
}

/// Tells how far it has got until nothing of the range is pending, or `stop`.
async fn watch(
    ledger: &dyn Ledger,
    streams: &[(TenantId, ContentType)],
    range: Window,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut told = None;
    let mut told_at = Instant::now();
    loop {
        let (mut delivered, mut pending) = (0, 0);
        let mut waits_for = None;
        for (tenant, content_type) in streams {
            let coverage = ledger.coverage(*tenant, *content_type, range).await?;
            delivered += coverage.delivered.blob_count;
            pending += coverage.pending_count;
            if coverage.pending_count > 0 && waits_for.is_none() {
                let first = ledger.undelivered(*tenant, *content_type, range, None, 1);
                waits_for = first.await?.pop().and_then(|blob| blob.reason);
            }
        }
        let is_news = told != Some((delivered, pending));
        if is_news && (pending == 0 || told.is_none() || told_at.elapsed() >= TELL_EVERY) {
            told = Some((delivered, pending));
            told_at = Instant::now();
            let why = match &waits_for {
                Some(reason) if pending > 0 => format!("; one waits: {reason}"),
                _ => String::new(),
            };
            output::say(format_args!(
                "blobs delivered: {delivered}, pending: {pending}{why}"
            ));
        }
        if pending == 0 {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
