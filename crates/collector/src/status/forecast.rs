//! How the status shows whether what waits is fetched in time, and how late blobs come.

use activity_api::TenantId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::view::{read_some_instant, some_instant};
use super::{Live, StatusView, text};
use crate::discover::lateness::{BOUNDS, Latenesses};
use crate::expiry::Forecast;

/// What will become of what waits of a tenant, at the present rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastView {
    /// Blobs that wait or are under way.
    pub waiting_count: u64,
    /// Blobs settled a minute.
    pub per_minute: f64,
    /// When none of these is left. Nothing: never, at this rate.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub caught_up_at: Option<Timestamp>,
    /// Blobs that expire before their turn comes.
    pub too_late_count: u64,
    /// When the first of them is lost.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub first_lost_at: Option<Timestamp>,
    /// Whether a person should act: the first is lost within a day.
    pub is_alarm: bool,
}

impl Live {
    /// What was foreseen for the tenant last.
    pub fn forecast(&self, tenant: TenantId, forecast: &Forecast, is_alarm: bool) {
        let view = ForecastView {
            waiting_count: forecast.waiting_count,
            per_minute: forecast.per_minute,
            caught_up_at: forecast.caught_up_at,
            too_late_count: forecast.too_late_count,
            first_lost_at: forecast.first_lost_at,
            is_alarm,
        };
        self.state().tenants.entry(tenant).or_default().forecast = Some(view);
    }
}

#[cfg(test)]
impl Live {
    /// Whether the last look ahead was an alarm.
    pub(crate) fn has_alarm(&self) -> bool {
        let state = self.state();
        let mut forecasts = state.tenants.values().filter_map(|of| of.forecast.as_ref());
        forecasts.any(|forecast| forecast.is_alarm)
    }
}

impl ForecastView {
    /// What a person should hear of it, while it is an alarm.
    pub(super) fn trouble(&self, tenant: &str, now: Timestamp) -> Option<String> {
        let first_lost_at = self.first_lost_at.filter(|_| self.is_alarm)?;
        let blobs = text::counted(self.too_late_count, "blob");
        let (verb, when) = match self.too_late_count {
            1 => (
                "expires before its turn comes,",
                text::relative(first_lost_at, now),
            ),
            _ => (
                "expire before their turn comes, the first",
                text::relative(first_lost_at, now),
            ),
        };
        Some(format!(
            "{blobs} of tenant {tenant} {verb} {when}, at the present rate of {} a minute",
            text::count(self.per_minute.round() as u64)
        ))
    }

    /// The whole of it in one line.
    pub(crate) fn sentence(&self, now: Timestamp) -> String {
        let blobs = text::counted(self.waiting_count, "blob");
        let rate = text::count(self.per_minute.round() as u64);
        let end = match self.caught_up_at {
            Some(at) => format!("caught up {}", text::relative(at, now)),
            None => "never caught up".to_owned(),
        };
        match self.too_late_count {
            0 => format!("backlog of {blobs}, {end} at {rate} a minute"),
            lost => format!(
                "backlog of {blobs}, {end} at {rate} a minute, {} too late",
                text::count(lost)
            ),
        }
    }
}

/// How late blobs of one content type came: from their creation to the first listing that had them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatenessView {
    /// The tenant.
    pub tenant: String,
    /// Microsoft's name of the content type.
    pub content_type: String,
    /// From the least late on.
    pub buckets: Vec<LatenessBucket>,
}

/// Blobs that came equally late, more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatenessBucket {
    /// They came at most this late. Nothing: later than all other buckets say.
    pub up_to_seconds: Option<u64>,
    /// How many that were not in the bucket before.
    pub blob_count: u64,
}

impl LatenessView {
    fn new(lateness: &Latenesses) -> Self {
        let bounds = BOUNDS.iter().map(|bound| Some(bound.as_secs()));
        Self {
            tenant: lateness.tenant.to_string(),
            content_type: lateness.content_type.to_string(),
            buckets: bounds
                .chain([None])
                .zip(lateness.counts)
                .map(|(up_to_seconds, blob_count)| LatenessBucket {
                    up_to_seconds,
                    blob_count,
                })
                .collect(),
        }
    }

    /// In one line: how many came within each bound that any did.
    pub(crate) fn sentence(&self) -> String {
        let parts: Vec<_> = self
            .buckets
            .iter()
            .filter(|bucket| bucket.blob_count > 0)
            .map(|bucket| {
                let count = text::count(bucket.blob_count);
                match bucket.up_to_seconds {
                    Some(seconds) => format!("{count} within {}", bound(seconds)),
                    None => format!("{count} later"),
                }
            })
            .collect();
        parts.join(", ")
    }
}

/// A bound as people say it.
fn bound(seconds: u64) -> String {
    match seconds {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds if seconds > 86_400 => format!("{:.1} d", seconds as f64 / 86_400.0),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds => format!("{} min", seconds / 60),
    }
}

impl StatusView {
    /// The same view with how late blobs came, as the ledger has it.
    #[must_use]
    pub fn with_lateness(mut self, latenesses: &[Latenesses]) -> Self {
        self.lateness = latenesses.iter().map(LatenessView::new).collect();
        self
    }
}
