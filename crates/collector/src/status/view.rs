//! The one type that defines what the status page and `/api/status` show, and how it is put together.

use std::collections::BTreeMap;

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use ledger::{StreamSummary, Summary};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::live::{SinkState, State, TenantState, Trouble};
use super::troubles::troubles;
use super::{
    CatchUpView, CheckinView, ForecastView, LatenessView, Live, QuarantineView, UpdateView,
};

/// Everything that is shown about the collector. Its JSON form is `/api/status`; instants are RFC 3339 text, UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The program's version.
    pub version: String,
    /// When this was put together.
    #[serde(serialize_with = "instant", deserialize_with = "read_instant")]
    pub taken_at: Timestamp,
    /// When the process started. Nothing when it is not this process that collects.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub started_at: Option<Timestamp>,
    /// Seconds since then.
    pub uptime_seconds: Option<u64>,
    /// Whether the pipeline collects. Nothing when it is not this process that would.
    pub is_running: Option<bool>,
    /// What a person should look at, most urgent first. Empty: all is well.
    pub troubles: Vec<String>,
    /// Every tenant that is configured or in the ledger, ordered by id.
    pub tenants: Vec<TenantView>,
    /// Every configured sink, ordered by name.
    pub sinks: Vec<SinkView>,
    /// The last check-in of every log source in Alert Logic, ordered by sink and tenant.
    #[serde(default)]
    pub checkins: Vec<CheckinView>,
    /// Whether the ledger works.
    pub ledger: LedgerView,
    /// How full the quarantine is.
    #[serde(default)]
    pub quarantine: QuarantineView,
    /// Sums over all tenants.
    pub totals: Totals,
    /// How fast it went lately. Nothing when it is not this process that collects.
    pub rates: Option<Rates>,
    /// How late blobs came, by tenant and content type, since the ledger was begun.
    #[serde(default)]
    pub lateness: Vec<LatenessView>,
    /// How the program is kept up to date. Nothing when it is not, or never was looked for.
    #[serde(default)]
    pub update: Option<UpdateView>,
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantView {
    /// Its id.
    pub id: String,
    /// Whether it is being collected.
    pub state: TenantStatus,
    /// Why not, when it is not.
    pub stopped: Option<TroubleView>,
    /// When its credential ends. Nothing when that says not: a secret does not.
    #[serde(
        default,
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub credential_ends_at: Option<Timestamp>,
    /// What will become of what waits. Nothing when it is not this process that collects, or has only begun.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
    /// Its content types, in Microsoft's order.
    pub streams: Vec<StreamView>,
}

/// Whether a tenant is being collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantStatus {
    /// It is.
    Collecting,
    /// It is not, until a person acts or the next try is due.
    Stopped,
    /// It is in the ledger and not in this process's configuration.
    Unknown,
}

/// One content type of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamView {
    /// Microsoft's name of it.
    pub content_type: String,
    /// Blobs that wait for a worker.
    pub pending_count: u64,
    /// Blobs that a worker holds.
    pub leased_count: u64,
    /// Blobs that every sink has.
    pub delivered_count: u64,
    /// Blobs set aside whole.
    pub quarantined_count: u64,
    /// Blobs that were gone before we had them.
    pub expired_count: u64,
    /// Records in the delivered blobs.
    pub record_count: u64,
    /// Bytes of those records.
    pub record_bytes: u64,
    /// Single records in quarantine.
    pub quarantined_record_count: u64,
    /// The end of what was listed without a gap.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub listed_until: Option<Timestamp>,
    /// When the oldest blob that is not settled was made available.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub oldest_pending_at: Option<Timestamp>,
    /// When the first blob that is not settled expires.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub nearest_expiry_at: Option<Timestamp>,
    /// When it was last listed to the end.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub last_poll_at: Option<Timestamp>,
    /// What of the past was to be listed when the process began.
    #[serde(default)]
    pub catch_up: Option<CatchUpView>,
    /// Why it cannot be listed at present.
    pub listing_error: Option<TroubleView>,
    /// What went wrong last with one of its blobs, unless all that were to be tried again are settled.
    pub blob_error: Option<TroubleView>,
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// Whether it takes records.
    pub state: SinkStatus,
    /// Records it took since the process started.
    pub record_count: u64,
    /// Records since then that it was not given because it has them, where `[dedupe]` is on.
    #[serde(default)]
    pub left_out_count: u64,
    /// When it last took any.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub last_delivery_at: Option<Timestamp>,
    /// What went wrong last; while it fails, since when.
    pub last_error: Option<TroubleView>,
}

