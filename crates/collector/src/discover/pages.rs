//! All pages of one window, one at a time, each asked for again when that is of use: for those who list by hand, while
//! somebody waits. Whoever polls comes again by itself and has no need of it.

use std::time::Duration;

use activity_api::{ContentBlob, ContentType, NextStep, TrustedUri, Window};
use tracing::warn;

use crate::microsoft::{self, Microsoft};

/// Pages that are followed: more is a listing that goes in circles.
const MAX_PAGES: usize = 10_000;
/// How often a page is asked for.
const TRIES: u32 = 5;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a window could not be listed to its last page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not list it.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// A blob in it could not be read, so nobody can say that all are known.
    #[error("an entry of the listing cannot be used: {why}")]
    UnusableEntry {
        /// What is wrong with it.
        why: String,
    },
    /// The pages do not end.
    #[error("the listing of one window has more than {MAX_PAGES} pages")]
    TooManyPages,
}

/// The pages of one window.
pub(crate) struct Pages<'a> {
    microsoft: &'a Microsoft,
    content_type: ContentType,
    window: Window,
    next: Next,
    page_count: usize,
}

enum Next {
    First,
    Page(TrustedUri),
    End,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(microsoft: &'a Microsoft, content_type: ContentType, window: Window) -> Self {
        Self {
            microsoft,
            content_type,
            window,
            next: Next::First,
            page_count: 0,
        }
    }

    /// The next page's blobs, of which there may be none; nothing after the last page.
    ///
    /// # Errors
    /// When it cannot be had. The window is then not listed.
    ///
    /// # If interrupted
    /// The page is asked for again.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ContentBlob>>, Error> {
        if matches!(self.next, Next::End) {
            return Ok(None);
        }
        if self.page_count >= MAX_PAGES {
            return Err(Error::TooManyPages);
        }
        let mut tried = 0;
        let page = loop {
            tried += 1;
            let asked = match &self.next {
                Next::Page(page) => {
                    self.microsoft
                        .next_content_page(self.content_type, page)
                        .await
                }
                Next::First | Next::End => {
                    self.microsoft
                        .list_content(self.content_type, self.window)
                        .await
                }
            };
            match asked {
                Ok(page) => break page,
                Err(error) => pause_before_another(error, tried).await?,
            }
        };
        if let Some(refused) = page.refused.first() {
            let why = refused.why.clone();
            return Err(Error::UnusableEntry { why });
        }
        self.page_count += 1;
        self.next = page.next_page.map_or(Next::End, Next::Page);
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
