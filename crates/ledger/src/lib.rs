//! The durable memory of every content blob: seen, leased, acknowledged, delivered, quarantined or expired. Knows no HTTP.
//!
//! [`Ledger`] is the trait that the pipeline is written against. It speaks in meanings (`note_seen`, `lease`,
//! `mark_delivered`), so that each backend can use what its engine is good at. [`conformance`] holds every promise
//! of the trait as a check; a backend is a backend when all of them pass.
//!
//! The modules below are in the order in which a blob meets them.

mod blob;
mod blob_name;
mod sink_name;

mod lease;

mod coverage;
mod quarantine;
mod record_key;
mod summary;

mod error;
mod ledger;

pub mod store;

pub mod conformance;

pub use blob::{SeenBlob, SeenVia};
pub use blob_name::{BlobName, InvalidBlobName};
pub use coverage::{
    Compacted, Coverage, ExpiryBucket, ListedWindow, ListedWindows, Listing, Totals,
    UndeliveredBlob, UndeliveredPlace, UndeliveredState,
};
pub use error::{Error, Source};
pub use lease::{
    AcknowledgedPart, Acknowledgement, Completion, Delivery, Lease, LeaseKey, LeaseRequest,
    PartKey, SinkCommit,
};
pub use ledger::Ledger;
pub use quarantine::{QUARANTINE_SCHEME, QuarantinedItem, QuarantinedRecord, quarantined_item_of};
pub use record_key::{DUPLICATES_PREFIX, RecordKey, RememberedRecords, duplicates_counter};
pub use sink_name::{InvalidSinkName, SinkName};
pub use store::azure::{AzureLedger, AzureOptions, NotSent, StorageTokens, StorageTransport};
pub use store::postgres::{InvalidPostgresUrl, PostgresLedger, PostgresServer, PostgresState};
pub use store::sqlite::SqliteLedger;
pub use summary::{DeliveredTotals, ListedStretch, StreamSummary, Summary};
