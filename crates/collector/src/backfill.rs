//! A past range listed now, by the hour like every listing, and what is new noted. Fetching it is the pipeline's, whoever
//! runs that.

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use activity_api::{ContentType, TenantId, Window, earliest_hour, hour_of};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use ledger::Ledger;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::discover::listing::{self, Listed, list_hour};
use crate::microsoft::Microsoft;
use crate::telemetry::chain;
use crate::verify::{Doors, hours};

/// Hours in a row that may fail for the same reason as any other hour would, before the rest of a content type is left
/// alone.
const MAX_FAILED_IN_A_ROW: u32 = 3;

/// Content types that are listed at once, over all tenants.
const CONCURRENT: usize = 5;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How far listing has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Hours listed to their last page, each content type's counted.
    pub listed_hours: u64,
    /// Hours that are to be listed.
    pub all_hours: u64,
    /// Blobs that were listed.
    pub found_blobs: u64,
    /// Blobs of these that the ledger did not have.
    pub new_blobs: u64,
    /// What could not be listed, and why.
    pub failures: Vec<String>,
}

/// Why listing cannot go on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Listing(#[from] listing::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error("its tenant is not configured")]
    NotConfigured,
}

impl Error {
    /// Whether it is one hour that cannot be listed, and not all of them.
    fn is_of_the_hour(&self) -> bool {
        matches!(self, Self::Listing(error) if error.is_of_the_window())
    }
}

/// The whole hours that `from` to `to` touches and that Microsoft still lists at `now`. Nothing when there are none.
#[must_use]
pub fn plan_range(from: Timestamp, to: Timestamp, now: Timestamp) -> Option<Window> {
    // Every listing is of a whole hour, so that everybody's bounds are the same.
    let start = hour_of(from).max(earliest_hour(now));
    let end = match hour_of(to) {
        hour if hour == to => to,
        hour => hour.saturating_add(HOUR).unwrap_or(to),
    };
    Window::new(start, end.min(now)).ok()
}

/// Lists every hour of `range`, oldest first, of each of these content types, and notes what is in it. Neither an hour nor
/// a content type that cannot be listed stops the others. `told` hears of each hour. Begins no hour once `stop` is set.
///
/// # If interrupted
/// Every hour that was listed is noted as that, and what was found in the one under way is noted too.
pub async fn list_range(
    doors: &Doors,
    streams: &[(TenantId, ContentType)],
    range: Window,
    ledger: &dyn Ledger,
    clock: &dyn Clock,
    stop: &CancellationToken,
    told: &(dyn Fn(&Progress) + Sync),
) -> Progress {
    let hour_count = hours(range).count() as u64;
    let work = Work {
        range,
        ledger,
        clock,
        stop,
        told,
        progress: Mutex::new(Progress {
            all_hours: hour_count * streams.len() as u64,
            ..Progress::default()
        }),
    };
    let listings: Vec<_> = streams
        .iter()
        .map(|(tenant, content_type)| {
            let door = doors.get(tenant).map(|door| &**door);
            Box::pin(work.list_or_tell(*tenant, door, *content_type))
        })
        .collect();
    futures::stream::iter(listings)
        .buffer_unordered(CONCURRENT)
        .collect::<Vec<()>>()
        .await;
    work.progress
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// One call of [`list_range`], for all of its content types.
struct Work<'a> {
    range: Window,
    ledger: &'a dyn Ledger,
    clock: &'a dyn Clock,
    stop: &'a CancellationToken,
    told: &'a (dyn Fn(&Progress) + Sync),
    progress: Mutex<Progress>,
}

impl Work<'_> {
    fn note(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut progress);
        (self.told)(&progress);
    }

    async fn list_or_tell(
        &self,
        tenant: TenantId,
        door: Option<&Microsoft>,
        content_type: ContentType,
    ) {
        let listed = match door {
            Some(microsoft) => self.list(microsoft, content_type).await,
            None => Err(Error::NotConfigured),
        };
        if let Err(error) = listed {
            let why = chain(&error);
            self.note(|progress| {
                progress.failures.push(format!(
                    "{content_type} of tenant {tenant} was not listed to the end: {why}"
                ));
            });
        }
    }

    async fn list(&self, microsoft: &Microsoft, content_type: ContentType) -> Result<(), Error> {
        let mut left: Vec<_> = hours(self.range).collect();
        let mut failure = None;
        // One hour that cannot be listed holds up none of the others, and is tried once more behind them.
        for _ in 0..2 {
            let mut failed = Vec::new();
            let mut failed_in_a_row = 0;
            for hour in left {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                match self.list_hour(microsoft, content_type, hour).await {
                    Ok(()) => failed_in_a_row = 0,
                    Err(error) => {
                        failed.push(hour);
                        // What is wrong with one hour says nothing of the next.
                        if !error.is_of_the_hour() {
                            failed_in_a_row += 1;
                        }
                        if failed_in_a_row == MAX_FAILED_IN_A_ROW {
                            return Err(error);
                        }
                        failure = Some(error);
                    }
                }
            }
            if failed.is_empty() {
                return Ok(());
            }
            left = failed;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Lists one hour and notes what is in it, then that it was listed.
    async fn list_hour(
        &self,
        microsoft: &Microsoft,
        content_type: ContentType,
        hour: Window,
    ) -> Result<(), Error> {
        let Self { ledger, clock, .. } = self;
        let listed = list_hour(microsoft, content_type, hour, *ledger, clock.now()).await?;
        let Listed {
            blob_count,
            new_count,
        } = listed;
        // Kept only where nothing was ever listed, and not said before that has once gone well: a content type
        // without a subscription has no beginning.
        ledger
            .begin_listing(microsoft.tenant(), content_type, self.range.start())
            .await?;
        self.note(|progress| {
            progress.listed_hours += 1;
            progress.found_blobs += blob_count;
            progress.new_blobs += new_count;
        });
        Ok(())
    }
}
