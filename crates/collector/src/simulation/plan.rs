//! What one seed means: the tenants and their blobs, the sinks, the settings, and how rough it gets.

use std::collections::BTreeSet;
use std::time::Duration;

use activity_api::{ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};

use super::chance::Chance;
use crate::testing::{other_tenant, tenant};

/// How much text a part holds in a simulation: a few records, so that blobs of a few kilobytes have many parts.
pub(crate) const PART_BYTES: usize = 1024;

/// When every simulation begins: in the middle of an hour.
pub(crate) fn beginning() -> Timestamp {
    "2026-07-16T09:20:00Z".parse().unwrap()
}

/// All that a seed decides before anything runs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) content_types: Vec<ContentType>,
    pub(crate) blobs: Vec<PlannedBlob>,
    pub(crate) sinks: Vec<PlannedSink>,
    pub(crate) lives: Vec<PlannedLife>,
    pub(crate) roughness: Roughness,
    pub(crate) is_subscribed_at_first: bool,
    pub(crate) page_size: usize,
    pub(crate) requests_per_minute: u32,
    pub(crate) poll_interval: Duration,
    pub(crate) first_lookback: Duration,
    pub(crate) lease: Duration,
    pub(crate) max_concurrent: usize,
    pub(crate) max_memory_bytes: usize,
    /// How long after the storm everything must have ended.
    pub(crate) patience: Duration,
}

/// A blob as Microsoft has it.
#[derive(Debug)]
pub(crate) struct PlannedBlob {
    pub(crate) tenant: TenantId,
    pub(crate) content_type: ContentType,
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    /// When it is first listed: blobs come late.
    pub(crate) appears_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) elements: Vec<Element>,
    pub(crate) is_gzip: bool,
    /// Microsoft itself has only a torn array of it.
    pub(crate) is_torn: bool,
    pub(crate) notifications: Vec<PlannedNotification>,
}

#[derive(Debug, Clone)]
pub(crate) struct PlannedNotification {
    pub(crate) at: Timestamp,
    pub(crate) suffix: &'static str,
}

/// One element of a blob's array.
#[derive(Debug)]
pub(crate) enum Element {
    Record {
        text: String,
        /// The sinks, by index, that can never take it.
        refused_by: BTreeSet<usize>,
    },
    NoRecord(&'static str),
}

#[derive(Debug)]
pub(crate) struct PlannedSink {
    pub(crate) name: &'static str,
    pub(crate) has_position: bool,
    pub(crate) batch_bytes: usize,
    pub(crate) max_in_flight: usize,
    /// How long each batch takes it.
    pub(crate) takes: Duration,
    /// When it is down.
    pub(crate) outage: Option<(Timestamp, Timestamp)>,
}

/// One life of the process.
#[derive(Debug, Clone)]
pub(crate) struct PlannedLife {
    pub(crate) host: Host,
    /// It dies after so many steps, if it lives to see them.
    pub(crate) dies_in: Option<usize>,
    /// It is told to stop after this.
    pub(crate) stops_after: Duration,
    /// How long nothing runs afterwards.
    pub(crate) down_for: Duration,
}

/// What drives the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The loop of the long-running host.
    Loop,
    /// One pass, a pause, and the next.
    Passes(Duration),
    /// Blobs are asked for by name while they are listed, as in a function app.
    Wanted,
}

/// How many of a hundred calls go wrong, by kind, and how long things take.
#[derive(Debug, Default)]
pub(crate) struct Roughness {
    pub(crate) faults: BTreeSet<Fault>,
    pub(crate) microsoft_percent: usize,
    pub(crate) ledger_percent: usize,
    pub(crate) sink_percent: usize,
    /// Of a hundred steps, how many take time at all, and how many take long.
    pub(crate) slow_percent: usize,
    pub(crate) very_slow_percent: usize,
}

/// What can go wrong. A seed has some of them: with all at once, each hides the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Throttled,
    ServerError,
    TokenRefused,
    NoConnection,
    Reset,
    Truncated,
    Garbage,
    Missing,
    PageTokenRefused,
    UnusableEntry,
    RepeatedPage,
    EmptyPage,
    NoToken,
    LedgerFails,
    LedgerFailsButWrote,
    LedgerFull,
    SlowLease,
    SinkDown,
    SinkTakesAndFails,
    SinkTakesSome,
    SinkSlow,
    SinkLocked,
    SinkPanics,
}

