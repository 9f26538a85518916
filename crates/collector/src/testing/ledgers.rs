//! A real ledger in a scratch folder, whose operations can be made to fail and are counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use jiff::Timestamp;
use ledger::{
    Acknowledgement, BlobName, Compacted, Coverage, DeliveredTotals, Delivery, Error, ExpiryBucket,
    Lease, LeaseKey, LeaseRequest, Ledger, ListedStretch, ListedWindows, Listing, QuarantinedItem,
    QuarantinedRecord, RecordKey, SeenBlob, SinkCommit, SinkName, SqliteLedger, Summary,
    UndeliveredBlob, UndeliveredPlace,
};
use tokio::runtime::Handle;

use super::Death;

/// A SQLite ledger.
///
/// Its threads are not tokio's, and while tokio's clock is paused it takes a runtime that waits for them for idle, and
/// lets the time jump to the next timer. So each operation runs on tokio's blocking pool, for which it waits.
pub(crate) struct TestLedger {
    inner: Arc<SqliteLedger>,
    calls: Mutex<BTreeMap<&'static str, u32>>,
    failures: Mutex<BTreeMap<&'static str, u32>>,
    is_full: AtomicBool,
    death: Arc<Death>,
}

/// The methods that write nothing.
const READS: [&str; 13] = [
    "counters",
    "listed_until",
    "listed_stretches",
    "quarantined",
    "quarantined_bytes",
    "coverage",
    "listed_windows",
    "undelivered",
    "unknown",
    "unsettled_by_expiry",
    "position",
    "recall",
    "summary",
];

impl TestLedger {
    pub(crate) fn open(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(SqliteLedger::open(path).unwrap()),
            calls: Mutex::default(),
            failures: Mutex::default(),
            is_full: AtomicBool::new(false),
            death: Arc::default(),
        })
    }

    /// Ends it, once an operation has ended that was under way when its caller was dropped.
    pub(crate) fn close(self) {
        let mut inner = self.inner;
        while let Err(shared) = Arc::try_unwrap(inner) {
            inner = shared;
            std::thread::yield_now();
        }
    }

    /// The next `count` calls of the method fail, and write nothing.
    pub(crate) fn fail_next(&self, method: &'static str, count: u32) {
        self.failures.lock().unwrap().insert(method, count);
    }

    /// What ends the process after a fact was remembered.
    pub(crate) fn death(&self) -> Arc<Death> {
        Arc::clone(&self.death)
    }

    /// Whether there is room on the disk. Without, every write fails and every read goes well.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// How often the method was called.
    pub(crate) fn call_count(&self, method: &str) -> u32 {
        self.calls
            .lock()
            .unwrap()
            .get(method)
            .copied()
            .unwrap_or_default()
    }

    fn enter(&self, method: &'static str) -> Result<(), Error> {
        *self.calls.lock().unwrap().entry(method).or_default() += 1;
        if self.is_full.load(Ordering::Relaxed) && !READS.contains(&method) {
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::Full(Arc::new(cause)));
        }
        match self.failures.lock().unwrap().get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                let source = Arc::new(std::io::Error::other("as the test wants it"));
                Err(Error::Unavailable {
                    what: "anything",
                    source,
                })
            }
            _ => Ok(()),
        }
    }
}

async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
        .await
        .unwrap()
}

macro_rules! pass_on {
    ($self:ident, $method:literal, |$inner:ident| $call:expr) => {{
        $self.enter($method)?;
        let $inner = Arc::clone(&$self.inner);
        apart(async move { $call.await }).await
    }};
}

#[async_trait]
impl Ledger for TestLedger {
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error> {
        pass_on!(self, "note_seen", |inner| inner.note_new(seen, now))
    }

    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error> {
        pass_on!(self, "begin_listing", |inner| inner.begin_listing(
            tenant,
            content_type,
            from
        ))
    }

    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error> {
        pass_on!(self, "note_listed", |inner| inner.note_listed(listing, now))
    }

    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error> {
        pass_on!(self, "note_unlistable", |inner| inner.note_unlistable(
            tenant,
            content_type,
            before
        ))
    }

