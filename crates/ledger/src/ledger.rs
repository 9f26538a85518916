//! The trait that the pipeline is written against. What it says here, [`conformance`](crate::conformance) checks.

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    Acknowledgement, BlobName, Compacted, Completion, Coverage, DeliveredTotals, Delivery, Error,
    ExpiryBucket, Lease, LeaseKey, LeaseRequest, ListedStretch, ListedWindows, Listing,
    QuarantinedItem, QuarantinedRecord, RecordKey, SeenBlob, SinkCommit, SinkName, Summary,
    UndeliveredBlob, UndeliveredPlace,
};

/// The durable memory of every blob.
///
/// A method that writes returns once what it wrote survives a power cut. One that fails or whose future is dropped,
/// which may be at any time, has written all, nothing, or as much as its section *If interrupted* allows; which of
/// these is not known. Asked again, it comes to the same end as if it had been asked once, save
/// [`count`](Self::count).
///
/// What is one transaction here is what every engine can promise: most can do more, but a table store in the cloud
/// has no transaction over many tenants or many blobs. Nothing that the pipeline relies on needs one; where the order
/// of the steps matters, it is said.
///
/// Instants are kept to the millisecond; what is finer is cut off.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Notes that these blobs exist and returns how many were not known before. Idempotent by tenant, content type
    /// and content id: a blob that is known stays as it is, whatever has become of it, save that a listing's uri and
    /// times replace those of a notification while the blob is unsettled.
    ///
    /// A blob that has expired, and that was created in a stretch which was listed and of whose days delivered blobs
    /// were forgotten by [`compact`](Self::compact), is taken for one of those: it is known, and nothing is noted.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Each of them is noted wholly or not at all, in no order. The window counts as listed only after
    /// [`note_listed`](Self::note_listed), so the next run lists it again and finds those that were noted known.
    async fn note_seen(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<u64, Error> {
        Ok(self.note_new(seen, now).await?.len() as u64)
    }

    /// As [`note_seen`](Self::note_seen), and names those that were not known before, in no order.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// As [`note_seen`](Self::note_seen); those that were noted are not named the next time.
    async fn note_new(&self, seen: Vec<SeenBlob>, now: Timestamp) -> Result<Vec<BlobName>, Error>;

    /// Where listing of this tenant and content type began: what the first caller said, for ever. What is older was
    /// never meant to be listed, and is no gap.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The next run's word counts, unless this one was kept.
    async fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
    ) -> Result<Timestamp, Error>;

    /// Notes that the whole window was listed, every page of it, and all its blobs noted with
    /// [`note_seen`](Self::note_seen). Listed again, its counts are those of the last time; windows that lie within
    /// it are absorbed by it. One that lies within a wider window is kept beside that.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The next run lists the window again and finds its blobs known. Asked again with the same `now`, it counts as
    /// one listing.
    async fn note_listed(&self, listing: Listing, now: Timestamp) -> Result<(), Error>;

    /// Notes that what was created before `before` can no longer be listed, so that a gap there stays a gap:
    /// [`listed_until`](Self::listed_until) continues from `before` where it was earlier. The gap remains visible in
    /// [`listed_stretches`](Self::listed_stretches). Does nothing for a tenant and content type never listed.
    ///
    /// Without this, a collector that was down for longer than Microsoft keeps content would list the same week
    /// over and over, as no window of it would touch the old stretch.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The next run comes to the same conclusion with a later `before`.
    async fn note_unlistable(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        before: Timestamp,
    ) -> Result<(), Error>;

    /// Where listing continues: the end of the gapless stretch that began with the first window ever listed. A
    /// window that does not touch the stretch does not move it; it does once the gap between has been listed too.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn listed_until(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Option<Timestamp>, Error>;

    /// Every stretch that was listed, oldest first; those that touch are merged, so there is a gap between any two.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn listed_stretches(
        &self,
        tenant: TenantId,
        content_type: ContentType,
    ) -> Result<Vec<ListedStretch>, Error>;

    /// Takes blobs that are pending and due, until `now` plus the wanted duration. What expires in an earlier hour of the clock
    /// goes first; which of those of the same hour does is for the backend to say. Counts the attempt before the work
    /// begins, so that a blob which kills its worker is seen to do so. A blob past its expiry is leased as well: only
    /// Microsoft's answer tells that it is gone.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The leases run out and the blobs are due again; an attempt is counted for those that nobody was told of, too. A
    /// backend with a single holder frees them when it is opened.
    async fn lease(&self, request: &LeaseRequest, now: Timestamp) -> Result<Vec<Lease>, Error>;

    /// Extends leases to `until` and returns the keys of those that were lost, whose work is best dropped. A lease
    /// that ran out unnoticed is good again if nobody took the blob.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The leases run out as they were granted, or at `until`.
    async fn renew(&self, keys: &[LeaseKey], until: Timestamp) -> Result<Vec<LeaseKey>, Error>;

    /// Records one sink's yes to parts of many blobs, its position, its quarantined records and what is to be remembered
    /// of single records. In this order: the quarantined records, the position, the acknowledgements; the memory of
    /// single records with the acknowledgements, in one transaction. Returns an [`Acknowledgement`] for each
    /// [`Whole`](crate::AcknowledgedPart::Whole), in order.
    ///
    /// Works for a lease that was lost or a blob that is settled: what a sink has is a fact. A repeated
    /// acknowledgement changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownBlob`] for a key of another ledger, [`Error::TooManySinks`], and [`Error::NoRecordMemory`] when
    /// records are to be remembered and the backend has no memory for them; all come before anything is written.
    ///
    /// # If interrupted
    /// What comes first in the order may be recorded without what comes after, and of the acknowledgements some
    /// without others. Where the position is not recorded, neither is any acknowledgement: a sink with a position
    /// finds the old one at its next start and takes back what came after. Where it is, those parts that lack an
    /// acknowledgement are offered to the sink again: it may have a record twice, never not at all.
    async fn acknowledge(
        &self,
        commit: SinkCommit,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, Error>;

    /// As [`acknowledge`](Self::acknowledge), and settles those blobs as delivered that it completes, each in one transaction
    /// with its acknowledgement. `completions` are of whole blobs, in the order in which `commit` has them. Returns the
    /// proofs, and the keys of the blobs that are delivered, in order.
    ///
    /// Any other is yet to be marked delivered: every `required` sink must be on record as having it wholly, under a lease
    /// that is still good. A backend that cannot do both in one transaction leaves all of them.
    ///
    /// # Errors
    /// Those of [`acknowledge`](Self::acknowledge).
    ///
    /// # If interrupted
    /// As [`acknowledge`](Self::acknowledge). No blob is delivered without its acknowledgement.
    async fn acknowledge_and_deliver(
        &self,
        commit: SinkCommit,
        _completions: Vec<Completion>,
        _required: &[SinkName],
        now: Timestamp,
    ) -> Result<(Vec<Acknowledgement>, Vec<LeaseKey>), Error> {
        Ok((self.acknowledge(commit, now).await?, Vec::new()))
    }

    /// Settles blobs as delivered, each in a transaction with its share of the counts, and answers for each delivery in
    /// order. A refused one does not hold up the others.
    ///
    /// # Errors
    /// For one blob: [`Error::LeaseLost`], or [`Error::MissingAcknowledgement`] when a required sink has not
    /// acknowledged it wholly, under this lease or an earlier one. For the call: [`Error::NothingRequired`] when
    /// `required` is empty, and those of the backend.
    ///
    /// # If interrupted
    /// Those that are not settled are leased again, with every sink's acknowledgement; nothing is sent twice.
    async fn mark_delivered(
        &self,
        deliveries: Vec<Delivery>,
        required: &[SinkName],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error>;

    /// Gives a blob back, not to be leased before `not_before`. The attempt stays counted and `reason` is kept for
    /// a person who asks why the blob waits.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    ///
    /// # If interrupted
    /// The lease runs out and the blob is due again at once.
    async fn retry_later(
        &self,
        lease: Lease,
        not_before: Timestamp,
        reason: &str,
    ) -> Result<(), Error>;

    /// Gives blobs back untried, as at shutdown: due at once, the attempt not counted. A lost lease among them is
    /// passed over, as its blob is somebody else's already.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The leases run out, and the attempt stays counted.
    async fn release(&self, leases: Vec<Lease>) -> Result<(), Error>;

    /// Settles a whole blob as quarantined, with the bytes that were fetched of it (empty if none were). Its uri is
    /// kept, for [`retry_quarantined`](Self::retry_quarantined). One that was being retried is a new item, with the
    /// bytes of the old where none were fetched.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    ///
    /// # If interrupted
    /// The lease runs out and the blob is tried again; what is in quarantine of it already is not put there twice.
    async fn quarantine(
        &self,
        lease: Lease,
        reason: &str,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Error>;

    /// Sets single records aside, without touching their blob. Idempotent by blob, record index and sink: the first
    /// reason and bytes stay.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Each is kept wholly or not at all. Their blob is not delivered yet, so it is decoded and they are found again.
    async fn quarantine_records(
        &self,
        records: Vec<QuarantinedRecord>,
        now: Timestamp,
    ) -> Result<(), Error>;

    /// What is in quarantine, in the order it came, from after the given id (0 for the start), without its bytes.
    /// What a person dropped is not among it; [`undelivered`](Self::undelivered) names that.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn quarantined(
        &self,
        after: u64,
        max_count: usize,
    ) -> Result<Vec<QuarantinedItem>, Error>;

    /// The bytes of an item in quarantine: nothing where there is no such item, or no more.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn quarantined_bytes(&self, id: u64) -> Result<Option<Vec<u8>>, Error>;

    /// Has an item in quarantine tried again, and says whether there is such an item. Asked again before that has
    /// come to an end, it changes nothing.
    ///
    /// A whole blob is pending again under its own name: with its uri while Microsoft has it, else with one of the
    /// scheme [`quarantine:`](crate::QUARANTINE_SCHEME). A record becomes a blob of its own: named after its blob with
    /// `~` and the item's id, created when that was, with a uri of that scheme, and acknowledged by every sink that
    /// the ledger knows save the one that refused the record, or by none when it was not decodable. When it is
    /// delivered it adds nothing to the totals, as its blob was counted with all its records.
    ///
    /// The item stays in quarantine until the retry is settled: it leaves in the same transaction, or in one that
    /// the next call about it brings to its end.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The item is as it was, or is being retried.
    async fn retry_quarantined(&self, id: u64, now: Timestamp) -> Result<bool, Error>;

    /// Takes an item out of quarantine for good, by a person's word, and says whether there was such an item that is
    /// not being retried. Its bytes are deleted; that it was there, why, and the person's `why` remain, is counted as dropped, and is
    /// named by [`undelivered`](Self::undelivered). Asked again for what is dropped, it changes nothing and says no.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The item is as it was, or dropped.
    async fn drop_quarantined(&self, id: u64, why: &str, now: Timestamp) -> Result<bool, Error>;

    /// Settles a blob as gone before we had it. One that is being retried from quarantine, and of which bytes are
    /// there, goes back into quarantine instead, and the next retry is of those bytes.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    ///
    /// # If interrupted
    /// The lease runs out, and Microsoft says once more that the blob is gone.
    async fn expire(&self, lease: Lease, reason: &str, now: Timestamp) -> Result<(), Error>;

    /// Which of these records the sink was given since `since`, as its acknowledgements said
    /// ([`SinkCommit::remembered`]): one answer a key, in order.
    ///
    /// What a sink took and did not acknowledge is not known, so that a record is given twice sooner than not at all.
    ///
    /// # Errors
    /// [`Error::NoRecordMemory`] from a backend that does not remember single records, and those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn known_records(
        &self,
        _sink: &SinkName,
        _keys: Vec<RecordKey>,
        _since: Timestamp,
    ) -> Result<Vec<bool>, Error> {
        Err(Error::NoRecordMemory)
    }

    /// Forgets the records of every sink that were remembered before `before`.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Some are forgotten, the others at the next call or acknowledgement.
    async fn forget_records(&self, _before: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    /// The text that the sink last gave with an acknowledgement.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn position(&self, sink: &SinkName) -> Result<Option<String>, Error>;

    /// Keeps a small fact, such as a registration, over what was kept under that key before.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// The earlier value stays.
    async fn remember(&self, key: &str, value: &str) -> Result<(), Error>;

    /// The fact kept under that key.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn recall(&self, key: &str) -> Result<Option<String>, Error>;

    /// Adds to durable counters, those that are named and no others; one that was never counted begins at 0. Unlike
    /// everything else here it is not the same to ask twice.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Of up to a hundred increments all are counted or none is. Whoever does not know which either loses a count
    /// or, asking again, may count twice: these numbers are for people, and nothing decides by them.
    async fn count(&self, increments: Vec<(String, u64)>) -> Result<(), Error>;

    /// The counters whose names begin with the prefix, ordered by name. They only grow, up to a bound that no count
    /// comes near.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn counters(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error>;

    /// What is known of a range of `contentCreated`: which windows were listed completely, and in what state its blobs
    /// are. Its cost grows with the blobs of the range that are not forgotten yet, and with the items in quarantine.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn coverage(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<Coverage, Error>;

    /// The part of [`coverage`](Self::coverage) that says what was listed, at a cost that grows with the windows of the
    /// range alone: discovery asks for it at each poll.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn listed_windows(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
    ) -> Result<ListedWindows, Error> {
        let coverage = self.coverage(tenant, content_type, range).await?;
        Ok(ListedWindows {
            began_at: coverage.began_at,
            windows: coverage.windows,
        })
    }

    /// The blobs created in the range that are not delivered, and the single records of its blobs that are in
    /// quarantine or were dropped from it, ordered by creation, from after the given place on.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn undelivered(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        range: Window,
        after: Option<UndeliveredPlace>,
        max_count: usize,
    ) -> Result<Vec<UndeliveredBlob>, Error>;

    /// Which of these blobs the ledger does not have. It must not be asked of what may have been forgotten by
    /// [`compact`](Self::compact).
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn unknown(&self, names: Vec<BlobName>) -> Result<Vec<BlobName>, Error>;

    /// How many blobs are unsettled, by the hour in which they expire, ordered by tenant and hour. Records that are
    /// retried from quarantine are not among them: they do not expire. Its cost grows with the unsettled blobs.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn unsettled_by_expiry(&self) -> Result<Vec<ExpiryBucket>, Error>;

    /// Makes the ledger smaller, in steps of at most so many blobs: to be called until nothing is left to do. Listed
    /// windows that end by `before` are merged by the UTC day where they touch, so that a gap stays a gap. Blobs that
    /// were delivered, and that were created and expired before it, are forgotten into the totals of their day, save
    /// those of which something is in quarantine or was dropped from it. All others stay.
    ///
    /// What is forgotten can be noted anew as if it had never been seen, until it has expired: `before` has to lie
    /// farther back than Microsoft lists and announces anything.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Each blob is forgotten and counted, or neither; each window is there, alone or in a merged one.
    async fn compact(&self, before: Timestamp, max_blobs: usize) -> Result<Compacted, Error>;

    /// The state of everything in numbers. Its cost grows with the blobs that are unsettled, never with those that
    /// are settled.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn summary(&self, now: Timestamp) -> Result<Summary, Error>;

    /// What was delivered of one tenant: the part of [`summary`](Self::summary) that says so, at a cost that neither other
    /// tenants nor any blob add to. Each tenant's check-in asks for it.
    ///
    /// # Errors
    /// Only those of the backend.
    ///
    /// # If interrupted
    /// Reads only.
    async fn delivered_totals(&self, tenant: TenantId) -> Result<DeliveredTotals, Error>;
}