impl Fault {
    pub(crate) const ALL: [Self; 23] = [
        Self::Throttled,
        Self::ServerError,
        Self::TokenRefused,
        Self::NoConnection,
        Self::Reset,
        Self::Truncated,
        Self::Garbage,
        Self::Missing,
        Self::PageTokenRefused,
        Self::UnusableEntry,
        Self::RepeatedPage,
        Self::EmptyPage,
        Self::NoToken,
        Self::LedgerFails,
        Self::LedgerFailsButWrote,
        Self::LedgerFull,
        Self::SlowLease,
        Self::SinkDown,
        Self::SinkTakesAndFails,
        Self::SinkTakesSome,
        Self::SinkSlow,
        Self::SinkLocked,
        Self::SinkPanics,
    ];
}

impl PlannedBlob {
    /// The text of record `index`, numbered as sinks see them.
    pub(crate) fn record(&self, index: usize) -> Option<&str> {
        self.records().nth(index).map(|(text, _)| text)
    }

    /// Every record, and which sinks refuse it.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&str, &BTreeSet<usize>)> {
        self.elements.iter().filter_map(|element| match element {
            Element::Record { text, refused_by } => Some((text.as_str(), refused_by)),
            Element::NoRecord(_) => None,
        })
    }

    /// The places in the array of what is no record.
    pub(crate) fn no_records(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.elements
            .iter()
            .enumerate()
            .filter_map(|(index, element)| match element {
                Element::NoRecord(text) => Some((index, *text)),
                Element::Record { .. } => None,
            })
    }

    /// Its body, not compressed.
    pub(crate) fn body(&self) -> String {
        let texts: Vec<_> = self
            .elements
            .iter()
            .map(|element| match element {
                Element::Record { text, .. } => text.as_str(),
                Element::NoRecord(text) => text,
            })
            .collect();
        let mut body = format!("[{}]", texts.join(","));
        if self.is_torn {
            body.truncate(body.len().saturating_sub(7));
        }
        body
    }
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let chance = &mut Chance::apart(seed, 1);
        let tenants = match chance.percent(30) {
            true => vec![tenant(), other_tenant()],
            false => vec![tenant()],
        };
        let content_types = match chance.percent(40) {
            true => vec![ContentType::Exchange, ContentType::General],
            false => vec![ContentType::Exchange],
        };
        let sinks = plan_sinks(chance);
        let first_lookback = match chance.below(200) {
            0..120 => Duration::from_secs(3600),
            120..199 => chance.secs(3_600..6 * 3_600),
            _ => Duration::from_secs(167 * 3_600),
        };
        let blob_count = chance.within(2..15);
        let blobs: Vec<_> = (0..blob_count)
            .map(|index| {
                let tenant = chance.pick(&tenants);
                let content_type = chance.pick(&content_types);
                plan_blob(
                    chance,
                    index,
                    (tenant, content_type),
                    first_lookback,
                    &sinks,
                )
            })
            .collect();
        let has_torn = blobs.iter().any(|blob| blob.is_torn);
        let roughness = plan_roughness(chance);
        let lease = plan_lease(chance, &roughness);
        Self {
            seed,
            tenants,
            content_types,
            lives: plan_lives(chance),
            roughness,
            is_subscribed_at_first: chance.percent(80),
            page_size: chance.within(1..6),
            requests_per_minute: chance.pick(&[2_000, 2_000, 2_000, 300, 90]),
            poll_interval: Duration::from_secs(chance.pick(&[60, 60, 20])),
            first_lookback,
            lease,
            max_concurrent: chance.within(1..6),
            max_memory_bytes: chance.within(12..80) * 1024,
            patience: Duration::from_secs(if has_torn { 16 } else { 12 } * 3_600),
            blobs,
            sinks,
        }
    }
}

fn plan_sinks(chance: &mut Chance) -> Vec<PlannedSink> {
    let count = chance.pick(&[1, 2, 2, 3]);
    let first = chance.below(3);
    (0..count)
        .map(|index| {
            let kind = (first + index) % 3;
            let outage = chance.percent(20).then(|| {
                let from = beginning() + chance.secs(0..600);
                (from, from + chance.secs(20..2_400))
            });
            PlannedSink {
                name: ["file", "splunk", "alertlogic"][kind],
                has_position: kind == 0,
                batch_bytes: chance.pick(&[1, 2_000, 20_000]),
                max_in_flight: if kind == 0 { 1 } else { chance.within(1..4) },
                takes: Duration::ZERO,
                outage,
            }
        })
        .collect()
}

