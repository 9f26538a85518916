//! The planted bug of a lane: a yes that no sink has said.

use ledger::{AcknowledgedPart, SinkCommit};

use super::batches::LaneItem;
use super::lane::Lane;

impl Lane {
    /// Writes down that the sink has what it was not even offered.
    pub(super) async fn acknowledge_unsent(&self, items: &[LaneItem]) {
        let parts = items.iter().map(|item| {
            let part = AcknowledgedPart::Part(item.part.key());
            (item.in_flight.key(), part)
        });
        let commit = SinkCommit {
            sink: self.health.sink.clone(),
            position: None,
            acknowledged: parts.collect(),
            quarantined: Vec::new(),
            remembered: None,
        };
        drop(self.ledger.acknowledge(commit, self.clock.now()).await);
    }
}
