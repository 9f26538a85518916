//! All pages of one window, one at a time, each asked for again when that is of use: for those who list by hand, while
//! somebody waits. Whoever polls comes again by itself and has no need of it.

use std::time::Duration;

use activity_api::{ContentBlob, ContentType, NextStep, Window};
use tracing::warn;

use super::listing;
use crate::microsoft::{self, Microsoft};

/// How often a page is asked for.
const TRIES: u32 = 5;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a window could not be listed to its last page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not list it, or its pages do not end.
    #[error(transparent)]
    Listing(#[from] listing::Error),
    /// A blob in it could not be read, so nobody can say that all are known.
    #[error("an entry of the listing cannot be used: {why}")]
    UnusableEntry {
        /// What is wrong with it.
        why: String,
    },
}

/// The pages of one window.
pub(crate) struct Pages<'a>(listing::Pages<'a>);

impl<'a> Pages<'a> {
    pub(crate) fn new(microsoft: &'a Microsoft, content_type: ContentType, window: Window) -> Self {
        Self(listing::Pages::of(microsoft, content_type, window))
    }

    /// The next page's blobs, of which there may be none; nothing after the last page.
    ///
    /// # Errors
    /// When it cannot be had. The window is then not listed.
    ///
    /// # If interrupted
    /// The page is asked for again.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ContentBlob>>, Error> {
        let mut tried = 0;
        let page = loop {
            tried += 1;
            match self.0.next().await {
                Ok(page) => break page,
                Err(listing::Error::Microsoft(error)) => pause_before_another(error, tried)
                    .await
                    .map_err(listing::Error::Microsoft)?,
                Err(error) => return Err(error.into()),
            }
        };
        let Some(page) = page else {
            return Ok(None);
        };
        if let Some(refused) = page.refused.first() {
            let why = refused.why.clone();
            return Err(Error::UnusableEntry { why });
        }
        Ok(Some(page.blobs))
    }
}

/// Waits before try number `tried` + 1, or gives the error back when another try is of no use.
async fn pause_before_another(error: microsoft::Error, tried: u32) -> Result<(), microsoft::Error> {
    match error.next_step() {
        NextStep::RetryAfter(wait) if tried < TRIES => {
            let pause = wait
                .unwrap_or(Duration::from_secs(1 << tried))
                .min(LONGEST_PAUSE);
            warn!(cause = &error as &dyn std::error::Error, retry_in = ?pause, "microsoft did not list, will retry");
            tokio::time::sleep(pause).await;
            Ok(())
        }
        _ => Err(error),
    }
}
