//! The control plane: what the original collector's Master does every 15 minutes, for the function app and for the
//! long-running host alike. Registers, looks after the subscriptions and their auth id, checks its health, checks in
//! with what was delivered, and last of all keeps in the app settings what a restart should find there.
//!
//! A put of app settings restarts the app. So it is one put, at the very end, when everything else is done and in the
//! ledger; without it nothing is lost, as the ledger is asked first by every process.

mod checkin;
mod health;
mod statistics;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use activity_api::{ContentType, TenantId};
use azure::resource_manager::{Changes, InvalidName};
use jiff::Timestamp;
use ledger::{Ledger, SinkName};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::checkin::recall_checkins;
pub use self::health::HealthError;
pub use self::statistics::FUNCTIONS;
use crate::auth_ids::webhook_in_force;
use crate::clock::Clock;
use crate::config::{Config, SiteConfig, WebhookConfig};
use crate::http::Transport;
use crate::microsoft::Microsoft;
use crate::sinks::alertlogic::Account;
use crate::site::Site;
use crate::status::Live;
use crate::telemetry::{self, chain};
use crate::updater;

/// As often as the original, and as Alert Logic's console expects it.
pub const EVERY: Duration = Duration::from_secs(15 * 60);

/// The app settings that Master writes, and no others. The first four are the original's.
pub const SOURCE_ID_SETTING: &str = "COLLECTOR_SOURCE_ID";
/// See [`SOURCE_ID_SETTING`].
pub const HOST_ID_SETTING: &str = "COLLECTOR_HOST_ID";
/// See [`SOURCE_ID_SETTING`].
pub const AZCOLLECT_SETTING: &str = "APP_AZCOLLECT_ENDPOINT";
/// See [`SOURCE_ID_SETTING`].
pub const INGEST_SETTING: &str = "APP_INGEST_ENDPOINT";
/// See [`SOURCE_ID_SETTING`].
pub const AUTH_ID_SETTING: &str = "O365_COLLECTOR_WEBHOOK__AUTH_ID";

/// The control plane of one collector.
pub struct Master {
    accounts: Vec<Arc<Account>>,
    tenants: Vec<Tenant>,
    /// Our own function app, when we run as one.
    site: Option<(Site, SiteConfig)>,
    webhook: Option<WebhookConfig>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    live: Live,
}

struct Tenant {
    microsoft: Arc<Microsoft>,
    content_types: Vec<ContentType>,
}

/// What one run of Master came to.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each tenant of each `alertlogic` sink, unless the run was stopped before.
    pub checkins: Vec<CheckedIn>,
    /// Whether the service asks for an update at once.
    pub force_update: bool,
    /// Whether app settings were put, so that the app is about to restart.
    pub has_put_settings: bool,
    /// Why the app settings could not be kept as they should be.
    pub settings_trouble: Option<String>,
}

/// One check-in.
#[derive(Debug, Clone)]
pub struct CheckedIn {
    /// The sink that delivers to the log source.
    pub sink: SinkName,
    /// Whose log source it is.
    pub tenant: TenantId,
    /// The log source's id, where it is registered.
    pub source_id: Option<String>,
    /// What is wrong with the collector, most important first; the first was told to the service.
    pub health: Vec<HealthError>,
    /// Why the service did not take the check-in.
    pub failed: Option<String>,
}

impl Report {
    /// Whether every check-in was taken and nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.settings_trouble.is_none()
            && self
                .checkins
                .iter()
                .all(|checkin| checkin.failed.is_none() && checkin.health.is_empty())
    }
}