fn plan_blob(
    chance: &mut Chance,
    index: usize,
    (tenant, content_type): (TenantId, ContentType),
    first_lookback: Duration,
    sinks: &[PlannedSink],
) -> PlannedBlob {
    let now = beginning();
    let back = first_lookback
        .min(Duration::from_secs(24 * 3_600))
        .as_secs() as usize;
    let created_at = if chance.percent(60) {
        now - SignedDuration::from_secs(chance.within(60..back - 60) as i64)
    } else {
        now + chance.secs(0..1_500)
    };
    let late = match chance.below(100) {
        0..70 => chance.secs(0..90),
        70..99 => chance.secs(90..2_900),
        _ => chance.secs(2_900..5 * 3_600),
    };
    let expires_at = if chance.percent(8) {
        created_at.max(now) + chance.secs(120..2_400)
    } else {
        created_at + Duration::from_secs(7 * 24 * 3_600)
    };
    let stem = format!("2026{index:04}$2026{index:04}$audit${content_type}");
    let notifications = if chance.percent(40) {
        let first = created_at.max(now);
        (0..chance.within(1..4))
            .map(|_| PlannedNotification {
                at: first + chance.secs(1..900),
                suffix: chance.pick(&["", "$IsFromNotification", "$na0018"]),
            })
            .collect()
    } else {
        Vec::new()
    };
    PlannedBlob {
        tenant,
        content_type,
        id: format!("{stem}$na0018"),
        created_at,
        appears_at: created_at + late,
        expires_at,
        elements: plan_elements(chance, index, sinks),
        is_gzip: chance.percent(30),
        is_torn: chance.percent(4),
        notifications,
    }
}

fn plan_elements(chance: &mut Chance, blob: usize, sinks: &[PlannedSink]) -> Vec<Element> {
    let count = chance.pick(&[0, 1, 3, 8, 20, 40]);
    let has_bad_ones = chance.percent(20);
    (0..count)
        .map(|index| {
            if has_bad_ones && chance.percent(8) {
                return Element::NoRecord(chance.pick(&["17", "\"text\"", "[1,2]", "{\"a\":tru}"]));
            }
            let padding = match chance.below(40) {
                0 => 3_000,
                below => below * 8,
            };
            let refused_by = (0..sinks.len())
                .filter(|_| has_bad_ones && chance.percent(4))
                // One with a position refuses none: see `Receipt`.
                .filter(|sink| !sinks[*sink].has_position)
                .collect();
            Element::Record {
                text: format!(
                    r#"{{"Id":"b{blob}-r{index}","RecordType":15,"Pad":"{}"}}"#,
                    "x".repeat(padding)
                ),
                refused_by,
            }
        })
        .collect()
}

fn plan_lives(chance: &mut Chance) -> Vec<PlannedLife> {
    (0..chance.within(1..7))
        .map(|_| {
            let host = match chance.below(10) {
                0..6 => Host::Loop,
                6..8 => Host::Passes(chance.secs(5..300)),
                _ => Host::Wanted,
            };
            let dies_in = match chance.below(10) {
                0..3 => Some(chance.within(1..40)),
                3..6 => Some(chance.within(20..200)),
                6..9 => Some(chance.within(100..900)),
                _ => None,
            };
            PlannedLife {
                host,
                dies_in,
                stops_after: chance.secs(10..120),
                down_for: match chance.below(10) {
                    0..7 => chance.secs(0..15),
                    7..9 => chance.secs(15..600),
                    _ => chance.secs(600..7_200),
                },
            }
        })
        .collect()
}

/// How long a lease lasts: longer than what is slow takes, as the settings ask for.
fn plan_lease(chance: &mut Chance, roughness: &Roughness) -> Duration {
    let choices = match roughness.very_slow_percent {
        0 => [600, 90, 30],
        _ => [600, 600, 400],
    };
    Duration::from_secs(chance.pick(&choices))
}

fn plan_roughness(chance: &mut Chance) -> Roughness {
    if chance.percent(5) {
        return Roughness::default();
    }
    let faults = Fault::ALL
        .into_iter()
        .filter(|_| chance.percent(35))
        .collect();
    Roughness {
        faults,
        microsoft_percent: chance.pick(&[0, 5, 15, 35]),
        ledger_percent: chance.pick(&[0, 0, 2, 10]),
        sink_percent: chance.pick(&[0, 5, 20, 50]),
        slow_percent: chance.pick(&[0, 20, 60]),
        very_slow_percent: chance.pick(&[0, 0, 1, 3]),
    }
}
