//! The ledger kept small: once a day what nobody will ask for again is folded into totals.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Pipeline;

/// How often, over all processes that share the ledger.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// How old what is folded must be. Microsoft lists and announces what is up to seven days old, and what was forgotten
/// before that would be collected again; the day more is for clocks that are off.
const KEEP: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Blobs in one step. A step is one transaction, and deliveries wait for it.
const STEP_BLOBS: usize = 1_000;
/// The pause between two steps, in which others have their turn.
const BREATH: Duration = Duration::from_millis(50);
/// How often it is looked whether a day has passed.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// The fact that says when it was last done to the end.
const COMPACTED_AT: &str = "ledger/compacted_at";

impl Pipeline {
    /// Makes the ledger smaller, when that was last done a day ago or more. Ends early once `stop` is set.
    ///
    /// # Errors
    /// Those of the ledger.
    ///
    /// # If interrupted
    /// The steps that were taken stay, and the next call takes the others.
    pub async fn compact_if_due(&self, stop: &CancellationToken) -> Result<(), ledger::Error> {
        let now = self.clock.now();
        let last = self.ledger.recall(COMPACTED_AT).await?;
        let last = last.and_then(|text| text.parse::<Timestamp>().ok());
        // One that lies ahead is from a clock that was set back, and proves nothing.
        let is_recent = |last: Timestamp| last <= now && now.duration_since(last) < EVERY;
        if last.is_some_and(is_recent) {
            return Ok(());
        }
        let before = now.checked_sub(KEEP).unwrap_or(Timestamp::MIN);
        let (mut blob_count, mut window_count) = (0, 0);
        loop {
            if stop.is_cancelled() {
                return Ok(());
            }
            let step = self.ledger.compact(before, STEP_BLOBS).await?;
            blob_count += step.blob_count;
            window_count += step.window_count;
            if step.is_done {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        self.ledger.remember(COMPACTED_AT, &now.to_string()).await?;
        if blob_count + window_count > 0 {
            info!(blob_count, window_count, %before, "the ledger was made smaller");
        }
        Ok(())
    }

    pub(super) async fn compact_until(&self, stop: &CancellationToken) {
        loop {
            if let Err(cause) = self.compact_if_due(stop).await {
                warn!(
                    cause = &cause as &dyn std::error::Error,
                    "the ledger could not be made smaller"
                );
            }
            crate::waiting::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