impl Master {
    /// The control plane of this configuration. `doors` are the tenants' doors to Microsoft, shared with the pipeline.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the function app's names could lead to another one.
    pub fn build(
        config: &Config,
        accounts: Vec<Arc<Account>>,
        doors: Vec<(Arc<Microsoft>, Vec<ContentType>)>,
        http: &Arc<dyn Transport>,
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        live: Live,
    ) -> Result<Self, InvalidName> {
        // A function app has one tenant, and its application or identity is the one with a role on the app.
        let site = match (&config.site, config.tenants.first()) {
            (Some(site), Some(tenant)) => Some((
                Site::build(site, tenant, Arc::clone(http), Arc::clone(&clock))?,
                site.clone(),
            )),
            _ => None,
        };
        let tenants = doors.into_iter().map(|(microsoft, content_types)| Tenant {
            microsoft,
            content_types,
        });
        Ok(Self {
            accounts,
            tenants: tenants.collect(),
            site,
            webhook: config.webhook.clone(),
            ledger,
            clock,
            live,
        })
    }

    /// One run. Begins nothing new once `stop` is set.
    ///
    /// Two runs at once, in two processes, do no harm: a registration under the same path gives the same ids, a start
    /// of what is started changes nothing, and a put that changes nothing is not sent. The service may get two
    /// check-ins that report the same deliveries.
    ///
    /// # Errors
    /// Only when the ledger does not answer. Everything else is in the report.
    ///
    /// # If interrupted
    /// Registration, addresses, auth id and starts are in the ledger before they are used. A check-in that the service
    /// has and the ledger has not is reported once more with the next. The put comes last, so that the restart which
    /// it causes interrupts nothing; a run that ends before it leaves it to the next.
    pub async fn run_once(&self, stop: &CancellationToken) -> Result<Report, ledger::Error> {
        self.run_for(None, stop).await
    }

    /// As [`Master::run_once`], for one tenant only where one is named.
    ///
    /// # Errors
    /// As [`Master::run_once`].
    ///
    /// # If interrupted
    /// As [`Master::run_once`].
    pub async fn run_for(
        &self,
        only: Option<TenantId>,
        stop: &CancellationToken,
    ) -> Result<Report, ledger::Error> {
        let is_meant = |tenant: &TenantId| only.is_none_or(|only| only == *tenant);
        let mut report = Report::default();
        // Ids before anything else: without them there is no check-in to tell of the rest.
        for account in &self.accounts {
            for tenant in account.tenants().filter(is_meant) {
                if stop.is_cancelled() {
                    return Ok(report);
                }
                if let Err(error) = account.registered(tenant).await {
                    warn!(sink = %account.name(), %tenant, cause = &error as &dyn std::error::Error, "not registered");
                }
            }
        }
        let (webhook, mut common) = self.settle_webhook(stop).await;
        if let Some((site, _)) = &self.site
            && !stop.is_cancelled()
        {
            common.extend(health::of_site(site).await);
        }
        let tenants = self.tenants.iter();
        for tenant in tenants.filter(|tenant| is_meant(&tenant.microsoft.tenant())) {
            if stop.is_cancelled() {
                return Ok(report);
            }
            let mut found = common.clone();
            let of_tenant = health::of_subscriptions(
                &tenant.microsoft,
                &tenant.content_types,
                webhook.as_ref(),
                &*self.ledger,
                self.clock.now(),
            );
            found.extend(of_tenant.await);
            for account in &self.accounts {
                let id = tenant.microsoft.tenant();
                if !account.is_of(id) {
                    continue;
                }
                let (checked_in, force_update) = self.check_in(account, id, &found).await?;
                report.force_update |= force_update;
                report.checkins.push(checked_in);
            }
        }
        if !stop.is_cancelled() {
            self.keep_settings(webhook.as_ref(), &mut report).await;
        }
        Ok(report)
    }