    async fn listed_until(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<Timestamp>, Error> {
        pass_on!(self, "listed_until", |inner| inner
            .listed_until(tenant, content_type))
    }

    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error> {
        pass_on!(self, "listed_stretches", |inner| inner
            .listed_stretches(tenant, content_type))
    }

    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error> {
        let request = request.clone();
        pass_on!(self, "lease", |inner| inner.lease(&request, now))
    }

    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error> {
        let keys = keys.to_vec();
        pass_on!(self, "renew", |inner| inner.renew(&keys, until))
    }

    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error> {
        pass_on!(self, "acknowledge", |inner| inner.acknowledge(commit, now))
    }

    async fn mark_delivered(
        &self,
        deliveries: Vec<Delivery>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let required = required.to_vec();
        pass_on!(self, "mark_delivered", |inner| inner
            .mark_delivered(deliveries, &required, now))
    }

    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        let reason = reason.to_owned();
        pass_on!(self, "retry_later", |inner| inner
            .retry_later(lease, not_before, &reason))
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error> {
        pass_on!(self, "release", |inner| inner.release(leases))
    }

    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let reason = reason.to_owned();
        pass_on!(self, "quarantine", |inner| inner
            .quarantine(lease, &reason, bytes, now))
    }

    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error> {
        pass_on!(self, "quarantine_records", |inner| inner
            .quarantine_records(records, now))
    }

    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error> {
        pass_on!(self, "quarantined", |inner| inner
            .quarantined(after, max_count))
    }

    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        pass_on!(self, "quarantined_bytes", |inner| inner
            .quarantined_bytes(id))
    }

    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error> {
        pass_on!(self, "retry_quarantined", |inner| inner
            .retry_quarantined(id, now))
    }

    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error> {
        let why = why.to_owned();
        pass_on!(self, "drop_quarantined", |inner| inner
            .drop_quarantined(id, &why, now))
    }

    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
        pass_on!(self, "unknown", |inner| inner.unknown(names))
    }

    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error> {
        let reason = reason.to_owned();
        pass_on!(self, "expire", |inner| inner.expire(lease, &reason, now))
    }

    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error> {
        let sink = sink.clone();
        pass_on!(self, "position", |inner| inner.position(&sink))
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.enter("remember")?;
        let inner = Arc::clone(&self.inner);
        let result = apart(async move { inner.remember(&key, &value).await }).await;
        self.death.step().await;
        result
    }

    async fn known_records(
        &self,
        sink: &SinkName,
        keys: Vec<RecordKey>,
        since: Timestamp,
    ) -> Result<Vec<bool>, Error> {
        let sink = sink.clone();
        pass_on!(self, "known_records", |inner| inner
            .known_records(&sink, keys, since))
    }

    async fn forget_records(&self, before: Timestamp) -> Result<(), Error> {
        pass_on!(self, "forget_records", |inner| inner.forget_records(before))
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        let key = key.to_owned();
        pass_on!(self, "recall", |inner| inner.recall(&key))
    }

    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error> {
        pass_on!(self, "count", |inner| inner.count(increments))
    }

    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let prefix = prefix.to_owned();
        pass_on!(self, "counters", |inner| inner.counters(&prefix))
    }

    async fn summary(&self, now: Timestamp) -> Result<Summary, Error> {
        pass_on!(self, "summary", |inner| inner.summary(now))
    }

    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error> {
        pass_on!(self, "delivered_totals", |inner| inner
            .delivered_totals(tenant))
    }

    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        pass_on!(self, "listed_windows", |inner| inner.listed_windows(
            tenant,
            content_type,
            range
        ))
    }

    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error> {
        pass_on!(self, "coverage", |inner| inner.coverage(
            tenant,
            content_type,
            range
        ))
    }

    async fn undelivered(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
        after: Option<UndeliveredPlace>,
        max_count: usize,
    ) -> Result<Vec<UndeliveredBlob>, Error> {
        pass_on!(self, "undelivered", |inner| inner.undelivered(
            tenant,
            content_type,
            range,
            after,
            max_count
        ))
    }

    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error> {
        pass_on!(self, "unsettled_by_expiry", |inner| inner
            .unsettled_by_expiry())
    }

    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error> {
        pass_on!(self, "compact", |inner| inner.compact(before, max_blobs))
    }
}
