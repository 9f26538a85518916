//! One window of `contentCreated` → its pages → blobs seen. What polling does for each hour, and what `backfill` and
//! `verify` do by hand.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use activity_api::{
    ContentBlob, ContentPage, ContentType, NextStep, RefusedEntry, TrustedUri, Window,
};
use jiff::Timestamp;
use ledger::{Ledger, Listing, SeenBlob, SeenVia};
use tracing::{debug, warn};

use super::lateness::Lateness;
use crate::microsoft::{self, Microsoft};
#[cfg(test)]
use crate::planted::{self, Bug};
use crate::telemetry;

/// How often somebody who lists by hand, and waits, asks for a page. Whoever polls comes again by itself and asks once.
const PATIENT_TRIES: u32 = 5;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Pages of one window that are followed. Microsoft's pages hold hundreds of blobs or more, so a window with more pages
/// than this is a listing that goes in circles.
const MAX_PAGES: usize = 10_000;

/// Why a window could not be listed to the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not list it.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// A page names one as the next that was read already.
    #[error("the listing of the hour from {} goes in circles: after {page_count} pages it leads back to one of them", window.start())]
    RepeatedPage {
        /// What was listed.
        window: Window,
        /// Pages read.
        page_count: usize,
    },
    /// The pages do not end.
    #[error("the listing of the hour from {} has more than {MAX_PAGES} pages", window.start())]
    TooManyPages {
        /// What was listed.
        window: Window,
    },
    /// Some entries could not be used, so the window does not count as listed and is listed again.
    #[error("{count} entries of the listing of the hour from {} cannot be used, the first because {first}", window.start())]
    UnusableEntries {
        /// What was listed.
        window: Window,
        /// How many.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// The ledger did not note what was listed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// Whether it is this window that cannot be listed; otherwise no other could be listed now either.
    #[must_use]
    pub fn is_of_the_window(&self) -> bool {
        use activity_api::Error as Answer;
        match self {
            Self::RepeatedPage { .. }
            | Self::TooManyPages { .. }
            | Self::UnusableEntries { .. } => true,
            Self::Microsoft(microsoft::Error::Answer(answer)) => matches!(
                answer,
                Answer::Malformed { .. }
                    | Answer::UntrustedUri(_)
                    | Answer::WindowRefused { .. }
                    | Answer::PageTokenRefused
            ),
            Self::Microsoft(microsoft::Error::Network(_) | microsoft::Error::Token(_))
            | Self::Ledger(_) => false,
        }
    }
}

/// What the listing of a window brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Different blobs that its pages named.
    pub blob_count: u64,
    /// Those of them that the ledger had not known.
    pub new_count: u64,
}

/// Lists one window to its last page and notes it, each page asked for again when that is of use: for those who list by
/// hand, while somebody waits. Each page is noted before the next is asked for.
///
/// # Errors
/// The blobs of the pages that were read are noted, and the window is not.
///
/// # If interrupted
/// As with an error: whoever lists next lists the whole window again, and finds those blobs known.
pub async fn list_hour(
    microsoft: &Microsoft,
    content_type: ContentType,
    window: Window,
    ledger: &dyn Ledger,
    now: Timestamp,
) -> Result<Listed, Error> {
    let pages = Pages::patient(microsoft, content_type, window);
    list_pages(pages, ledger, &mut Lateness::unwatched(), now).await
}

/// As [`list_hour`], each page asked for once, with `lateness` looking on as blobs turn up that were not known. Each
/// page is noted before the next is asked for, so that a long listing need not fit in memory and a failure in the middle
/// loses none of what came before.
///
/// # Errors
/// The blobs of the pages that were read are noted, and the window is not.
///
/// # If interrupted
/// As with an error: whoever lists next lists the whole window again, and finds those blobs known.
pub(super) async fn list_watched(
    microsoft: &Microsoft,
    content_type: ContentType,
    window: Window,
    ledger: &dyn Ledger,
    lateness: &mut Lateness,
    now: Timestamp,
) -> Result<Listed, Error> {
    let pages = Pages::of(microsoft, content_type, window);
    list_pages(pages, ledger, lateness, now).await
}

/// What both do.
async fn list_pages(
    mut pages: Pages<'_>,
    ledger: &dyn Ledger,
    lateness: &mut Lateness,
    now: Timestamp,
) -> Result<Listed, Error> {
    let Pages {
        microsoft,
        content_type,
        window,
        ..
    } = pages;
    let tenant = microsoft.tenant();
    let mut different = Different::default();
    let mut new_count = 0;
    let mut unusable: Vec<RefusedEntry> = Vec::new();
    while let Some(Page { blobs, refused }) = pages.next().await? {
        for entry in refused {
            warn!(%tenant, %content_type, from = %window.start(), why = %entry.why, "an entry of the listing was refused");
            unusable.push(entry);
        }
        if blobs.is_empty() {
            continue;
        }
        let mut created_at = HashMap::with_capacity(blobs.len());
        for blob in &blobs {
            different.is_new(blob.id.as_str());
            created_at.insert(blob.id.clone(), blob.created_at);
        }
        let seen = blobs
            .into_iter()
            .map(|blob| seen_blob(microsoft, blob))
            .collect();
        let new = ledger.note_new(seen, now).await?;
        telemetry::blobs_seen(tenant, content_type, SeenVia::Listing, new.len() as u64);
        new_count += new.len() as u64;
        for name in &new {
            if let Some(created_at) = created_at.get(&name.content_id) {
                lateness.found(*created_at, now);
            }
        }
    }
    // A window with an entry that could not be noted was not listed: calling it so would lose the blob in silence.
    if let Some(first) = unusable.first() {
        return Err(Error::UnusableEntries {
            window,
            count: unusable.len(),
            first: first.why.clone(),
        });
    }
    let blob_count = different.count();
    let listing = Listing {
        tenant,
        content_type,
        window,
        blob_count,
    };
    ledger.note_listed(listing, now).await?;
    Ok(Listed {
        blob_count,
        new_count,
    })
}

