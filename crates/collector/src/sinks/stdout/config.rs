//! The stdout sink's settings.

use ledger::SinkName;

/// Standard output has nothing to configure but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdoutConfig {
    /// What the ledger, the metrics and the status page call the sink.
    pub name: SinkName,
}
