//! Listing what became available: windows of `contentCreated` → pages → blobs seen. Polling is the truth; notifications
//! only bring it forward.

#[cfg(test)]
mod tests;

use std::time::Duration;

use activity_api::{ContentBlob, ContentPage, ContentType, RefusedEntry, Window, plan_windows};
use jiff::Timestamp;
use ledger::{Ledger, Listing, SeenBlob, SeenVia};
use tracing::{debug, warn};

use crate::microsoft::{self, Microsoft};
use crate::telemetry;

/// Pages of one window that are followed. Microsoft's pages hold hundreds of blobs or more, so a window with more pages
/// than this is a listing that goes in circles.
const MAX_PAGES: usize = 10_000;

/// Why a content type could not be listed to the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not list it.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// The pages do not end.
    #[error("the listing of one window has more than {MAX_PAGES} pages")]
    TooManyPages,
    /// Some entries could not be used, so their windows do not count as listed and are listed again.
    #[error("{count} entries of the listing cannot be used, the first because {first}")]
    UnusableEntries {
        /// How many.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// The ledger did not note what was listed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// Lists what `plan_windows` says is due for one content type, and notes it. How many blobs were not known.
///
/// # Errors
/// Windows before the one that failed are listed and noted.
///
/// # If interrupted
/// Blobs of the pages that were read are noted; the window is not, so the next run lists the whole of it again.
pub async fn poll_content(
    microsoft: &Microsoft,
    content_type: ContentType,
    first_lookback: Duration,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<u64, Error> {
    let tenant = microsoft.tenant();
    let listed_until = ledger.listed_until(tenant, content_type).await?;
    let windows = plan_windows(listed_until, first_lookback, now);
    if let (Some(listed_until), Some(first)) = (listed_until, windows.first())
        && first.start() > listed_until
    {
        warn!(%tenant, %content_type, from = %listed_until, to = %first.start(), "content of this time can be listed no more");
        ledger
            .note_unlistable(tenant, content_type, first.start())
            .await?;
    }
    let mut new_count = 0;
    let mut unusable = Vec::new();
    for window in windows {
        let listed = list_window(microsoft, content_type, window, ledger, now).await?;
        new_count += listed.new_count;
        unusable.extend(listed.unusable);
        // A window with an entry that could not be noted was not listed: calling it so would lose the blob in silence.
        // Nor is one after it: if it were the first ever noted, listing would go on behind it and never come back.
        if unusable.is_empty() {
            let listing = Listing {
                tenant,
                content_type,
                window,
                blob_count: listed.blob_count,
            };
            ledger.note_listed(listing, now).await?;
        }
    }
    if let Some(first) = unusable.first() {
        return Err(Error::UnusableEntries {
            count: unusable.len(),
            first: first.why.clone(),
        });
    }
    telemetry::polled(tenant, content_type, now);
    Ok(new_count)
}

#[derive(Default)]
struct Listed {
    blob_count: u64,
    new_count: u64,
    unusable: Vec<RefusedEntry>,
}

/// All pages of one window. Each is noted before the next is asked for, so that a long listing need not fit in memory
/// and a failure in the middle loses none of what came before.
async fn list_window(
    microsoft: &Microsoft,
    content_type: ContentType,
    window: Window,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<Listed, Error> {
    let tenant = microsoft.tenant();
    let mut page = microsoft.list_content(content_type, window).await?;
    let mut listed = Listed::default();
    for _ in 0..MAX_PAGES {
        let ContentPage {
            blobs,
            refused,
            next_page,
        } = page;
        for entry in refused {
            warn!(%tenant, %content_type, why = %entry.why, "an entry of the listing was refused");
            listed.unusable.push(entry);
        }
        debug!(%tenant, %content_type, blob_count = blobs.len(), "page listed");
        if !blobs.is_empty() {
            listed.blob_count += blobs.len() as u64;
            let seen = blobs
                .into_iter()
                .map(|blob| seen_blob(microsoft, blob, SeenVia::Listing))
                .collect();
            let new = ledger.note_seen(seen, now).await?;
            telemetry::blobs_seen(tenant, content_type, SeenVia::Listing, new);
            listed.new_count += new;
        }
        // An empty page with a next link is no end: only a missing link is.
        match next_page {
            None => return Ok(listed),
            Some(uri) => page = microsoft.next_content_page(content_type, &uri).await?,
        }
    }
    Err(Error::TooManyPages)
}

fn seen_blob(microsoft: &Microsoft, blob: ContentBlob, seen_via: SeenVia) -> SeenBlob {
    SeenBlob {
        tenant: microsoft.tenant(),
        content_type: blob.content_type,
        content_id: blob.id,
        uri: blob.uri.as_str().to_owned(),
        created_at: blob.created_at,
        expires_at: blob.expires_at,
        seen_via,
    }
}
