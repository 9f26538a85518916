//! Listing what became available, hour by hour: what the plan of [`plan_hours`] says is due, next to what the ledger says was
//! listed. Polling is the truth; notifications only bring it forward.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use activity_api::{
    ContentType, DueHour, LastListing, NextStep, TenantId, Why, Window, covered_until,
    earliest_hour, first_hour, plan_hours,
};
use jiff::{SignedDuration, Timestamp};
use ledger::Ledger;
use tracing::{debug, error, info, warn};

use super::lateness::Lateness;
pub use super::listing::Error;
use super::listing::list_watched;
use crate::microsoft::Microsoft;
use crate::status::Live;
use crate::telemetry;

/// Hours that fail one after another before the current hour is asked for, to see whether anything can be listed at all.
const FAILURES_IN_A_ROW: u32 = 3;
/// Hours that may fail in one round before it ends. Those that failed come last in the next, so others have their turn.
const MAX_FAILURES: usize = 12;
/// Urgent re-listings of one round while the budget is tight: enough that every one of a week has its turn within the hour,
/// few enough to leave the budget to what waits to be fetched.
const URGENT_AT_A_TIME: u32 = 4;
/// How old the end of what was listed is, at the least, when a start is worth being told as one after a pause.
const PAUSE: SignedDuration = SignedDuration::from_mins(15);

/// What one round of listing brought, of one content type.
#[derive(Debug, Default)]
pub struct Round {
    /// Blobs that were not known.
    pub new_count: u64,
    /// Listings that went well to their last page.
    pub listed_count: u64,
    /// Re-listings that were left for later because the budget is tight.
    pub put_off_count: u64,
    /// Why hours that were due were not listed: the first of the reasons. They are tried again in the next round.
    pub failure: Option<Error>,
}

/// What one process remembers of a content type's rounds. Lost with the process, which then tries in another order.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    has_begun: bool,
    /// How often in a row the hours failed that did while others went well.
    failures: BTreeMap<Timestamp, u32>,
}

/// Lists what is due of one content type, and notes it.
///
/// An hour that fails keeps no other from being listed. Only when Microsoft refuses the tenant or the whole content type,
/// wants silence, or answers nothing at all, the round ends.
///
/// # If interrupted
/// The hours before the one under way are listed. Of that one, the blobs of the pages that were read are noted; the next
/// round lists the whole of it again.
pub async fn poll_content(
    microsoft: &Microsoft,
    content_type: ContentType,
    first_lookback: Duration,
    ledger: &dyn Ledger,
    progress: &Progress,
    live: &Live,
    now: Timestamp,
) -> Round {
    let mut round = Round::default();
    let poll = Poll {
        microsoft,
        content_type,
        ledger,
        progress,
        live,
        now,
    };
    if let Err(error) = poll.list_due(first_lookback, &mut round).await {
        round.failure.get_or_insert(error);
    }
    if round.failure.is_none() {
        telemetry::polled(microsoft.tenant(), content_type, now);
    }
    round
}

struct Poll<'a> {
    microsoft: &'a Microsoft,
    content_type: ContentType,
    ledger: &'a dyn Ledger,
    progress: &'a Progress,
    live: &'a Live,
    now: Timestamp,
}

