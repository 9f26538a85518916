//! Looking ahead: whether what waits is fetched before it expires, told in the log, the metrics and the status.

use std::collections::BTreeMap;

use activity_api::TenantId;
use ledger::Summary;
use tracing::{error, info, warn};

use super::Pipeline;
use crate::expiry::{Alarm, Bucket};
use crate::telemetry;

impl Pipeline {
    /// Shows the state of the ledger and of every budget in the metrics, measures the quarantine, and looks ahead. To be
    /// called each minute.
    ///
    /// # If interrupted
    /// The next call shows all of it.
    pub async fn look_ahead(&self) {
        let look = self.quarantine.look();
        let summary = match self.ledger.summary(self.clock.now()).await {
            Ok(summary) => summary,
            Err(cause) => {
                warn!(%cause, "the ledger gives no summary");
                return;
            }
        };
        telemetry::ledger_state(&summary);
        self.quarantine.measured(look, &summary, self.clock.now());
        let buckets = match self.ledger.unsettled_by_expiry().await {
            Ok(buckets) => buckets,
            Err(cause) => {
                warn!(%cause, "the ledger does not tell what expires when");
                return;
            }
        };
        let mut waiting: BTreeMap<TenantId, Vec<Bucket>> = BTreeMap::new();
        for bucket in buckets {
            waiting.entry(bucket.tenant).or_default().push(Bucket {
                expires_from: bucket.expires_from,
                blob_count: bucket.blob_count,
            });
        }
        let mut settled = settled_counts(&summary);
        for tenant in &self.tenants {
            let id = tenant.microsoft.tenant();
            let per_minute = tenant.microsoft.budget().per_minute();
            telemetry::budget_per_minute(id, per_minute);
            let waiting = waiting.remove(&id).unwrap_or_default();
            let settled = settled.remove(&id).unwrap_or_default();
            self.look_ahead_for(id, settled, &waiting, per_minute);
        }
    }

    fn look_ahead_for(
        &self,
        tenant: TenantId,
        settled_count: u64,
        waiting: &[Bucket],
        budget_per_minute: f64,
    ) {
        let now = self.clock.now();
        let (forecast, alarm) =
            self.foresight
                .look_ahead(tenant, settled_count, waiting, budget_per_minute, now);
        telemetry::forecast(tenant, &forecast, alarm.is_on());
        self.live.forecast(tenant, &forecast, alarm.is_on());
        let (waiting_count, too_late_count) = (forecast.waiting_count, forecast.too_late_count);
        let per_minute = forecast.per_minute.round();
        match alarm {
            Alarm::Raised => {
                let first_lost_at = forecast.first_lost_at.unwrap_or(now);
                error!(%tenant, waiting_count, too_late_count, %first_lost_at, per_minute, "blobs will expire before their turn comes at the present rate");
            }
            Alarm::Over => {
                info!(%tenant, waiting_count, per_minute, "what waits will be fetched before it expires, the alarm is over");
            }
            Alarm::Quiet | Alarm::Lasting => {}
        }
    }
}

/// Blobs that came to an end, whatever end, of each tenant.
fn settled_counts(summary: &Summary) -> BTreeMap<TenantId, u64> {
    let mut counts: BTreeMap<_, u64> = BTreeMap::new();
    for stream in &summary.streams {
        let settled = stream
            .delivered_count
            .saturating_add(stream.quarantined_count)
            .saturating_add(stream.expired_count)
            .saturating_add(stream.dropped_count);
        let count = counts.entry(stream.tenant).or_default();
        *count = count.saturating_add(settled);
    }
    counts
}
