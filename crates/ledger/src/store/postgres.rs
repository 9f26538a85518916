//! The ledger in a PostgreSQL database: for several collectors that share the work, and take over from each other.
//!
//! Each operation is one transaction, most often in one or two ways there and back: statements that need not know each
//! other's answers go together (`session::Batch`), and of many blobs all are in one statement, as arrays.
//!
//! Nobody has the ledger alone. A lease is a token in the blob's row and an end in time: whoever is late finds another
//! token there, and nothing is freed at an opening, as another may hold it. Rows are locked in one order by everybody, so
//! operations wait for each other and not in a ring; should the server see one all the same, it takes one of them back
//! and that one is done again.
//!
//! A connection that is lost takes its operation with it: it was done wholly or not at all, the caller does not know
//! which, and asks again. The next operation connects anew, to whichever server then takes writes.
//!
//! Single records are not remembered here. What a sink was given has to be written in one transaction with its yes, which
//! could be done, and to be asked for record by record, which at this distance would take longer than delivering.

mod address;
mod compact;
mod coverage;
mod discover;
mod door;
mod facts;
mod failure;
mod leasing;
mod listed;
mod quarantined;
mod retried;
mod schema;
mod session;
mod settling;
mod summary;
mod totals;

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use jiff::Timestamp;
use rustls::ClientConfig;

use crate::{
    Acknowledgement, BlobName, Compacted, Completion, Coverage, DeliveredTotals, Delivery, Error,
    ExpiryBucket, Lease, LeaseKey, LeaseRequest, Ledger, ListedStretch, ListedWindows, Listing,
    QuarantinedItem, QuarantinedRecord, SeenBlob, SinkCommit, SinkName, Summary, UndeliveredBlob,
    UndeliveredPlace,
};

use door::{Doing, Door, on_session};
use schema::Access;

pub use address::{InvalidPostgresUrl, PostgresServer};
pub use schema::PostgresState;

/// A ledger in a PostgreSQL database. Any number of processes may have it open, for writing too.
///
/// It needs PostgreSQL 12 or later, and connections that stay with one session: a pooler in between must pool sessions
/// and not transactions.
pub struct PostgresLedger {
    door: Door,
}

impl PostgresLedger {
    /// A ledger on this server, with what its certificate is verified by. Connects to nobody: the first operation does,
    /// and makes the tables where there are none, or brings them to the current format.
    #[must_use]
    pub fn new(server: PostgresServer, tls: Option<ClientConfig>) -> Self {
        Self {
            door: Door::new(server, tls, Access::Write),
        }
    }

    /// The same for reading only. Every writing method answers [`Error::ReadOnly`], and the server is asked to see to it
    /// as well.
    #[must_use]
    pub fn read_only(server: PostgresServer, tls: Option<ClientConfig>) -> Self {
        Self {
            door: Door::new(server, tls, Access::Read),
        }
    }

    /// Connects, and says whether the ledger can be used.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::OlderFormat`] for one that is only read, [`Error::Corrupt`] for tables that are no
    /// ledger, and those of the backend.
    ///
    /// # If interrupted
    /// Tables that are half made are made anew by whoever comes next.
    pub async fn connect(&self) -> Result<(), Error> {
        on_session!(&self.door, Doing::Reads, |session| async {
            session.client.simple_query("SELECT 1").await?;
            Ok(())
        })
    }

    /// Looks at what is there, before anything is made of it.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), but for a format that is not ours.
    ///
    /// # If interrupted
    /// Reads only.
    pub async fn look(
        server: PostgresServer,
        tls: Option<ClientConfig>,
    ) -> Result<PostgresState, Error> {
        let door = Door::new(server, tls, Access::Look);
        on_session!(&door, Doing::Reads, |session| schema::look(&session.client))
    }

    fn for_writing(&self) -> Result<&Door, Error> {
        match self.door.access() {
            Access::Write => Ok(&self.door),
            Access::Read | Access::Look => Err(Error::ReadOnly),
        }
    }
}

