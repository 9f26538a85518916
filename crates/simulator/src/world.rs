//! Everything the services share: the options, the clock, the records, the state of each service and what was delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::alertlogic::AlertLogic;
use crate::azure::Azure;
use crate::delivery::Deliveries;
use crate::faults::requests::Weather;
use crate::faults::storm::SinkKind;
use crate::faults::{FaultPlan, Storm, content};
use crate::hec::Hec;
use crate::measured::Measured;
use crate::microsoft::Microsoft;
use crate::microsoft::feed::{Prepared, prepare};
use crate::microsoft::records::Records;
use crate::plan::{Blob, Fate, Plan, PlanInput};
use crate::random::Random;
use crate::requests::RequestLog;
use crate::transcript::Transcript;
use crate::{
    ContentType, Error, Impossible, Options, Progress, SimClock, SimulatedTenant,
    UndecodableRecord, Verdict,
};

/// The origins of the services, `http(s)://host:port`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    pub(crate) microsoft: String,
    pub(crate) alertlogic: String,
    pub(crate) hec: String,
    pub(crate) stranger: String,
    pub(crate) resource_manager: String,
    pub(crate) identity: String,
}

/// What the services share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) origins: Origins,
    pub(crate) clock: SimClock,
    pub(crate) tenants: Vec<SimulatedTenant>,
    pub(crate) plan: Plan,
    pub(crate) records: Records,
    /// Records that nobody can be given, whatever the time.
    impossible_total: u64,
    /// All blobs or none.
    pub(crate) prepared: Vec<Prepared>,
    pub(crate) faults: FaultPlan,
    pub(crate) weather: Weather,
    pub(crate) requests: RequestLog,
    pub(crate) transcript: Transcript,
    pub(crate) counters: Counters,
    pub(crate) measured: Measured,
    pub(crate) microsoft: Microsoft,
    pub(crate) alertlogic: AlertLogic,
    pub(crate) hec: Hec,
    pub(crate) azure: Azure,
    pub(crate) at_alertlogic: Deliveries,
    pub(crate) at_hec: Deliveries,
}

