//! The real ledger, in memory, that fails as the plan wants it and whose every answer is held against the truth.

use std::sync::Arc;

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use jiff::Timestamp;
use ledger::{
    Acknowledgement, BlobName, Compacted, Completion, Coverage, DeliveredTotals, Delivery, Error,
    ExpiryBucket, Lease, LeaseKey, LeaseRequest, Ledger, ListedStretch, ListedWindows, Listing,
    QuarantinedItem, QuarantinedRecord, RecordKey, SeenBlob, SinkCommit, SinkName, SqliteLedger,
    Summary, UndeliveredBlob, UndeliveredPlace,
};

use super::plan::Fault;
use super::truth::{End, Wrong};
use super::world::{State, World};

pub(crate) struct SimulatedLedger {
    world: Arc<World>,
    inner: SqliteLedger,
}

impl SimulatedLedger {
    pub(crate) fn new(world: &Arc<World>, inner: SqliteLedger) -> Self {
        Self {
            world: Arc::clone(world),
            inner,
        }
    }

    pub(crate) fn into_inner(self) -> SqliteLedger {
        self.inner
    }

    /// Before an operation: the process may die here, or the ledger refuse, and then nothing was written.
    async fn before(&self, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.world.step(|| format!("ledger: {}", what())).await;
        if self.world.goes_wrong(Fault::LedgerFull) {
            self.world.note(|| "ledger is full".to_owned());
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::Full(Arc::new(cause)));
        }
        if self.world.goes_wrong(Fault::LedgerFails) {
            self.world.note(|| "ledger fails".to_owned());
            return Err(failure());
        }
        Ok(())
    }

    /// After an operation: it is done, and the process may die before it learns that, or learn that it failed.
    async fn after<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        self.world.step(|| "ledger: done".to_owned()).await;
        if result.is_ok() && self.world.goes_wrong(Fault::LedgerFailsButWrote) {
            self.world
                .note(|| "ledger did it and says it failed".to_owned());
            return Err(failure());
        }
        result
    }

    fn check(&self, rule: impl FnOnce(&World, &mut State) -> Wrong) {
        let mut state = self.world.state();
        if let Err(wrong) = rule(&self.world, &mut state) {
            state.violate(wrong);
        }
    }

    fn settled(&self, result: &Result<(), Error>, key: LeaseKey, end: End) {
        if result.is_ok() {
            self.check(|world, state| {
                let now = state.now();
                state
                    .truth
                    .settled(&world.plan, &state.taken, key, end, now)
            });
        }
    }
}

fn failure() -> Error {
    Error::Unavailable {
        what: "anything",
        source: Arc::new(std::io::Error::other("as the simulation wants it")),
    }
}

#[async_trait]
impl Ledger for SimulatedLedger {
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error> {
        self.before(|| {
            let ids: Vec<_> = seen.iter().map(|blob| blob.content_id.as_str()).collect();
            format!("note_new {ids:?}")
        })
        .await?;
        let result = self.inner.note_new(seen.clone(), now).await;
        if result.is_ok() {
            self.check(|world, state| state.truth.note_seen(&world.plan, &seen));
        }
        self.after(result).await
    }

    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error> {
        self.before(|| format!("begin_listing {tenant} {content_type} {from}"))
            .await?;
        let result = self.inner.begin_listing(tenant, content_type, from).await;
        if let Ok(began_at) = &result {
            let mut state = self.world.state();
            state.truth.began((tenant, content_type), *began_at);
        }
        self.after(result).await
    }

    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error> {
        let Listing {
            tenant,
            content_type,
            window,
            ..
        } = listing;
        self.before(|| format!("note_listed {listing:?}")).await?;
        let result = self.inner.note_listed(listing, now).await;
        if result.is_ok() {
            self.check(|_, state| {
                let completed = state.listings.completed(tenant, content_type, window);
                state
                    .truth
                    .listed((tenant, content_type), window, &completed)
            });
        }
        self.after(result).await
    }

    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error> {
        self.before(|| format!("note_unlistable {before}")).await?;
        let result = self
            .inner
            .note_unlistable(tenant, content_type, before)
            .await;
        self.after(result).await
    }

