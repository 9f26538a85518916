//! What becomes of listed windows when one is listed again, and when they are merged by the day: the same in every
//! backend, as times in milliseconds.

use activity_api::Window;

use crate::{Error, ListedWindow, Listing};

use super::{DAY, stored};

/// A listed window as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredWindow {
    pub(super) start_at: i64,
    pub(super) end_at: i64,
    pub(super) blob_count: u64,
    pub(super) listing_count: u64,
    pub(super) first_listed_at: i64,
    pub(super) last_listed_at: i64,
}

impl StoredWindow {
    /// A window listed for the first time.
    pub(super) fn new(listing: &Listing, now: i64) -> Self {
        Self {
            start_at: stored(listing.window.start()),
            end_at: stored(listing.window.end()),
            blob_count: listing.blob_count,
            listing_count: 1,
            first_listed_at: now,
            last_listed_at: now,
        }
    }

    /// The window after it has taken the place of one that lies within it, which may be itself of an earlier listing.
    pub(super) fn absorb(&mut self, within: &Self) {
        let is_same = within.bounds() == self.bounds();
        // The very call again, whose answer did not arrive.
        let is_again = is_same && within.last_listed_at == self.last_listed_at;
        let listing_count = within.listing_count.saturating_add(u64::from(!is_again));
        self.listing_count = self.listing_count.max(listing_count);
        self.first_listed_at = self.first_listed_at.min(within.first_listed_at);
        if is_same {
            // A clock that was set back takes no listing back.
            self.last_listed_at = self.last_listed_at.max(within.last_listed_at);
        }
    }

    /// What tells it from the others of its tenant and content type.
    pub(super) fn bounds(&self) -> (i64, i64) {
        (self.start_at, self.end_at)
    }

    pub(super) fn listed(
        &self,
        to_instant: impl Fn(i64) -> Result<jiff::Timestamp, Error>,
    ) -> Result<ListedWindow, Error> {
        let (start, end) = (to_instant(self.start_at)?, to_instant(self.end_at)?);
        let window = Window::new(start, end).map_err(|error| Error::Corrupt {
            what: "a listed window",
            source: std::sync::Arc::new(error),
        })?;
        Ok(ListedWindow {
            window,
            blob_count: self.blob_count,
            listing_count: self.listing_count,
            first_listed_at: to_instant(self.first_listed_at)?,
            last_listed_at: to_instant(self.last_listed_at)?,
        })
    }
}

/// Windows, ordered by their bounds, in runs that touch and begin on one UTC day; those that are alone are left out.
pub(super) fn runs(windows: impl IntoIterator<Item = StoredWindow>) -> Vec<Vec<StoredWindow>> {
    let day_of = |window: &StoredWindow| window.start_at.div_euclid(DAY);
    let mut runs: Vec<Vec<StoredWindow>> = Vec::new();
    let mut reach = i64::MIN;
    for window in windows {
        match runs.last_mut() {
            Some(run)
                if window.start_at <= reach && run.first().map(day_of) == Some(day_of(&window)) =>
            {
                reach = reach.max(window.end_at);
                run.push(window);
            }
            _ => {
                reach = window.end_at;
                runs.push(vec![window]);
            }
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

/// What holds for each window of a run, as one.
pub(super) fn merged(run: &[StoredWindow]) -> Option<StoredWindow> {
    let (&first, rest) = run.split_first()?;
    Some(rest.iter().fold(first, |merged, window| StoredWindow {
        start_at: merged.start_at,
        end_at: merged.end_at.max(window.end_at),
        // What lies within what was counted is not counted again.
        blob_count: if window.end_at > merged.end_at {
            merged.blob_count.saturating_add(window.blob_count)
        } else {
            merged.blob_count
        },
        listing_count: merged.listing_count.min(window.listing_count),
        first_listed_at: merged.first_listed_at.min(window.first_listed_at),
        last_listed_at: merged.last_listed_at.min(window.last_listed_at),
    }))
}
