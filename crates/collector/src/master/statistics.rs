//! What a check-in says of the work done: the ledger's totals less those at the last check-in that the service took.
//! Totals outlive processes and are shared by all of them, so nothing is counted twice and nothing forgotten.

use std::collections::BTreeMap;

use activity_api::TenantId;
use alertlogic::azcollect::{CollectionStats, Health};
use ledger::Ledger;
use serde_json::{Value, json};

use super::checkin::Fact;
use crate::sinks::alertlogic::Tally;

/// The functions that a check-in has numbers of: the original's three first, in its order. The ledger's counters are
/// called `invocations/<Function>` and `errors/<Function>`.
pub const FUNCTIONS: [&str; 5] = ["Master", "O365WebHook", "Updater", "Poll", "Deliver"];

/// What the ledger has counted since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) records: u64,
    /// The records' own JSON text, without what a list puts between them.
    pub(super) bytes: u64,
    pub(super) counters: BTreeMap<String, u64>,
}

pub(super) async fn totals(ledger: &dyn Ledger, tenant: TenantId) -> Result<Totals, ledger::Error> {
    let delivered = ledger.delivered_totals(tenant).await?;
    let mut totals = Totals {
        records: delivered.record_count,
        bytes: delivered.byte_count,
        counters: BTreeMap::new(),
    };
    for prefix in ["invocations/", "errors/"] {
        totals.counters.extend(ledger.counters(prefix).await?);
    }
    Ok(totals)
}

/// What there is to report since `before`. Where a total has gone back, the ledger is another one than at that time, and
/// all that it has is news.
pub(super) fn tally(totals: &Totals, before: Option<&Fact>, health: Health) -> Tally {
    let since = |total: u64, before: u64| total.checked_sub(before).unwrap_or(total);
    let counter = |name: String| {
        let total = totals.counters.get(&name).copied().unwrap_or(0);
        let before = before.and_then(|before| before.counters.get(&name).copied());
        since(total, before.unwrap_or(0))
    };
    let statistics = FUNCTIONS.iter().map(|function| {
        let invocations = counter(format!("invocations/{function}"));
        let errors = counter(format!("errors/{function}"));
        Value::from_iter([(
            *function,
            json!({"invocations": invocations, "errors": errors}),
        )])
    });
    Tally {
        health,
        statistics: statistics.collect(),
        collection_stats: CollectionStats {
            bytes: since(totals.bytes, before.map_or(0, |before| before.bytes)),
            events: since(totals.records, before.map_or(0, |before| before.records)),
        },
    }
}