/// The pages of one window, one after another. Reads only: nothing of them is noted.
#[derive(Debug)]
pub struct Pages<'a> {
    microsoft: &'a Microsoft,
    content_type: ContentType,
    window: Window,
    next: Next,
    links: Different,
    /// How often each page is asked for.
    tries: u32,
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    /// What can be used.
    pub blobs: Vec<ContentBlob>,
    /// What cannot. As long as there is any, the window cannot be called listed.
    pub refused: Vec<RefusedEntry>,
}

#[derive(Debug)]
enum Next {
    First,
    Link(TrustedUri),
    End,
}

impl<'a> Pages<'a> {
    /// The pages of `window`. Nothing is asked for yet.
    #[must_use]
    pub fn of(microsoft: &'a Microsoft, content_type: ContentType, window: Window) -> Self {
        Self {
            microsoft,
            content_type,
            window,
            next: Next::First,
            links: Different::default(),
            tries: 1,
        }
    }

    /// The same, each page asked for up to five times, with pauses, while that is of use.
    #[must_use]
    pub fn patient(microsoft: &'a Microsoft, content_type: ContentType, window: Window) -> Self {
        Self {
            tries: PATIENT_TRIES,
            ..Self::of(microsoft, content_type, window)
        }
    }

    /// Asks for the next page; nothing after the last.
    ///
    /// # Errors
    /// Those of Microsoft, after which the page can be asked for again; and when the pages do not end, after which there are
    /// none.
    ///
    /// # If interrupted
    /// The page is asked for again.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(page) = self.ask().await? else {
            return Ok(None);
        };
        let ContentPage {
            blobs,
            refused,
            next_page,
        } = page;
        self.next = Next::End;
        debug!(tenant = %self.microsoft.tenant(), content_type = %self.content_type, from = %self.window.start(), blob_count = blobs.len(), "page listed");
        // An empty page with a next link is no end: only a missing link is.
        if let Some(uri) = next_page {
            let page_count = self.links.len() + 1;
            if !self.links.is_new(uri.as_str()) {
                let window = self.window;
                return Err(Error::RepeatedPage { window, page_count });
            }
            if page_count >= MAX_PAGES {
                let window = self.window;
                return Err(Error::TooManyPages { window });
            }
            self.next = Next::Link(uri);
        }
        #[cfg(test)]
        let blobs = match self.next {
            Next::End if planted::has(Bug::DropsTheLastPage) => Vec::new(),
            _ => blobs,
        };
        Ok(Some(Page { blobs, refused }))
    }

    /// The page that is next, as Microsoft hands it out; nothing after the last.
    async fn ask(&self) -> Result<Option<ContentPage>, microsoft::Error> {
        let Self {
            microsoft,
            content_type,
            window,
            ..
        } = *self;
        let mut tried = 0;
        loop {
            let answer = match &self.next {
                Next::First => microsoft.list_content(content_type, window).await,
                Next::Link(uri) => microsoft.next_content_page(content_type, uri).await,
                Next::End => return Ok(None),
            };
            tried += 1;
            match answer {
                Ok(page) => return Ok(Some(page)),
                Err(error) if tried < self.tries => pause_before_another(error, tried).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits before try number `tried` + 1, or gives the error back when another try is of no use.
async fn pause_before_another(error: microsoft::Error, tried: u32) -> Result<(), microsoft::Error> {
    let NextStep::RetryAfter(wait) = error.next_step() else {
        return Err(error);
    };
    let pause = wait
        .unwrap_or(Duration::from_secs(1 << tried))
        .min(LONGEST_PAUSE);
    warn!(cause = &error as &dyn std::error::Error, retry_in = ?pause, "microsoft did not list, will retry");
    tokio::time::sleep(pause).await;
    Ok(())
}

/// Texts that were met, by their hashes: a listing may name a hundred thousand, and a wrong count once in a thousand
/// million listings harms nobody.
#[derive(Debug, Default)]
struct Different {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Different {
    fn is_new(&mut self, text: &str) -> bool {
        self.hashes.insert(self.hasher.hash_one(text))
    }

    fn len(&self) -> usize {
        self.hashes.len()
    }

    fn count(&self) -> u64 {
        self.hashes.len() as u64
    }
}

fn seen_blob(microsoft: &Microsoft, blob: ContentBlob) -> SeenBlob {
    SeenBlob {
        tenant: microsoft.tenant(),
        content_type: blob.content_type,
        content_id: blob.id,
        uri: blob.uri.as_str().to_owned(),
        created_at: blob.created_at,
        expires_at: blob.expires_at,
        seen_via: SeenVia::Listing,
    }
}
