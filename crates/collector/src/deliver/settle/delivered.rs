//! What is done about a blob once the ledger says that it is delivered, whichever of its operations said so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use ledger::SinkName;
use tracing::debug;

use super::Settler;
use crate::deliver::in_flight::{Delivered, InFlight};
use crate::telemetry::Deliveries;

impl Settler {
    /// The sinks that must have a blob for it to be delivered.
    pub(in crate::deliver) fn required(&self) -> &[SinkName] {
        &self.sinks
    }

    /// These were delivered together with their last acknowledgement, so that there is nothing to settle.
    pub(in crate::deliver) fn were_delivered(
        &self,
        delivered: &[(Arc<InFlight>, Delivered)],
        now: Timestamp,
    ) {
        if delivered.is_empty() {
            return;
        }
        self.count_delivered(delivered, now);
        let keys = delivered.iter().map(|(in_flight, _)| in_flight.key());
        self.let_go(keys.collect());
    }

    pub(super) fn count_delivered(&self, delivered: &[(Arc<InFlight>, Delivered)], now: Timestamp) {
        let mut deliveries = Deliveries::default();
        for (in_flight, numbers) in delivered {
            let tag = in_flight.tag();
            let Delivered {
                record_count,
                byte_count,
            } = *numbers;
            self.counts.delivered_blobs.fetch_add(1, Ordering::Relaxed);
            self.counts
                .delivered_records
                .fetch_add(record_count, Ordering::Relaxed);
            deliveries.add(
                tag.tenant,
                tag.content_type,
                record_count,
                byte_count,
                tag.created_at,
                now,
            );
            self.live.delivered(record_count, byte_count, now);
            debug!(tenant = %tag.tenant, content_id = %tag.content_id, record_count, "blob delivered");
        }
        deliveries.count();
    }
}
