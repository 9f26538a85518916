//! Finding out what there is: subscriptions looked after, content types listed, for all tenants at once or each at its own
//! pace.

use std::time::Duration;

use activity_api::{ContentType, NextStep, TenantId};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Pipeline, Tenant};
use crate::discover::poll::{self, Progress, Round, poll_content};
use crate::subscriptions::{self, keep_subscribed};
use crate::telemetry::chain;

/// How often subscriptions are looked after: as often as Microsoft lets one be started.
const KEEP_SUBSCRIBED_EVERY: Duration = Duration::from_secs(15 * 60);
/// How many tenants are listed at once: enough to hide the distance to Microsoft, few enough that their pages, and what the
/// connections for five content types of each hold, do not fill the memory.
const CONCURRENT_LISTINGS: usize = 8;
/// The same where there are more than a few thousand tenants, or the round of all of them would take longer than a minute.
/// With five content types each these are as many requests as connections are kept: one more would be a handshake more.
const MAX_CONCURRENT_LISTINGS: usize = 48;
/// Of how many tenants one is listed at a time, between these two: all have been listed within the minute while two requests,
/// for the hour before and for this one, take less than 0.8 s. From the upper bound on, more tenants need faster answers.
const TENANTS_PER_LISTING: usize = 70;

impl Pipeline {
    /// Looks after the subscriptions that it is time for, and lists every content type of every tenant. How many blobs
    /// were new, and how many listings failed.
    ///
    /// # If interrupted
    /// What was listed is noted; see [`poll_content`].
    pub async fn discover_once(&self) -> (u64, u64) {
        // Boxed, because what a closure makes here could not be sent to another thread, and with it no host's loop.
        let tenants: Vec<_> = self
            .tenants
            .iter()
            .map(|tenant| self.discover(tenant).boxed())
            .collect();
        let results: Vec<_> = futures::stream::iter(tenants)
            .buffer_unordered(self.listings_at_once())
            .collect()
            .await;
        results
            .into_iter()
            .fold((0, 0), |(new, failed), (more_new, more_failed)| {
                (new + more_new, failed + more_failed)
            })
    }

    /// The same for one tenant, all its content types at once: a first listing of a busy one takes many pages.
    async fn discover(&self, tenant: &Tenant) -> (u64, u64) {
        if self.keeps_subscriptions {
            self.keep_subscribed(tenant, self.clock.now()).await;
        }
        let listings = tenant
            .content_types
            .iter()
            .map(|content_type| self.list(tenant, *content_type).boxed());
        let results = futures::future::join_all(listings).await;
        let failed = results.iter().filter(|(_, has_failed)| *has_failed).count();
        (results.iter().map(|(new, _)| new).sum(), failed as u64)
    }

    pub(super) async fn discover_until(&self, stop: &CancellationToken) {
        // Each tenant at its own pace: one that is slow, or whose requests hang, must not keep the others waiting.
        let places = Semaphore::new(self.listings_at_once());
        let mut loops: FuturesUnordered<_> = self
            .tenants
            .iter()
            .enumerate()
            .map(|(index, tenant)| {
                let phase = self.phase_of(index);
                self.discover_tenant_until(tenant, phase, &places, stop)
                    .boxed()
            })
            .collect();
        let tenants = async { while loops.next().await.is_some() {} };
        tokio::join!(tenants, self.count_until(stop));
    }

    fn listings_at_once(&self) -> usize {
        let many = self.tenants.len() / TENANTS_PER_LISTING;
        many.clamp(CONCURRENT_LISTINGS, MAX_CONCURRENT_LISTINGS)
    }

    /// How long after its first listing, for which nobody waits, the tenant of this number is listed for the second time: at
    /// once an interval where there are few tenants, spread over the interval where there are many. Ten thousand
    /// tenants in one second of each minute would need a machine that idles for the rest of it.
    fn phase_of(&self, index: usize) -> Duration {
        let count = self.tenants.len();
        if count <= CONCURRENT_LISTINGS {
            return self.poll.interval;
        }
        let share = (index + 1) as f64 / count as f64;
        self.poll.interval.mul_f64(share)
    }

