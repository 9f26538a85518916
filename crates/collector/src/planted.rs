//! Bugs that a test can plant in the pipeline, to see whether the simulation finds them.

use std::cell::Cell;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A sink's yes is written down before the sink was asked.
    AcknowledgesBeforeSending,
    /// The blobs of a listing's last page are not noted, and the window counts as listed.
    DropsTheLastPage,
    /// A blob that is to be tried again is not given back, and its lease is renewed for ever.
    ForgetsALease,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in everything that runs on this thread from here on.
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether it is planted here.
pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
