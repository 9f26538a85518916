//! The ledger opened for a few writes of a person's, beside the one collector that has it, or when none has.
//!
//! SQLite lets one connection write at a time and makes others wait, so a second writer is safe as long as it keeps to
//! what this one does: it takes no lock that is the collector's, frees no lease and takes none, and leaves the format as
//! it is. A collector reads what is due anew each time, so it finds what was written here at its next look.

use std::path::Path;

use crate::Error;

use super::books::Books;
use super::reader::Reader;
use super::writer::Writer;
use super::{SqliteLedger, open};

impl SqliteLedger {
    /// Opens the ledger for writes that need no lease, whether a collector has it open or not: noting what was listed,
    /// and deciding about what is in quarantine. Leasing with it would take blobs from nobody's account: a collector
    /// that starts frees such leases.
    ///
    /// A write waits for those of the collector, up to ten seconds, and its commit is as durable.
    ///
    /// # Errors
    /// [`Error::OlderFormat`] and [`Error::NewerFormat`]: only a collector brings a ledger to another format.
    /// [`Error::Corrupt`] for a file that is no ledger, [`Error::Unavailable`] where there is none.
    ///
    /// # If interrupted
    /// Nothing was changed.
    pub fn open_beside(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let connection = open::for_writing_beside(path)?;
        let reader = Reader::start(open::for_reading(path)?)?;
        let writer = Writer::start(Books::beside(connection), None)?;
        Ok(Self {
            reader,
            writer: Some(writer),
            _lock: None,
        })
    }
}