    async fn discover_tenant_until(
        &self,
        tenant: &Tenant,
        phase: Duration,
        places: &Semaphore,
        stop: &CancellationToken,
    ) {
        let mut ticks = self.ticks();
        let work = async {
            let mut is_first = true;
            loop {
                ticks.tick().await;
                if std::mem::take(&mut is_first) {
                    ticks.reset_after(phase);
                }
                // Never closed, so the place always comes.
                let place = places.acquire().await;
                // Boxed: what it holds meanwhile is many times what waiting takes, for each of ten thousand tenants.
                self.discover(tenant).boxed().await;
                drop(place);
            }
        };
        crate::waiting::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn keep_subscribed(&self, tenant: &Tenant, now: Timestamp) {
        let id = tenant.microsoft.tenant();
        if self.pauses.is_paused(id, now) || tenant.subscribe_at().is_some_and(|at| at > now) {
            return;
        }
        let kept = keep_subscribed(
            &tenant.microsoft,
            &tenant.content_types,
            self.webhook.as_ref(),
            &*self.ledger,
            now,
        );
        match kept.await {
            Ok(_kept) => {
                tenant.set_subscribe_at(now + KEEP_SUBSCRIBED_EVERY);
                self.tenant_works(id);
            }
            Err(subscriptions::Error::Microsoft(error)) => self.note_trouble(id, &error, now),
            Err(subscriptions::Error::Ledger(cause)) => {
                self.live.ledger_failed(&chain(&cause), now);
                warn!(tenant = %id, %cause, "subscriptions not looked after");
            }
        }
    }

    /// How many blobs were new, and whether something of it could not be listed, or the tenant is left alone for the moment:
    /// also on account of another of its content types, a moment ago.
    async fn list(&self, tenant: &Tenant, content_type: ContentType) -> (u64, bool) {
        let id = tenant.microsoft.tenant();
        let now = self.clock.now();
        if self.pauses.is_paused(id, now) {
            return (0, true);
        }
        let unseen = Progress::default();
        let Round {
            new_count, failure, ..
        } = poll_content(
            &tenant.microsoft,
            content_type,
            self.poll.first_lookback,
            &*self.ledger,
            tenant.progress.get(&content_type).unwrap_or(&unseen),
            &self.live,
            now,
        )
        .await;
        // Also when it failed in the middle: what was found can be fetched.
        if new_count > 0 {
            self.news.notify_one();
        }
        let Some(error) = failure else {
            self.live.polled(id, content_type, now);
            self.tenant_works(id);
            return (new_count, false);
        };
        warn!(tenant = %id, %content_type, cause = &error as &dyn std::error::Error, "content not listed");
        self.live
            .poll_failed(id, content_type, &chain(&error), None, now);
        if let poll::Error::Ledger(cause) = &error {
            self.live.ledger_failed(&chain(cause), now);
        }
        if let poll::Error::Microsoft(error) = &error {
            if matches!(error.next_step(), NextStep::StartSubscription) {
                tenant.clear_subscribe_at();
            }
            self.note_trouble(id, error, now);
        }
        (new_count, true)
    }

    fn tenant_works(&self, tenant: TenantId) {
        self.pauses.clear(tenant);
        self.live.tenant_ok(tenant);
    }

    /// Leaves a tenant alone for a while when a person must act.
    fn note_trouble(&self, tenant: TenantId, error: &crate::microsoft::Error, now: Timestamp) {
        match error.next_step() {
            NextStep::StopTenant(reason) => {
                let retry_at = self.pauses.pause(tenant, now);
                error!(%tenant, %reason, %retry_at, "tenant cannot be collected");
                self.live
                    .tenant_stopped(tenant, &reason.to_string(), Some(retry_at), now);
            }
            _ => {
                warn!(%tenant, cause = error as &dyn std::error::Error, "microsoft did not answer as hoped, will retry")
            }
        }
    }
}
