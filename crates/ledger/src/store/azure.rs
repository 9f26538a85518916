//! The ledger in an Azure Storage account: for a function app, whose instances come and go and share it.
//!
//! Tables have no transaction over partitions and no lock; what they have is a condition (an etag) on every write, and
//! transactions over rows of one partition. So everything about one blob is in one partition, its tenant's:
//!
//! | row | what |
//! |---|---|
//! | `b-HASH` | that the blob is known, when it was created, and how it ended; stays until compaction forgets it |
//! | `d-EXPIRY-HASH` | everything that changes while it is unsettled; in the order in which blobs are leased |
//! | `c-TYPE!N` | counts of settled blobs, in several rows that different processes write |
//! | `l-TYPE` | which stretches were listed |
//! | `a-TYPE` | where listing began |
//! | `w-TYPE!START!END` | a window that was listed, or several merged by the day |
//! | `y-TYPE!DAY` | totals of the delivered blobs of a day whose rows are no more |
//!
//! The first two are added in one transaction. The one that settles a blob takes the second away, notes the end in the
//! first and adds to the counts: a settled blob cannot become pending again, and is counted once. A lease is a random
//! token written into the second under its etag, so one worker gets it.
//!
//! Facts, sinks' positions, named counters and the lists of tenants and sinks are in a partition of their own (`facts`), what is
//! set aside is in another (`quarantined`).
//!
//! A request whose reply does not come may have been done. Every write therefore carries a random number, and a write
//! that is tried again and finds its own number is a success.

mod announce;
mod books;
mod compact;
mod counted;
mod coverage;
mod discover;
mod door;
mod facts;
mod leasing;
mod listed;
mod names;
mod quarantined;
mod retried;
mod rows;
mod settling;
mod summary;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::Arc;

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use azure::storage::Account;
use jiff::Timestamp;

use crate::{
    Acknowledgement, BlobName, Compacted, Coverage, DeliveredTotals, Delivery, Error, ExpiryBucket,
    Lease, LeaseKey, LeaseRequest, Ledger, ListedStretch, ListedWindows, Listing, QuarantinedItem,
    QuarantinedRecord, SeenBlob, SinkCommit, SinkName, Summary, UndeliveredBlob, UndeliveredPlace,
};

use books::Books;
use door::Door;

pub use door::{NotSent, StorageTokens, StorageTransport};

/// How the ledger uses its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureOptions {
    /// The table's name: letters and digits, the first a letter. It is created when it is first written to.
    pub table: String,
    /// The container for what is set aside and too large for a row.
    pub container: String,
    /// The queue that is told of each blob that waits. `None`: nobody is told, and workers ask.
    pub wake_queue: Option<String>,
}

impl AzureOptions {
    /// The queue that wakes those who deliver.
    pub const WAKE_QUEUE: &str = "o365-collector-deliver";
}

impl Default for AzureOptions {
    fn default() -> Self {
        Self {
            table: "o365ledger".into(),
            container: "o365-collector-quarantine".into(),
            wake_queue: None,
        }
    }
}

/// A ledger in an Azure Storage account. Any number of processes may have it open, for writing too.
pub struct AzureLedger {
    books: Books,
}

impl AzureLedger {
    /// A ledger in this account. Sends nothing: what is not there yet is created when it is first needed.
    #[must_use]
    pub fn new(
        account: Account,
        options: AzureOptions,
        transport: Arc<dyn StorageTransport>,
        tokens: Option<Arc<dyn StorageTokens>>,
    ) -> Self {
        Self {
            books: Books::new(Door::new(account, options, transport, tokens)),
        }
    }

    /// Tells the queue of blobs that are due and that nobody has or was told of lately, and returns how many. Does
    /// nothing without a queue, or while the queue holds thousands of messages already.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Some of the blobs count as told of though no message was sent. They are told of a quarter of an hour later.
    pub async fn announce_due(&self, now: Timestamp) -> Result<u64, Error> {
        announce::announce_due(&self.books, now).await
    }
}

#[async_trait]
impl Ledger for AzureLedger {
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error> {
        discover::note_new(&self.books, seen, now).await
    }

    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error> {
        listed::begin_listing(&self.books, tenant, content_type, from).await
    }

    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error> {
        listed::note_listed(&self.books, &listing, now).await
    }

    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error> {
        listed::note_unlistable(&self.books, tenant, content_type, before).await
    }

    async fn listed_until(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<Timestamp>, Error> {
        listed::listed_until(&self.books, tenant, content_type).await
    }

    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error> {
        listed::listed_stretches(&self.books, tenant, content_type).await
    }

    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error> {
        leasing::lease(&self.books, request, now).await
    }

    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error> {
        leasing::renew(&self.books, keys, until).await
    }

    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error> {
        settling::acknowledge(&self.books, commit, now).await
    }

    async fn mark_delivered(
        &self,
        deliveries: Vec<Delivery>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        if required.is_empty() {
            return Err(Error::NothingRequired);
        }
        settling::mark_delivered(&self.books, deliveries, required, now).await
    }

    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        leasing::retry_later(&self.books, &lease, not_before, reason).await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error> {
        leasing::release(&self.books, &leases).await
    }

    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error> {
        settling::quarantine(&self.books, &lease, reason, bytes, now).await
    }

    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error> {
        quarantined::set_aside(&self.books, records, now).await
    }

    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error> {
        quarantined::list(&self.books, after, max_count).await
    }

    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        quarantined::bytes(&self.books, id).await
    }

    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error> {
        retried::retry(&self.books, id, now).await
    }

    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error> {
        retried::drop_item(&self.books, id, why, now).await
    }

    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error> {
        settling::expire(&self.books, &lease, reason, now).await
    }

    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error> {
        facts::position(&self.books, sink).await
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), Error> {
        facts::remember(&self.books, key, value).await
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        facts::recall(&self.books, key).await
    }

    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error> {
        counted::count(&self.books, &increments).await
    }

    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        counted::counters(&self.books, prefix).await
    }

    async fn summary(&self, now: Timestamp) -> Result<Summary, Error> {
        summary::summary(&self.books, now).await
    }

    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error> {
        summary::delivered_totals(&self.books, tenant).await
    }

    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error> {
        coverage::coverage(&self.books, tenant, content_type, range).await
    }

    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        coverage::listed_windows(&self.books, tenant, content_type, range).await
    }

    async fn undelivered(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
        after: Option<UndeliveredPlace>,
        max_count: usize,
    ) -> Result<Vec<UndeliveredBlob>, Error> {
        coverage::undelivered(&self.books, tenant, content_type, range, after, max_count).await
    }

    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
        discover::unknown(&self.books, names).await
    }

    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error> {
        coverage::unsettled_by_expiry(&self.books).await
    }

    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error> {
        compact::compact(&self.books, before, max_blobs).await
    }
}