/// What was served and taken, for [`Progress`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_listed: AtomicU64,
    pub(crate) records_fetched: AtomicU64,
    pub(crate) blobs_listed: AtomicU64,
    pub(crate) blobs_fetched: AtomicU64,
    pub(crate) blob_requests: AtomicU64,
    pub(crate) blob_bytes: AtomicU64,
    pub(crate) ingest_posts: AtomicU64,
    pub(crate) ingest_bytes: AtomicU64,
    pub(crate) ingest_connections: Arc<AtomicU64>,
    pub(crate) hec_connections: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(
        options: Options,
        origins: Origins,
        client: reqwest::Client,
    ) -> Result<Self, Error> {
        check(&options)?;
        let clock = SimClock::new(options.start_at);
        let tenants = tenants(options.seed, options.tenants);
        let storm = options.storm.clone().unwrap_or_default();
        let (mut records, feed_counts) = match &options.corpus {
            Some(corpus) => Records::from_corpus(
                options.seed,
                corpus,
                &options.content_types,
                options.tenants,
                options.records,
            )?,
            None => {
                let counts = share_records(&options);
                (Records::generated(options.seed, &tenants, &counts), counts)
            }
        };
        let huge_blobs = content::huge_blobs(&storm);
        let mut plan = Plan::new(&PlanInput {
            seed: options.seed,
            feed_counts,
            records_per_blob: u32::try_from(options.records_per_blob).unwrap_or(u32::MAX),
            start_ms: clock.now().as_millisecond(),
            backlog_ms: i64::try_from(options.backlog.as_millis())
                .unwrap_or(i64::MAX / 4)
                .min(i64::MAX / 4),
            live_records_per_sec: options.live_records_per_sec,
            backlog_records: options.backlog_records,
            expiration_days: options.expiration_days,
            huge_blobs,
        });
        let odd = content::apply(&storm, options.seed, &mut plan);
        records.set_odd(odd, &plan);
        let total = plan.blobs.last().map_or(0, |blob| blob.first + blob.count);
        let impossible_total = impossible(&plan, &records, i64::MAX).record_count;
        let mut world = Self {
            microsoft: Microsoft::new(&options, client)?,
            alertlogic: AlertLogic::new(&options),
            hec: Hec::default(),
            azure: Azure::new(&options),
            faults: FaultPlan::new(options.latency),
            weather: Weather::new(&storm, options.seed, plan.start_ms),
            requests: RequestLog::default(),
            transcript: Transcript::default(),
            counters: Counters::default(),
            measured: Measured::default(),
            at_alertlogic: Deliveries::new("alertlogic", Some(SinkKind::AlertLogic), total),
            at_hec: Deliveries::new("splunk_hec", Some(SinkKind::Hec), total),
            options,
            origins,
            clock,
            tenants,
            plan,
            records,
            impossible_total,
            prepared: Vec::new(),
        };
        // A storm's blobs are made when they are asked for: some would not fit into memory.
        let is_calm = world.options.storm.is_none();
        if world.options.prepare_blobs && world.options.gzip && is_calm {
            world.prepared = world.prepare_blobs();
        }
        Ok(world)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// The services' own idea of the time, which a storm may put wrong.
    pub(crate) fn service_now_ms(&self) -> i64 {
        let now_ms = self.now_ms();
        now_ms.saturating_add(self.weather.skew_ms(now_ms))
    }

    pub(crate) fn records_total(&self) -> u32 {
        self.plan
            .blobs
            .last()
            .map_or(0, |blob| blob.first + blob.count)
    }

    /// A blob's body: the JSON array of its records.
    pub(crate) fn blob_body(&self, blob: &Blob) -> Bytes {
        let mut body = Vec::with_capacity(blob.count as usize * 1536);
        body.push(b'[');
        for record in blob.first..blob.first + blob.count {
            if record > blob.first {
                body.push(b',');
            }
            self.records.append(blob, record, &mut body);
        }
        for &record in &blob.copies {
            if let Some(own) = self.plan.blob_of(record) {
                body.push(b',');
                self.records.append(own, record, &mut body);
            }
        }
        body.push(b']');
        body.into()
    }

    /// Compresses all blobs, on two threads: more would not help on the machines this is for.
    fn prepare_blobs(&self) -> Vec<Prepared> {
        let (first, second) = self.plan.blobs.split_at(self.plan.blobs.len() / 2);
        let prepare_all = |blobs: &[Blob]| -> Vec<Prepared> {
            blobs
                .iter()
                .map(|blob| prepare(self.blob_body(blob)))
                .collect()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| prepare_all(second));
            let mut prepared = prepare_all(first);
            prepared.extend(
                other
                    .join()
                    .expect("compressing into a buffer of the bound's length cannot fail"),
            );
            prepared
        })
    }

    pub(crate) fn progress(&self) -> Progress {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            records_total: u64::from(self.records_total()),
            records_impossible: self.impossible_total,
            records_published: self.plan.records_published(self.now_ms()),
            records_listed: get(&self.counters.records_listed),
            records_fetched: get(&self.counters.records_fetched),
            records_acknowledged: self.at_alertlogic.distinct(),
            records_at_hec: self.at_hec.distinct(),
            blobs_total: self.plan.blobs.len() as u64,
            blobs_listed: get(&self.counters.blobs_listed),
            blobs_fetched: get(&self.counters.blobs_fetched),
            blob_requests: get(&self.counters.blob_requests),
            blob_bytes: get(&self.counters.blob_bytes),
            ingest_posts: get(&self.counters.ingest_posts),
            ingest_bytes: get(&self.counters.ingest_bytes),
            ingest_connections: get(&self.counters.ingest_connections),
            hec_connections: get(&self.counters.hec_connections),
        }
    }

    /// Measures how long blobs took whose last records these are. Only of those that appear while the simulator runs:
    /// what is there from the start waits its turn, which says nothing.
    pub(crate) fn note_taken(&self, sink: &'static str, records: &[u32]) {
        if self.options.live_records_per_sec.is_none() {
            return;
        }
        let now_ms = self.now_ms();
        for blob in records
            .iter()
            .filter_map(|&record| self.plan.blob_of(record))
        {
            self.measured.note_taken(sink, blob, now_ms);
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let sinks = [&self.at_alertlogic, &self.at_hec];
        let now_ms = self.now_ms();
        let used = sinks.into_iter().filter(|sink| sink.is_used());
        Verdict {
            sinks: used
                .map(|sink| sink.verdict(&self.plan, &self.records, now_ms))
                .collect(),
            impossible: impossible(&self.plan, &self.records, now_ms),
        }
    }
}

