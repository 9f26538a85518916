//! The ledger in one SQLite file: the embedded default, for one collector on one machine.
//!
//! One thread writes and one reads, each with its own connection, so that a status page never waits for a commit nor
//! a commit for it. Every write goes through the writer thread, which commits whatever waits in one go
//! (`writer`): the sync to disk is what a commit costs, and many operations share one. A third, once there is enough of it,
//! folds the log back into the file (`folding`).

mod address;
mod beside;
mod books;
mod compact;
mod counted;
mod coverage;
mod discover;
mod failure;
mod folding;
mod inline;
mod leasing;
mod listed;
mod open;
mod pick;
mod quarantined;
mod reader;
mod records;
mod retried;
mod schema;
mod settling;
mod summary;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    Acknowledgement, BlobName, Compacted, Completion, Coverage, DeliveredTotals, Delivery, Error,
    ExpiryBucket, Lease, LeaseKey, LeaseRequest, Ledger, ListedStretch, ListedWindows, Listing,
    QuarantinedItem, QuarantinedRecord, RecordKey, SeenBlob, SeenVia, SinkCommit, SinkName,
    Summary, UndeliveredBlob, UndeliveredPlace,
};

use books::Books;
use failure::Failure;
use folding::Folding;
use reader::Reader;
use writer::Writer;

/// A ledger in a SQLite file.
///
/// Beside the file stand `-wal` and `-shm` while it is open, and `.lock`, which the one collector that writes keeps
/// locked. All are created readable by their owner alone, as the ledger keeps registrations.
///
/// Dropping it finishes the operations that were handed over, and waits for that.
pub struct SqliteLedger {
    // In this order, so that the writer is the last to close the database and folds its log back into it, and the
    // lock is given up when all of that is done.
    reader: Reader,
    writer: Option<Writer>,
    _lock: Option<open::Lock>,
}

