//! Temporary ownership of a blob, what sinks say yes to while it lasts, and the claim that it was delivered.

use std::time::Duration;

use activity_api::{ContentId, ContentType, TenantId};
use jiff::Timestamp;

use crate::{BlobName, QuarantinedRecord, RememberedRecords, SinkName};

/// What a worker asks [`lease`](crate::Ledger::lease) for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// How many blobs at most.
    pub max_count: usize,
    /// How long the leases last. Longer than the slowest blob takes, or renewed in time: too short, and two workers
    /// deliver the same blob.
    pub duration: Duration,
    /// Tenants whose blobs are left alone for the moment (throttled, or stopped until a person acts).
    pub except_tenants: Vec<TenantId>,
    /// Only blobs that at least one of these sinks has not acknowledged wholly. Empty: every due blob. It keeps a
    /// worker from fetching again and again what only an unreachable sink still lacks.
    pub for_sinks: Vec<SinkName>,
    /// Only these blobs, and of them only those that may be leased by all of the above. Empty: any blob.
    pub only: Vec<BlobName>,
}

/// Names one lease of one blob. Opaque; a later lease of the same blob has another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey {
    pub(crate) tenant: TenantId,
    /// A number of the blob within its tenant, given by the backend.
    pub(crate) blob: u128,
    pub(crate) token: u64,
}

impl LeaseKey {
    /// Whether both are of the same blob, under whatever lease.
    pub(crate) fn is_of_same_blob(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.blob == other.blob
    }
}

/// A blob that belongs to the holder until [`leased_until`](Self::leased_until).
///
/// Only a ledger makes one, and the methods that end a blob's life take it by value: whoever says that a blob is
/// delivered, quarantined or expired has held it. A lease that runs out stays good until the blob is leased again.
#[derive(Debug)]
#[must_use = "a lease that is dropped keeps its blob from every worker until it runs out"]
pub struct Lease {
    pub(crate) key: LeaseKey,
    pub(crate) tenant: TenantId,
    pub(crate) content_type: ContentType,
    pub(crate) content_id: ContentId,
    pub(crate) uri: String,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) leased_until: Timestamp,
    pub(crate) acknowledged: Vec<(SinkName, AcknowledgedPart)>,
    /// The item of quarantine that it retries, which leaves when it is settled.
    pub(crate) item: Option<u64>,
}

impl Lease {
    /// What names this lease in [`SinkCommit`] and [`renew`](crate::Ledger::renew).
    #[must_use]
    pub fn key(&self) -> LeaseKey {
        self.key
    }

    /// What names the blob, in every ledger.
    #[must_use]
    pub fn name(&self) -> BlobName {
        BlobName {
            tenant: self.tenant,
            content_type: self.content_type,
            content_id: self.content_id.clone(),
        }
    }

    /// The tenant whose records the blob holds.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The content type it was listed under.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// The blob's canonical id.
    #[must_use]
    pub fn content_id(&self) -> &ContentId {
        &self.content_id
    }

    /// Where to fetch it, as it was noted: not yet checked against the tenant's hosts.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// `contentCreated`, to the millisecond.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// `contentExpiration`, to the millisecond. May have passed: only Microsoft's answer says that a blob is gone.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// How many times the blob has been leased, this one included and released ones not.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When the lease runs out, as granted: a renewal does not change this value.
    #[must_use]
    pub fn leased_until(&self) -> Timestamp {
        self.leased_until
    }

    /// What sinks said yes to under earlier leases, ordered by sink. A sink that has the whole blob appears once,
    /// with [`AcknowledgedPart::Whole`] and none of its parts.
    #[must_use]
    pub fn acknowledged(&self) -> &[(SinkName, AcknowledgedPart)] {
        &self.acknowledged
    }

    /// Whether this sink had the whole blob already when the lease was made.
    #[must_use]
    pub fn is_acknowledged_wholly_by(&self, sink: &SinkName) -> bool {
        self.acknowledged
            .iter()
            .any(|(name, part)| name == sink && *part == AcknowledgedPart::Whole)
    }
}