/// Whether a sink takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkStatus {
    /// It took the last batch.
    Ok,
    /// It did not take the last batch.
    Failing,
    /// Nothing was delivered to it yet.
    Idle,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TroubleView {
    /// What, for a person.
    pub what: String,
    /// When first, without having gone right in between.
    #[serde(serialize_with = "instant", deserialize_with = "read_instant")]
    pub since: Timestamp,
    /// When last.
    #[serde(serialize_with = "instant", deserialize_with = "read_instant")]
    pub at: Timestamp,
    /// When it is tried again. Nothing: when a person has acted.
    #[serde(
        serialize_with = "some_instant",
        deserialize_with = "read_some_instant"
    )]
    pub retry_at: Option<Timestamp>,
}

/// Whether the ledger works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerView {
    /// It answered.
    pub is_answering: bool,
    /// What it said instead.
    pub error: Option<String>,
    /// Why it does not take what the pipeline writes, while it does not.
    pub failing: Option<TroubleView>,
}

/// Sums over all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Blobs that wait for a worker.
    pub pending_count: u64,
    /// Blobs that a worker holds.
    pub leased_count: u64,
    /// Blobs that every sink has.
    pub delivered_count: u64,
    /// Blobs set aside whole.
    pub quarantined_count: u64,
    /// Blobs that were gone before we had them.
    pub expired_count: u64,
    /// Records in the delivered blobs.
    pub record_count: u64,
    /// Bytes of those records.
    pub record_bytes: u64,
    /// Single records in quarantine.
    pub quarantined_record_count: u64,
}

/// Averages over the last five minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Records delivered to every sink.
    pub records_per_second: f64,
    /// Bytes of their text.
    pub bytes_per_second: f64,
}

/// Puts the view together. `live` is there only in the process that collects.
#[must_use]
pub fn view(summary: &Summary, live: Option<&Live>, now: Timestamp) -> StatusView {
    put_together(
        summary,
        LedgerView {
            is_answering: true,
            error: None,
            failing: None,
        },
        live,
        now,
    )
}

/// The view when the ledger does not answer, for `error`: what is known without it.
#[must_use]
pub fn view_without_ledger(error: &str, live: Option<&Live>, now: Timestamp) -> StatusView {
    let ledger = LedgerView {
        is_answering: false,
        error: Some(error.to_owned()),
        failing: None,
    };
    put_together(&Summary::default(), ledger, live, now)
}

fn put_together(
    summary: &Summary,
    ledger: LedgerView,
    live: Option<&Live>,
    now: Timestamp,
) -> StatusView {
    let state = live.map(Live::state);
    let state = state.as_deref();
    let started_at = state.map(|state| state.started_at);
    let mut view = StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at: now,
        started_at,
        uptime_seconds: started_at
            .map(|at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)),
        is_running: state.map(|state| state.is_running),
        troubles: Vec::new(),
        tenants: tenants(summary, state),
        sinks: state
            .map(|state| {
                state
                    .sinks
                    .iter()
                    .map(|(name, sink)| SinkView::new(name.as_str(), sink))
                    .collect()
            })
            .unwrap_or_default(),
        checkins: state
            .map(|state| state.checkins.values().cloned().collect())
            .unwrap_or_default(),
        ledger: LedgerView {
            failing: state
                .and_then(|state| state.ledger_failing.as_ref())
                .map(TroubleView::new),
            ..ledger
        },
        quarantine: QuarantineView::new(summary, state),
        totals: Totals::default(),
        rates: state.map(|state| {
            let rate = state.rate(now);
            Rates {
                records_per_second: rate.records_per_second,
                bytes_per_second: rate.bytes_per_second,
            }
        }),
        lateness: Vec::new(),
        update: None,
    };
    view.totals = Totals::of(&view.tenants);
    view.troubles = troubles(&view);
    view
}

fn tenants(summary: &Summary, state: Option<&State>) -> Vec<TenantView> {
    let mut streams: BTreeMap<TenantId, BTreeMap<ContentType, Option<&StreamSummary>>> =
        BTreeMap::new();
    for stream in &summary.streams {
        streams
            .entry(stream.tenant)
            .or_default()
            .insert(stream.content_type, Some(stream));
    }
    for (tenant, tenant_state) in state.iter().flat_map(|state| &state.tenants) {
        let tenant = streams.entry(*tenant).or_default();
        for content_type in tenant_state.streams.keys() {
            tenant.entry(*content_type).or_default();
        }
    }
    streams
        .into_iter()
        .map(|(tenant, streams)| {
            let tenant_state = state.and_then(|state| state.tenants.get(&tenant));
            TenantView::new(tenant, tenant_state, &streams)
        })
        .collect()
}

