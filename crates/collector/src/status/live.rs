//! What the running pipeline knows about itself and the ledger does not: who fails at present, since when and why,
//! and how fast it goes. Lost with the process, which loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use activity_api::{ContentType, TenantId};
use jiff::{SignedDuration, Timestamp};
use ledger::SinkName;

use super::{CatchUpView, CheckinView, ForecastView};
use crate::quarantine::Level;

/// Longest text kept of any one failure, in bytes. The cause may quote a server.
const MAX_WHAT_BYTES: usize = 500;
/// How long one step of the rate counts. Short enough for a lively page, long enough for few steps.
const STEP: SignedDuration = SignedDuration::from_secs(10);
/// Steps that a rate is taken over: five minutes.
const MAX_STEPS: usize = 30;

/// The present state of the pipeline. A copy is a handle to the same state; every method takes its lock for a few
/// instructions only, so that it may be called from anywhere.
#[derive(Debug, Clone)]
pub struct Live(Arc<Mutex<State>>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) started_at: Timestamp,
    pub(super) is_running: bool,
    pub(super) ledger_failing: Option<Trouble>,
    pub(super) quarantine_max_bytes: Option<u64>,
    pub(super) quarantine_level: Level,
    pub(super) tenants: BTreeMap<TenantId, TenantState>,
    pub(super) sinks: BTreeMap<SinkName, SinkState>,
    /// By sink and tenant.
    pub(super) checkins: BTreeMap<(String, String), CheckinView>,
    steps: VecDeque<Step>,
}

// What is there now and then is boxed: there may be ten thousand tenants with nothing to tell.
#[derive(Debug, Default)]
pub(super) struct TenantState {
    pub(super) stopped: Option<Box<Trouble>>,
    pub(super) credential_ends_at: Option<Timestamp>,
    pub(super) forecast: Option<ForecastView>,
    pub(super) streams: BTreeMap<ContentType, StreamState>,
}

#[derive(Debug, Default)]
pub(super) struct StreamState {
    pub(super) last_poll_at: Option<Timestamp>,
    pub(super) catch_up: Option<Box<CatchUpView>>,
    pub(super) poll_trouble: Option<Box<Trouble>>,
    pub(super) blob_trouble: Option<Box<Trouble>>,
}

#[derive(Debug, Default)]
pub(super) struct SinkState {
    pub(super) record_count: u64,
    pub(super) left_out_count: u64,
    pub(super) last_delivery_at: Option<Timestamp>,
    pub(super) failing: Option<Trouble>,
    pub(super) last_trouble: Option<Trouble>,
}

/// Something that went wrong.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) what: String,
    /// When it went wrong first, without having gone right in between.
    pub(super) since: Timestamp,
    /// When it went wrong last.
    pub(super) at: Timestamp,
    pub(super) retry_at: Option<Timestamp>,
}

/// What was delivered in one stretch of time.
#[derive(Debug)]
struct Step {
    start: Timestamp,
    record_count: u64,
    byte_count: u64,
}

/// How fast records were delivered lately, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) records_per_second: f64,
    pub(super) bytes_per_second: f64,
}

