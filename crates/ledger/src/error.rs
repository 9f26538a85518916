//! Why the ledger could not do what it was asked, by what it means for the caller.

use std::path::PathBuf;
use std::sync::Arc;

use crate::SinkName;

/// Any failure of a [`Ledger`](crate::Ledger). Cloneable, because one failed commit is the answer to every operation
/// that shared it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another worker has the blob, or it is settled. Nothing is lost: whoever has it goes on.
    #[error("the lease was lost")]
    LeaseLost,
    /// A delivery was claimed that this required sink has not acknowledged wholly. The blob is not delivered; it is
    /// due again when its lease runs out.
    #[error("no acknowledgement of the whole blob by sink {sink}")]
    MissingAcknowledgement {
        /// The sink.
        sink: SinkName,
    },
    /// A delivery was claimed with no sink required: a blob that nobody was asked to take is not delivered.
    #[error("a delivery needs at least one required sink")]
    NothingRequired,
    /// The lease key was not made by this ledger.
    #[error("no such blob in this ledger")]
    UnknownBlob,
    /// The ledger can tell only so many sink names apart over its whole life.
    #[error("this ledger already knows {limit} sinks and cannot know another")]
    TooManySinks {
        /// How many.
        limit: u32,
    },
    /// No room on the disk. Nothing of the operation was kept; it may be tried again once there is room.
    #[error("no room left for the ledger")]
    Full(#[source] Source),
    /// Another collector has the ledger open for writing.
    #[error("another collector has this ledger open (it holds {})", .lock_path.display())]
    AlreadyOpen {
        /// The file it holds locked.
        lock_path: PathBuf,
    },
    /// A writing method was called on a ledger that was opened for reading.
    #[error("the ledger is open for reading only")]
    ReadOnly,
    /// The ledger was written by a later version of this program.
    #[error("the ledger has format {found}, this program knows formats up to {known}")]
    NewerFormat {
        /// The format it has.
        found: i64,
        /// The latest format that this program reads.
        known: i64,
    },
    /// The ledger was written by an earlier version of this program and is only being read: what is asked is not
    /// kept in that format. A collector that opens it brings it to the current one.
    #[error(
        "the ledger has format {found}, which does not hold this: start the collector once to upgrade it"
    )]
    OlderFormat {
        /// The format it has.
        found: i64,
    },
    /// What is stored cannot have been stored by this program.
    #[error("the ledger is damaged: {what}")]
    Corrupt {
        /// Which thing.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: Source,
    },
    /// Someone else (a backup, a database shell) kept the ledger locked for too long. It may be tried again.
    #[error("the ledger is locked by another program")]
    Busy(#[source] Source),
    /// The ledger cannot be reached: no such file, no permission, a failing disk.
    #[error("the ledger is not available: {what}")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        #[source]
        source: Source,
    },
    /// This backend does not remember single records.
    #[error("this ledger does not remember single records")]
    NoRecordMemory,
    /// The ledger has stopped, because an earlier operation made it panic.
    #[error("the ledger has stopped")]
    Stopped,
}

/// A cause, of a type that belongs to the backend.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;