    async fn listed_until(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<Timestamp>, Error> {
        self.before(|| "listed_until".to_owned()).await?;
        self.inner.listed_until(tenant, content_type).await
    }

    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error> {
        self.inner.listed_stretches(tenant, content_type).await
    }

    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error> {
        self.before(|| format!("lease {} for {:?}", request.max_count, request.for_sinks))
            .await?;
        if self.world.goes_wrong(Fault::SlowLease) {
            // Longer than the shortest lease lasts, which counts from the moment at which it was asked for.
            let time = self.world.state().chance.secs(10..80);
            tokio::time::sleep(time).await;
            self.world
                .step(|| "ledger: that took long".to_owned())
                .await;
        }
        let result = self.inner.lease(request, now).await;
        if let Ok(leases) = &result {
            let ids: Vec<_> = leases
                .iter()
                .map(|lease| lease.content_id().as_str())
                .collect();
            self.world.note(|| format!("leased {ids:?}"));
            self.check(|_, state| state.truth.leased(leases, now));
        }
        self.after(result).await
    }

    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error> {
        self.before(|| format!("renew {} until {until}", keys.len()))
            .await?;
        let result = self.inner.renew(keys, until).await;
        if let Ok(lost) = &result {
            self.world.state().truth.renewed(keys, lost, until);
        }
        self.after(result).await
    }

    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error> {
        self.before(|| {
            let parts: Vec<_> = commit.acknowledged.iter().map(|(_, part)| part).collect();
            format!(
                "acknowledge {} {:?} {parts:?}",
                commit.sink, commit.position
            )
        })
        .await?;
        let result = self.inner.acknowledge(commit.clone(), now).await;
        if result.is_ok() {
            self.check(|world, state| {
                let sink = state.truth.sink(&commit.sink);
                state
                    .truth
                    .acknowledged(&world.plan, &state.taken[sink], &commit)
            });
        }
        self.after(result).await
    }

    async fn acknowledge_and_deliver(
        &self,
        commit: SinkCommit,
        completions: Vec<Completion>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Error> {
        self.before(|| {
            let parts: Vec<_> = commit.acknowledged.iter().map(|(_, part)| part).collect();
            format!(
                "acknowledge_and_deliver {} {:?} {parts:?}, {} claimed",
                commit.sink,
                commit.position,
                completions.len()
            )
        })
        .await?;
        let recorded =
            self.inner
                .acknowledge_and_deliver(commit.clone(), completions, required, now);
        let result = recorded.await;
        if let Ok((_, delivered)) = &result {
            self.check(|world, state| {
                let sink = state.truth.sink(&commit.sink);
                state
                    .truth
                    .acknowledged(&world.plan, &state.taken[sink], &commit)
            });
            for key in delivered {
                self.settled(&Ok(()), *key, End::Delivered);
            }
        }
        self.after(result).await
    }

    async fn mark_delivered(
        &self,
        deliveries: Vec<Delivery>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let keys: Vec<_> = deliveries.iter().map(|claim| claim.lease.key()).collect();
        self.before(|| {
            let ids: Vec<_> = deliveries
                .iter()
                .map(|claim| claim.lease.content_id().as_str())
                .collect();
            format!("mark_delivered {ids:?}")
        })
        .await?;
        let result = self.inner.mark_delivered(deliveries, required, now).await;
        if let Ok(results) = &result {
            for (key, result) in keys.into_iter().zip(results) {
                self.settled(result, key, End::Delivered);
            }
        }
        self.after(result).await
    }

    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        let key = lease.key();
        self.before(|| {
            let id = lease.content_id().as_str();
            format!("retry_later {id} at {not_before}: {reason}")
        })
        .await?;
        let result = self.inner.retry_later(lease, not_before, reason).await;
        if result.is_ok() {
            self.world.state().truth.given_back(key);
        }
        self.after(result).await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error> {
        let keys: Vec<_> = leases.iter().map(Lease::key).collect();
        self.before(|| format!("release {}", keys.len())).await?;
        let result = self.inner.release(leases).await;
        if result.is_ok() {
            let mut state = self.world.state();
            keys.into_iter().for_each(|key| state.truth.given_back(key));
        }
        self.after(result).await
    }

    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let key = lease.key();
        self.before(|| format!("quarantine {}: {reason}", lease.content_id().as_str()))
            .await?;
        let result = self.inner.quarantine(lease, reason, bytes, now).await;
        self.settled(&result, key, End::Quarantined);
        self.after(result).await
    }

    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let names: Vec<_> = records
            .iter()
            .map(|record| {
                let id = record.content_id.as_str().to_owned();
                (record.tenant, record.content_type, id, record.record_index)
            })
            .collect();
        self.before(|| format!("quarantine_records {}", records.len()))
            .await?;
        let result = self.inner.quarantine_records(records, now).await;
        if result.is_ok() {
            let mut state = self.world.state();
            for (tenant, content_type, id, index) in names {
                if let Some(blob) = state.truth.blob(tenant, content_type, &id) {
                    state.truth.set_aside.insert((blob, index, None));
                }
            }
        }
        self.after(result).await
    }

    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error> {
        self.inner.quarantined(after, max_count).await
    }

    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        self.before(|| format!("quarantined_bytes {id}")).await?;
        self.inner.quarantined_bytes(id).await
    }

    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error> {
        self.before(|| format!("retry_quarantined {id}")).await?;
        let result = self.inner.retry_quarantined(id, now).await;
        self.after(result).await
    }

    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error> {
        self.before(|| format!("drop_quarantined {id}")).await?;
        let result = self.inner.drop_quarantined(id, why, now).await;
        self.after(result).await
    }

    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
        self.before(|| format!("unknown {}", names.len())).await?;
        self.inner.unknown(names).await
    }

    async fn known_records(
        &self,
        sink: &SinkName,
        keys: Vec<RecordKey>,
        since: Timestamp,
    ) -> Result<Vec<bool>, Error> {
        self.before(|| format!("known_records {sink} {}", keys.len()))
            .await?;
        self.inner.known_records(sink, keys, since).await
    }

    async fn forget_records(&self, before: Timestamp) -> Result<(), Error> {
        self.before(|| format!("forget_records {before}")).await?;
        let result = self.inner.forget_records(before).await;
        self.after(result).await
    }

    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error> {
        self.before(|| format!("coverage {tenant} {content_type}"))
            .await?;
        self.inner.coverage(tenant, content_type, range).await
    }

    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        self.before(|| format!("listed_windows {tenant} {content_type}"))
            .await?;
        let listed = self.inner.listed_windows(tenant, content_type, range);
        listed.await
    }

    async fn undelivered(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
        after: Option<UndeliveredPlace>,
        max_count: usize,
    ) -> Result<Vec<UndeliveredBlob>, Error> {
        self.before(|| format!("undelivered {tenant} {content_type}"))
            .await?;
        let page = self
            .inner
            .undelivered(tenant, content_type, range, after, max_count);
        page.await
    }

    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error> {
        self.before(|| "unsettled_by_expiry".to_owned()).await?;
        // What the look ahead of a minute ago came to: this one asks just now.
        self.world.look_at_status();
        self.inner.unsettled_by_expiry().await
    }

    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error> {
        self.before(|| format!("compact {before}")).await?;
        let result = self.inner.compact(before, max_blobs).await;
        self.after(result).await
    }

    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error> {
        let key = lease.key();
        self.before(|| format!("expire {}: {reason}", lease.content_id().as_str()))
            .await?;
        let result = self.inner.expire(lease, reason, now).await;
        self.settled(&result, key, End::Expired);
        self.after(result).await
    }

    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error> {
        self.before(|| format!("position of {sink}")).await?;
        self.inner.position(sink).await
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), Error> {
        self.before(|| format!("remember {key}")).await?;
        let result = self.inner.remember(key, value).await;
        self.after(result).await
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        self.before(|| format!("recall {key}")).await?;
        self.inner.recall(key).await
    }

    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error> {
        self.before(|| format!("count {increments:?}")).await?;
        let result = self.inner.count(increments).await;
        self.after(result).await
    }

    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        self.inner.counters(prefix).await
    }

    async fn summary(&self, now: Timestamp) -> Result<Summary, Error> {
        self.before(|| "summary".to_owned()).await?;
        self.inner.summary(now).await
    }

    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error> {
        self.before(|| format!("delivered_totals {tenant}")).await?;
        self.inner.delivered_totals(tenant).await
    }
}