impl Live {
    /// The state at the start of a process: nothing has been tried and nothing fails.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State {
            started_at,
            is_running: false,
            ledger_failing: None,
            quarantine_max_bytes: None,
            quarantine_level: Level::Fine,
            tenants: BTreeMap::new(),
            sinks: BTreeMap::new(),
            checkins: BTreeMap::new(),
            steps: VecDeque::new(),
        })))
    }

    /// Makes a configured tenant and its content types show up before anything happens to them.
    pub fn add_tenant(&self, tenant: TenantId, content_types: &[ContentType]) {
        let mut state = self.state();
        let tenant = state.tenants.entry(tenant).or_default();
        for content_type in content_types {
            tenant.streams.entry(*content_type).or_default();
        }
    }

    /// When the tenant's credential ends, where it says so itself.
    pub fn credential_ends(&self, tenant: TenantId, at: Timestamp) {
        let mut state = self.state();
        state.tenants.entry(tenant).or_default().credential_ends_at = Some(at);
    }

    /// Makes a configured sink show up before anything is delivered to it.
    pub fn add_sink(&self, sink: &SinkName) {
        self.state().sinks.entry(sink.clone()).or_default();
    }

    /// The pipeline collects. Until this was called, `/readyz` says that we are not ready.
    pub fn running(&self) {
        self.state().is_running = true;
    }

    /// The pipeline is about to end; `/readyz` says so.
    pub fn stopping(&self) {
        self.state().is_running = false;
    }

    /// Whether the pipeline collects.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state().is_running
    }

    /// When the process started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.state().started_at
    }

    /// The ledger did not take a write, or did not answer the pipeline. `what` is for a person and holds no secret.
    pub fn ledger_failed(&self, what: &str, now: Timestamp) {
        let mut state = self.state();
        state.ledger_failing = Some(Trouble::again(
            state.ledger_failing.as_ref(),
            what,
            None,
            now,
        ));
    }

    /// The ledger took a write. Not to be said of a call that may have had nothing to write.
    pub fn ledger_ok(&self) {
        self.state().ledger_failing = None;
    }

    /// How much may be in quarantine.
    pub fn set_quarantine_bound(&self, max_bytes: u64) {
        self.state().quarantine_max_bytes = Some(max_bytes);
    }

    /// How full the quarantine is.
    pub fn set_quarantine_level(&self, level: Level) {
        self.state().quarantine_level = level;
    }

    /// Whether the last that was heard of the ledger is that it fails.
    #[must_use]
    pub fn is_ledger_failing(&self) -> bool {
        self.state().ledger_failing.is_some()
    }

    /// What the ledger fails of, while it does.
    #[must_use]
    pub fn ledger_failure(&self) -> Option<String> {
        self.state()
            .ledger_failing
            .as_ref()
            .map(|trouble| trouble.what.clone())
    }

    /// The content type was listed to the end. A listing that failed before is forgotten.
    pub fn polled(&self, tenant: TenantId, content_type: ContentType, now: Timestamp) {
        self.stream(tenant, content_type, |stream| {
            stream.last_poll_at = Some(now);
            stream.poll_trouble = None;
        });
    }

    /// Listing the content type failed. `what` is for a person and holds no secret.
    pub fn poll_failed(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        what: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.stream(tenant, content_type, |stream| {
            let before = stream.poll_trouble.as_deref();
            stream.poll_trouble = Some(Trouble::again(before, what, retry_at, now).into());
        });
    }

    /// A blob could not be fetched, or (without `retry_at`) never will be. The last such event stays on view: other
    /// blobs going well does not mend this one.
    pub fn blob_failed(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        what: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.stream(tenant, content_type, |stream| {
            stream.blob_trouble = Some(Trouble::again(None, what, retry_at, now).into());
        });
    }

    /// Nothing of this tenant can be collected until `retry_at`, or until a person acts. `reason` tells that person
    /// how to mend it and holds no secret.
    pub fn tenant_stopped(
        &self,
        tenant: TenantId,
        reason: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let mut state = self.state();
        let tenant = state.tenants.entry(tenant).or_default();
        let before = tenant.stopped.as_deref();
        tenant.stopped = Some(Trouble::again(before, reason, retry_at, now).into());
    }

    /// The tenant answers as it should.
    pub fn tenant_ok(&self, tenant: TenantId) {
        self.state().tenants.entry(tenant).or_default().stopped = None;
    }

    /// The sink took these records.
    pub fn sink_ok(&self, sink: &SinkName, record_count: u64, now: Timestamp) {
        let mut state = self.state();
        let sink = state.sinks.entry(sink.clone()).or_default();
        sink.record_count += record_count;
        sink.last_delivery_at = Some(now);
        sink.failing = None;
    }

    /// A sink was not given these records, because it has them.
    pub fn left_out(&self, sink: &SinkName, record_count: u64) {
        let mut state = self.state();
        state.sinks.entry(sink.clone()).or_default().left_out_count += record_count;
    }

    /// The sink did not take a batch; `record_count` records at its head are safe all the same. `what` is for a
    /// person and holds no secret.
    pub fn sink_failing(
        &self,
        sink: &SinkName,
        record_count: u64,
        what: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let mut state = self.state();
        let sink = state.sinks.entry(sink.clone()).or_default();
        sink.record_count += record_count;
        let trouble = Trouble::again(sink.failing.as_ref(), what, retry_at, now);
        sink.last_trouble = Some(trouble.clone());
        sink.failing = Some(trouble);
    }

    /// What came of a log source's last check-in.
    pub fn checked_in(&self, view: CheckinView) {
        let key = (view.sink.clone(), view.tenant.clone());
        self.state().checkins.insert(key, view);
    }

    /// The ledger has these records as delivered to every sink. What the rates on the status page are taken from.
    pub fn delivered(&self, record_count: u64, byte_count: u64, now: Timestamp) {
        let mut state = self.state();
        match state.steps.back_mut() {
            Some(step) if now.duration_since(step.start) < STEP => {
                step.record_count += record_count;
                step.byte_count += byte_count;
            }
            _ => {
                state.steps.push_back(Step {
                    start: now,
                    record_count,
                    byte_count,
                });
                if state.steps.len() > MAX_STEPS {
                    state.steps.pop_front();
                }
            }
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half changed, so a panic in a thread that held the lock has not spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stream(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        change: impl FnOnce(&mut StreamState),
    ) {
        let mut state = self.state();
        change(
            state
                .tenants
                .entry(tenant)
                .or_default()
                .streams
                .entry(content_type)
                .or_default(),
        );
    }
}

impl State {
    /// The average over the last five minutes, or over the life of the process when that is shorter.
    pub(super) fn rate(&self, now: Timestamp) -> Rate {
        let span = STEP * MAX_STEPS as i32;
        let from = self.started_at.max(now - span);
        let seconds = now.duration_since(from).as_secs_f64().max(1.0);
        let (records, bytes) = self
            .steps
            .iter()
            .filter(|step| step.start >= from)
            .fold((0, 0), |(records, bytes), step| {
                (records + step.record_count, bytes + step.byte_count)
            });
        Rate {
            records_per_second: records as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
        }
    }
}

impl Trouble {
    /// The same trouble going on keeps its beginning.
    fn again(
        before: Option<&Self>,
        what: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let mut end = what.len().min(MAX_WHAT_BYTES);
        while !what.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            what: what[..end].to_owned(),
            since: before.map_or(now, |before| before.since),
            at: now,
            retry_at,
        }
    }
}