/// Does the work in a session that writes.
macro_rules! write {
    ($ledger:expr, |$session:ident| $work:expr) => {
        on_session!($ledger.for_writing()?, Doing::Writes, |$session| $work)
    };
}

/// Does the work in a session.
macro_rules! read {
    ($ledger:expr, |$session:ident| $work:expr) => {
        on_session!(&$ledger.door, Doing::Reads, |$session| $work)
    };
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error> {
        write!(self, |session| discover::note_new(session, &seen, now))
    }

    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error> {
        write!(self, |session| listed::begin_listing(
            session,
            tenant,
            content_type,
            from
        ))
    }

    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error> {
        write!(self, |session| listed::note_listed(session, &listing, now))
    }

    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error> {
        write!(self, |session| listed::note_unlistable(
            session,
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
        read!(self, |session| listed::listed_until(
            session,
            tenant,
            content_type
        ))
    }

    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error> {
        read!(self, |session| listed::listed_stretches(
            session,
            tenant,
            content_type
        ))
    }

    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error> {
        write!(self, |session| leasing::lease(session, request, now))
    }

    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error> {
        write!(self, |session| leasing::renew(session, keys, until))
    }

    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error> {
        let (acknowledgements, _) = self
            .acknowledge_and_deliver(commit, Vec::new(), &[], now)
            .await?;
        Ok(acknowledgements)
    }

    async fn acknowledge_and_deliver(
        &self,
        commit: SinkCommit,
        completions: Vec<Completion>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Error> {
        write!(self, |session| settling::acknowledge_and_deliver(
            session,
            &commit,
            &completions,
            required,
            now
        ))
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
        write!(self, |session| settling::mark_delivered(
            session,
            &deliveries,
            required,
            now
        ))
    }

    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        write!(self, |session| leasing::retry_later(
            session, &lease, not_before, reason
        ))
    }

    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error> {
        write!(self, |session| leasing::release(session, &leases))
    }

    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error> {
        write!(self, |session| settling::quarantine(
            session, &lease, reason, &bytes, now
        ))
    }

    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error> {
        write!(self, |session| quarantined::set_aside(
            session, &records, now
        ))
    }

    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error> {
        read!(self, |session| quarantined::list(session, after, max_count))
    }

    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error> {
        read!(self, |session| quarantined::bytes(session, id))
    }

    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error> {
        write!(self, |session| retried::retry(session, id, now))
    }

    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error> {
        write!(self, |session| retried::drop_item(session, id, why, now))
    }

    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error> {
        write!(self, |session| settling::expire(
            session, &lease, reason, now
        ))
    }

    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error> {
        read!(self, |session| facts::position(session, sink))
    }

    async fn remember(&self, key: &str, value: &str) -> Result<(), Error> {
        write!(self, |session| facts::remember(session, key, value))
    }

    async fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        read!(self, |session| facts::recall(session, key))
    }

    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error> {
        write!(self, |session| facts::count(session, &increments))
    }

    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        read!(self, |session| facts::counters(session, prefix))
    }

    async fn summary(&self, now: Timestamp) -> Result<Summary, Error> {
        read!(self, |session| summary::summary(session, now))
    }

    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error> {
        read!(self, |session| summary::delivered_totals(session, tenant))
    }

    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error> {
        read!(self, |session| coverage::coverage(
            session,
            tenant,
            content_type,
            range
        ))
    }

    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        read!(self, |session| coverage::listed_windows(
            session,
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
        read!(self, |session| coverage::undelivered(
            session,
            tenant,
            content_type,
            range,
            after,
            max_count
        ))
    }

    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error> {
        read!(self, |session| discover::unknown(session, &names))
    }

    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error> {
        read!(self, |session| coverage::unsettled_by_expiry(session))
    }

    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error> {
        write!(self, |session| compact::compact(session, before, max_blobs))
    }
}
