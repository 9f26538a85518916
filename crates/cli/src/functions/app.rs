//! What the functions do. Each is one bounded step of what the long-running host does all the time.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use azure::functions::{Error, Invocation, Reply};
use collector::config::Config;
use collector::master::Report;
use collector::run::{Pipeline, Turn};
use collector::updater::UpdateOutcome;
use collector::web;
use ledger::{AzureLedger, BlobName, Ledger};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::warn;

use super::manifest::Function;
use super::statistics::Statistics;
use crate::assembly::Assembly;
use crate::commands::report_text;

/// The collector, as far as invocations call it.
pub(crate) struct App {
    assembly: Assembly,
    web: Router,
    statistics: Arc<Statistics>,
    /// Held by the poll that is under way: the platform runs one at a time, and a second would only list the same.
    polling: Mutex<()>,
}

/// What a function was called with.
pub(crate) enum Called {
    /// The host's own words.
    Invoked(Invocation),
    /// Something else.
    Unreadable(Error),
}

/// What came of an invocation.
pub(crate) enum Outcome {
    /// It did what it is for. Lines for the host's log.
    Done(Vec<String>),
    /// It did not, for these reasons; the host counts it as failed.
    Failed(Vec<String>),
    /// It has an answer of its own.
    Answered { is_error: bool, reply: Reply },
}

impl Outcome {
    pub(crate) fn done(line: impl Into<String>) -> Self {
        Self::Done(vec![line.into()])
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(vec![reason.into()])
    }

    /// What came of two things that one invocation did.
    fn and(self, other: Self) -> Self {
        let is_error = self.is_error() || other.is_error();
        let mut lines = Vec::new();
        for outcome in [self, other] {
            match outcome {
                Self::Done(more) | Self::Failed(more) => lines.extend(more),
                answered @ Self::Answered { .. } => return answered,
            }
        }
        match is_error {
            true => Self::Failed(lines),
            false => Self::Done(lines),
        }
    }

    pub(crate) fn is_error(&self) -> bool {
        match self {
            Self::Done(_) => false,
            Self::Failed(_) => true,
            Self::Answered { is_error, .. } => *is_error,
        }
    }

    pub(crate) fn into_reply(self) -> Reply {
        match self {
            Self::Done(lines) | Self::Failed(lines) => Reply::default().logs(lines),
            Self::Answered { reply, .. } => reply,
        }
    }
}

impl App {
    /// The collector of this configuration, ready to be called.
    pub(crate) async fn build(
        config: &Config,
        statistics: Arc<Statistics>,
    ) -> anyhow::Result<Self> {
        let config = config.clone();
        // Opening a ledger and reading roots of trust keep a thread.
        let assembly = tokio::task::spawn_blocking(move || Assembly::build(&config)).await??;
        assembly.pipeline.start().await?;
        Ok(Self {
            web: web::router(assembly.web()),
            assembly,
            statistics,
            polling: Mutex::default(),
        })
    }

    pub(crate) fn ledger(&self) -> &dyn Ledger {
        &*self.assembly.ledger
    }

    fn pipeline(&self) -> &Pipeline {
        &self.assembly.pipeline
    }

    /// Delivers what [`App::call`] is asked to deliver.
    pub(crate) async fn deliver_until(&self, stop: &CancellationToken) {
        self.pipeline().deliver_wanted_until(stop).await;
    }

