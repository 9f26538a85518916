//! `[dedupe]`: what is delivered once and not more.

use std::time::Duration;

use super::LedgerConfig;
use super::keys::Kind;
use super::reader::Section;

/// `[dedupe]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DedupeConfig {
    /// For how long a record that a sink took is not given to it again. Nothing: it may come again.
    pub records: Option<Duration>,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// More than four times as long as Microsoft keeps a blob; what is remembered takes 16 bytes a record and sink.
const LONGEST: u64 = 30 * DAY;

const NOT_IN_AZURE: &str = "needs a ledger in SQLite: what a sink was given is written in one transaction with its \
     acknowledgement, and Azure Storage has none over so many rows. Name a sqlite: url in ledger.url, or take this key away";

const NOT_IN_POSTGRES: &str = "needs a ledger in SQLite: each record is looked up before it is delivered, and a server is too \
     far away for that. Name a sqlite: url in ledger.url, or take this key away";

pub(super) fn read(
    root: &mut Section<'_, '_>,
    ledger: Option<&LedgerConfig>,
) -> Option<DedupeConfig> {
    root.table("dedupe", "What is delivered once and not more.", |section| {
        let records = section
            .text(
                "records",
                "For how long a record that a sink took is not given to it again, by its Id: days or hours, such as 7d or \
                 36h, from 1h to 30d. Only with a ledger in SQLite.",
            )
            .try_map(Kind::Text, |text| read_duration(&text))
            .optional("a record that Microsoft lists twice is delivered twice");
        let obstacle = match ledger {
            Some(LedgerConfig::AzureStorage(_)) => Some(NOT_IN_AZURE),
            Some(LedgerConfig::Postgres(_)) => Some(NOT_IN_POSTGRES),
            Some(LedgerConfig::Sqlite { .. }) | None => None,
        };
        if let (Some(_), Some(obstacle)) = (records, obstacle) {
            section.incomplete("records", obstacle);
        }
        Some(DedupeConfig { records })
    })
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let must = "must be a number of days or hours, from 1h to 30d, such as 7d";
    let unit = match text.as_bytes().last() {
        Some(b'd') => DAY,
        Some(b'h') => HOUR,
        _ => return Err(must.to_owned()),
    };
    let number = text.get(..text.len() - 1).unwrap_or_default();
    // Not what `parse` takes besides digits.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(must.to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|secs| (HOUR..=LONGEST).contains(secs))
        .map(Duration::from_secs)
        .ok_or_else(|| must.to_owned())
}