impl TenantView {
    fn new(
        id: TenantId,
        state: Option<&TenantState>,
        streams: &BTreeMap<ContentType, Option<&StreamSummary>>,
    ) -> Self {
        let stopped = state
            .and_then(|state| state.stopped.as_deref())
            .map(TroubleView::new);
        Self {
            id: id.to_string(),
            state: match (state, &stopped) {
                (None, _) => TenantStatus::Unknown,
                (Some(_), None) => TenantStatus::Collecting,
                (Some(_), Some(_)) => TenantStatus::Stopped,
            },
            stopped,
            credential_ends_at: state.and_then(|state| state.credential_ends_at),
            forecast: state.and_then(|state| state.forecast.clone()),
            streams: streams
                .iter()
                .map(|(content_type, summary)| StreamView::new(*content_type, *summary, state))
                .collect(),
        }
    }
}

impl StreamView {
    fn new(
        content_type: ContentType,
        summary: Option<&StreamSummary>,
        state: Option<&TenantState>,
    ) -> Self {
        let state = state.and_then(|state| state.streams.get(&content_type));
        let has_unsettled =
            summary.is_some_and(|summary| summary.pending_count + summary.leased_count > 0);
        let blob_trouble = state.and_then(|state| state.blob_trouble.as_deref());
        Self {
            content_type: content_type.as_str().to_owned(),
            pending_count: summary.map_or(0, |summary| summary.pending_count),
            leased_count: summary.map_or(0, |summary| summary.leased_count),
            delivered_count: summary.map_or(0, |summary| summary.delivered_count),
            quarantined_count: summary.map_or(0, |summary| summary.quarantined_count),
            expired_count: summary.map_or(0, |summary| summary.expired_count),
            record_count: summary.map_or(0, |summary| summary.delivered_record_count),
            record_bytes: summary.map_or(0, |summary| summary.delivered_byte_count),
            quarantined_record_count: summary.map_or(0, |summary| summary.quarantined_record_count),
            listed_until: summary.and_then(|summary| summary.listed_until),
            oldest_pending_at: summary.and_then(|summary| summary.oldest_pending_created_at),
            nearest_expiry_at: summary.and_then(|summary| summary.nearest_pending_expires_at),
            last_poll_at: state.and_then(|state| state.last_poll_at),
            catch_up: state.and_then(|state| state.catch_up.as_deref().cloned()),
            listing_error: state
                .and_then(|state| state.poll_trouble.as_deref())
                .map(TroubleView::new),
            // A blob that was to be tried again went well in the end, when none waits any more.
            blob_error: blob_trouble
                .filter(|trouble| trouble.retry_at.is_none() || has_unsettled)
                .map(TroubleView::new),
        }
    }
}

impl SinkView {
    fn new(name: &str, state: &SinkState) -> Self {
        Self {
            name: name.to_owned(),
            state: match (&state.failing, state.last_delivery_at) {
                (Some(_), _) => SinkStatus::Failing,
                (None, Some(_)) => SinkStatus::Ok,
                (None, None) => SinkStatus::Idle,
            },
            record_count: state.record_count,
            left_out_count: state.left_out_count,
            last_delivery_at: state.last_delivery_at,
            last_error: state.last_trouble.as_ref().map(TroubleView::new),
        }
    }
}

impl TroubleView {
    fn new(trouble: &Trouble) -> Self {
        Self {
            what: trouble.what.clone(),
            since: trouble.since,
            at: trouble.at,
            retry_at: trouble.retry_at,
        }
    }
}

impl Totals {
    fn of(tenants: &[TenantView]) -> Self {
        tenants
            .iter()
            .flat_map(|tenant| &tenant.streams)
            .fold(Self::default(), |sum, stream| Self {
                pending_count: sum.pending_count + stream.pending_count,
                leased_count: sum.leased_count + stream.leased_count,
                delivered_count: sum.delivered_count + stream.delivered_count,
                quarantined_count: sum.quarantined_count + stream.quarantined_count,
                expired_count: sum.expired_count + stream.expired_count,
                record_count: sum.record_count + stream.record_count,
                record_bytes: sum.record_bytes + stream.record_bytes,
                quarantined_record_count: sum.quarantined_record_count
                    + stream.quarantined_record_count,
            })
    }
}

pub(super) fn instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

pub(super) fn some_instant<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

pub(super) fn read_instant<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

pub(super) fn read_some_instant<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| text.parse().map_err(de::Error::custom))
        .transpose()
}