    /// Answers a request to the webhook.
    pub(crate) async fn notified(&self, request: Request) -> Response {
        match self.web.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Does what the function is for, and begins nothing new once `wind_up` is set.
    pub(crate) async fn call(
        &self,
        function: Function,
        called: Called,
        wind_up: &CancellationToken,
    ) -> Outcome {
        match function {
            Function::Poll => self.poll(wind_up).await,
            Function::Deliver => self.deliver(called, wind_up).await,
            Function::Master => self.master(wind_up).await,
            Function::Updater => self.update(wind_up).await,
            Function::WebHook => Outcome::failed("it is called by requests"),
        }
    }

    /// Looks after the app and tells Alert Logic how it is. What is wrong with the app is told there; the function has
    /// failed only when that could not be told.
    ///
    /// # If interrupted
    /// See [`Master::run_once`](collector::master::Master::run_once).
    async fn master(&self, wind_up: &CancellationToken) -> Outcome {
        // So that the check-in has them.
        self.statistics.flush(self.ledger()).await;
        let report = match self.assembly.master.run_once(wind_up).await {
            Ok(report) => report,
            Err(cause) => return Outcome::failed(format!("the ledger does not answer: {cause}")),
        };
        self.compact(wind_up).await;
        let outcome = told(&report);
        // A run that was cut short has found nothing out, good or bad.
        let may_judge = !wind_up.is_cancelled();
        let Some(updater) = self.assembly.updater.as_ref().filter(|_| may_judge) else {
            return outcome;
        };
        // A change that waits for a healthy app is confirmed before another is begun.
        let confirmed = updated(&updater.after_master(report.is_clean()).await);
        let forced = match report.force_update {
            true => updated(&updater.run_once(wind_up).await),
            false => Outcome::Done(Vec::new()),
        };
        outcome.and(confirmed).and(forced)
    }

    /// Makes the ledger smaller once a day. That this fails is no failure of Master: the next run goes on.
    ///
    /// # If interrupted
    /// See [`Pipeline::compact_if_due`].
    async fn compact(&self, wind_up: &CancellationToken) {
        if let Err(cause) = self.pipeline().compact_if_due(wind_up).await {
            warn!(%cause, "the ledger could not be made smaller");
        }
    }

    /// Looks for a newer version and puts it in the place of this one, as far as the configuration lets it.
    ///
    /// # If interrupted
    /// See [`Updater::run_once`](collector::updater::Updater::run_once).
    async fn update(&self, wind_up: &CancellationToken) -> Outcome {
        match &self.assembly.updater {
            Some(updater) => updated(&updater.run_once(wind_up).await),
            None => Outcome::done("no updates are configured: nothing is looked for"),
        }
    }

    /// Goes on with an update that is under way. One that waits for a healthy app has Master look, a minute after the
    /// restart and not a quarter of an hour.
    ///
    /// # If interrupted
    /// See [`Updater::run_due`](collector::updater::Updater::run_due).
    async fn go_on_updating(&self, wind_up: &CancellationToken) -> Outcome {
        let Some(updater) = &self.assembly.updater else {
            return Outcome::Done(Vec::new());
        };
        let came = updater.run_due(wind_up).await;
        let outcome = updated(&came);
        match came {
            UpdateOutcome::AwaitsHealth { .. } if !wind_up.is_cancelled() => {
                outcome.and(self.master(wind_up).await)
            }
            _ => outcome,
        }
    }

    /// Lists every content type, and has what is due announced to the queue, or delivered where there is none.
    ///
    /// # If interrupted
    /// What was listed is noted, and the rest is listed a minute later.
    async fn poll(&self, wind_up: &CancellationToken) -> Outcome {
        let Ok(_polling) = self.polling.try_lock() else {
            return Outcome::done("another poll is under way");
        };
        let collected = self.collect(wind_up).await;
        collected.and(self.go_on_updating(wind_up).await)
    }

    async fn collect(&self, wind_up: &CancellationToken) -> Outcome {
        if let Some(announcer) = &self.assembly.announcer {
            let came = self.list_and_announce(announcer, wind_up).await;
            self.look_ahead(wind_up).await;
            return came;
        }
        // Without a queue nobody else would deliver.
        let came = self.pipeline().run_once(wind_up).await;
        self.look_ahead(wind_up).await;
        match came {
            Ok(step) => {
                let line = format!(
                    "{} new blobs, {} delivered with {} records",
                    step.new_blobs, step.delivery.delivered_blobs, step.delivery.delivered_records
                );
                listed(step.failed_listings, line)
            }
            Err(cause) => Outcome::failed(format!("the ledger does not answer: {cause}")),
        }
    }

    /// Whether what waits is fetched before it expires; when there is time to look.
    async fn look_ahead(&self, wind_up: &CancellationToken) {
        tokio::select! {
            () = self.pipeline().look_ahead() => {}
            () = wind_up.cancelled() => {}
        }
    }

    /// Lists every content type, and has the queue told of what is due and was not told of lately.
    ///
    /// # If interrupted
    /// As for [`Self::poll`]; and what was not told of is told of a minute later, or, where its row says already that it
    /// was, once that is stale.
    async fn list_and_announce(
        &self,
        announcer: &AzureLedger,
        wind_up: &CancellationToken,
    ) -> Outcome {
        let (new, failed_listings) = tokio::select! {
            listed = self.pipeline().discover_once() => listed,
            () = wind_up.cancelled() => {
                return Outcome::failed("no time was left for all listings, the next poll goes on");
            }
        };
        match announcer.announce_due(self.assembly.clock.now()).await {
            Ok(told) => listed(
                failed_listings,
                format!("{new} new blobs, {told} that waited announced again"),
            ),
            Err(cause) => Outcome::failed(format!("the ledger does not answer: {cause}")),
        }
    }

    /// Has the one blob delivered that the message names. Whatever becomes of it stands in the ledger, so the message has
    /// done its work; only when nobody could ask the ledger, or had the time to, is it to come again.
    ///
    /// # If interrupted
    /// The blob's lease runs out, and Poll has it announced again.
    async fn deliver(&self, called: Called, wind_up: &CancellationToken) -> Outcome {
        let name = match blob_name(called) {
            Ok(name) => name,
            // It would come five times and then lie in the poison queue; and nothing is lost with it.
            Err(reason) => {
                warn!(
                    reason,
                    "a message of the queue names no blob, it is dropped"
                );
                return Outcome::done(format!("the message is dropped: {reason}"));
            }
        };
        match self
            .pipeline()
            .deliver_blob(name, wind_up.cancelled())
            .await
        {
            Turn::Ended => Outcome::Done(Vec::new()),
            Turn::NotLeased => Outcome::done(
                "nothing to do: the blob is settled, not due, or somebody else has it",
            ),
            // A blob that nobody tried has nothing but this message to wake anybody for it.
            Turn::NotTried => Outcome::failed("no time is left for it, the message comes again"),
            Turn::LedgerFailed => {
                Outcome::failed("the ledger does not answer, the message comes again")
            }
        }
    }
}

/// What came of a run of Master.
pub(crate) fn told(report: &Report) -> Outcome {
    let mut lines: Vec<_> = report_text(report).lines().map(str::to_owned).collect();
    let is_error = report.settings_trouble.is_some()
        || report
            .checkins
            .iter()
            .any(|checkin| checkin.failed.is_some());
    if report.checkins.is_empty() {
        lines.push("nothing was checked in".to_owned());
    }
    match is_error {
        false => Outcome::Done(lines),
        true => Outcome::Failed(lines),
    }
}

/// What came of a run of the updater.
fn updated(came: &UpdateOutcome) -> Outcome {
    match came {
        UpdateOutcome::Idle => Outcome::Done(Vec::new()),
        came if came.is_trouble() => Outcome::failed(format!("update: {came}")),
        came => Outcome::done(format!("update: {came}")),
    }
}

fn listed(failed_listings: u64, line: String) -> Outcome {
    match failed_listings {
        0 => Outcome::done(line),
        failed => Outcome::Failed(vec![
            format!("{failed} content types could not be listed, they are tried again in a minute"),
            line,
        ]),
    }
}

fn blob_name(called: Called) -> Result<BlobName, String> {
    let invocation = match called {
        Called::Invoked(invocation) => invocation,
        Called::Unreadable(error) => return Err(error.to_string()),
    };
    let message = invocation
        .queue_message(Function::Deliver.binding())
        .map_err(|error| error.to_string())?;
    message
        .text
        .parse()
        .map_err(|error: ledger::InvalidBlobName| error.to_string())
}
