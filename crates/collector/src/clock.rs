//! The one place that knows the time. Everyone else is handed `now` or a [`Clock`], so that a simulated year can pass in a minute.

use std::fmt::Debug;

use jiff::Timestamp;

/// Tells the time of day. Waiting goes through `tokio::time`, which a test can pause.
pub trait Clock: Send + Sync + Debug {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that may read the machine's clock"
        )]
        Timestamp::now()
    }
}