/// What the storm made impossible of that which is due by `now_ms`.
fn impossible(plan: &Plan, records: &Records, now_ms: i64) -> Impossible {
    let mut impossible = Impossible::default();
    for (at, blob) in plan.blobs.iter().enumerate() {
        if !blob.is_due(now_ms) {
            continue;
        }
        let content_id = || plan.content_id(at).unwrap_or_default();
        match blob.fate {
            Fate::Expired => impossible.expired_blobs.push(content_id()),
            Fate::Undecodable => impossible.undecodable_blobs.push(content_id()),
            Fate::Good => {
                let all = blob.first..blob.first + blob.count;
                for record in all.filter(|&record| records.is_undecodable(record)) {
                    impossible.undecodable_records.push(UndecodableRecord {
                        content_id: content_id(),
                        index: record - blob.first,
                    });
                    impossible.record_count += 1;
                }
                continue;
            }
        }
        impossible.record_count += u64::from(blob.count);
    }
    impossible
}

fn check(options: &Options) -> Result<(), Error> {
    let refuse = |name, reason: &str| {
        Err(Error::Option {
            name,
            reason: reason.to_owned(),
        })
    };
    if !(1..=10_000).contains(&options.tenants) {
        return refuse("tenants", "not from 1 to 10,000");
    }
    if options.content_types.is_empty() {
        return refuse("content_types", "empty");
    }
    if options.records_per_blob == 0 || options.records_per_blob > 1_000_000 {
        return refuse("records_per_blob", "not from 1 to 1,000,000");
    }
    if options.page_size == 0 {
        return refuse("page_size", "0");
    }
    if u32::try_from(options.records).is_err() {
        return refuse("records", "more than 4,294,967,295");
    }
    if options
        .live_records_per_sec
        .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
    {
        return refuse("live_records_per_sec", "not a number above 0");
    }
    if options.backlog > Duration::from_secs(7 * 86_400) {
        return refuse(
            "backlog",
            "more than 7 days: older content cannot be listed",
        );
    }
    let has_content_faults = |storm: &Storm| storm.changes_records();
    if options.corpus.is_some() && options.storm.as_ref().is_some_and(has_content_faults) {
        return refuse(
            "storm",
            "has faults of records, which a corpus serves byte for byte",
        );
    }
    if options.requests_per_minute == Some(0) {
        return refuse("requests_per_minute", "0");
    }
    Ok(())
}

fn tenants(seed: u64, count: usize) -> Vec<SimulatedTenant> {
    let mut random = Random::new(seed, 0x7e_4a_47);
    let tenant = |_| SimulatedTenant {
        tenant_id: random.guid(),
        client_id: random.guid(),
        // With characters that must be encoded in a form, as real secrets have them.
        client_secret: format!("{}~+/&={}", random.hex(12), random.hex(18)),
    };
    (0..count).map(tenant).collect()
}

/// How the records fall to tenants (equally) and content types (as in a tenant that uses mail the most).
fn share_records(options: &Options) -> Vec<u32> {
    let weight = |content_type| match content_type {
        ContentType::AzureActiveDirectory => 25,
        ContentType::Exchange => 40,
        ContentType::SharePoint => 20,
        ContentType::General => 12,
        ContentType::Dlp => 3,
    };
    let mut chosen: Vec<ContentType> = ContentType::ALL
        .into_iter()
        .filter(|kind| options.content_types.contains(kind))
        .collect();
    // The heaviest comes last: the last one takes what rounding leaves over.
    chosen.sort_by_key(|&kind| weight(kind));
    let weights: u64 = chosen.iter().map(|&kind| weight(kind)).sum();
    let tenants = options.tenants as u64;
    let mut counts = vec![0; options.tenants * ContentType::ALL.len()];
    for tenant in 0..options.tenants {
        let of_tenant =
            options.records / tenants + u64::from((tenant as u64) < options.records % tenants);
        let mut left = of_tenant;
        for (at, &kind) in chosen.iter().enumerate() {
            let share = if at + 1 == chosen.len() {
                left
            } else {
                (of_tenant * weight(kind) / weights).min(left)
            };
            left -= share;
            if let Some(count) = counts.get_mut(crate::plan::feed_of(tenant, kind)) {
                *count = u32::try_from(share).unwrap_or(u32::MAX);
            }
        }
    }
    counts
}
