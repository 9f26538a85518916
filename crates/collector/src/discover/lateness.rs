//! How late blobs come: from their `contentCreated` to the first listing that had them. Microsoft promises nothing about it,
//! so it is measured, and kept in the ledger's counters over restarts.

#[cfg(test)]
mod tests;

use std::time::Duration;

use activity_api::{ContentType, LastListing, TenantId};
use jiff::Timestamp;
use ledger::Ledger;
use tracing::warn;

use crate::telemetry;

/// The upper bounds of the buckets: from what every poll finds to the seven days after which nothing is listed.
pub(crate) const BOUNDS: [Duration; 9] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(72 * 3600),
    Duration::from_secs(156 * 3600),
    Duration::from_secs(168 * 3600),
];
/// What the counters of a content type's buckets are called begins with this.
pub(crate) const PREFIX: &str = "lateness/";
/// A blob of a time that was not listed before says how late we are, and not how late it is, unless it is this young.
const PROMPT: Duration = Duration::from_secs(15 * 60);

/// Looks on as the listing of one window finds blobs that were not known.
#[derive(Debug)]
pub(super) struct Lateness {
    /// What was listed of the window before. Nothing while nobody looks on.
    before: Option<Vec<LastListing>>,
    late: Vec<Duration>,
}

impl Lateness {
    /// Counts those of which it can be said, given what was listed before.
    pub(super) fn watching(before: Vec<LastListing>) -> Self {
        Self {
            before: Some(before),
            late: Vec::new(),
        }
    }

    /// Counts nothing.
    pub(super) fn unwatched() -> Self {
        Self {
            before: None,
            late: Vec::new(),
        }
    }

    /// A listing at `now` is the first that has a blob which was created then.
    pub(super) fn found(&mut self, created_at: Timestamp, now: Timestamp) {
        let Some(before) = &self.before else { return };
        // Microsoft's clock may be ahead of ours.
        let late = Duration::try_from(now.duration_since(created_at)).unwrap_or(Duration::ZERO);
        let was_missed = before.iter().any(|listing| {
            let until = listing.window.end().min(listing.listed_at);
            listing.window.start() <= created_at && created_at < until
        });
        if was_missed || late <= PROMPT {
            self.late.push(late);
        }
    }

    /// Keeps what was counted, in the ledger and in the metrics. When the ledger does not take it, it is lost: it is for
    /// people to look at, and a listing is not made again for it.
    ///
    /// # If interrupted
    /// The numbers of this listing may be lost.
    pub(super) async fn keep(
        self,
        tenant: TenantId,
        content_type: ContentType,
        ledger: &dyn Ledger,
    ) {
        let mut counts = [0_u64; BOUNDS.len() + 1];
        for late in &self.late {
            telemetry::blob_found(tenant, content_type, *late);
            let bucket = BOUNDS
                .iter()
                .position(|bound| late <= bound)
                .unwrap_or(BOUNDS.len());
            if let Some(count) = counts.get_mut(bucket) {
                *count += 1;
            }
        }
        let increments: Vec<_> = counts
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(bucket, count)| (counter(tenant, content_type, bucket), count))
            .collect();
        if increments.is_empty() {
            return;
        }
        if let Err(cause) = ledger.count(increments).await {
            warn!(%tenant, %content_type, %cause, "how late blobs came was not counted");
        }
    }
}

/// The counter of a bucket: by its bound in seconds, or `more` behind the last.
fn counter(tenant: TenantId, content_type: ContentType, bucket: usize) -> String {
    let bound = BOUNDS
        .get(bucket)
        .map_or_else(|| "more".to_owned(), |bound| bound.as_secs().to_string());
    format!("{PREFIX}{tenant}/{content_type}/{bound}")
}

/// How many blobs of a content type came how late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latenesses {
    /// The tenant.
    pub tenant: TenantId,
    /// The content type.
    pub content_type: ContentType,
    /// Blobs by bucket; the last is for what came later than the last bound.
    pub counts: [u64; BOUNDS.len() + 1],
}

/// What was counted so far of every tenant and content type of which anything was, ordered by both.
///
/// # Errors
/// Those of the ledger.
pub async fn recall_lateness(ledger: &dyn Ledger) -> Result<Vec<Latenesses>, ledger::Error> {
    let mut all: Vec<Latenesses> = Vec::new();
    for (name, count) in ledger.counters(PREFIX).await? {
        // A name of another version's is nobody's loss.
        let Some((tenant, content_type, bucket)) = read_counter(&name) else {
            continue;
        };
        let index = match all
            .iter()
            .position(|one| one.tenant == tenant && one.content_type == content_type)
        {
            Some(index) => index,
            None => {
                all.push(Latenesses {
                    tenant,
                    content_type,
                    counts: [0; BOUNDS.len() + 1],
                });
                all.len() - 1
            }
        };
        if let Some(bucket) = all
            .get_mut(index)
            .and_then(|one| one.counts.get_mut(bucket))
        {
            *bucket = count;
        }
    }
    all.sort_by_key(|one| (one.tenant, one.content_type));
    Ok(all)
}

fn read_counter(name: &str) -> Option<(TenantId, ContentType, usize)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('/');
    let tenant = parts.next()?.parse().ok()?;
    let content_type = ContentType::parse(parts.next()?).ok()?;
    let bucket = match parts.next()? {
        "more" => BOUNDS.len(),
        seconds => {
            let bound = Duration::from_secs(seconds.parse().ok()?);
            BOUNDS.iter().position(|known| *known == bound)?
        }
    };
    parts
        .next()
        .is_none()
        .then_some((tenant, content_type, bucket))
}
