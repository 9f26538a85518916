//! What the ledger keeps of the last check-in of each log source: what was reported, and what came of it.

use std::collections::BTreeMap;

use activity_api::TenantId;
use jiff::Timestamp;
use ledger::{Ledger, SinkName};
use serde::{Deserialize, Serialize};

use super::CheckedIn;
use super::statistics::Totals;
use crate::status::CheckinView;

/// The one struct that defines what the ledger keeps. Texts that cannot be read as times are none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fact {
    source_id: Option<String>,
    /// The last that the service took.
    taken_at: Option<String>,
    /// The last that was tried, whatever came of it.
    tried_at: Option<String>,
    /// Why the service did not take the last one.
    failed: Option<String>,
    error_code: Option<String>,
    details: Vec<String>,
    /// The totals when the service took one last.
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) counters: BTreeMap<String, u64>,
}

fn key(sink: &SinkName, tenant: TenantId) -> String {
    format!("alertlogic/{sink}/{tenant}/checkin")
}

/// Nothing before the first check-in.
pub(super) async fn recall(
    ledger: &dyn Ledger,
    sink: &SinkName,
    tenant: TenantId,
) -> Result<Option<Fact>, ledger::Error> {
    let fact = ledger.recall(&key(sink, tenant)).await?;
    // What cannot be read reports everything once more, which is better than nothing ever again.
    Ok(fact.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Keeps what came of a check-in. The totals become the remembered ones only when the service took it.
///
/// # If interrupted
/// The earlier fact stays, and the same is reported again.
pub(super) async fn remember(
    ledger: &dyn Ledger,
    checked_in: &CheckedIn,
    before: Option<Fact>,
    totals: Totals,
    now: Timestamp,
) -> Result<CheckinView, ledger::Error> {
    let mut fact = before.unwrap_or_default();
    if checked_in.source_id.is_some() {
        fact.source_id.clone_from(&checked_in.source_id);
    }
    fact.tried_at = Some(now.to_string());
    fact.failed.clone_from(&checked_in.failed);
    fact.error_code = checked_in.health.first().map(|first| first.code.to_owned());
    fact.details = checked_in
        .health
        .iter()
        .map(|error| format!("{}: {}", error.code, error.what))
        .collect();
    if checked_in.failed.is_none() {
        fact.taken_at = Some(now.to_string());
        fact.records = totals.records;
        fact.bytes = totals.bytes;
        fact.counters = totals.counters;
    }
    let text = serde_json::to_string(&fact).expect("a struct of texts and numbers serializes");
    let (sink, tenant) = (&checked_in.sink, checked_in.tenant);
    ledger.remember(&key(sink, tenant), &text).await?;
    Ok(fact.into_view(sink, tenant))
}

/// What the ledger knows of the last check-ins of these log sources, for whoever looks at it without a running
/// collector. One that was never tried is in it, without times.
///
/// # Errors
/// Only those of the ledger.
pub async fn recall_checkins(
    ledger: &dyn Ledger,
    sources: Vec<(SinkName, TenantId)>,
) -> Result<Vec<CheckinView>, ledger::Error> {
    let mut views = Vec::new();
    for (sink, tenant) in sources {
        let fact = recall(ledger, &sink, tenant).await?.unwrap_or_default();
        views.push(fact.into_view(&sink, tenant));
    }
    Ok(views)
}

impl Fact {
    fn into_view(self, sink: &SinkName, tenant: TenantId) -> CheckinView {
        let read = |text: Option<String>| text.and_then(|text| text.parse().ok());
        CheckinView {
            sink: sink.to_string(),
            tenant: tenant.to_string(),
            source_id: self.source_id,
            taken_at: read(self.taken_at),
            tried_at: read(self.tried_at),
            error: self.failed,
            error_code: self.error_code,
            details: self.details,
        }
    }
}