impl Poll<'_> {
    async fn list_due(&self, first_lookback: Duration, round: &mut Round) -> Result<(), Error> {
        let (listings, due) = self.plan(first_lookback).await?;
        let (mut urgent_count, mut in_a_row) = (0, 0);
        let mut failed = Vec::new();
        for hour in &due {
            if self.is_put_off(hour, &mut urgent_count) {
                round.put_off_count += 1;
                continue;
            }
            let start = hour.window.start();
            match self.list(hour.window, &listings, round).await {
                Ok(()) => {
                    in_a_row = 0;
                    self.progress.went_well(start);
                    if hour.why == Why::Missing {
                        self.live.caught_up_one(self.tenant(), self.content_type);
                    }
                }
                Err(error) if self.concerns_all(&error) => return Err(error),
                Err(error) => {
                    warn!(tenant = %self.tenant(), content_type = %self.content_type, from = %start, cause = &error as &dyn std::error::Error, "an hour could not be listed, the others go on");
                    round.failure.get_or_insert(error);
                    failed.push(start);
                    in_a_row += 1;
                }
            }
            if in_a_row == FAILURES_IN_A_ROW {
                // Is it these hours, or can nothing be listed at present? Then the next round tries them in the same order.
                let Some(current) = due.iter().find(|hour| hour.why == Why::Current) else {
                    break;
                };
                self.list(current.window, &listings, round).await?;
                in_a_row = 0;
            }
            if failed.len() >= MAX_FAILURES {
                break;
            }
        }
        self.progress.failed(&failed);
        Ok(())
    }

    /// What was listed, as far back as anything can be, and what is due, in the order in which to list it.
    async fn plan(
        &self,
        first_lookback: Duration,
    ) -> Result<(Vec<LastListing>, Vec<DueHour>), Error> {
        let (tenant, content_type, now) = (self.tenant(), self.content_type, self.now);
        let earliest = earliest_hour(now);
        let Ok(reachable) = Window::new(earliest, now) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let known = self
            .ledger
            .listed_windows(tenant, content_type, reachable)
            .await?;
        let began_at = match known.began_at {
            Some(began_at) => began_at,
            None => {
                let from = first_hour(first_lookback, now);
                self.ledger
                    .begin_listing(tenant, content_type, from)
                    .await?
            }
        };
        let listings: Vec<_> = known
            .windows
            .iter()
            .map(|listed| LastListing {
                window: listed.window,
                listed_at: listed.last_listed_at,
            })
            .collect();
        self.pass_what_is_gone(earliest).await?;
        let mut due = plan_hours(began_at, &listings, now);
        self.tell_of_a_pause(began_at.max(earliest), &listings, &due);
        self.progress.order(&mut due);
        Ok((listings, due))
    }

    /// What can be listed no more stays a gap in the coverage, and is told once.
    async fn pass_what_is_gone(&self, earliest: Timestamp) -> Result<(), Error> {
        let (tenant, content_type) = (self.tenant(), self.content_type);
        let listed_until = self.ledger.listed_until(tenant, content_type).await?;
        let Some(from) = listed_until.filter(|until| *until < earliest) else {
            return Ok(());
        };
        let stretches = self.ledger.listed_stretches(tenant, content_type).await?;
        let to = stretches
            .iter()
            .map(|stretch| stretch.start)
            .find(|start| *start > from)
            .map_or(earliest, |start| start.min(earliest));
        error!(%tenant, %content_type, %from, %to, "content of this time was not listed and can be listed no more");
        self.ledger
            .note_unlistable(tenant, content_type, earliest)
            .await?;
        Ok(())
    }

    /// Tells where the first round of the process goes on, when that is not a moment ago.
    fn tell_of_a_pause(&self, from: Timestamp, listings: &[LastListing], due: &[DueHour]) {
        if !self.progress.begins() {
            return;
        }
        let (tenant, content_type, to) = (self.tenant(), self.content_type, self.now);
        let missing = due.iter().filter(|due| due.why == Why::Missing);
        let hour_count = missing.count() as u64;
        let from = if listings.is_empty() {
            info!(%tenant, %content_type, %from, %to, hour_count, "listing begins");
            from
        } else {
            let from = covered_until(from, listings, to);
            if to.duration_since(from) <= PAUSE {
                debug!(%tenant, %content_type, %from, "listing goes on");
                return;
            }
            info!(%tenant, %content_type, %from, %to, hour_count, "listing resumes where the ledger stands, oldest first");
            from
        };
        if hour_count > 0 {
            self.live
                .catching_up(tenant, content_type, from, to, hour_count);
        }
    }

    /// Whether what is asked for a second time has to wait: what waits to be fetched goes before it. Not for ever: an urgent
    /// re-listing goes on, a few at a time.
    fn is_put_off(&self, hour: &DueHour, urgent_count: &mut u32) -> bool {
        let can_wait = match hour.why {
            Why::Missing | Why::Current => false,
            Why::Recent | Why::Again { is_urgent: false } => true,
            Why::Again { is_urgent: true } => *urgent_count >= URGENT_AT_A_TIME,
        };
        let is_put_off = can_wait && self.microsoft.budget().is_tight();
        if !is_put_off && hour.why == (Why::Again { is_urgent: true }) {
            *urgent_count += 1;
        }
        is_put_off
    }

    async fn list(
        &self,
        window: Window,
        listings: &[LastListing],
        round: &mut Round,
    ) -> Result<(), Error> {
        let before = listings
            .iter()
            .filter(|listing| {
                listing.window.start() < window.end() && window.start() < listing.window.end()
            })
            .copied()
            .collect();
        let mut lateness = Lateness::watching(before);
        let listed = list_watched(
            self.microsoft,
            self.content_type,
            window,
            self.ledger,
            &mut lateness,
            self.now,
        )
        .await;
        // Also after an error: what was found is noted, and will not be found again.
        lateness
            .keep(self.tenant(), self.content_type, self.ledger)
            .await;
        let listed = listed?;
        round.new_count += listed.new_count;
        round.listed_count += 1;
        Ok(())
    }

    /// Whether the next hour would end the same way.
    fn concerns_all(&self, error: &Error) -> bool {
        match error {
            Error::Ledger(_) => true,
            Error::Microsoft(error) => match error.next_step() {
                NextStep::RetryAfter(_) => self.microsoft.budget().paused_for().is_some(),
                NextStep::StartSubscription
                | NextStep::StopTenant(_)
                | NextStep::Reauthenticate => true,
                _ => false,
            },
            Error::RepeatedPage { .. }
            | Error::TooManyPages { .. }
            | Error::UnusableEntries { .. } => false,
        }
    }

    fn tenant(&self) -> TenantId {
        self.microsoft.tenant()
    }
}

impl Progress {
    /// Whether this is the first round.
    fn begins(&self) -> bool {
        !std::mem::replace(&mut self.memory().has_begun, true)
    }

    /// Puts the hours behind the others that failed lately, those that failed most often last: a few that always fail must
    /// not take every round's time before any other is tried.
    fn order(&self, due: &mut [DueHour]) {
        let mut memory = self.memory();
        memory
            .failures
            .retain(|hour, _| due.iter().any(|due| due.window.start() == *hour));
        due.sort_by_key(|due| {
            memory
                .failures
                .get(&due.window.start())
                .copied()
                .unwrap_or(0)
        });
    }

    fn went_well(&self, hour: Timestamp) {
        self.memory().failures.remove(&hour);
    }

    fn failed(&self, hours: &[Timestamp]) {
        let mut memory = self.memory();
        for hour in hours {
            *memory.failures.entry(*hour).or_default() += 1;
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