    /// Runs every 15 minutes until `stop`, at an offset of the collector's own, so that those of a fleet that were
    /// started together do not check in together. A run that was due while no process was there is made up for at once.
    ///
    /// # If interrupted
    /// As [`Master::run_once`]. The next process goes by the last check-in in the ledger.
    pub async fn run_until(&self, stop: &CancellationToken) {
        if self.accounts.is_empty() {
            return;
        }
        loop {
            let now = self.clock.now();
            let last = self.show_last_checkins().await;
            let at = next_run(last, self.offset(), now);
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            self.run_and_count(stop).await;
            // Whatever came of it, and whatever the clock does: never in a tight loop.
            let pause = Duration::from_secs(60);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One run, when one is due by the last check-in.
    ///
    /// # If interrupted
    /// As [`Master::run_once`].
    pub async fn run_if_due(&self, stop: &CancellationToken) {
        if self.accounts.is_empty() {
            return;
        }
        let last = self.show_last_checkins().await;
        if next_run(last, self.offset(), self.clock.now()) <= self.clock.now() {
            self.run_and_count(stop).await;
        }
    }

    /// A run outside of a function app, whose host would count it otherwise.
    async fn run_and_count(&self, stop: &CancellationToken) {
        let result = self.run_once(stop).await;
        let is_clean = result.as_ref().is_ok_and(Report::is_clean);
        match &result {
            Ok(report) if report.force_update => {
                warn!("alert logic asks for an update of the collector");
            }
            Ok(_) => {}
            Err(cause) => {
                warn!(
                    cause = cause as &dyn std::error::Error,
                    "no check-in: the ledger does not answer"
                );
            }
        }
        let mut counts = vec![("invocations/Master".to_owned(), 1)];
        if !is_clean {
            counts.push(("errors/Master".to_owned(), 1));
        }
        if let Err(cause) = self.ledger.count(counts).await {
            warn!(
                cause = &cause as &dyn std::error::Error,
                "a run of master was not counted"
            );
        }
    }

    /// Shows what the ledger knows of the last check-ins; when the oldest of them was, if all ever were.
    async fn show_last_checkins(&self) -> Option<Timestamp> {
        let known = self.accounts.iter().flat_map(|account| {
            account
                .tenants()
                .map(|tenant| (account.name().clone(), tenant))
        });
        match recall_checkins(&*self.ledger, known.collect()).await {
            Ok(views) => {
                let last = views.iter().map(|view| view.tried_at).min().flatten();
                for view in views {
                    self.live.checked_in(view);
                }
                last
            }
            Err(cause) => {
                warn!(
                    cause = &cause as &dyn std::error::Error,
                    "the ledger does not tell of the last check-in"
                );
                None
            }
        }
    }

    /// Where in the 15 minutes this collector's turn is.
    fn offset(&self) -> Duration {
        let mut seed = String::new();
        for account in &self.accounts {
            let config = account.config();
            let parts = [
                &config.subscription_id,
                &config.resource_group,
                &config.collector_name,
            ];
            for part in parts {
                seed.push_str(part);
            }
            for tenant in account.tenants() {
                seed.push_str(&tenant.to_string());
            }
        }
        let hash = xxhash_rust::xxh3::xxh3_64(seed.as_bytes());
        Duration::from_secs(hash % EVERY.as_secs())
    }

    /// The webhook that subscriptions are to have, and what is wrong with its auth id.
    async fn settle_webhook(
        &self,
        stop: &CancellationToken,
    ) -> (Option<WebhookConfig>, Vec<HealthError>) {
        let site = self.site.as_ref().map(|(_, site)| site);
        let settling =
            webhook_in_force(self.webhook.as_ref(), site, &*self.ledger, self.clock.now());
        let settled = tokio::select! {
            settled = settling => settled,
            () = stop.cancelled() => return (self.webhook.clone(), Vec::new()),
        };
        match settled {
            Ok(webhook) => (webhook, Vec::new()),
            Err(error) => {
                let what = format!("the webhook's auth id: {}", chain(&error));
                // Without one, anybody could post there. Polling finds everything meanwhile.
                (self.webhook.clone(), vec![HealthError::other(what)])
            }
        }
    }

    async fn check_in(
        &self,
        account: &Account,
        tenant: TenantId,
        found: &[HealthError],
    ) -> Result<(CheckedIn, bool), ledger::Error> {
        let now = self.clock.now();
        let before = checkin::recall(&*self.ledger, account.name(), tenant).await?;
        let totals = statistics::totals(&*self.ledger, tenant).await?;
        let update = updater::view(&*self.ledger).await;
        let health = health::told(found, update.as_ref());
        let tally = statistics::tally(&totals, before.as_ref(), health);
        let result = account.check_in(tenant, &tally).await;
        let (force_update, failed) = match result {
            Ok(reply) => (reply.force_update, None),
            Err(error) => (false, Some(chain(&error))),
        };
        let registered = account.registered(tenant).await.ok();
        let checked_in = CheckedIn {
            sink: account.name().clone(),
            tenant,
            source_id: registered.map(|registered| registered.source_id),
            health: found.to_vec(),
            failed,
        };
        match &checked_in.failed {
            None => {
                info!(sink = %checked_in.sink, %tenant, healthy = found.is_empty(), "checked in")
            }
            Some(cause) => warn!(sink = %checked_in.sink, %tenant, cause, "not checked in"),
        }
        // After the yes and not before: what is remembered here is never reported again.
        let view = checkin::remember(&*self.ledger, &checked_in, before, totals, now).await?;
        let is_taken = checked_in.failed.is_none();
        telemetry::checked_in(&checked_in.sink, tenant, is_taken, found.len(), now);
        self.live.checked_in(view);
        Ok((checked_in, force_update))
    }

    /// Puts what a restart should find into the app settings: one list, one merge, one put, and that only when
    /// something changes.
    ///
    /// # If interrupted
    /// The ledger has it all, and the next run puts it.
    async fn keep_settings(&self, webhook: Option<&WebhookConfig>, report: &mut Report) {
        let Some((site, _)) = &self.site else {
            return;
        };
        let changes = self.wanted_settings(webhook).await;
        if changes.is_empty() {
            return;
        }
        match site.merge_settings(&changes).await {
            Ok(has_put) => report.has_put_settings = has_put,
            Err(error) => {
                let told = format!("the app settings: {}", chain(&error));
                warn!(
                    cause = told,
                    "what a restart should find is in the ledger alone"
                );
                report.settings_trouble = Some(told);
            }
        }
    }

    /// What this process was not started with and the next one should be.
    async fn wanted_settings(&self, webhook: Option<&WebhookConfig>) -> Changes {
        let mut changes = Changes::new();
        if let Some(webhook) = webhook {
            let known = self.webhook.as_ref().map(|known| &known.auth_id);
            let auth_id = webhook.auth_id.expose_secret();
            if known.is_none_or(|known| known.expose_secret() != auth_id) {
                changes = changes.set(AUTH_ID_SETTING, auth_id);
            }
        }
        // There is one pair of settings, so it can hold one log source.
        let ([account], [tenant]) = (self.accounts.as_slice(), self.tenants.as_slice()) else {
            return changes;
        };
        let config = account.config();
        if let Ok(ids) = account.registered(tenant.microsoft.tenant()).await {
            let known = (config.source_id.as_deref(), config.host_id.as_deref());
            if known != (Some(&ids.source_id), Some(&ids.host_id)) {
                changes = changes
                    .set(SOURCE_ID_SETTING, ids.source_id)
                    .set(HOST_ID_SETTING, ids.host_id);
            }
        }
        if (config.azcollect.is_none() || config.ingest.is_none())
            && let Ok((azcollect, ingest)) = account.endpoints().await
        {
            changes = changes
                .set(AZCOLLECT_SETTING, azcollect)
                .set(INGEST_SETTING, ingest);
        }
        changes
    }
}

/// When the next run is due: at once, when there was none for 15 minutes; else at the collector's next turn.
fn next_run(last: Option<Timestamp>, offset: Duration, now: Timestamp) -> Timestamp {
    let every = EVERY.as_secs().cast_signed();
    // A check-in in the future was noted by a clock that was wrong, and says nothing.
    let Some(last) = last.filter(|last| *last <= now && now < *last + EVERY) else {
        return now;
    };
    // The first turn that is at least half a turn after the last: a run that was made up for is followed by the next
    // regular one, and never by one right behind it.
    let earliest = last.as_second() + every / 2;
    let offset = offset.as_secs().cast_signed();
    let turn = (earliest - offset).div_euclid(every) * every + offset;
    let at = if turn < earliest { turn + every } else { turn };
    Timestamp::from_second(at).map_or(now, |at| at.max(now))
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master").finish_non_exhaustive()
    }
}
