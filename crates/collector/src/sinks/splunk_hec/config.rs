//! The Splunk HTTP Event Collector sink's settings.

use std::time::Duration;

use ledger::SinkName;
use secrecy::SecretString;

/// Which collector takes the records, and under which names Splunk files them.
#[derive(Debug, Clone)]
pub struct SplunkHecConfig {
    /// What the ledger, the metrics and the status page call the sink.
    pub name: SinkName,
    /// Scheme, host and port, such as `https://splunk.example.net:8088`. A path before `/services/collector` is kept,
    /// for a collector behind a proxy.
    pub url: String,
    /// The HEC token, a GUID as a rule.
    pub token: SecretString,
    /// The index to write to. `None`: the token's own.
    pub index: Option<String>,
    /// Splunk's `source`. `None`: the token's own.
    pub source: Option<String>,
    /// Splunk's `sourcetype`; [`SplunkHecConfig::DEFAULT_SOURCETYPE`] is what Splunk's own add-ons expect.
    pub sourcetype: String,
    /// Splunk's `host`. `None`: Splunk puts in the name that our request came from.
    pub host: Option<String>,
    /// How long to wait until the indexers have a batch, where the token has indexer acknowledgement.
    pub acknowledge_within: Duration,
    /// How much text goes into one request, in bytes before compression.
    pub max_batch_bytes: usize,
}

impl SplunkHecConfig {
    /// The sourcetype that Splunk's add-on for Microsoft Office 365 gives these records, so that its field extractions
    /// and dashboards work on ours.
    pub const DEFAULT_SOURCETYPE: &str = "o365:management:activity";
    /// Splunk counts a batch's pipeline as done within seconds; five minutes outlast a restart of an indexer.
    pub const DEFAULT_ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(300);
    /// Half a mebibyte: safely below the 1 MB at which Splunk Cloud starts to complain.
    pub const DEFAULT_MAX_BATCH_BYTES: usize = 512 * 1024;
}