impl SqliteLedger {
    /// Opens the ledger for writing, and creates it where there is none. Leases left by a collector that died are
    /// freed; their attempts stay counted.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`] while another collector has it open, [`Error::NewerFormat`], [`Error::Corrupt`] for a
    /// file that is no ledger, [`Error::Unavailable`], [`Error::Full`].
    ///
    /// # If interrupted
    /// A file half created is completed by the next opening.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let lock = open::take_lock(path)?;
        let mut connection = open::for_writing(path)?;
        let folding = Folding::watch(&mut connection, path)?;
        let reader = Reader::start(open::for_reading(path)?)?;
        let writer = Writer::start(Books::open(connection)?, Some(folding))?;
        Ok(Self {
            reader,
            writer: Some(writer),
            _lock: Some(lock),
        })
    }

    /// Opens the ledger for reading, beside a collector that is running or when none is. Every writing method
    /// answers [`Error::ReadOnly`].
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::Corrupt`] for a file that is no ledger, [`Error::Unavailable`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, Error> {
        let reader = Reader::start(open::for_reading(path.as_ref())?)?;
        Ok(Self {
            reader,
            writer: None,
            _lock: None,
        })
    }

    async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books) -> Result<T, Failure> + Send + 'static,
    {
        self.writer()?.write(work).await
    }

    fn writer(&self) -> Result<&Writer, Error> {
        self.writer.as_ref().ok_or(Error::ReadOnly)
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error> {
        // Who notified waits at the door for the commit. A listing is at home here, and lists on when it is done.
        let is_notified = |blob: &SeenBlob| blob.seen_via == SeenVia::Notification;
        let (writer, is_urgent) = (self.writer()?, seen.iter().any(is_notified));
        let work = move |books: &mut Books| discover::note_new(books, &seen, now);
        match is_urgent {
            true => writer.write_soon(work).await,
            false => writer.write(work).await,
        }
    }

    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error> {
        self.write(move |books| listed::begin_listing(books, tenant, content_type, from))
            .await
    }

    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error> {
        self.write(move |books| listed::note_listed(books, &listing, now))
            .await
    }

    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error> {
        self.write(move |books| listed::note_unlistable(books, tenant, content_type, before))
            .await
    }

    async fn listed_until(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<Timestamp>, Error> {
        self.reader
            .read(move |connection| listed::listed_until(connection, tenant, content_type))
            .await
    }

    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error> {
        self.reader
            .read(move |connection| listed::listed_stretches(connection, tenant, content_type))
            .await
    }

    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error> {
        let request = request.clone();
        self.write(move |books| leasing::lease(books, &request, now))
            .await
    }

    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error> {
        let keys = keys.to_vec();
        self.write(move |books| leasing::renew(books, &keys, until))
            .await
    }

    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error> {
        self.write(move |books| settling::acknowledge(books, &commit, now))
            .await
    }

    async fn acknowledge_and_deliver(
        &self,
        commit: SinkCommit,
        completions: Vec<Completion>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Error> {
        let required = required.to_vec();
        self.write(move |books| {
            settling::acknowledge_and_deliver(books, &commit, &completions, &required, now)
        })
        .await
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
        let required = required.to_vec();
        self.write(move |books| settling::mark_delivered(books, &deliveries, &required, now))
            .await
    }

    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.write(move |books| leasing::retry_later(books, &lease, not_before, &reason))
            .await
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error> {
        self.write(move |books| leasing::release(books, &leases))
            .await
    }

    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.write(move |books| settling::quarantine(books, &lease, &reason, &bytes, now))
            .await
    }

    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(move |books| quarantined::set_aside(books, &records, now))
            .await
    }

    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error> {
        self.reader
            .read(move |connection| quarantined::list(connection, after, max_count))
            .await
    }

    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        self.reader
            .read(move |connection| quarantined::bytes(connection, id))
            .await
    }

    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error> {
        self.write(move |books| retried::retry(books, id, now))
            .await
    }

    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error> {
        let why = why.to_owned();
        self.write(move |books| retried::drop_item(books, id, &why, now))
            .await
    }

    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error> {
        let reason = reason.to_owned();
        self.write(move |books| settling::expire(books, &lease, &reason, now))
            .await
    }

    async fn known_records(
        &self,
        sink: &SinkName,
        keys: Vec<RecordKey>,
        since: Timestamp,
    ) -> Result<Vec<bool>, Error> {
        // By the thread that writes: it holds what is needed in memory, and sees its own commits.
        let sink = sink.clone();
        self.write(move |books| records::known(books, &sink, &keys, since))
            .await
    }

    async fn forget_records(&self, before: Timestamp) -> Result<(), Error> {
        self.write(move |books| records::forget(books, before))
            .await
    }

    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error> {
        let sink = sink.clone();
        self.reader
            .read(move |connection| reader::position(connection, &sink))
            .await
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |books| books.remember(&key, &value)).await
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        let key = key.to_owned();
        self.reader
            .read(move |connection| reader::recall(connection, &key))
            .await
    }

    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error> {
        self.write(move |books| counted::count(books, &increments))
            .await
    }

    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let prefix = prefix.to_owned();
        self.reader
            .read(move |connection| counted::counters(connection, &prefix))
            .await
    }

    async fn summary(&self, now: Timestamp) -> Result<Summary, Error> {
        self.reader
            .read(move |connection| summary::summary(connection, now))
            .await
    }

    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error> {
        self.reader
            .read(move |connection| summary::delivered_totals(connection, tenant))
            .await
    }

    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error> {
        self.reader
            .read(move |connection| coverage::coverage(connection, tenant, content_type, range))
            .await
    }

    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        self.reader
            .read(move |connection| {
                coverage::listed_windows(connection, tenant, content_type, range)
            })
            .await
    }

    async fn undelivered(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
        after: Option<UndeliveredPlace>,
        max_count: usize,
    ) -> Result<Vec<UndeliveredBlob>, Error> {
        self.reader
            .read(move |connection| {
                coverage::undelivered(connection, tenant, content_type, range, after, max_count)
            })
            .await
    }

    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
        self.reader
            .read(move |connection| discover::unknown(connection, names))
            .await
    }

    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error> {
        self.reader.read(coverage::unsettled_by_expiry).await
    }

    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error> {
        self.write(move |books| compact::compact(books, before, max_blobs))
            .await
    }
}