/// One stretch of a blob's records, named by place and by content.
///
/// The fingerprint is there because a blob that is fetched again need not hold the same records in the same order:
/// place alone would let a sink skip records that it has never had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartKey {
    /// Zero-based index of the stretch's first record within the blob.
    pub first_record: u64,
    /// How many records the stretch has.
    pub record_count: u64,
    /// Hash over the bytes of those records.
    pub fingerprint: u64,
}

/// How much of a blob a sink has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcknowledgedPart {
    /// One stretch of it.
    Part(PartKey),
    /// Every record of it, those it set aside as quarantined included.
    Whole,
}

/// One sink's yes: everything that became durable on its side in one step, recorded here in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCommit {
    /// Who says yes.
    pub sink: SinkName,
    /// Text that the sink wants back at its next start, such as the committed length of a file. `None` leaves the
    /// stored one as it is.
    pub position: Option<String>,
    /// What the sink has, of which blobs.
    pub acknowledged: Vec<(LeaseKey, AcknowledgedPart)>,
    /// Records that the sink can never accept, to be set aside in the same transaction.
    pub quarantined: Vec<QuarantinedRecord>,
    /// What of it is to be remembered record by record, where records are delivered once.
    pub remembered: Option<RememberedRecords>,
}

/// Proof that a sink's yes to a whole blob is recorded durably. Only [`acknowledge`](crate::Ledger::acknowledge)
/// makes one, and [`mark_delivered`](crate::Ledger::mark_delivered) asks for one per required sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    pub(crate) key: LeaseKey,
    pub(crate) sink: SinkName,
}

impl Acknowledgement {
    /// The lease under which the sink had the blob.
    #[must_use]
    pub fn key(&self) -> LeaseKey {
        self.key
    }

    /// The sink that said yes.
    #[must_use]
    pub fn sink(&self) -> &SinkName {
        &self.sink
    }
}

/// The claim that a blob is delivered, with the proof.
#[derive(Debug)]
#[must_use = "a delivery counts once mark_delivered has taken it"]
pub struct Delivery {
    /// The blob.
    pub lease: Lease,
    /// One for each required sink that had not acknowledged the whole blob under an earlier lease.
    pub acknowledgements: Vec<Acknowledgement>,
    /// Records in the blob, the quarantined ones included.
    pub record_count: u64,
    /// Bytes of those records.
    pub byte_count: u64,
    /// How many of the records are quarantined for at least one sink.
    pub quarantined_count: u64,
}

/// The claim that one more acknowledgement makes a blob delivered, for
/// [`acknowledge_and_deliver`](crate::Ledger::acknowledge_and_deliver).
///
/// Made of a lease, so that whoever makes it holds one. It may be refused, and then the lease is there to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub(crate) key: LeaseKey,
    pub(crate) content_type: ContentType,
    pub(crate) record_count: u64,
    pub(crate) byte_count: u64,
    pub(crate) quarantined_count: u64,
}

impl Completion {
    /// The claim on a leased blob, with the numbers that [`Delivery`] has. Nothing for one that is retried from quarantine,
    /// whose item has to be looked after.
    #[must_use]
    pub fn of(
        lease: &Lease,
        record_count: u64,
        byte_count: u64,
        quarantined_count: u64,
    ) -> Option<Self> {
        lease.item.is_none().then_some(Self {
            key: lease.key,
            content_type: lease.content_type,
            record_count,
            byte_count,
            quarantined_count,
        })
    }
}

impl Delivery {
    /// The first required sink that has not said yes to the whole blob. This is the rule that decides `Delivered`;
    /// every backend asks it and none has another.
    pub(crate) fn missing_sink<'a>(&self, required: &'a [SinkName]) -> Option<&'a SinkName> {
        // Compared by blob, not by lease: what a sink took under a lease that was then lost, it still has.
        let proves = |acknowledgement: &Acknowledgement, sink: &SinkName| {
            acknowledgement.key.is_of_same_blob(&self.lease.key) && acknowledgement.sink == *sink
        };
        required.iter().find(|sink| {
            !self.lease.is_acknowledged_wholly_by(sink)
                && !self
                    .acknowledgements
                    .iter()
                    .any(|acknowledgement| proves(acknowledgement, sink))
        })
    }
}
